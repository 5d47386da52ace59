//! Subscribers that lack something that browsers have, and what is not shown.

use std::sync::Arc;
use std::time::Duration;

use moonring_core::command::{Command, Event};
use moonring_loadtest::peer::PeerConfig;
use moonring_wire::id::TrackId;
use moonring_wire::media::{CodecName::Vp8, Extension};
use moonring_wire::negotiate::OfferSection;

use crate::sim::World;
use crate::sim::flows::wants;
use crate::slow::{CHROMIUM, Encoder, layer_lately, scene, scene_of};

/// Somebody whose receiving section is changed before it is offered.
fn joins(world: &mut World, track: &TrackId, bps: Option<u64>, change: fn(&mut OfferSection)) -> usize {
    let who = world.join("other");
    world.members[who].down.rate_bps = bps;
    world.members[who].down.queue = Duration::from_millis(400);
    let mid = world.peer(who).receive(Vp8);
    let mut offer = world.peer(who).offer();
    offer.sections.iter_mut().for_each(change);
    let outcomes = world.offer_with(who, offer, vec![], vec![wants(&mid, Some(track))]);
    assert_eq!(outcomes[0].reason, None);
    who
}

fn without_rtx(section: &mut OfferSection) {
    section.codecs.iter_mut().for_each(|codec| codec.rtx = None);
}

/// As GStreamer's receivers offer: the feedback, without the numbers that it would be about.
fn without_numbers(section: &mut OfferSection) {
    without_rtx(section);
    section.extensions.retain(|(_, extension)| *extension != Extension::TransportSequence);
}

/// Seconds until somebody gets the layer, at most 90.
fn seconds_to(world: &mut World, encoder: &mut Encoder, who: usize, layer: u8) -> usize {
    let mut seconds = 0;
    while layer_lately(world, who, 1) != Some(layer) && seconds < 90 {
        encoder.run(world, 1);
        seconds += 1;
    }
    seconds
}

#[test]
fn who_names_feedback_without_its_numbers_is_served_as_one_without_feedback() {
    let (mut world, mut encoder, _, track) = scene(300, &[]);
    let who = joins(&mut world, &track, None, without_numbers);
    encoder.run(&mut world, 2);
    assert_eq!(layer_lately(&world, who, 1), Some(2));
}

#[test]
fn without_a_stream_for_probes_the_layers_are_tried_one_after_the_other() {
    let (mut world, mut encoder, _, track) = scene(301, &[]);
    let who = joins(&mut world, &track, None, without_rtx);
    let seconds = [1, 2].map(|layer| seconds_to(&mut world, &mut encoder, who, layer));
    assert!(seconds[0] <= 10 && seconds[1] <= 40, "{seconds:?} s to the middle and the top layer");
    encoder.run(&mut world, 20);
    assert_eq!(layer_lately(&world, who, 18), Some(2), "and it stays");
}

#[test]
fn what_was_paused_on_a_path_without_probes_comes_back() {
    let (mut world, mut encoder, _, track) = scene_of(302, &[], (CHROMIUM, 15, 0));
    let who = joins(&mut world, &track, Some(60_000), without_rtx);
    encoder.run(&mut world, 20);
    let paused = |world: &World| world.events.iter().filter(|e| matches!(e, Event::TrackPaused { .. })).count();
    assert!((1..=6).contains(&paused(&world)), "{} pauses in 20 s", paused(&world));
    world.members[who].down.rate_bps = None;
    let seconds = seconds_to(&mut world, &mut encoder, who, 0);
    assert!(seconds <= 30, "{seconds} s");
}

#[test]
fn what_is_not_shown_leaves_its_part_of_the_path_to_what_is() {
    let (mut world, mut encoder, subscribers, _) = scene(303, &[Some(2_500_000)]);
    let (who, bob) = (subscribers[0], world.join("bob"));
    let config = PeerConfig { transport_feedback: true, ..(*world.config).clone() };
    world.config = Arc::new(config);
    // Each takes more than a megabit a second.
    let others = [world.publish(bob, Vp8), world.publish(bob, Vp8)];
    for track in others {
        world.subscribe(who, &track, Vp8);
        let client = world.id(who);
        world.command(Command::SetView { client, track, width: 0, height: 0 });
    }
    encoder.run(&mut world, 20);
    assert_eq!(layer_lately(&world, who, 2), Some(2));
}
