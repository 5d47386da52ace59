//! What forwarding costs: the shard's core, packets in, packets out, through real sends; against the floor, the same
//! decryption, encryption, bytes and sends without any SFU. CPU time per forwarded packet, medians of interleaved rounds.
//!
//! `forward/...` includes the kernel's sends, `core/...` leaves them out. `cargo bench --bench forward [case]`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::call::Call;
use common::counting::{Counting, allocations};
use common::{Sink, Way, interleave, is_bench, thread_ns};
use moonring::media::CodecName;
use moonring::packet::{MAX_DATAGRAM, SendBatch};
use moonring::rtp::header::{Header, NewHeader, write_header};
use moonring::shard::udp::{Udp, UdpSettings, bind};
use moonring::transport::srtp::{MasterKey, SrtpIn, SrtpOut, SrtpProfile};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Forwarded packets of one round, about: what a sink's buffer holds.
const PACKETS: usize = 5_000;

/// What a case forwards.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    codec: CodecName,
    /// Bytes of payload: with header, extension and tag a packet of 1,200 or 160 bytes.
    payload: usize,
    /// Packets that come in one tick.
    burst: usize,
    rooms: usize,
    subscribers: usize,
}

const fn video(name: &'static str, rooms: usize, subscribers: usize) -> Case {
    Case { name, codec: CodecName::Vp8, payload: 1_164, burst: 5, rooms, subscribers }
}

const fn audio(name: &'static str, rooms: usize, subscribers: usize) -> Case {
    Case { name, codec: CodecName::Opus, payload: 124, burst: 1, rooms, subscribers }
}

const CASES: &[Case] = &[
    video("video/1", 1, 1),
    video("video/10", 1, 10),
    video("video/50", 1, 50),
    video("video/100", 1, 100),
    video("video/1000", 1, 1_000),
    audio("audio/10", 1, 10),
    audio("audio/50", 1, 50),
    audio("audio/100", 1, 100),
    video("rooms_of_3/10000", 10_000, 2),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for case in CASES {
        if wanted.is_empty() || wanted.iter().any(|w| case.name.contains(w.as_str())) {
            run(*case);
        }
    }
}

fn run(mut case: Case) {
    let rounds = if is_bench() { 41 } else { 1 };
    if !is_bench() {
        case = Case { rooms: case.rooms.min(3), subscribers: case.subscribers.min(5), ..case };
    }
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
        floor_way("floor", case, &floor, &sink, true),
        shard_way("core", case, &call, None),
        floor_way("core_floor", case, &floor, &sink, false),
    ];
    interleave(&mut ways, rounds);
    let results: Vec<_> = ways.iter_mut().map(Way::result).collect();
    for (n, of) in [(0, 1), (1, 1), (2, 3), (3, 3)] {
        let ((ns, allocs), name) = (results[n], &ways[n].name);
        let ratio = ns / results[of].0;
        println!("{name}/{} ns={ns:.0} pps={:.0} allocs={allocs:.3} ratio_to_floor={ratio:.2}", case.name, 1e9 / ns);
    }
}

/// Incoming packets of one room in one round, a multiple of the burst.
fn incoming(case: Case) -> usize {
    (PACKETS / (case.subscribers * case.rooms)).div_ceil(case.burst).max(1) * case.burst
}

fn udp() -> Udp {
    let socket = bind(([127, 0, 0, 1], 0).into()).expect("a port");
    Udp::new(vec![socket], &UdpSettings::default()).expect("a ring")
}

fn shard_way(name: &str, case: Case, call: &Rc<RefCell<Call>>, sink: Option<&Rc<Sink>>) -> Way {
    let (call, sink) = (call.clone(), sink.cloned());
    let mut udp = udp();
    Way::new(name, move || {
        let call = &mut *call.borrow_mut();
        let mut datagrams = call.packets(incoming(case), case.burst, case.payload);
        let mut sent = 0;
        let (start, before) = (thread_ns(), allocations());
        for tick in datagrams.chunks_mut(case.burst.max(if case.rooms > 1 { 64 } else { 1 })) {
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

/// The least there is to do: open each packet once, seal it for everybody, send.
struct Floor {
    incoming: SrtpIn,
    publisher: SrtpOut,
    out: Vec<SrtpOut>,
    batch: SendBatch,
    index: u64,
}

impl Floor {
    fn new(case: Case) -> Self {
        let profile = SrtpProfile::AeadAes256Gcm;
        let key = |n: usize| {
            let bytes: Vec<u8> = (0..32).map(|i| (i * 7 + n) as u8).collect();
            MasterKey::new(profile, &bytes, &bytes[..12]).expect("a key of the right length")
        };
        Self {
            incoming: SrtpIn::new(profile, &key(0), 4),
            publisher: SrtpOut::new(profile, &key(0)),
            out: (0..case.subscribers * case.rooms).map(|n| SrtpOut::new(profile, &key(n + 1))).collect(),
            batch: SendBatch::new(1 << 20, 1024),
            index: 1,
        }
    }

    /// A publisher's packet as it comes from the network.
    fn packet(&mut self, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; MAX_DATAGRAM];
        let header_len = write_header(&mut bytes, &header(self.index), &[(1, &[1, 2, 3])]);
        let len = self.publisher.protect_rtp(&mut bytes, header_len, header_len + payload, self.index);
        self.index += 1;
        bytes.truncate(len);
        bytes
    }
}

fn header(index: u64) -> NewHeader {
    let (payload_type, ssrc) = (moonring::id::Pt(96), moonring::id::Ssrc(7));
    NewHeader { marker: false, payload_type, sequence: index as u16, timestamp: 1, ssrc }
}

fn floor_way(name: &str, case: Case, floor: &Rc<RefCell<Floor>>, sink: &Rc<Sink>, sends: bool) -> Way {
    let (floor, sink) = (floor.clone(), sink.clone());
    let mut udp = udp();
    Way::new(name, move || {
        let floor = &mut *floor.borrow_mut();
        let first = floor.index;
        let mut packets: Vec<Vec<u8>> = (0..incoming(case)).map(|_| floor.packet(case.payload)).collect();
        let mut sent = 0;
        let (start, before) = (thread_ns(), allocations());
        for room in 0..case.rooms {
            for (burst, packets) in packets.chunks_mut(case.burst).enumerate() {
                if room == 0 {
                    for packet in packets.iter_mut() {
                        let header = Header::parse(packet).expect("a packet");
                        let opened =
                            floor.incoming.unprotect_rtp(packet, header.header_len, header.ssrc.0, header.sequence);
                        opened.expect("authentic");
                    }
                }
                for subscriber in room * case.subscribers..(room + 1) * case.subscribers {
                    for (n, packet) in packets.iter().enumerate() {
                        if !floor.batch.has_room(1) {
                            flush(&mut udp, &mut floor.batch, sends);
                        }
                        let index = first + (burst * case.burst + n) as u64;
                        let mut slot = floor.batch.slot(sink.address(subscriber), MAX_DATAGRAM).expect("room");
                        let buffer = slot.bytes();
                        let header_len = write_header(buffer, &header(index), &[(1, &[1, 2, 3])]);
                        let payload = &packet[header_len..header_len + case.payload];
                        let len = floor.out[subscriber].seal_rtp(payload, buffer, header_len, index);
                        slot.commit(len);
                        sent += 1;
                    }
                }
                if case.rooms == 1 {
                    flush(&mut udp, &mut floor.batch, sends);
                }
            }
        }
        flush(&mut udp, &mut floor.batch, sends);
        let (ns, allocs) = (thread_ns() - start, allocations() - before);
        sink.drain();
        (ns / sent as f64, allocs as f64 / sent as f64)
    })
}

fn flush(udp: &mut Udp, batch: &mut SendBatch, sends: bool) {
    if sends {
        udp.flush(batch);
    }
    batch.clear();
}
