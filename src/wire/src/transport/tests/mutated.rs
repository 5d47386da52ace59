//! Records of true handshakes with a few bytes changed, in every state of a handshake.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Records in all. The fuzz target `dtls` goes on from here.
const RECORDS: usize = 200_000;
/// Changed copies of each true datagram before it comes itself: with some the handshake comes to its end.
const COPIES: [usize; 4] = [0, 1, 4, 12];
/// Changed copies of each of the client's datagrams when all are through.
const LATE_COPIES: usize = 12;

/// Changes some bytes, and half of the time makes the length of the first record right again.
fn mutate(rng: &mut StdRng, datagram: &[u8]) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..6) {
            0 => bytes[at] = rng.random(),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            // The headers are where most is decided.
            2 => bytes[at.min(26)] = [0, 1, 2, 14, 20, 21, 22, 23, 0xFE, 0xFF][rng.random_range(0..10)],
            3 => bytes.truncate(at.max(14)),
            4 => bytes.extend_from_within(at..),
            _ => bytes.splice(at..at, [0; 3]).for_each(drop),
        }
    }
    if rng.random() && bytes.len() > 13 {
        let len = (bytes.len() - 13) as u16;
        bytes[11..13].copy_from_slice(&len.to_be_bytes());
    }
    bytes
}

#[test]
fn changed_records_make_no_trouble_in_any_state_of_a_handshake() {
    let mut rng = StdRng::seed_from_u64(7);
    let config = TransportConfig::new(Certificate::generate().unwrap());
    let (mut given, mut connected) = (0, 0);
    while given < RECORDS {
        for (case, copies) in Case::ALL.into_iter().flat_map(|case| COPIES.map(|copies| (case, copies))) {
            let mut world = World::with(case, &config, Fingerprint::sha256);
            given += with_changed_copies(&mut rng, &mut world, copies);
            connected += usize::from(world.transport.is_connected());
        }
    }
    // Some of them do end a handshake: the clear part of it has no protection but that it fails.
    assert!(connected > 0);
}

/// A handshake in which changed copies come before each datagram of the client.
fn with_changed_copies(rng: &mut StdRng, world: &mut World, copies: usize) -> usize {
    let mut given = 0;
    for step in 0..6 {
        world.now += Duration::from_millis(300);
        let _ = world.transport.handle_timeout(world.now, &mut world.scratch, &mut world.out);
        let _ = world.client.dtls.handle_timeout(world.now);
        let (mut datagrams, mut copies) = (world.client.poll(&mut world.scratch), copies);
        if step == 5 {
            datagrams.clone_from(&world.client.sent);
            copies = LATE_COPIES;
        }
        for datagram in datagrams {
            for _ in 0..copies {
                let _ = world.receive(&mutate(rng, &datagram));
                given += 1;
            }
            let _ = world.receive(&datagram);
        }
        for datagram in world.sent() {
            world.client.receive(&datagram);
        }
    }
    given
}
