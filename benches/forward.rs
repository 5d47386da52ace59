//! What forwarding costs: the shard's core, packets in, packets out, through real sends; against the floor, the same
//! decryption, encryption, bytes and sends without any SFU. CPU time per forwarded packet, medians of interleaved rounds.
//!
//! `forward/...` includes the kernel's sends, `core/...` leaves them out.
//! `cargo bench -p moonring-benches --bench forward [case]`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::call::Call;
use common::counting::{Counting, allocations};
use common::floor::{Case, Floor, Until, floor_way};
use common::{Sink, Way, interleave, is_bench, thread_ns, udp};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    Case::wanted().for_each(run);
}

fn run(case: Case) {
    let sink = Rc::new(Sink::default());
    let mut call = Call::new();
    for room in 0..case.rooms {
        if room > 0 && room % 1_000 == 0 {
            eprintln!("{}: {room} of {} rooms are connected", case.name, case.rooms);
        }
        call.room(case.codec, case.subscribers, |n| sink.address(n));
    }
    let call = Rc::new(RefCell::new(call));
    let floor = Rc::new(RefCell::new(Floor::new(case)));
    let mut ways = [
        shard_way("forward", case, &call, Some(&sink)),
        floor_way("floor", case, &floor, &sink, Until::Sent),
        shard_way("core", case, &call, None),
        floor_way("core_floor", case, &floor, &sink, Until::Sealed),
    ];
    // Until the histories have the size that half a second of packets needs: what makes them grow is not measured.
    if is_bench() {
        for _ in 0..case.rounds_to_grow() {
            let _: (f64, f64) = (ways[2].step)();
        }
    }
    interleave(&mut ways, if is_bench() { 41 } else { 1 });
    let results: Vec<_> = ways.iter_mut().map(Way::result).collect();
    for (n, of) in [(0, 1), (1, 1), (2, 3), (3, 3)] {
        let ((ns, allocs), name) = (results[n], &ways[n].name);
        let ratio = ns / results[of].0;
        println!("{name}/{} ns={ns:.0} pps={:.0} allocs={allocs:.3} ratio_to_floor={ratio:.2}", case.name, 1e9 / ns);
    }
}

fn shard_way(name: &str, case: Case, call: &Rc<RefCell<Call>>, sink: Option<&Rc<Sink>>) -> Way {
    let (call, sink) = (call.clone(), sink.cloned());
    let mut udp = udp();
    Way::new(name, move || {
        let call = &mut *call.borrow_mut();
        let mut datagrams = call.packets(case.incoming(), case.burst, case.payload);
        let mut sent = 0;
        let (start, before) = (thread_ns(), allocations());
        for tick in datagrams.chunks_mut(case.tick()) {
            // Time goes on, or what is kept for resends would grow to the limit of its bytes.
            call.now += case.period().mul_f64(tick.len() as f64 / (case.burst * case.rooms) as f64);
            call.shard.expect(tick.iter().map(|(from, _)| (*from).into()));
            for (from, bytes) in tick {
                call.shard.handle_datagram(call.now, *from, bytes, &mut call.out);
            }
            loop {
                let more = call.shard.forward(call.now, &mut call.out);
                sent += call.out.datagrams();
                if sink.is_some() {
                    udp.flush(&call.out);
                }
                call.out.clear();
                if !more {
                    break;
                }
            }
        }
        let (ns, allocs) = (thread_ns() - start, allocations() - before);
        sink.iter().for_each(|sink| sink.drain());
        assert!(sent >= datagrams.len() * case.subscribers, "{sent} packets of {} left", datagrams.len());
        (ns / sent as f64, allocs as f64 / sent as f64)
    })
}
