//! The least that forwarding can cost: the same bytes, the same encryption, the same calls, and no SFU.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use moonring::bench::Udp;
use moonring_wire::id::{Pt, Ssrc};
use moonring_wire::media::{CodecName, Kind};
use moonring_wire::packet::{MAX_DATAGRAM, SendBatch};
use moonring_wire::rtp::header::{Header, NewHeader, write_header};
use moonring_wire::transport::srtp::{MasterKey, SrtpIn, SrtpOut, SrtpProfile};

use super::counting::allocations;
use super::{Sink, Way, is_bench, thread_ns, udp};

/// Forwarded packets of one round, about: what a sink's buffer holds.
const PACKETS: usize = 5_000;
/// One header extension, as a shard writes it.
const EXTENSIONS: &[(u8, &[u8])] = &[(1, &[1, 2, 3])];
/// Packets of one tick where many rooms send.
const TICK: usize = 64;

/// For how long a shard keeps packets, at most.
const KEPT: Duration = Duration::from_millis(500);

/// What a case forwards.
#[derive(Clone, Copy)]
pub struct Case {
    /// What its lines say.
    pub name: &'static str,
    /// What the publishers send.
    pub codec: CodecName,
    /// Bytes of payload: with header, extension and tag a packet of 1,200 or 160 bytes.
    pub payload: usize,
    /// Packets that come in one tick.
    pub burst: usize,
    /// Rooms, with a publisher each.
    pub rooms: usize,
    /// Who receive, in each room.
    pub subscribers: usize,
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

const fn video(name: &'static str, rooms: usize, subscribers: usize) -> Case {
    Case { name, codec: CodecName::Vp8, payload: 1_164, burst: 5, rooms, subscribers }
}

const fn audio(name: &'static str, rooms: usize, subscribers: usize) -> Case {
    Case { name, codec: CodecName::Opus, payload: 124, burst: 1, rooms, subscribers }
}

impl Case {
    /// Time from a publisher's burst of packets to its next one: a picture's or a sound packet's.
    pub fn period(&self) -> Duration {
        Duration::from_millis(if self.codec.kind() == Kind::Audio { 20 } else { 33 })
    }

    /// The cases whose names were given on the command line, or all; small ones unless under `cargo bench`.
    pub fn wanted() -> impl Iterator<Item = Self> {
        let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
        let cases = CASES.iter().copied();
        let cases =
            cases.filter(move |case| wanted.is_empty() || wanted.iter().any(|w| case.name.contains(w.as_str())));
        cases.map(|case| match is_bench() {
            true => case,
            false => Self { rooms: case.rooms.min(3), subscribers: case.subscribers.min(5), ..case },
        })
    }

    /// Incoming packets of one room in one round, a multiple of the burst.
    pub fn incoming(self) -> usize {
        (PACKETS / (self.subscribers * self.rooms)).div_ceil(self.burst).max(1) * self.burst
    }

    /// Rounds in which each room gets what it keeps for resends, and half as much again.
    pub fn rounds_to_grow(self) -> usize {
        (KEPT.as_secs_f64() * 1.5 / self.period().as_secs_f64()).ceil() as usize * self.burst / self.incoming()
    }

    /// Packets that one tick takes in: one room's burst, or some from each of many rooms.
    pub fn tick(self) -> usize {
        if self.rooms == 1 { self.burst } else { self.burst.max(TICK) }
    }
}

/// How far packets get.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub enum Until {
    /// Each incoming packet is opened.
    Opened,
    /// And sealed for everybody who receives it.
    Sealed,
    /// And sent.
    Sent,
}

/// The keys of a case's clients, and what they were used for.
pub struct Floor {
    publishers: Vec<(SrtpOut, SrtpIn)>,
    subscribers: Vec<SrtpOut>,
    batch: SendBatch,
    /// Rollover counter and sequence number of the next packet, in every room.
    index: u64,
}

impl Floor {
    /// Publishers and receivers of a case.
    pub fn new(case: Case) -> Self {
        let profile = SrtpProfile::AeadAes256Gcm;
        let key = |n: usize| {
            let bytes: Vec<u8> = (0..32).map(|i| (i * 7 + n) as u8).collect();
            MasterKey::new(profile, &bytes, &bytes[..12]).expect("a key of the right length")
        };
        let publisher = |n| (SrtpOut::new(profile, &key(n)), SrtpIn::new(profile, &key(n), 4));
        Self {
            publishers: (0..case.rooms).map(publisher).collect(),
            subscribers: (0..case.subscribers * case.rooms).map(|n| SrtpOut::new(profile, &key(n + 1))).collect(),
            batch: SendBatch::new(1 << 20, 1024),
            index: 1,
        }
    }

    /// One round's packets as they come from the network, a packet of each room in turn.
    fn packets(&mut self, case: Case) -> Vec<Packet> {
        let first = self.index;
        self.index += case.incoming() as u64;
        let rooms = (first..self.index).flat_map(|index| (0..case.rooms).map(move |room| (index, room)));
        rooms
            .map(|(index, room)| {
                let mut bytes = vec![0; MAX_DATAGRAM];
                let header_len = write_header(&mut bytes, &header(index), EXTENSIONS);
                let len = self.publishers[room].0.protect_rtp(&mut bytes, header_len, header_len + case.payload, index);
                bytes.truncate(len);
                Packet { room, index, bytes }
            })
            .collect()
    }

    fn open(&mut self, packet: &mut Packet) {
        let header = Header::parse(&packet.bytes).expect("a packet");
        let incoming = &mut self.publishers[packet.room].1;
        let opened = incoming.unprotect_rtp(&mut packet.bytes, header.header_len, header.ssrc.0, header.sequence);
        assert_eq!(opened.map(|(_, index)| index), Ok(packet.index));
    }

    /// Puts a tick's packets into the batch, room by room, and in a room receiver by receiver.
    fn seal(&mut self, tick: &[Packet], case: Case, line: &mut Line) {
        for (n, packet) in tick.iter().enumerate().take(case.rooms) {
            for subscriber in packet.room * case.subscribers..(packet.room + 1) * case.subscribers {
                for packet in tick[n..].iter().step_by(case.rooms) {
                    if !self.batch.has_room(1) {
                        line.flush(&mut self.batch);
                    }
                    let mut slot = self.batch.slot(line.sink.address(subscriber), MAX_DATAGRAM).expect("room");
                    let buffer = slot.bytes();
                    let header_len = write_header(buffer, &header(packet.index), EXTENSIONS);
                    let payload = &packet.bytes[header_len..header_len + case.payload];
                    let len = self.subscribers[subscriber].seal_rtp(payload, buffer, header_len, packet.index);
                    slot.commit(len);
                }
            }
        }
    }
}

/// A publisher's packet.
struct Packet {
    room: usize,
    index: u64,
    bytes: Vec<u8>,
}

/// Where sealed packets go.
struct Line {
    udp: Udp,
    sink: Rc<Sink>,
    sends: bool,
}

impl Line {
    fn flush(&mut self, batch: &mut SendBatch) {
        if self.sends {
            self.udp.flush(batch);
        }
        batch.clear();
    }
}

fn header(index: u64) -> NewHeader {
    NewHeader { marker: false, payload_type: Pt(96), sequence: index as u16, timestamp: 1, ssrc: Ssrc(7) }
}

/// Opens each packet once, seals it for everybody in its room, sends; or a part of that. Figures are per packet that
/// everybody gets.
pub fn floor_way(name: &str, case: Case, floor: &Rc<RefCell<Floor>>, sink: &Rc<Sink>, until: Until) -> Way {
    let floor = floor.clone();
    let mut line = Line { udp: udp(), sink: sink.clone(), sends: until == Until::Sent };
    Way::new(name, move || {
        let floor = &mut *floor.borrow_mut();
        let mut packets = floor.packets(case);
        let (start, before) = (thread_ns(), allocations());
        for tick in packets.chunks_mut(case.tick()) {
            tick.iter_mut().for_each(|packet| floor.open(packet));
            if until >= Until::Sealed {
                floor.seal(tick, case, &mut line);
                line.flush(&mut floor.batch);
            }
        }
        let (ns, allocs) = (thread_ns() - start, allocations() - before);
        line.sink.drain();
        let forwarded = (packets.len() * case.subscribers) as f64;
        (ns / forwarded, allocs as f64 / forwarded)
    })
}
