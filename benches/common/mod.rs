//! What the benchmarks share: a call in memory, a counting allocator, interleaved rounds.
#![allow(dead_code, unreachable_pub, reason = "each benchmark uses a part")]

pub mod call;
pub mod counting;
pub mod floor;
pub mod libsrtp;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use moonring::bench::{Udp, UdpSettings, bind};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};

/// One measured way: figures of one round at a time.
pub struct Way {
    /// What the line begins with.
    pub name: String,
    /// Runs once; CPU nanoseconds and allocations per packet.
    pub step: Box<dyn FnMut() -> (f64, f64)>,
    figures: Vec<(f64, f64)>,
}

impl Way {
    /// A way to measure.
    pub fn new(name: impl Into<String>, step: impl FnMut() -> (f64, f64) + 'static) -> Self {
        Self { name: name.into(), step: Box::new(step), figures: Vec::new() }
    }

    /// Median nanoseconds and most allocations of a round.
    pub fn result(&mut self) -> (f64, f64) {
        self.figures.sort_by(|a, b| a.0.total_cmp(&b.0));
        (self.figures[self.figures.len() / 2].0, self.figures.iter().map(|f| f.1).fold(0.0, f64::max))
    }
}

/// True under `cargo bench`; `cargo test -p moonring-benches --benches` runs everything once.
pub fn is_bench() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// Rounds over all ways, so that what disturbs the machine disturbs them alike. The first round warms up.
pub fn interleave(ways: &mut [Way], rounds: usize) {
    for round in 0..=rounds {
        for way in ways.iter_mut() {
            let figure = (way.step)();
            if round > 0 {
                way.figures.push(figure);
            }
        }
    }
}

/// CPU time of this thread in nanoseconds.
pub fn thread_ns() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a CPU clock");
    time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64
}

/// A shard's socket on loopback.
pub fn udp() -> Udp {
    let socket = bind(([127, 0, 0, 1], 0).into()).expect("a port");
    Udp::new(vec![socket], &UdpSettings::default()).expect("a ring")
}

/// A socket that takes what is sent to any loopback address on its port: one sink for many clients.
pub struct Sink {
    socket: UdpSocket,
    port: u16,
}

impl Default for Sink {
    fn default() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        socket.set_nonblocking(true).expect("non-blocking");
        let bytes = 64 << 20;
        // Without the right to do so the socket loses packets, which a sink may.
        let _ =
            setsockopt(&socket, sockopt::RcvBufForce, &bytes).or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &bytes));
        let port = socket.local_addr().expect("an address").port();
        Self { socket, port }
    }
}

impl Sink {
    /// The address of client `n`.
    pub fn address(&self, n: usize) -> SocketAddr {
        let [_, a, b, c] = (n as u32 + 1).to_be_bytes();
        SocketAddr::from(([127, 1 + a, b, c], self.port))
    }

    /// Empties the socket.
    pub fn drain(&self) {
        let mut buffer = [0; 2_048];
        while self.socket.recv(&mut buffer).is_ok() {}
    }
}
