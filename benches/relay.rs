//! What a packet costs that goes from one shard to another, in a room that is spread: out (frames, sealing, the kernel's
//! sends) and in (opening, keeping), against the floor: sealing and sending the same bytes, and opening them. CPU time per
//! packet of 1,200 bytes in bursts of 50, medians of interleaved rounds. `cargo bench -p moonring-benches --bench relay`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

mod common;
#[allow(dead_code, reason = "the world has more than is needed here")]
#[path = "../tests/world/sim/mod.rs"]
mod sim;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::{Sink, Way, interleave, is_bench, thread_ns, udp};
use moonring_wire::id::Ssrc;
use moonring_wire::link::{HEAD, OVERHEAD, Opener, Place, Sealer};
use moonring_wire::media::CodecName::Vp8;
use moonring_wire::negotiate::Direction;
use moonring_wire::packet::SendBatch;

use sim::World;
use sim::flows::{sends, wants};
use sim::places::over_three_shards;
use sim::raw::{Fields, section};

/// Packets of a burst: a large picture.
const BURST: usize = 50;
/// Bursts of a round.
const BURSTS: usize = 40;
/// Bytes of a packet's payload.
const PAYLOAD: usize = 1_164;

/// Ada publishes a picture at one shard, Bob receives it at another.
struct Relay {
    world: World,
    ada: usize,
    index: u64,
    /// What left for the other shard last.
    datagrams: Vec<Vec<u8>>,
}

impl Relay {
    fn new() -> Self {
        over_three_shards();
        let mut world = World::new(1);
        let (ada, bob) = (world.join_raw("ada"), world.join_raw("bob"));
        let mut own = section("0", Vp8, Direction::SendOnly);
        own.ssrcs = vec![(Ssrc(31), None)];
        world.raw(ada).sections = vec![own];
        let track = world.offer(ada, vec![sends("0")], vec![])[0].track.clone().expect("a track");
        world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
        world.offer(bob, vec![], vec![wants(&"0".to_owned().try_into().expect("a mid"), Some(&track.id))]);
        world.run_ms(1_000);
        Self { world, ada, index: 1, datagrams: Vec::new() }
    }

    /// A burst comes to Ada's shard.
    fn burst_comes(&mut self, out: &mut SendBatch) {
        for n in 0..BURST {
            let is_key = self.index == 1;
            let mut payload = vec![if n == 0 { 0x10 } else { 0 }, u8::from(!is_key)];
            payload.resize(PAYLOAD, 0);
            let timestamp = (self.index / BURST as u64 * 3_000) as u32;
            let fields =
                Fields { ssrc: 31, pt: 96, index: self.index, timestamp, marker: n + 1 == BURST, elements: &[] };
            let mut packet = self.world.raw(self.ada).seal(&fields, &payload);
            let from = self.world.members[self.ada].address;
            self.world.shard.handle_datagram(self.world.now, from, &mut packet, out);
            self.index += 1;
        }
        // Slowly, so that nobody is gone because nothing came for a while.
        self.world.now += Duration::from_millis(5);
    }

    /// Sends it on; the time that takes, with that of `send` for the same bytes to `to`.
    fn out(&mut self, batch: &mut SendBatch, to: SocketAddr, mut send: impl FnMut(&SendBatch)) -> f64 {
        self.datagrams.clear();
        let (mut ns, mut more) = (0.0, true);
        while more {
            let start = thread_ns();
            more = self.world.shard.forward(self.world.now, batch);
            ns += thread_ns() - start;
            self.datagrams.extend(batch.iter().map(|(_, bytes)| bytes.to_vec()));
            batch.clear();
        }
        let mut again = SendBatch::new(1 << 20, 1_024);
        self.datagrams.iter().for_each(|bytes| assert!(again.push(to, bytes)));
        let start = thread_ns();
        send(&again);
        ns + thread_ns() - start
    }

    /// It comes to Bob's shard; the time that takes.
    fn comes(&mut self, batch: &mut SendBatch) -> f64 {
        let from = SocketAddr::from(([10, 0, 0, 1], 40_000));
        let now = self.world.now;
        let other = self.world.shard_at(1);
        let start = thread_ns();
        for datagram in &mut self.datagrams {
            other.handle_datagram(now, from, datagram, batch);
        }
        let ns = thread_ns() - start;
        while other.forward(now, batch) {
            batch.clear();
        }
        batch.clear();
        // What it wants it says again and again.
        other.handle_timeout(now, batch);
        while other.poll_event().is_some() {}
        let said: Vec<_> = batch.iter().filter(|(to, _)| *to == from).map(|(_, bytes)| bytes.to_vec()).collect();
        batch.clear();
        let other = SocketAddr::from(([10, 0, 0, 2], 40_000));
        said.into_iter().for_each(|mut bytes| self.world.shard.handle_datagram(now, other, &mut bytes, batch));
        batch.clear();
        ns
    }
}

fn main() {
    let relay = Rc::new(RefCell::new(Relay::new()));
    let sink = Rc::new(Sink::default());
    let mut ways = [out_way(&relay, &sink), in_way(&relay), floor_out_way(&sink), floor_in_way()];
    interleave(&mut ways, if is_bench() { 31 } else { 1 });
    let results: Vec<_> = ways.iter_mut().map(Way::result).collect();
    for (n, of) in [(0, 2), (1, 3), (2, 2), (3, 3)] {
        let ((ns, _), name) = (results[n], &ways[n].name);
        println!("{name} ns={ns:.0} ratio_to_floor={:.2}", ns / results[of].0);
    }
    let relayed = relay.borrow_mut().world.shard_at(1).counters().relayed_in;
    assert!(relayed as usize >= BURST * BURSTS, "{relayed} packets were relayed");
}

fn out_way(relay: &Rc<RefCell<Relay>>, sink: &Rc<Sink>) -> Way {
    let (relay, sink) = (relay.clone(), sink.clone());
    let (mut batch, mut udp) = (SendBatch::new(1 << 20, 1_024), udp());
    Way::new("relay/out", move || {
        let relay = &mut *relay.borrow_mut();
        let (mut ns, mut count) = (0.0, 0);
        for _ in 0..BURSTS {
            relay.burst_comes(&mut batch);
            batch.clear();
            ns += relay.out(&mut batch, sink.address(0), |again| _ = udp.flush(again));
            count += relay.datagrams.len();
            relay.comes(&mut batch);
            sink.drain();
        }
        (ns / count as f64, 0.0)
    })
}

fn in_way(relay: &Rc<RefCell<Relay>>) -> Way {
    let relay = relay.clone();
    let mut batch = SendBatch::new(1 << 20, 1_024);
    Way::new("relay/in", move || {
        let relay = &mut *relay.borrow_mut();
        let (mut ns, mut count) = (0.0, 0);
        for _ in 0..BURSTS {
            relay.burst_comes(&mut batch);
            batch.clear();
            relay.out(&mut batch, SocketAddr::from(([127, 0, 0, 1], 9)), |_| {});
            count += relay.datagrams.len();
            ns += relay.comes(&mut batch);
        }
        (ns / count as f64, 0.0)
    })
}

const A: Place = Place { run: 1, shard: 0 };
const B: Place = Place { run: 1, shard: 1 };

fn floor_out_way(sink: &Rc<Sink>) -> Way {
    let sink = sink.clone();
    let (mut batch, mut udp) = (SendBatch::new(1 << 20, 1_024), udp());
    let mut sealer = Sealer::new(&[7; 32], A, B);
    Way::new("relay_floor/out", move || {
        let mut ns = 0.0;
        for _ in 0..BURSTS {
            let start = thread_ns();
            for _ in 0..BURST {
                let mut slot = batch.slot(sink.address(0), PAYLOAD + 32 + OVERHEAD).expect("room");
                let bytes = slot.bytes();
                bytes[HEAD..HEAD + PAYLOAD].fill(1);
                let len = sealer.seal(bytes, HEAD + PAYLOAD + 22);
                slot.commit(len);
            }
            udp.flush(&batch);
            ns += thread_ns() - start;
            batch.clear();
            sink.drain();
        }
        (ns / (BURSTS * BURST) as f64, 0.0)
    })
}

fn floor_in_way() -> Way {
    let (mut sealer, mut opener) = (Sealer::new(&[7; 32], A, B), Opener::new(&[7; 32], A, B));
    Way::new("relay_floor/in", move || {
        let sealed = |sealer: &mut Sealer| {
            let mut bytes = vec![1; PAYLOAD + 22 + OVERHEAD];
            let len = sealer.seal(&mut bytes, HEAD + PAYLOAD + 22);
            bytes.truncate(len);
            bytes
        };
        let mut datagrams: Vec<_> = (0..BURSTS * BURST).map(|_| sealed(&mut sealer)).collect();
        let start = thread_ns();
        for datagram in &mut datagrams {
            assert!(opener.open(datagram).is_ok());
        }
        ((thread_ns() - start) / datagrams.len() as f64, 0.0)
    })
}
