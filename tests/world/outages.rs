//! A link that carries nothing at all for a while, and losses that are more than may be sent again in a time: the picture goes
//! on at a key frame that the server asks for, and not when the receiver loses patience.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moonring_core::command::Event;
use moonring_wire::rtp::sequence::Extender;

use crate::sim::World;
use crate::slow::{CHROMIUM, Encoder, FRAMES, Frames, MARK, layer_lately, scene_of};

/// A packet, as a decoder sees it.
#[derive(Clone, Copy)]
struct Packet {
    begins: bool,
    is_key: bool,
    ends: bool,
}

/// Decodes pictures in their order, and goes on at a key frame where packets are missing.
#[derive(Default)]
struct Decoder {
    sequences: Extender,
    packets: BTreeMap<u64, Packet>,
    /// The index that the next picture begins with.
    next: Option<u64>,
    decoded: Vec<Instant>,
}

impl Decoder {
    /// When pictures were decoded of what `who` got.
    fn of(world: &World, who: usize) -> Vec<Instant> {
        let mut decoder = Self::default();
        for got in world.members[who].got.iter().filter(|got| got.head.len() > MARK) {
            let index = decoder.sequences.extend(got.sequence);
            let begins = got.head[0] & 0x10 != 0;
            decoder.packets.insert(index, Packet { begins, is_key: begins && got.head[6] == 0, ends: got.marker });
            decoder.decode(got.at);
        }
        decoder.decoded
    }

    fn decode(&mut self, now: Instant) {
        while let Some(end) = self.next_picture() {
            self.packets = self.packets.split_off(&end);
            self.next = Some(end);
            self.decoded.push(now);
        }
    }

    /// The index behind the next picture that can be decoded.
    fn next_picture(&self) -> Option<u64> {
        let is_next =
            |(index, packet): &(&u64, &Packet)| packet.begins && (packet.is_key || self.next == Some(**index));
        self.packets.iter().filter(is_next).find_map(|(index, _)| {
            let mut packets = (*index..).map_while(|n| Some((n, self.packets.get(&n)?)));
            let is_whole = |(n, packet): &(u64, &Packet)| packet.ends && (n == index || !packet.begins);
            packets.find(is_whole).map(|(n, _)| n + 1)
        })
    }
}

/// One subscriber behind a link, six seconds after it came.
fn call(seed: u64, bps: Option<u64>, frames: Frames, fps: usize) -> (World, Encoder, usize) {
    let (mut world, mut encoder, subscribers, _) = scene_of(seed, &[bps], (frames, fps, 0));
    encoder.run(&mut world, 6);
    (world, encoder, subscribers[0])
}

/// How long no picture was decoded around `at`, in ms.
fn stood(world: &World, who: usize, at: Instant) -> u128 {
    let decoded = Decoder::of(world, who);
    let before = decoded.iter().rfind(|t| **t <= at).expect("pictures before");
    let after = decoded.iter().find(|t| **t > at).unwrap_or(&world.now);
    (*after - *before).as_millis()
}

fn pauses(world: &World) -> usize {
    world.events.iter().filter(|event| matches!(event, Event::TrackPaused { .. })).count()
}

#[test]
fn after_an_outage_the_picture_is_back_at_once_and_as_it_was() {
    let mut failed = Vec::new();
    for (seed, bps, layer) in [(501, None, 2), (502, Some(900_000), 1), (503, Some(300_000), 0)] {
        for ms in [100, 300, 600, 1_000, 2_000, 4_000] {
            let (mut world, mut encoder, who) = call(seed + ms, bps, FRAMES, 30);
            let (before, at) = (layer_lately(&world, who, 1), world.now);
            let links = (world.members[who].up.loss, world.members[who].down.loss);
            (world.members[who].up.loss, world.members[who].down.loss) = (1.0, 1.0);
            (0..ms * encoder.fps as u64 / 1_000).for_each(|_| encoder.picture(&mut world));
            (world.members[who].up.loss, world.members[who].down.loss) = links;
            encoder.run(&mut world, 5);
            let longer = stood(&world, who, at + Duration::from_millis(50)).saturating_sub(u128::from(ms));
            let after = layer_lately(&world, who, 4);
            if (before, after) != (Some(layer), Some(layer)) || longer > 400 || pauses(&world) > 0 {
                failed.push(format!(
                    "{bps:?}, {ms} ms: layer {before:?}, then {after:?}; stood {longer} ms longer, {} pauses, asked {}",
                    pauses(&world),
                    encoder.asked
                ));
            }
        }
    }
    assert_eq!(failed, [""; 0]);
}

#[test]
fn a_burst_of_losses_beyond_what_may_be_sent_again_is_answered_with_a_key_frame() {
    let (mut world, mut encoder, who) = call(520, Some(600_000), CHROMIUM, 15);
    let at = world.now;
    world.members[who].down.loss = 1.0;
    (0..11).for_each(|_| encoder.picture(&mut world));
    world.members[who].down.loss = 0.0;
    let asked = encoder.asked;
    encoder.run(&mut world, 5);
    let stood = stood(&world, who, at + Duration::from_millis(100));
    assert!(stood < 1_300, "{stood}");
    assert_eq!(encoder.asked - asked, 1);
}

#[test]
fn what_can_be_sent_again_costs_nobody_a_key_frame() {
    for loss in [0.02, 0.05, 0.1] {
        let (mut world, mut encoder, who) = call(530, Some(900_000), FRAMES, 30);
        let asked = encoder.asked;
        world.members[who].down.loss = loss;
        encoder.run(&mut world, 20);
        assert_eq!(encoder.asked - asked, 0, "{loss}");
    }
}
