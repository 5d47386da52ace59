use super::*;

/// A plaintext record of this type, as anybody can send it.
fn spoofed(kind: u8, fragment: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 99, 0, fragment.len() as u8];
    bytes.extend(fragment);
    bytes
}

#[test]
fn a_client_is_connected_in_either_role_and_version_and_media_flows() {
    for case in Case::ALL {
        let mut world = World::new(case);
        world.run(5);
        assert_eq!(world.events, [TransportEvent::Connected], "{case:?}");
        world.assert_media_flows();
    }
}

#[test]
fn any_one_or_two_lost_datagrams_of_a_handshake_are_made_up_for() {
    for case in Case::ALL {
        for first in 0..10 {
            for second in first..10 {
                let mut world = World::new(case);
                world.lost = vec![first, second];
                world.run(20);
                assert_eq!(world.events, [TransportEvent::Connected], "{case:?} {first} {second}");
                world.assert_media_flows();
            }
        }
    }
}

#[test]
fn any_datagram_of_a_handshake_may_come_twice_or_after_it_was_sent_again() {
    for case in Case::ALL {
        for number in 0..10 {
            let mut world = World::new(case);
            world.twice = vec![number];
            world.run(20);
            assert_eq!(world.events, [TransportEvent::Connected], "{case:?} {number} twice");
            world.assert_media_flows();
            // Behind the first retry of this side, and of both.
            for late in [260, 1_100].map(Duration::from_millis) {
                for lost in 0..10 {
                    let mut world = World::new(case);
                    (world.late, world.lost) = (vec![(number, late)], vec![lost]);
                    world.run(20);
                    assert_eq!(
                        world.events,
                        [TransportEvent::Connected],
                        "{case:?} {number} late by {late:?}, {lost} lost"
                    );
                    world.assert_media_flows();
                }
            }
        }
    }
}

/// A ClientHello with another random or, when it has one, another cookie.
fn altered(hello: &[u8], at: usize) -> Vec<u8> {
    let mut other = hello.to_vec();
    other[at] ^= 0x55;
    other
}

#[test]
fn client_hellos_of_somebody_else_do_not_keep_the_client_from_its_handshake() {
    // Behind the headers of record and message: version (2), random (32), length of the session's id, and of the cookie.
    const RANDOM: usize = 13 + 12 + 2;
    const COOKIE: usize = RANDOM + 32 + 2;
    for (before, after) in [(1, 0), (0, 1), (8, 0), (0, 7), (3, 3)] {
        for is_heard in [true, false] {
            let mut world = World::new(Case::Rtc);
            let _ = world.client.dtls.handle_timeout(world.now);
            let hello = world.client.poll(&mut world.scratch).remove(0);
            let foreign: Vec<_> = (0..before + after).map(|n| altered(&hello, RANDOM + n)).collect();
            let (first, last) = foreign.split_at(before);
            first.iter().for_each(|other| assert_eq!(world.receive(other), Ok(None)));
            let others = world.sent();
            assert_eq!(world.receive(&hello), Ok(None));
            let own = world.sent();
            assert_eq!(world.receive(&hello), Ok(None));
            assert_eq!(world.sent(), own, "the same request for the same ClientHello");
            last.iter().for_each(|other| assert_eq!(world.receive(other), Ok(None)));
            // One that nothing can come of, as it offers no SRTP.
            let mut useless = altered(&hello, RANDOM + 31);
            let srtp = useless.windows(3).position(|bytes| bytes == [0, 14, 0]).unwrap();
            useless[srtp] = 0xEE;
            assert_eq!(world.receive(&useless), Err(DropReason::Dtls));
            let more = world.sent();
            assert_eq!((others.len(), own.len(), more.len()), (before, 1, after));
            world.client.receive(&own[0]);
            let second = world.client.poll(&mut world.scratch).pop().unwrap();
            // The client is asked for the cookies of all of them.
            others.iter().chain(&more).filter(|_| is_heard).for_each(|request| world.client.receive(request));
            for wrong in [altered(&second, COOKIE), altered(&second, RANDOM)] {
                let outcome = world.receive(&wrong);
                assert!(matches!(outcome, Ok(None) | Err(DropReason::Dtls)), "{outcome:?}");
            }
            assert_eq!(world.receive(&second), Ok(None));
            world.exchange();
            world.run(20);
            assert_eq!(world.events, [TransportEvent::Connected], "{before} before, {after} after, {is_heard}");
            world.assert_media_flows();
        }
    }
}

#[test]
fn certificates_are_known_by_each_hash_function() {
    use sha2::{Digest, Sha384, Sha512};
    let hashes: [fn(&[u8]) -> Fingerprint; 2] =
        [|der| Fingerprint::Sha384(Sha384::digest(der).into()), |der| Fingerprint::Sha512(Sha512::digest(der).into())];
    for case in Case::ALL {
        for hash in hashes {
            let mut world = World::with_fingerprint(case, hash);
            world.run(5);
            assert_eq!(world.events, [TransportEvent::Connected], "{case:?}");
        }
    }
}

#[test]
fn another_certificate_than_that_of_the_offer_fails_with_an_alert_and_gives_no_keys() {
    for case in Case::ALL {
        let mut world = World::with_fingerprint(case, |_| Fingerprint::sha256(b"another certificate"));
        world.run(40);
        assert!(world.failure().contains("not the one of its offer"), "{}", world.failure());
        assert!(!world.transport.is_connected() && world.transport.srtp_out().is_none());
        assert_eq!(
            world.transport.unprotect_rtp((world.now, CLIENT), &mut rtp(), 12, 9, 7),
            Err(DropReason::SrtpNotReady)
        );
        assert_eq!(world.transport.poll_timeout(), None);
        let told = if case == Case::Dimpl13 { world.client.closed } else { world.client.alerts == [42] };
        assert!(told, "{case:?} {:?}", world.client.alerts);
    }
}

#[test]
fn without_a_common_profile_a_handshake_fails_with_an_alert() {
    let certificate = Certificate::generate().unwrap();
    let config = TransportConfig { profiles: vec![], ..TransportConfig::new(certificate) };
    for case in [Case::Rtc, Case::Dimpl13] {
        let mut world = World::with(case, &config, Fingerprint::sha256);
        world.run(5);
        assert!(world.failure().contains("no common SRTP profile"), "{}", world.failure());
        assert_eq!(world.client.alerts, [40], "{case:?}");
    }
}

#[test]
fn a_client_that_falls_silent_in_its_handshake_is_given_up_and_told() {
    let certificate = Certificate::generate().unwrap();
    let config = TransportConfig { idle_timeout: Duration::from_secs(60), ..TransportConfig::new(certificate) };
    for case in Case::ALL {
        let mut world = World::with(case, &config, Fingerprint::sha256);
        // All but the first datagrams are lost.
        world.lost = (2..1_000).collect();
        world.run(20);
        assert_eq!(world.events, [], "{case:?}");
        world.lost.clear();
        world.run(12);
        let failed = |reason: &str| reason.contains("within 30 s") || reason.contains("timeout");
        // The client may have gone on in the last second.
        let connected = world.events == [TransportEvent::Connected];
        assert!(connected || failed(world.failure()), "{case:?} {:?} {:?}", world.events, world.client.alerts);
    }
}

#[test]
fn a_client_that_breaks_off_with_an_alert_is_given_up_soon_and_the_alert_is_named() {
    let mut world = World::new(Case::Rtc);
    world.lost = (2..1_000).collect();
    world.run(2);
    let _ = world.receive(&spoofed(21, &[2, 42]));
    world.run(4);
    assert_eq!(world.events, []);
    world.run(2);
    assert!(world.failure().contains("alert bad_certificate (42)"), "{}", world.failure());
}

#[test]
fn an_alert_that_somebody_else_sends_does_not_end_a_handshake() {
    for case in Case::ALL {
        let mut world = World::new(case);
        world.lost = vec![2, 3, 4, 5];
        for _ in 0..20 {
            let _ = world.receive(&spoofed(21, &[2, 40]));
            world.run(1);
        }
        assert_eq!(world.events, [TransportEvent::Connected], "{case:?}");
        world.assert_media_flows();
    }
}

#[test]
fn packets_of_unvalidated_addresses_are_not_looked_at() {
    let mut world = World::new(Case::Rtc);
    world.client.dtls.handle_timeout(world.now).unwrap();
    let hello = world.client.poll(&mut world.scratch).remove(0);
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 50_001));
    let outcome = world.transport.handle_dtls(world.now, elsewhere, &hello, &mut world.scratch, &mut world.out);
    assert_eq!(outcome, Err(DropReason::UnknownAddress));
    assert!(world.out.is_empty());
}

#[test]
fn what_is_taken_before_the_handshake_is_complete_is_bounded() {
    for case in Case::ALL {
        // A part of a certificate that never comes together.
        let part = spoofed(22, &[11, 0, 40, 0, 0, 9, 0, 0, 1, 0, 0, 1, 7]);
        for datagram in [spoofed(23, &[7; 100]), part.clone(), part.repeat(20)] {
            let mut world = World::new(case);
            let outcomes: Vec<_> = (0..300).map(|_| world.receive(&datagram)).collect();
            assert_eq!(outcomes.last(), Some(&Err(DropReason::DtlsTooMany)), "{case:?}");
            assert!(world.events.is_empty(), "{case:?} {:?}", world.events);
        }
    }
}

#[test]
fn goodbyes_are_said_and_heard() {
    for case in Case::ALL {
        let mut world = World::new(case);
        world.run(5);
        world.transport.close(world.now, &mut world.scratch, &mut world.out);
        world.exchange();
        assert!(world.client.closed, "{case:?}");
        assert_eq!(world.transport.poll_timeout(), None);
        assert!(world.transport.srtp_out().is_none());

        let mut world = World::new(case);
        world.run(5);
        world.client.dtls.close().unwrap();
        world.exchange();
        assert!(matches!(world.events[..], [_, TransportEvent::Closed(_)]), "{case:?} {:?}", world.events);
    }
}

#[test]
fn a_client_that_falls_silent_is_gone_and_one_that_sends_media_is_not() {
    let mut world = World::new(Case::Rtc);
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
