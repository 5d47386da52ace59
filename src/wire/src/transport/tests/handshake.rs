use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// A plaintext record of this type, as anybody can send it.
fn spoofed(kind: u8, fragment: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 99, 0, fragment.len() as u8];
    bytes.extend(fragment);
    bytes
}

#[test]
fn a_client_is_connected_in_either_role_and_version_and_media_flows() {
    for versions in [DtlsVersions::V12, DtlsVersions::V12AndV13] {
        for role in [DtlsRole::Server, DtlsRole::Client] {
            let mut world = World::new(versions, role);
            world.run(5);
            assert_eq!(world.events, [TransportEvent::Connected], "{versions:?} {role:?}");
            world.assert_media_flows();
        }
    }
}

#[test]
fn any_one_or_two_lost_datagrams_of_a_handshake_are_made_up_for() {
    for role in [DtlsRole::Server, DtlsRole::Client] {
        for first in 0..8 {
            for second in first..8 {
                let mut world = World::new(DtlsVersions::V12, role);
                world.lost = vec![first, second];
                world.run(20);
                assert_eq!(world.events, [TransportEvent::Connected], "{role:?} {first} {second}");
                world.assert_media_flows();
            }
        }
    }
}

#[test]
fn another_certificate_than_that_of_the_offer_fails_and_gives_no_keys() {
    for versions in [DtlsVersions::V12, DtlsVersions::V12AndV13] {
        for role in [DtlsRole::Server, DtlsRole::Client] {
            let mut world = World::with_fingerprint(versions, role, |mut fingerprint| {
                fingerprint.0[31] ^= 1;
                fingerprint
            });
            world.run(40);
            assert!(matches!(&world.events[..], [TransportEvent::Failed(_)]), "{:?}", world.events);
            assert!(!world.transport.is_connected() && world.transport.srtp_out().is_none());
            assert_eq!(world.transport.unprotect_rtp(heard(), &mut rtp(), 12, 9, 7), Err(DropReason::SrtpNotReady));
            assert_eq!(world.transport.poll_timeout(), None);
        }
    }
}

#[test]
fn a_profile_that_is_not_accepted_fails() {
    let mut world = World::new(DtlsVersions::V12, DtlsRole::Server);
    let own = dimpl::certificate::generate_self_signed_certificate().unwrap();
    let config = TransportConfig {
        profiles: vec![SrtpProfile::Aes128CmHmacSha1_80],
        ..TransportConfig::new(Certificate::generate().unwrap())
    };
    world.transport =
        transport(world.now, &config, Fingerprint(own.fingerprint().try_into().unwrap()), DtlsRole::Server);
    world.client.dtls = dimpl::Dtls::new_12(Arc::new(dimpl::Config::default()), own, world.now);
    world.client.dtls.set_active(true);
    world.run(5);
    assert!(
        matches!(&world.events[..], [TransportEvent::Failed(why)] if why.contains("profile")),
        "{:?}",
        world.events
    );
}

#[test]
fn packets_of_unvalidated_addresses_are_not_looked_at() {
    let mut world = World::new(DtlsVersions::V12, DtlsRole::Server);
    world.client.dtls.handle_timeout(world.now).unwrap();
    let hello = world.client.poll(&mut world.scratch).remove(0);
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 50_001));
    let outcome = world.transport.handle_dtls(world.now, elsewhere, &hello, &mut world.scratch, &mut world.out);
    assert_eq!(outcome, Err(DropReason::UnknownAddress));
    assert!(world.out.is_empty());
}

#[test]
fn garbage_and_spoofed_records_end_neither_a_handshake_nor_a_connection() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut hostile = |rounds: usize| -> Vec<Vec<u8>> {
        let mut all = vec![
            spoofed(21, &[2, 40]),
            spoofed(21, &[1, 0]),
            spoofed(23, &[7; 40]),
            spoofed(20, &[1]),
            vec![20; 1200],
            vec![0x3F; 100],
        ];
        for _ in 0..rounds {
            let len = rng.random_range(0..80);
            all.push((0..len).map(|_| rng.random()).collect());
            let mut shaped = spoofed(rng.random_range(20..27), &(0..len).map(|_| rng.random()).collect::<Vec<u8>>());
            shaped[4] = rng.random_range(0..3);
            all.push(shaped);
        }
        all
    };
    for versions in [DtlsVersions::V12, DtlsVersions::V12AndV13] {
        let mut world = World::new(versions, DtlsRole::Server);
        for datagram in hostile(10) {
            assert!(matches!(world.receive(&datagram), Ok(None) | Err(_)), "{datagram:02x?}");
        }
        world.run(10);
        assert_eq!(world.events, [TransportEvent::Connected], "{versions:?}");
        for datagram in hostile(2_000) {
            assert!(matches!(world.receive(&datagram), Ok(None) | Err(_)), "{datagram:02x?}");
        }
        world.assert_media_flows();
        world.client.dtls.close().unwrap();
        world.exchange();
        assert!(matches!(world.events[..], [_, TransportEvent::Closed(_)]), "{versions:?} {:?}", world.events);
    }
}

#[test]
fn what_is_taken_before_the_handshake_is_complete_is_bounded() {
    let mut world = World::new(DtlsVersions::V12, DtlsRole::Server);
    let datagram = spoofed(23, &[7; 100]);
    let outcomes: Vec<_> = (0..300).map(|_| world.receive(&datagram)).collect();
    assert_eq!(outcomes.last(), Some(&Err(DropReason::DtlsTooMany)));
    assert!(world.events.is_empty());
}

#[test]
fn goodbyes_are_said_and_heard() {
    for versions in [DtlsVersions::V12, DtlsVersions::V12AndV13] {
        let mut world = World::new(versions, DtlsRole::Server);
        world.run(5);
        world.transport.close(world.now, &mut world.scratch, &mut world.out);
        world.exchange();
        assert!(world.client.closed, "{versions:?}");
        assert_eq!(world.transport.poll_timeout(), None);
        assert!(world.transport.srtp_out().is_none());

        let mut world = World::new(versions, DtlsRole::Server);
        world.run(5);
        world.client.dtls.close().unwrap();
        world.exchange();
        assert!(matches!(world.events[..], [_, TransportEvent::Closed(_)]), "{versions:?} {:?}", world.events);
    }
}

#[test]
fn a_client_that_falls_silent_is_gone_and_one_that_sends_media_is_not() {
    let mut world = World::new(DtlsVersions::V12, DtlsRole::Server);
    world.run(5);
    world.assert_media_flows();
    let keys = world.client.keys.clone().unwrap();
    let theirs = SrtpOut::new(keys.profile, &keys.local);
    for index in 8..16 {
        world.run(20);
        let mut packet = rtp();
        packet[3] = index;
        let len = theirs.protect_rtp(&mut packet, 12, 22, u64::from(index));
        world.transport.unprotect_rtp((world.now, CLIENT), &mut packet[..len], 12, 9, u16::from(index)).unwrap();
        assert_eq!(world.events, [TransportEvent::Connected]);
    }
    world.run(29);
    assert_eq!(world.events, [TransportEvent::Connected]);
    world.run(2);
    assert!(matches!(world.events[..], [_, TransportEvent::Closed(_)]), "{:?}", world.events);
}
