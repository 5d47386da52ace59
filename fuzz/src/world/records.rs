//! DTLS within a shard: a client's handshake, changed on its way, and records from anybody in each of its states.

use std::net::SocketAddr;

use moonring_wire::media::CodecName::Opus;
use moonring_wire::negotiate::Direction;

use super::{PANICS, POLICY, Parts, joined};
use crate::sim::World;
use crate::sim::flows::sends;
use crate::sim::raw::section;

/// Datagrams of one input.
const MOST: usize = 40;

/// Steps, each behind a byte that says what happens: the next datagram of Mallory's handshake leaves, with bytes changed;
/// records come from her address, from that of a connected client, or from a stranger's; time passes, so that flights are
/// sent again.
pub(super) fn records(bytes: &[u8]) {
    let (mut world, mallory, bob) = begin();
    let known = [mallory, bob].map(|who| world.members[who].address);
    let stranger: SocketAddr = ([10, 66, 0, 1], 6_666).into();
    for part in Parts(bytes).take(MOST) {
        let Some((kind, rest)) = part.split_first() else { continue };
        match kind {
            0..120 => {
                if world.raw(mallory).out.is_empty() {
                    world.run_ms(1_100);
                }
                let out = &mut world.raw(mallory).out;
                if !out.is_empty() {
                    let mut datagram = out.remove(0);
                    change(&mut datagram, rest);
                    world.inject(known[0], &datagram);
                }
            }
            120..170 => _ = world.inject(known[0], rest),
            170..190 => _ = world.inject(known[1], rest),
            190..200 => _ = world.inject(stranger, rest),
            200.. => world.run_ms(4 * u64::from(kind - 200).pow(2)),
        }
    }
    world.raw(mallory).holds = false;
    world.run_ms(3_000);
    assert_eq!(world.shard.counters().panics, 0, "{PANICS}");
    assert!(world.left(bob).is_none(), "somebody else's session ended");
    assert_eq!(world.shard.audit(), Vec::<String>::new(), "the tables do not agree");
}

/// Changes bytes: each change is a place (two bytes) and what is flipped there.
fn change(datagram: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % datagram.len().max(1);
        if let Some(byte) = datagram.get_mut(at) {
            *byte ^= change[2];
        }
    }
}

/// Bob is connected; Mallory has an answer and a path, and holds back what her handshake would send.
fn begin() -> (World, usize, usize) {
    let mut world = World::ruled(1, POLICY);
    let (mallory, bob) = (world.join_raw("mallory"), world.join("bob"));
    world.publish(bob, Opus);
    world.run_ms(200);
    assert!(world.peer(bob).is_connected());
    world.raw(mallory).holds = true;
    world.raw(mallory).sections = vec![section("0", Opus, Direction::SendOnly)];
    let outcomes = world.offer(mallory, vec![sends("0")], vec![]);
    assert_eq!(outcomes.len(), 1);
    let (check, address) = (world.raw(mallory).check(), world.members[mallory].address);
    world.inject(address, &check);
    world.run_ms(100);
    (world, mallory, bob)
}

pub(super) fn records_seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let record = |kind: u8, epoch: u8, body: &[u8]| {
        let head = [kind, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 9, 0, body.len() as u8];
        [&head[..], body].concat()
    };
    let untouched = vec![vec![0]; 12];
    let mut changed = vec![vec![0]; 12];
    changed[2] = with(0, &[0, 60, 1]);
    changed[6] = with(0, &[1, 0, 0x80, 0, 14, 1]);
    changed.insert(4, vec![230]);
    let alerts = [(21, 0), (21, 1), (20, 0), (22, 0), (23, 1), (26, 2)];
    let mut strange: Vec<_> = alerts.iter().map(|(kind, epoch)| with(130, &record(*kind, *epoch, &[2, 40]))).collect();
    strange.insert(2, vec![1]);
    strange.insert(4, vec![1]);
    strange.push(with(175, &record(21, 0, &[2, 40])));
    strange.push(vec![216]);
    // A ClientHello in fragments, the first one twice.
    let fragment = |at: u8| [1, 0, 1, 0, 0, 0, 0, 0, at, 0, 0, 20].iter().copied().chain([at; 20]).collect::<Vec<_>>();
    let fragments: Vec<_> = [0, 20, 0, 40].iter().map(|at| with(130, &record(22, 0, &fragment(*at)))).collect();
    [untouched, changed, strange, fragments].iter().map(|p| joined(p.iter().map(Vec::as_slice))).collect()
}
