//! What the policy says of a track to who receives it, and what is served first of what does not all fit.

use std::time::Duration;

use moonring_core::command::{Command, Event};
use moonring_wire::id::{Ssrc, TrackId};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::media::{Extension, Source};
use moonring_wire::negotiate::Direction;
use serde_json::json;

use crate::follow::viewer;
use crate::sim::flows::{sends, wants};
use crate::sim::raw::{Fields, section};
use crate::sim::{OPEN, World};
use crate::slow::{Encoder, FRAMES, MARK, layer_lately, publisher, scene_in, subscriber};

/// Does what it is told of tracks.
const TELLING: &str = "function on_message(client, m)
    local who = sfu.client(m.client)
    if m.priority then who:set_priority(m.track, m.priority > 0 and m.priority or nil) end
    if m.layer then who:set_max_layer(m.track, m.layer >= 0 and m.layer or nil) end
end";

fn tell(world: &mut World, who: usize, told: serde_json::Value) {
    world.command(Command::Message { client: world.id(who), value: told });
    world.run_ms(20);
}

/// Two publishers of three layers, and Bob, who receives both over a link of `bps`.
struct Two {
    world: World,
    encoders: [Encoder; 2],
    tracks: [TrackId; 2],
    bob: usize,
    spoken: u64,
}

const VOICE: (u8, u32, u8) = (1, 900, 1);

impl Two {
    fn new(seed: u64, bps: u64, screen: bool) -> Self {
        let world = World::ruled(seed, &format!("{OPEN}\n{TELLING}\n"));
        let (mut world, first, _, track) = scene_in(world, &[], (FRAMES, 30, 0));
        let source = if screen { Source::Screen } else { Source::Camera };
        let (mut second, other) = publisher(&mut world, "carol", source, (FRAMES, 30));
        second.tag = 1;
        let mut voice = section("1", Opus, Direction::SendOnly);
        voice.ssrcs = vec![(Ssrc(VOICE.1), None)];
        voice.extensions.push((VOICE.2, Extension::AudioLevel));
        world.raw(second.who).sections.push(voice);
        world.offer(second.who, vec![sends("1")], vec![]);
        let mut two = Self { world, encoders: [first, second], tracks: [track, other], bob: 0, spoken: 0 };
        two.run(2, false);
        two.bob = subscriber(&mut two.world, "bob", &two.tracks[0], (Some(bps), 0));
        let mid = two.world.peer(two.bob).receive(Vp8);
        two.world.offer(two.bob, vec![], vec![wants(&mid, Some(&two.tracks[1]))]);
        two
    }

    /// So many seconds, in which Carol `speaks` or not.
    fn run(&mut self, seconds: usize, speaks: bool) {
        for _ in 0..seconds * 30 {
            self.encoders.iter_mut().for_each(|encoder| encoder.frame(&mut self.world));
            if speaks {
                let (pt, level) = (111, [20]);
                let elements: [(u8, &[u8]); 1] = [(VOICE.2, &level)];
                let (index, timestamp) = (self.spoken, self.spoken as u32 * 1_600);
                let fields = Fields { ssrc: VOICE.1, pt, index, timestamp, marker: false, elements: &elements };
                let raw = self.world.raw(self.encoders[1].who);
                let sealed = raw.seal(&fields, &[0xFC; 40]);
                raw.out.push(sealed);
                self.spoken += 1;
            }
            self.world.run(Duration::from_secs(1) / 30);
        }
    }

    /// The layers that Bob has got lately of the two.
    fn layers(&self) -> [Option<u8>; 2] {
        let since = self.world.now - Duration::from_secs(2);
        [0, 1].map(|tag| {
            let mut counts = [0; 3];
            let lately = self.world.members[self.bob].got.iter().filter(|got| got.at >= since && got.pt == 96);
            let of_it = lately.filter(|got| !got.repaired && got.head.len() > MARK + 1 && got.head[MARK + 1] == tag);
            of_it.for_each(|got| counts[usize::from(got.head[MARK])] += 1);
            let most = (0..3).max_by_key(|n| counts[*n]).unwrap();
            (counts[most] > 0).then_some(most as u8)
        })
    }

    fn set_view(&mut self, which: usize, (width, height): (u32, u32)) {
        let (client, track) = (self.world.id(self.bob), self.tracks[which].clone());
        self.world.command(Command::SetView { client, track, width, height });
    }

    fn tell(&mut self, which: usize, what: &str, n: i32) {
        let (client, track) = (self.world.id(self.bob), self.tracks[which].clone());
        tell(&mut self.world, self.bob, json!({ "client": client, "track": track, what: n }));
    }
}

/// Of two tracks of 150, 500 and 1,500 kbit/s one has its second layer on this.
const FOR_ONE: u64 = 900_000;

#[test]
fn the_policy_s_priority_goes_before_size_and_is_taken_back() {
    let mut two = Two::new(111, FOR_ONE, false);
    two.set_view(0, (960, 540));
    two.set_view(1, (800, 450));
    two.run(15, false);
    assert_eq!(two.layers(), [Some(1), Some(0)]);
    for (which, priority, expected) in
        [(1, 2, [Some(0), Some(1)]), (0, 3, [Some(1), Some(0)]), (0, 0, [Some(0), Some(1)]), (1, 0, [Some(1), Some(0)])]
    {
        two.tell(which, "priority", priority);
        two.run(14, false);
        assert_eq!(two.layers(), expected, "{which} {priority}");
    }
}

#[test]
fn of_two_tracks_the_one_with_less_priority_is_paused() {
    for which in [0, 1] {
        let mut two = Two::new(112, 250_000, false);
        two.tell(which, "priority", 5);
        two.run(15, false);
        let mut expected = [None, None];
        expected[which] = Some(0);
        assert_eq!(two.layers(), expected, "{which}");
    }
}

#[test]
fn who_speaks_is_seen_better_and_goes_on_to_be_until_somebody_else_speaks() {
    let mut two = Two::new(113, FOR_ONE, false);
    two.run(15, false);
    assert_eq!(two.layers(), [Some(1), Some(0)]);
    for speaks in [true, false] {
        two.run(15, speaks);
        assert_eq!(two.layers(), [Some(0), Some(1)], "{speaks}");
    }
    // What somebody has made much larger stays so.
    two.set_view(0, (960, 540));
    two.set_view(1, (480, 270));
    two.run(15, true);
    assert_eq!(two.layers(), [Some(1), Some(0)]);
}

#[test]
fn a_shared_screen_goes_before_a_camera_of_the_same_size() {
    let mut two = Two::new(114, FOR_ONE, true);
    two.run(15, false);
    assert_eq!(two.layers(), [Some(0), Some(1)]);
}

/// Everybody in the room may have the lowest layer of what is published, as in docs/policy.md.
const SMALL: &str = "function on_track_published(client, track)
    for _, other in ipairs(sfu.clients()) do other:set_max_layer(track, 0) end
end";

fn told(world: &World) -> Option<Vec<u8>> {
    let of = |event: &Event| match event {
        Event::WantedLayers { layers, .. } => Some(layers.clone()),
        _ => None,
    };
    world.events.iter().rev().find_map(of)
}

#[test]
fn what_a_script_says_of_a_track_that_was_just_published_holds_for_who_receives_it_later() {
    let mut world = World::ruled(115, &format!("{OPEN}\n{TELLING}\n{SMALL}"));
    let bob = world.join("bob");
    let (mut world, mut encoder, others, track) = scene_in(world, &[None], (FRAMES, 30, 0));
    encoder.run(&mut world, 4);
    assert_eq!(layer_lately(&world, others[0], 1), Some(2), "who came later is not told of");
    world.leave(others[0]);
    encoder.run(&mut world, 1);
    for _ in 0..2 {
        let mid = world.subscribe(bob, &track, Vp8);
        encoder.run(&mut world, 6);
        assert_eq!(layer_lately(&world, bob, 3), Some(0));
        assert_eq!(told(&world), Some(vec![0]), "the publisher need not send the others");
        world.peer(bob).stop(&mid);
        world.offer(bob, vec![], vec![]);
        encoder.run(&mut world, 1);
    }
    world.subscribe(bob, &track, Vp8);
    let client = world.id(bob);
    tell(&mut world, bob, json!({ "client": client, "track": track, "layer": -1 }));
    encoder.run(&mut world, 6);
    assert_eq!(layer_lately(&world, bob, 1), Some(2));
    assert_eq!(told(&world), Some(vec![0, 1, 2]));
}

#[test]
fn it_goes_along_with_a_client_that_moves_before_it_receives_the_track() {
    crate::sim::places::over_three_shards();
    let mut world = World::ruled(116, &format!("{OPEN}\n{TELLING}\n"));
    let bob = world.join("bob");
    let mid = world.peer(bob).receive(Opus);
    let (mut world, mut encoder, _, track) = scene_in(world, &[], (FRAMES, 30, 0));
    let sound = world.join("dora");
    let sound = world.publish(sound, Opus);
    world.offer(bob, vec![], vec![wants(&mid, Some(&sound))]);
    encoder.run(&mut world, 1);
    let client = world.id(bob);
    tell(&mut world, bob, json!({ "client": client, "track": track, "layer": 0 }));
    let to = (world.members[bob].place + 1) % 3;
    world.move_to(bob, to);
    encoder.run(&mut world, 1);
    assert_eq!(world.members[bob].place, to);
    world.subscribe(bob, &track, Vp8);
    encoder.run(&mut world, 6);
    assert_eq!(layer_lately(&world, bob, 3), Some(0));
}

#[test]
fn a_viewer_that_goes_on_with_another_track_has_that_one_s_terms() {
    let mut world = World::ruled(117, &format!("{OPEN}\n{TELLING}\n"));
    let bob = viewer(&mut world, "bob");
    let (mut world, mut first, _, track) = scene_in(world, &[], (FRAMES, 30, 0));
    let (mut second, other) = publisher(&mut world, "carol", Source::Camera, (FRAMES, 30));
    let client = world.id(bob);
    for (track, layer) in [(&track, 0), (&other, 1)] {
        tell(&mut world, bob, json!({ "client": client, "track": track, "layer": layer }));
    }
    first.run(&mut world, 2);
    let mid = world.peer(bob).receive(Vp8);
    world.offer(bob, vec![], vec![wants(&mid, None)]);
    first.run(&mut world, 6);
    assert_eq!(layer_lately(&world, bob, 3), Some(0));
    world.leave(first.who);
    second.run(&mut world, 10);
    assert_eq!(layer_lately(&world, bob, 3), Some(1));
}
