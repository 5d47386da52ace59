//! What a shard's memory goes to: bytes per room, client, track, forward and resend buffer, and what is left of it when
//! the rooms end. Live allocations of the shard alone, averages over many rooms; what DTLS holds in C (aws-lc: 3 KB a
//! client, as mallinfo2 sees it) is not counted.
//!
//! `after_end` is what an empty shard holds more than a new one: tables that keep their size for the next rooms. The
//! second time it must not be more. `cargo bench -p moonring-benches --bench memory`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

mod common;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use common::call::Call;
use common::counting::Counting;
use common::is_bench;
use moonring_core::room::history::HistoryLimits;
use moonring_wire::media::CodecName;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEFAULT_ROOM: &[u8] = include_bytes!("../scripts/default_room.lua");
const SECRET: &str = "s";
/// The server's default settings.
const AGE: Duration = Duration::from_secs(1);
const VIDEO: HistoryLimits = HistoryLimits { age: AGE, bytes: 1024 * 1024 };
const AUDIO: HistoryLimits = HistoryLimits { age: AGE, bytes: 16 * 1024 };
/// What is sent before the resend buffers are looked at.
const SENT: Duration = Duration::from_secs(3);

/// Video of 30 frames per second, five packets each: 1.4 Mbit/s. Sound of 50 packets per second, 64 kbit/s.
const VIDEO_FRAME: Duration = Duration::from_nanos(33_333_333);
const SOUND_FRAME: Duration = Duration::from_millis(20);

fn main() {
    // LuaJIT wants a deep C stack, as a shard's thread has.
    let bench = std::thread::Builder::new().stack_size(64 << 20).spawn(run).expect("a thread");
    bench.join().expect("the benchmark");
}

fn run() {
    let rooms = if is_bench() { 500 } else { 10 };
    let mut call = Call::with(DEFAULT_ROOM, SECRET, VIDEO, AUDIO);
    let new = call.bytes;
    println!("memory/shard bytes={new}");
    let first = generation(&mut call, 0, rooms);
    for (name, bytes) in first {
        println!("memory/{name} bytes={:.0}", bytes as f64 / rooms as f64);
    }
    history("video", CodecName::Vp8, VIDEO, 5, 1_164, VIDEO_FRAME);
    history("audio", CodecName::Opus, AUDIO, 1, 160, SOUND_FRAME);
    let full = call.bytes;
    let left = end(&mut call, 0..2 * rooms) - new;
    generation(&mut call, 2 * rooms, rooms);
    let left_again = end(&mut call, 2 * rooms..4 * rooms) - new;
    println!(
        "memory/after_end bytes={left} again={left_again} rooms={rooms} full={full} given_back={:.1}%",
        100.0 * (full - new - left) as f64 / (full - new) as f64
    );
    assert!(left_again <= left + left / 10, "rooms that end leave memory behind");
}

/// Rooms of two clients, one step after the other in all rooms: what each step takes. Their clients count from `first`.
fn generation(call: &mut Call, first: usize, rooms: usize) -> Vec<(&'static str, i64)> {
    let mut last = call.bytes;
    let mut step = |call: &Call| call.bytes - std::mem::replace(&mut last, call.bytes);
    let join = |call: &mut Call, n: usize| {
        assert_eq!(call.join(&format!("room-{}", n % rooms), address(n)), n);
    };
    let (publishers, receivers) = (first..first + rooms, first + rooms..first + 2 * rooms);
    publishers.clone().for_each(|n| join(call, n));
    let room_and_joined = step(call);
    receivers.clone().for_each(|n| join(call, n));
    let joined = step(call);
    publishers.clone().for_each(|n| call.publish(n, CodecName::Vp8));
    call.connect(publishers.clone());
    let publisher_and_track = joined + step(call);
    publishers.for_each(|n| call.publish(n, CodecName::Opus));
    let track = step(call);
    receivers.clone().for_each(|n| call.subscribe(n, CodecName::Vp8));
    call.connect(receivers.clone());
    let receiver_and_forward = joined + step(call);
    receivers.for_each(|n| call.subscribe(n, CodecName::Opus));
    let forward = step(call);
    vec![
        ("room", room_and_joined - joined),
        ("client/joined", joined),
        ("client/publisher", publisher_and_track - track),
        ("client/receiver", receiver_and_forward - forward),
        ("track", track),
        ("forward", forward),
    ]
}

/// What a track keeps for resending once it has been sent for a while, in bursts of so many packets.
fn history(name: &str, codec: CodecName, limits: HistoryLimits, burst: usize, payload: usize, distance: Duration) {
    let mut call = Call::with(DEFAULT_ROOM, SECRET, VIDEO, AUDIO);
    call.room(codec, 1, address);
    let before = call.bytes;
    let frames = SENT.as_nanos() / distance.as_nanos();
    for _ in 0..frames {
        let packets = call.packets(burst, burst, payload);
        call.deliver(packets);
        call.wait(distance);
    }
    let kbps = 8 * (burst * payload) as u128 * frames / SENT.as_millis();
    let (bytes, most) = (call.bytes - before, limits.bytes);
    println!("memory/history/{name} bytes={bytes} kbps={kbps} most_payload_bytes={most}");
}

/// These clients leave, and some time passes: what the shard still has.
fn end(call: &mut Call, clients: Range<usize>) -> i64 {
    clients.for_each(|n| call.leave(n));
    (0..100).for_each(|_| call.wait(Duration::from_millis(100)));
    call.bytes
}

fn address(n: usize) -> SocketAddr {
    let [_, a, b, c] = (n as u32 + 1).to_be_bytes();
    SocketAddr::from(([10, a, b, c], 9))
}
