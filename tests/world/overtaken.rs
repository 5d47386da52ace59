//! Packets that overtake the first one of a key frame: who begins there, or goes over to another layer, misses none of them.

use moonring_core::command::Command;
use moonring_wire::id::{Mid, TrackId};
use moonring_wire::media::CodecName::{self, H264, Vp8};
use moonring_wire::negotiate::Direction;

use crate::sim::World;
use crate::sim::flows::{sends, unwrapped, wants};
use crate::sim::places::on_one_shard;
use crate::sim::raw::{Fields, MID_ID, RID_ID, section, simulcast};

const RIDS: [&str; 2] = ["q", "h"];

/// A packet's payload, which ends with its number in the stream, and its picture.
type Packet = (Vec<u8>, u32);

/// A key frame of four packets, and a picture of one behind it; the first picture is number `picture`.
fn vp8(picture: u32, first: u8) -> Vec<Packet> {
    let begins = [0x10, 0x00, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01].to_vec();
    let payloads = [begins, vec![0, 9], vec![0, 9], vec![0, 9], vec![0x10, 0x01]];
    numbered(payloads.to_vec(), picture, first)
}

/// The same of H.264: its parameters, two parts of a slice and another slice.
fn h264(picture: u32, first: u8) -> Vec<Packet> {
    let parameters = vec![24, 0, 3, 0x67, 0x42, 0xE0, 0, 3, 0x68, 0xCE];
    let payloads = [parameters, vec![0x7C, 0x85, 0x88], vec![0x7C, 0x45, 0x11], vec![0x65, 0x04], vec![0x41, 0x9A]];
    numbered(payloads.to_vec(), picture, first)
}

fn numbered(payloads: Vec<Vec<u8>>, picture: u32, first: u8) -> Vec<Packet> {
    let last = payloads.len() - 1;
    let picture_of = |n: usize| picture + u32::from(n == last);
    let with_number = |(n, payload): (usize, Vec<u8>)| ([payload, vec![first + n as u8]].concat(), picture_of(n));
    payloads.into_iter().enumerate().map(with_number).collect()
}

/// In which order the five packets come.
const ORDERS: [[usize; 5]; 5] = [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [1, 2, 3, 0, 4], [2, 1, 4, 0, 3], [4, 3, 2, 1, 0]];

struct Scene {
    world: World,
    alice: usize,
    track: TrackId,
    codec: CodecName,
    subscribers: usize,
}

impl Scene {
    /// Alice publishes, and nobody receives.
    fn new(seed: u64, codec: CodecName, layers: &[&str]) -> Self {
        let mut world = World::new(seed);
        let alice = world.join_raw("alice");
        let sending = match layers {
            [] => section("0", codec, Direction::SendOnly),
            rids => simulcast("0", rids),
        };
        world.raw(alice).sections = vec![sending];
        let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
        world.run_ms(300);
        Self { world, alice, track, codec, subscribers: 0 }
    }

    /// Another one receives, who asks for nothing again.
    fn subscriber(&mut self) -> usize {
        self.subscribers += 1;
        let who = self.world.join_raw(&format!("s{}", self.subscribers));
        self.world.raw(who).sections = vec![section("0", self.codec, Direction::RecvOnly)];
        self.world.offer(who, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&self.track))]);
        self.world.run_ms(300);
        who
    }

    /// The packets of layer `layer` come in this order.
    fn send(&mut self, packets: &[Packet], order: &[usize], layer: usize) {
        let elements: [(u8, &[u8]); 2] = [(MID_ID, b"0"), (RID_ID, RIDS[layer].as_bytes())];
        for n in order {
            let (payload, picture) = &packets[*n];
            let (ssrc, index) = (700 + layer as u32, 1_000 + u64::from(*payload.last().unwrap()));
            let fields =
                Fields { ssrc, pt: 96, index, timestamp: picture * 3_000, marker: *n >= 3, elements: &elements };
            let packet = self.world.raw(self.alice).seal(&fields, payload);
            self.world.raw(self.alice).out.push(packet);
            self.world.run_ms(5);
        }
        self.world.run_ms(50);
    }

    /// The numbers of what came to `who`, by the numbers that it came with, of which none is missing.
    fn got(&self, who: usize) -> Vec<u8> {
        let got = self.world.got(who, 96);
        let mut packets: Vec<_> = unwrapped(&got).into_iter().zip(got.iter().map(|got| got.head.last())).collect();
        packets.sort_unstable();
        packets.windows(2).for_each(|pair| assert_eq!(pair[1].0, pair[0].0 + 1, "{packets:?}"));
        packets.into_iter().filter_map(|(_, number)| number.copied()).collect()
    }
}

#[test]
fn who_begins_with_a_key_frame_gets_what_has_overtaken_its_first_packet() {
    for (codec, packets) in [(Vp8, vp8(1, 0)), (H264, h264(1, 0))] {
        for order in ORDERS {
            let mut scene = Scene::new(400, codec, &[]);
            let bob = scene.subscriber();
            scene.send(&packets, &order, 0);
            assert_eq!(scene.got(bob), [0, 1, 2, 3, 4], "{codec:?} {order:?}");
        }
    }
}

#[test]
fn who_comes_behind_a_key_frame_gets_what_has_overtaken_its_first_packet() {
    on_one_shard();
    for (codec, packets) in [(Vp8, vp8(1, 0)), (H264, h264(1, 0))] {
        for order in ORDERS {
            let mut scene = Scene::new(401, codec, &[]);
            scene.subscriber();
            scene.send(&packets, &order, 0);
            let late = scene.subscriber();
            assert_eq!(scene.got(late), [0, 1, 2, 3, 4], "{codec:?} {order:?}");
        }
    }
}

#[test]
fn who_goes_over_to_another_layer_gets_what_has_overtaken_its_first_packet() {
    for order in ORDERS {
        let mut scene = Scene::new(402, Vp8, &RIDS);
        let bob = scene.subscriber();
        let client = scene.world.id(bob);
        scene.world.command(Command::SetLayer { client, track: scene.track.clone(), layer: Some(0) });
        scene.send(&vp8(1, 0), &ORDERS[0], 0);
        scene.send(&vp8(1, 100), &ORDERS[0], 1);
        let client = scene.world.id(bob);
        scene.world.run_ms(1_000);
        scene.world.command(Command::SetLayer { client, track: scene.track.clone(), layer: Some(1) });
        scene.world.run_ms(100);
        scene.send(&vp8(33, 105), &order, 1);
        assert_eq!(scene.got(bob), [0, 1, 2, 3, 4, 105, 106, 107, 108, 109], "{order:?}");
    }
}

#[test]
fn a_key_frame_whose_parameters_were_lost_is_begun_with_without_them() {
    let mut scene = Scene::new(403, H264, &[]);
    let bob = scene.subscriber();
    scene.send(&h264(1, 0), &[1, 2, 3], 0);
    assert!(scene.got(bob).is_empty(), "they may come");
    scene.world.run_ms(200);
    assert_eq!(scene.got(bob), [1, 2, 3]);
    scene.send(&h264(1, 0), &[4], 0);
    assert_eq!(scene.got(bob), [1, 2, 3, 4]);
}
