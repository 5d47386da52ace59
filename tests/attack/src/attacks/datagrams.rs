//! Rubbish to the media port, from strangers: no answer, and nothing else either.

use std::time::Duration;

use super::{Attack, Outcome, attack};
use crate::net;

/// Datagrams of each kind.
const DATAGRAMS: usize = 20_000;
/// Sent at once, between pauses of a millisecond.
const BURST: usize = 20;

/// Makes the n-th datagram.
type Make = fn(usize) -> Vec<u8>;

const KINDS: &[(&str, Make)] = &[
    ("rubbish: empty datagrams", |_| Vec::new()),
    ("rubbish: one byte", |n| vec![n as u8]),
    ("rubbish: random bytes", |n| random(n, 1_200)),
    ("rubbish: the longest datagrams", |n| random(n, 60_000)),
    ("rubbish: STUN without attributes", |n| stun(n, &[])),
    ("rubbish: STUN with a wrong length", |n| [&stun(n, &[])[..], &[0; 7]].concat()),
    ("rubbish: STUN with 200 attributes", |n| stun(n, &[0x80, 0x22, 0, 0].repeat(200))),
    ("rubbish: STUN for nobody", |n| stun(n, &[0, 6, 0, 4, b'a', b':', b'b', b'c', 0, 8, 0, 20])),
    ("rubbish: STUN responses", |n| [&[1, 1][..], &stun(n, &[])[2..]].concat()),
    ("rubbish: TURN channel data", |_| vec![0x40; 200]),
    ("rubbish: DTLS ClientHellos from nowhere", |n| record(22, &random(n, 250))),
    ("rubbish: DTLS fragments without end", |n| {
        record(22, &[&[1, 255, 255, 255, 0, n as u8, 0, 0, 0][..], &[0; 400]].concat())
    }),
    ("rubbish: DTLS alerts", |_| record(21, &[2, 40])),
    ("rubbish: RTP from nowhere", |n| rtp(n, 0x80)),
    ("rubbish: RTP with 15 CSRCs and extensions", |n| rtp(n, 0x9F)),
    ("rubbish: RTCP goodbyes from nowhere", |_| vec![0x81, 203, 0, 1, 0, 0, 0, 1]),
];

pub(super) fn all() -> Vec<Attack> {
    KINDS.iter().map(|(name, make)| attack(name, |ground| Box::pin(flood(ground, *make)))).collect()
}

async fn flood(ground: &crate::ground::Ground, make: Make) -> anyhow::Result<Outcome> {
    let socket = net::socket(1)?;
    let before = ground.metric("moonring_drops_total").await;
    let (mut sent, mut bytes) = (0_usize, 0_usize);
    for n in 0..DATAGRAMS {
        let datagram = make(n);
        // A full queue of this machine's is no attack.
        if socket.send(&datagram).is_ok() {
            (sent, bytes) = (sent + 1, bytes + datagram.len());
        }
        if n % BURST == 0 {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let mut answers = 0;
    let mut buffer = [0; 2_048];
    while socket.recv(&mut buffer).is_ok() {
        answers += 1;
    }
    let dropped = ground.metric("moonring_drops_total").await - before;
    let did = format!("{answers} answers, {dropped} dropped and counted");
    Ok(Outcome::new(format!("{sent} datagrams, {} KiB", bytes >> 10), did, answers == 0 && dropped > 0.0))
}

/// Bytes without a pattern, the same for each `n`.
pub(super) fn random(n: usize, len: usize) -> Vec<u8> {
    let mut state = n as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn stun(n: usize, attributes: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1];
    message.extend((attributes.len() as u16).to_be_bytes());
    message.extend([0x21, 0x12, 0xA4, 0x42]);
    message.extend(random(n, 12));
    message.extend(attributes);
    message
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn rtp(n: usize, first: u8) -> Vec<u8> {
    let mut packet = vec![first, 96];
    packet.extend((n as u16).to_be_bytes());
    packet.extend(random(n, 400));
    packet
}
