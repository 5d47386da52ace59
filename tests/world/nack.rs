//! What is asked for again by a receiver without RTX leaves once more as it was, byte for byte; nothing else ever leaves
//! under its number.

use std::collections::HashMap;

use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::CodecName::Vp8;
use moonring_wire::media::Extension;
use moonring_wire::negotiate::Direction;

use crate::sim::World;
use crate::sim::flows::{sends, wants};
use crate::sim::net::Link;
use crate::sim::raw::{Fields, section};

/// Alice publishes with RTX; Bob receives without, and is told when each packet was sent.
struct Scene {
    world: World,
    alice: usize,
    bob: usize,
    mid: Mid,
    sent: u64,
}

const ABS_SEND_TIME_ID: u8 = 2;
const TRANSPORT_SEQUENCE_ID: u8 = 3;

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join_raw("alice"), world.join_raw("bob"));
        let mid = Mid::parse("0").unwrap();
        let mut sending = section("0", Vp8, Direction::SendOnly);
        sending.ssrcs = vec![(Ssrc(500), Some(Ssrc(501)))];
        world.raw(alice).sections = vec![sending];
        let track = world.offer(alice, vec![sends("0")], vec![])[0].track.clone().unwrap().id;
        let mut receiving = section("0", Vp8, Direction::RecvOnly);
        receiving.codecs[0].rtx = None;
        receiving.codecs[0].feedback.transport_cc = true;
        receiving.extensions.push((ABS_SEND_TIME_ID, Extension::AbsSendTime));
        receiving.extensions.push((TRANSPORT_SEQUENCE_ID, Extension::TransportSequence));
        world.raw(bob).sections = vec![receiving];
        world.offer(bob, vec![], vec![wants(&mid, Some(&track))]);
        world.run_ms(300);
        Self { world, alice, bob, mid, sent: 0 }
    }

    /// Alice sends a picture, the first a key frame, as media or as a repeat of number `repeats`.
    fn send(&mut self, index: u64, repeats: Option<u16>, filling: u8) {
        let payload = [if self.sent == 0 { 0x10 } else { 0x00 }, 0x00, filling, 0, 0x9D, 0x01, 0x2A];
        self.sent += 1;
        let osn = repeats.map(|sequence| sequence.to_be_bytes().to_vec()).unwrap_or_default();
        let (ssrc, pt) = if repeats.is_some() { (501, 97) } else { (500, 96) };
        let fields = Fields { ssrc, pt, index, timestamp: 9, ..Fields::default() };
        let packet = self.world.raw(self.alice).seal(&fields, &[osn, payload.to_vec()].concat());
        self.world.raw(self.alice).out.push(packet);
        self.world.run_ms(10);
    }

    fn ask(&mut self, sequences: &[u16]) {
        let stream = self.world.raw(self.bob).stream(&self.mid).unwrap();
        let nack = self.world.raw(self.bob).control(|w| w.nack(Ssrc(1), stream.ssrc, sequences).unwrap());
        self.world.raw(self.bob).out.push(nack);
        self.world.run_ms(50);
    }

    /// The sealed packets with this number.
    fn sealed(&mut self, sequence: u16) -> Vec<Vec<u8>> {
        let of = |bytes: &&Vec<u8>| bytes[2..4] == sequence.to_be_bytes();
        self.world.raw(self.bob).sealed.iter().filter(of).cloned().collect()
    }

    fn assert_no_number_sealed_two_packets(&mut self) {
        let mut seen: HashMap<(Vec<u8>, Vec<u8>), Vec<u8>> = HashMap::new();
        for bytes in &self.world.raw(self.bob).sealed {
            let first = seen.entry((bytes[8..12].to_vec(), bytes[2..4].to_vec())).or_insert_with(|| bytes.clone());
            assert_eq!(first, bytes);
        }
    }
}

#[test]
fn without_rtx_a_packet_is_sent_again_with_the_same_sealed_bytes_even_after_another_offer() {
    let mut scene = Scene::new(60);
    for n in 0..20 {
        scene.send(65_530 + n, None, n as u8);
    }
    scene.world.run_ms(100);
    let got = scene.world.got(scene.bob, 96);
    assert_eq!(got.len(), 20);
    let (wanted, never) = (got[7].sequence, got[19].sequence.wrapping_add(1));
    scene.ask(&[wanted, never]);
    assert_eq!((scene.sealed(wanted).len(), scene.sealed(never).len()), (2, 0));
    // Other ids for the extensions and another payload type would make another header.
    let bob = scene.world.raw(scene.bob);
    bob.sections[0].extensions[1].0 = 7;
    bob.sections[0].codecs[0].pt = moonring_wire::id::Pt(100);
    scene.world.offer(scene.bob, vec![], vec![]);
    scene.world.run_ms(100);
    scene.ask(&[wanted, got[3].sequence]);
    assert_eq!((scene.sealed(wanted).len(), scene.sealed(got[3].sequence).len()), (3, 2));
    scene.assert_no_number_sealed_two_packets();
    assert_eq!(scene.world.resent(), 3);
}

#[test]
fn a_publisher_that_uses_a_number_twice_does_not_make_the_server_seal_it_twice() {
    let mut scene = Scene::new(61);
    for index in 0..300 {
        scene.send(index, None, index as u8);
    }
    let first = scene.world.got(scene.bob, 96)[0].sequence;
    // The first pictures are no longer kept: nothing to send, and nothing that this one could be told from.
    scene.ask(&[first]);
    for n in 0..10 {
        scene.send(n, Some(n as u16), 0xEE);
        scene.ask(&[first.wrapping_add(n as u16)]);
    }
    scene.assert_no_number_sealed_two_packets();
    assert_eq!(scene.sealed(first).len(), 1);
    assert_eq!(scene.world.resent(), 0);
}

#[test]
fn without_rtx_a_subscriber_behind_five_percent_loss_gets_nearly_all() {
    let mut world = World::new(62);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let track = world.publish(alice, Vp8);
    let mid = world.peer(bob).receive(Vp8);
    let mut offer = world.peer(bob).offer();
    offer.sections[0].codecs[0].rtx = None;
    assert_eq!(world.offer_with(bob, offer, vec![], vec![wants(&mid, Some(&track))])[0].reason, None);
    world.run_ms(1_000);
    world.members[bob].down = Link::lossy(0.05);
    world.forget_received();
    let before = world.peer(bob).streams()[0].counts();
    world.run_ms(20_000);
    world.members[alice].paused = true;
    world.run_ms(500);
    let after = world.peer(bob).streams()[0].counts();
    let (sent, received) = (world.members[alice].sent.len(), after.received - before.received);
    assert!(received as f64 > sent as f64 * 0.998, "{received} of {sent}");
    assert!(world.resent() > sent as u64 / 30, "{} resent", world.resent());
    assert!(world.got(bob, 97).is_empty());
}
