//! What a shard's loop costs around its core: idle, woken by single datagrams, and busy. An echo, in both io modes, beside
//! a thread that blocks in plain calls.
//!
//! `cargo bench -p moonring-benches --bench event_loop`; without `--bench` a moment of each.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moonring::bench::{Core, LoopSettings, Phase, event_queue, spawn_shard};
use moonring::bench::{IoMode, IoStats, bind};
use moonring_core::command::{Command, Event};
use moonring_wire::packet::{AddressPair, SendBatch};
use nix::time::{ClockId, clock_gettime};

const WINDOW: usize = 64;

/// Echoes, and tells the CPU time of its thread.
struct Echo(Arc<AtomicU64>);

impl Core for Echo {
    fn handle_datagram(&mut self, _now: Instant, from: AddressPair, bytes: &mut [u8], out: &mut SendBatch) {
        out.push(from, bytes);
    }
    fn handle_command(&mut self, _now: Instant, _command: Command, _out: &mut SendBatch) {}
    fn forward(&mut self, _now: Instant, _out: &mut SendBatch) -> bool {
        false
    }
    fn handle_timeout(&mut self, _now: Instant, _out: &mut SendBatch) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_event(&mut self) -> Option<Event> {
        None
    }
    fn handle_panic(&mut self, _now: Instant, _phase: Phase, _out: &mut SendBatch) {}
    fn record_io(&mut self, _io: &IoStats) {
        self.0.store(thread_ns(), Ordering::Relaxed);
    }
}

fn main() {
    let full = std::env::args().any(|arg| arg == "--bench");
    let (idle, pings, rounds) =
        if full { (Duration::from_secs(3), 2_000, 3_000) } else { (Duration::from_millis(20), 5, 5) };
    plain(pings, rounds);
    for io in [IoMode::Uring, IoMode::Mmsg] {
        shard(io, idle, pings, rounds);
    }
}

fn shard(io: IoMode, idle: Duration, pings: usize, rounds: usize) {
    let mut settings = LoopSettings::default();
    settings.udp.io = io;
    let name = io.to_string();
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    let (events, _receiver) = event_queue(1);
    let cpu = Arc::new(AtomicU64::new(0));
    let clock = cpu.clone();
    let shard = spawn_shard(settings, vec![socket], move || Echo(clock), events).unwrap();
    let cpu = || cpu.load(Ordering::Relaxed) as f64;
    std::thread::sleep(idle / 10);
    let before = cpu();
    std::thread::sleep(idle);
    println!("loop/{name}/idle cpu={:.2}%", (cpu() - before) / idle.as_nanos() as f64 * 100.0);
    measure(&name, address, cpu, pings, rounds);
    assert!(shard.stop());
}

/// The floor of latency: one thread, one blocking call each way.
fn plain(pings: usize, rounds: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let cpu = Arc::new(AtomicU64::new(0));
    let clock = cpu.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 2_000];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
            clock.store(thread_ns(), Ordering::Relaxed);
        }
    });
    measure("plain", address, || cpu.load(Ordering::Relaxed) as f64, pings, rounds);
}

fn measure(name: &str, address: SocketAddr, cpu: impl Fn() -> f64, pings: usize, rounds: usize) {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut buffer = [0; 2_000];
    let mut times = vec![];
    let before = cpu();
    for _ in 0..pings {
        // Long enough for the shard to go to sleep.
        std::thread::sleep(Duration::from_micros(700));
        let start = Instant::now();
        peer.send(&[1; 200]).unwrap();
        peer.recv(&mut buffer).unwrap();
        times.push(start.elapsed().as_nanos() as f64 / 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let each = (cpu() - before) / pings as f64 / 1e3;
    println!("loop/{name}/ping rtt_p50={p50:.0}us rtt_p99={p99:.0}us cpu={each:.1}us");
    let before = cpu();
    for _ in 0..rounds {
        (0..WINDOW).for_each(|_| assert!(peer.send(&[1; 1_000]).is_ok()));
        (0..WINDOW).for_each(|_| assert!(peer.recv(&mut buffer).is_ok()));
    }
    println!("loop/{name}/burst{WINDOW} cpu={:.0}ns a datagram", (cpu() - before) / (rounds * WINDOW) as f64);
}

fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
