//! Bytes from outside: counted by the reason they are dropped for, and nothing else changes.

use std::net::SocketAddr;

use moonring_wire::drops::DropReason;
use moonring_wire::id::{Mid, Ssrc};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::sim::World;
use crate::sim::flows::{assert_unbroken, sends};
use crate::sim::raw::{Fields, MID_ID, section};
use crate::sim::stun::check;

/// Alice publishes to Bob; Mallory is a connected client that publishes sound under SSRC 900, and an address that
/// nobody knows.
struct Scene {
    world: World,
    bob: usize,
    mallory: usize,
    address: SocketAddr,
    stranger: SocketAddr,
}

const FIELDS: Fields<'static> = Fields { ssrc: 900, pt: 111, index: 1_000, timestamp: 5, marker: false, elements: &[] };

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (alice, bob, mallory) = (world.join("alice"), world.join("bob"), world.join_raw("mallory"));
        let track = world.publish(alice, Vp8);
        world.subscribe(bob, &track, Vp8);
        let mut sound = section("0", Opus, Direction::SendOnly);
        sound.ssrcs = vec![(Ssrc(900), None)];
        world.raw(mallory).sections = vec![sound];
        assert!(world.offer(mallory, vec![sends("0")], vec![])[0].track.is_some());
        world.run_ms(1_000);
        assert!(world.raw(mallory).connected);
        let address = world.members[mallory].address;
        Self { world, bob, mallory, address, stranger: "10.66.0.1:6666".parse().unwrap() }
    }

    fn sealed(&mut self, fields: &Fields<'_>) -> Vec<u8> {
        self.world.raw(self.mallory).seal(fields, &[0xFC, 1, 2, 3, 4, 5, 6, 7, 8])
    }

    fn check(&mut self) -> Vec<u8> {
        self.world.raw(self.mallory).check()
    }

    /// Injects, and asserts that it is dropped for `reason` without an answer, an event or a packet believed.
    fn dropped(&mut self, from: SocketAddr, bytes: &[u8], reason: DropReason, what: &str) {
        let counters = self.world.shard.counters();
        let (believed, resent, total) = (counters.packets_in, counters.resent, counters.drops.total());
        let events = self.world.events.len();
        assert_eq!(self.world.inject(from, bytes), Some(reason), "{what}");
        let counters = self.world.shard.counters();
        assert_eq!((counters.packets_in, counters.resent), (believed, resent), "{what}");
        assert_eq!(counters.drops.total(), total + 1, "{what}");
        assert_eq!(self.world.answered, 0, "{what}");
        assert_eq!(self.world.events.len(), events, "{what}");
    }

    /// The call is as if nothing had been.
    fn assert_unharmed(&mut self) {
        self.world.forget_received();
        self.world.run_ms(2_000);
        assert_unbroken(&self.world.got(self.bob, 96));
        assert!(self.world.got(self.bob, 96).len() > 200);
        assert_eq!(self.world.left(self.mallory), None);
        let address = self.address;
        let good = self.sealed(&Fields { index: 2_000, ..FIELDS });
        assert_eq!(self.world.inject(address, &good), None, "what is genuine is still believed");
    }
}

#[test]
fn forged_and_broken_datagrams_are_counted_by_reason_and_change_nothing() {
    crate::sim::places::on_one_shard();
    let mut scene = Scene::new(60);
    let (address, stranger) = (scene.address, scene.stranger);
    let answer = scene.world.raw(scene.mallory).answer.clone().unwrap();
    let (user, pwd) = (format!("{}:ufmallory", answer.ice.ufrag), answer.ice.pwd);
    let genuine = scene.sealed(&FIELDS);
    assert_eq!(scene.world.inject(address, &genuine), None);
    let next = scene.sealed(&Fields { index: 1_001, ..FIELDS });
    let changed = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x40;
        bytes
    };
    let report = scene.world.raw(scene.mallory).control(|w| w.bye(&[Ssrc(900)]).unwrap());
    assert_eq!(scene.world.inject(address, &report), None, "an authentic goodbye of a stream is nothing to act on");
    let report2 = scene.world.raw(scene.mallory).control(|w| w.bye(&[Ssrc(900)]).unwrap());
    let mut plain_rtp = genuine[..12].to_vec();
    plain_rtp.extend([0xFC; 60]);
    let plain_bye = [0x80, 201, 0, 1, 0, 0, 0, 1, 0x81, 203, 0, 1, 0, 0, 0x03, 0x84];
    let mut response = check(&user, &pwd, 3);
    response[0] = 0x01;
    let good = scene.check();
    for (what, from, bytes, reason) in [
        ("nothing", stranger, vec![], DropReason::Empty),
        ("no protocol of RFC 7983", stranger, vec![0xFF; 100], DropReason::UnknownProtocol),
        ("a TURN channel", stranger, vec![0x45; 100], DropReason::UnknownProtocol),
        ("a check with a wrong password", address, check(&user, "wrong", 1), DropReason::StunBadIntegrity),
        ("the same from elsewhere", stranger, check(&user, "wrong", 2), DropReason::StunBadIntegrity),
        ("a check for nobody", stranger, check("nobody:ufmallory", &pwd, 3), DropReason::StunUnknownUser),
        ("a response", stranger, response, DropReason::StunBadIntegrity),
        ("a cut check", address, good[..good.len() - 8].to_vec(), DropReason::StunMalformed),
        (
            "DTLS from elsewhere",
            stranger,
            vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
            DropReason::UnknownAddress,
        ),
        ("SRTP from elsewhere", stranger, next.clone(), DropReason::UnknownAddress),
        ("SRTCP from elsewhere", stranger, report2.clone(), DropReason::UnknownAddress),
        ("SRTP with a wrong tag", address, changed(&next, next.len() - 1), DropReason::SrtpBadTag),
        ("SRTP with a changed payload", address, changed(&next, 14), DropReason::SrtpBadTag),
        ("SRTP with a changed time stamp", address, changed(&next, 5), DropReason::SrtpBadTag),
        ("SRTP seen before", address, genuine.clone(), DropReason::SrtpReplay),
        ("RTP in the clear", address, changed(&plain_rtp, 3), DropReason::SrtpBadTag),
        ("a goodbye in the clear", address, plain_bye.to_vec(), DropReason::SrtcpBad),
        ("SRTCP with a wrong tag", address, changed(&report2, 9), DropReason::SrtcpBad),
        ("SRTCP seen before", address, report.clone(), DropReason::SrtpReplay),
    ] {
        scene.dropped(from, &bytes, reason, what);
    }
    assert_eq!(scene.world.inject(address, &next), None, "a forgery does not use up a number");
    scene.assert_unharmed();
}

#[test]
fn truncated_at_every_length_nothing_is_believed() {
    let mut scene = Scene::new(61);
    let address = scene.address;
    let whole = [
        scene.check(),
        scene.sealed(&FIELDS),
        scene.world.raw(scene.mallory).control(|w| w.pli(Ssrc(1), Ssrc(2)).unwrap()),
    ];
    for datagram in &whole {
        for len in 0..datagram.len() {
            let before = scene.world.shard.counters().clone();
            let dropped = scene.world.inject(address, &datagram[..len]);
            assert!(dropped.is_some(), "{len} of {} bytes", datagram.len());
            assert_eq!(scene.world.shard.counters().packets_in, before.packets_in);
            assert_eq!(scene.world.answered, 0);
        }
    }
    scene.assert_unharmed();
}

#[test]
fn authentic_nonsense_of_a_client_is_dropped_by_reason_and_hurts_nobody() {
    let mut scene = Scene::new(62);
    let address = scene.address;
    let other_mid: &[(u8, &[u8])] = &[(MID_ID, b"77")];
    for (what, fields, reason) in [
        ("a payload type of no track", Fields { pt: 112, ..FIELDS }, Some(DropReason::RtpUnknownPayloadType)),
        (
            "an SSRC and payload type of no track",
            Fields { ssrc: 7, pt: 100, ..FIELDS },
            Some(DropReason::RtpUnknownSsrc),
        ),
        (
            "an SSRC of a section that is not",
            Fields { ssrc: 8, elements: other_mid, ..FIELDS },
            Some(DropReason::RtpUnknownSsrc),
        ),
    ] {
        let bytes = scene.sealed(&fields);
        assert_eq!(scene.world.inject(address, &bytes), reason, "{what}");
    }
    let garbage: [fn(&mut moonring_wire::rtp::rtcp::Writer<'_>); 4] = [
        |w| w.nack(Ssrc(1), Ssrc(12345), &[1, 2, 3]).unwrap(),
        |w| w.pli(Ssrc(1), Ssrc(12345)).unwrap(),
        |w| w.remb(Ssrc(1), u64::MAX, &[]).unwrap(),
        |w| w.bye(&[Ssrc(900), Ssrc(1), Ssrc(12345)]).unwrap(),
    ];
    for write in garbage {
        let bytes = scene.world.raw(scene.mallory).control(write);
        assert_eq!(scene.world.inject(address, &bytes), None);
        assert_eq!(scene.world.answered, 0);
    }
    // Another SSRC of the only section with that payload type is followed, one; more than a client may have are
    // bounded, each by reason.
    for n in 0..2_000_u32 {
        let bytes = scene.sealed(&Fields { ssrc: 100_000 + n, ..FIELDS });
        assert_eq!(scene.world.inject(address, &bytes).is_none(), n == 0, "{n}");
    }
    scene.assert_unharmed();
}

#[test]
fn media_before_the_handshake_is_not_ready_and_the_handshake_is_still_done() {
    let mut scene = Scene::new(63);
    let mid = Mid::parse("0").unwrap();
    let late = scene.world.join_raw("late");
    scene.world.raw(late).sections = vec![section(mid.as_str(), Opus, Direction::SendOnly)];
    scene.world.offer(late, vec![sends("0")], vec![]);
    scene.world.raw(late).out.clear();
    let from = scene.world.members[late].address;
    let check = scene.world.raw(late).check();
    let srtp = scene.sealed(&FIELDS);
    let srtcp = scene.world.raw(scene.mallory).control(|_| {});
    scene.dropped(from, &srtp, DropReason::UnknownAddress, "before the check");
    assert_eq!(scene.world.inject(from, &check), None);
    scene.dropped(from, &srtp, DropReason::SrtpNotReady, "SRTP");
    scene.dropped(from, &srtcp, DropReason::SrtpNotReady, "SRTCP");
    scene.world.run_ms(3_000);
    assert!(scene.world.raw(late).connected);
}

#[test]
fn random_bytes_from_anywhere_end_nothing() {
    let mut scene = Scene::new(64);
    let mut rng = SmallRng::seed_from_u64(scene.world.seed);
    let genuine = [scene.check(), scene.sealed(&FIELDS), scene.world.raw(scene.mallory).control(|_| {})];
    let events = scene.world.events.len();
    for n in 0..20_000_usize {
        let mut bytes = if n % 2 == 0 {
            (0..rng.random_range(0..200)).map(|_| rng.random()).collect::<Vec<u8>>()
        } else {
            genuine[n / 2 % 3].clone()
        };
        if let Some(first) = bytes.first_mut().filter(|_| n % 4 == 0) {
            *first = [0, 20, 22, 23, 63, 0x80, 0x90, 0xB0][n / 4 % 8];
        }
        if n % 2 == 1 {
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
        let from = if n % 3 == 0 { scene.stranger } else { scene.address };
        scene.world.inject(from, &bytes);
    }
    assert_eq!(scene.world.events.len(), events);
    assert_eq!(scene.world.shard.counters().panics, 0);
    scene.assert_unharmed();
}
