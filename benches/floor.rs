//! The floor of forwarding, and what it consists of: the same bytes, the same encryption, the same calls as a shard
//! makes, and no SFU. CPU time per forwarded packet, medians of interleaved rounds.
//!
//! `open_ns` is a receiver's share of opening the packet once, `seal_ns` header, copy and encryption, `send_ns` the
//! kernel's. `--bench forward` measures the shard against it. `cargo bench -p moonring-benches --bench floor [case]`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::counting::Counting;
use common::floor::{Case, Floor, Until, floor_way};
use common::{Sink, Way, interleave, is_bench};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    for case in Case::wanted() {
        let sink = Rc::new(Sink::default());
        let floor = Rc::new(RefCell::new(Floor::new(case)));
        let mut ways =
            [Until::Opened, Until::Sealed, Until::Sent].map(|until| floor_way("floor", case, &floor, &sink, until));
        interleave(&mut ways, if is_bench() { 41 } else { 1 });
        let [(opened, _), (sealed, _), (sent, allocs)] = ways.each_mut().map(Way::result);
        println!(
            "floor/{} ns={sent:.0} pps={:.0} allocs={allocs:.3} open_ns={opened:.0} seal_ns={:.0} send_ns={:.0}",
            case.name,
            1e9 / sent,
            sealed - opened,
            sent - sealed
        );
    }
}
