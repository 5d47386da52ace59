//! A core that asks for pauses between ticks.

use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::super::{Core, LoopSettings, Phase, spawn_shard};
use crate::event_queue::event_queue;
use crate::udp::bind;
use moonring_core::command::{Command, Event};
use moonring_wire::packet::{AddressPair, SendBatch};

/// Tells of each datagram in which tick it was handled.
struct Clock {
    pause: Duration,
    ticks: mpsc::Sender<Instant>,
}

impl Core for Clock {
    fn handle_datagram(&mut self, now: Instant, _from: AddressPair, _bytes: &mut [u8], _out: &mut SendBatch) {
        let _ = self.ticks.send(now);
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

    fn coalescing(&self) -> Duration {
        self.pause
    }

    fn handle_panic(&mut self, _now: Instant, _phase: Phase, _out: &mut SendBatch) {}
}

/// In how many ticks twenty datagrams are handled that come a few milliseconds after each other.
fn ticks(pause: Duration) -> usize {
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, ticks) = mpsc::channel();
    let (event_sender, _events) = event_queue(1);
    let build = move || Clock { pause, ticks: sender };
    let shard = spawn_shard(LoopSettings::default(), vec![socket], build, event_sender).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..20 {
        peer.send_to(b"x", address).unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
    let all: HashSet<Instant> = (0..20).map(|_| ticks.recv_timeout(super::WAIT).unwrap()).collect();
    assert!(shard.stop());
    all.len()
}

#[test]
fn what_comes_in_a_pause_that_the_core_asks_for_is_handled_together() {
    let (without, with) = (ticks(Duration::ZERO), ticks(Duration::from_secs(1)));
    assert!(with <= 2 && without > 2, "{without} ticks without a pause, {with} with one");
}
