//! What a datagram costs on its way to and from the kernel: CPU time of the calling thread, loopback included.
//!
//! `cargo bench -p moonring-benches --bench udp` interleaves all ways and prints medians; without `--bench` each way runs once.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

use std::net::{SocketAddr, UdpSocket};

use moonring::bench::{IoMode, Udp, UdpSettings, bind};
use moonring_wire::packet::SendBatch;
use nix::time::{ClockId, clock_gettime};

const DATAGRAM: usize = 1_100;
/// Datagrams of one measurement: what the sinks' socket buffers hold.
const DATAGRAMS: usize = 1_920;
const CLIENTS: usize = 48;
const ROUNDS: usize = 101;

/// One measured way: CPU nanoseconds a datagram, one figure a round.
struct Way {
    name: &'static str,
    step: Box<dyn FnMut() -> f64>,
    figures: Vec<f64>,
}

fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    let mut send = send_ways();
    run(&mut send, rounds, "udp", "sendmmsg");
    let mut receive = receive_ways();
    run(&mut receive, rounds, "udp/receive", "recvmmsg/64");
}

/// Rounds over all ways, so that what disturbs the machine disturbs them alike.
fn run(ways: &mut [Way], rounds: usize, group: &str, base: &str) {
    for round in 0..=rounds {
        for way in ways.iter_mut() {
            let figure = (way.step)();
            // The first round warms up.
            if round > 0 {
                way.figures.push(figure);
            }
        }
    }
    let medians: Vec<f64> = ways.iter_mut().map(|way| median(&mut way.figures)).collect();
    let of_base = ways.iter().position(|way| way.name == base).map_or(1.0, |at| medians[at]);
    for (way, ns) in ways.iter().zip(&medians) {
        println!("{group}/{} ns={ns:.0} pps={:.0} ratio_to_{base}={:.2}", way.name, 1e9 / ns, ns / of_base);
    }
}

fn send_ways() -> Vec<Way> {
    let mut ways = vec![way("sendto", {
        let (socket, sinks) = (bind(local()).unwrap(), Sinks::new());
        move || {
            let start = thread_ns();
            for number in 0..DATAGRAMS {
                socket.send_to(&[7; DATAGRAM], sinks.addresses[number % CLIENTS]).unwrap();
            }
            sinks.drained((thread_ns() - start) / DATAGRAMS as f64)
        }
    })];
    for (name, io, run) in [
        ("sendmmsg", IoMode::Mmsg, 1),
        ("mmsg/gso4", IoMode::Mmsg, 4),
        ("mmsg/gso10", IoMode::Mmsg, 10),
        ("mmsg/gso40", IoMode::Mmsg, 40),
        ("uring/single", IoMode::Uring, 1),
        ("uring/gso4", IoMode::Uring, 4),
        ("uring/gso10", IoMode::Uring, 10),
        ("uring/gso40", IoMode::Uring, 40),
    ] {
        ways.push(way(name, send_way(io, run)));
    }
    ways
}

fn send_way(io: IoMode, run: usize) -> impl FnMut() -> f64 {
    let (mut udp, _) = udp(&UdpSettings { io, ..UdpSettings::default() });
    let sinks = Sinks::new();
    let mut batch = SendBatch::new(4 << 20, DATAGRAMS);
    for number in 0..DATAGRAMS {
        assert!(batch.push(sinks.addresses[number / run % CLIENTS], &[7; DATAGRAM]));
    }
    move || {
        let start = thread_ns();
        assert_eq!(udp.flush(&batch).sent, DATAGRAMS);
        sinks.drained((thread_ns() - start) / DATAGRAMS as f64)
    }
}

fn receive_ways() -> Vec<Way> {
    let mut ways = vec![way("recvfrom", {
        let (mut udp, _) = udp(&UdpSettings { io: IoMode::Mmsg, gro: false, ..UdpSettings::default() });
        let socket = UdpSocket::bind(local()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let batch = train(socket.local_addr().unwrap(), 1);
        move || {
            udp.flush(&batch);
            let (start, mut count, mut buffer) = (thread_ns(), 0, [0; 2_048]);
            while socket.recv_from(&mut buffer).is_ok() {
                count += 1;
            }
            (thread_ns() - start) / f64::from(count)
        }
    })];
    for (name, gro, run, receive_buffers) in [
        ("recvmmsg/16", false, 1, 16),
        ("recvmmsg/64", false, 1, 64),
        ("gro1/16", true, 1, 16),
        ("gro1/64", true, 1, 64),
        ("gro4/16", true, 4, 16),
        ("gro4/64", true, 4, 64),
        ("gro10/16", true, 10, 16),
        ("gro10/64", true, 10, 64),
    ] {
        let settings = UdpSettings { gro, receive_buffers, ..UdpSettings::default() };
        ways.push(way(name, receive_way(&settings, run)));
    }
    ways
}

fn receive_way(settings: &UdpSettings, run: usize) -> impl FnMut() -> f64 + use<> {
    let (mut sender, _) = udp(&UdpSettings { io: IoMode::Mmsg, ..UdpSettings::default() });
    let (mut udp, address) = udp(settings);
    let batch = train(address, run);
    move || {
        let sent = sender.flush(&batch).sent;
        let (start, mut count, mut bytes_seen) = (thread_ns(), 0, 0);
        while count < sent {
            let received = udp.receive(256, |_, bytes| {
                bytes_seen += usize::from(bytes[0]);
                true
            });
            assert!(received.datagrams > 0, "{count} of {sent} datagrams arrived");
            count += received.datagrams;
        }
        assert_eq!(bytes_seen, count * 7);
        (thread_ns() - start) / count as f64
    }
}

/// 640 datagrams to one address in runs of `run`; a shorter datagram ends each.
fn train(to: SocketAddr, run: usize) -> SendBatch {
    let mut batch = SendBatch::new(1 << 20, 640);
    for number in 0..640 {
        // With runs of one, each is longer than the one before, modulo a few.
        let len = if run == 1 { DATAGRAM + number % 64 } else { DATAGRAM - usize::from(number % run == run - 1) };
        assert!(batch.push(to, &[7; DATAGRAM + 64][..len]));
    }
    batch
}

/// The clients' sockets.
struct Sinks {
    sockets: Vec<UdpSocket>,
    addresses: Vec<SocketAddr>,
}

impl Sinks {
    fn new() -> Self {
        let sockets: Vec<_> = (0..CLIENTS).map(|_| UdpSocket::bind(local()).unwrap()).collect();
        sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        Self { sockets, addresses }
    }

    /// Empties the sockets and hands `figure` through.
    fn drained(&self, figure: f64) -> f64 {
        let mut buffer = [0; 2_048];
        let count: usize = self.sockets.iter().map(|s| std::iter::from_fn(|| s.recv(&mut buffer).ok()).count()).sum();
        assert_eq!(count, DATAGRAMS);
        figure
    }
}

fn udp(settings: &UdpSettings) -> (Udp, SocketAddr) {
    let socket = bind(local()).unwrap();
    let address = socket.local_addr().unwrap();
    (Udp::new(vec![socket], settings).unwrap(), address)
}

fn way(name: &'static str, step: impl FnMut() -> f64 + 'static) -> Way {
    Way { name, step: Box::new(step), figures: vec![] }
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn thread_ns() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
