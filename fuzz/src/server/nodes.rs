//! What other nodes say and write, and what the process before has handed over: with the proof that it is one of us.

use moonring::fuzz::{Hearsay, InMemory};

use super::pages::{join, server, with_server};
use super::{Parts, joined};

/// Messages of one input.
const MOST: usize = 200;

/// Messages, each behind its kind, to a node that takes whatever comes for another's.
pub(super) fn nodes(bytes: &[u8]) {
    let mut node = Hearsay::default();
    for part in Parts(bytes).take(MOST) {
        if let Some((kind, body)) = part.split_first() {
            node.hear(*kind, body);
        }
    }
}

pub(super) fn nodes_seeds() -> Vec<Vec<u8>> {
    let said: Vec<_> = Hearsay::said().into_iter().map(|(kind, body)| [&[kind], &body[..]].concat()).collect();
    let alone = said.iter().map(|message| joined([message.as_slice()]));
    let all = joined(said.iter().map(Vec::as_slice));
    alone.chain([all]).collect()
}

/// A stay from another node, all that the control plane of the process before knows, a value of a store, or a room's checkpoint, by
/// the first byte.
pub(super) fn stays(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => with_server(|server| server.take_stay(bytes)),
        1 => {
            // Of clients that no shard of this one knows something is left.
            let mut server = server();
            if server.inherit(bytes) {
                join(&mut server);
            }
        }
        2 => {
            if let Some(again) = InMemory::value_again(bytes) {
                assert_eq!(again, bytes, "it is another value when it is written again");
            }
        }
        _ => {
            if let Some(again) = InMemory::begin_with_checkpoint(bytes) {
                assert_eq!(
                    InMemory::begin_with_checkpoint(&again),
                    Some(again),
                    "it is another one when it is written again"
                );
            }
        }
    }
}

pub(super) fn stays_seeds() -> Vec<Vec<u8>> {
    let mut server = server();
    // Behind the lost connection its client keeps what is said to it.
    let client = join(&mut server);
    let state = server.hand_over(&[&client]).expect("a state");
    // Its shard does not know that it goes: the server is of no use any more.
    let stay = server.give_stay(&client).expect("it is here");
    let values: [&[u8]; 4] = [
        &[0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[1, 2, 3, 4, 5, 6, 7, 8, 2, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F],
        &[0, 0, 0, 0, 0, 0, 0, 0, 3, b'o', b'n', b'e'],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    let of = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let checkpoint = InMemory::checkpoint().expect("a checkpoint");
    [of(0, &stay), of(1, &state), of(3, &checkpoint)]
        .into_iter()
        .chain(values.iter().map(|value| of(2, value)))
        .collect()
}
