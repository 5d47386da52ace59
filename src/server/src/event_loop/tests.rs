//! The loop over loopback with a core that echoes, in both io modes.

mod connections;
mod pauses;
mod queues;

use std::net::SocketAddr;
use std::sync::mpsc::{self as std_mpsc, Receiver};

use super::*;
use crate::event_queue::{EventReceiver, event_queue};
use crate::io_mode::IoMode;
use crate::udp::bind;
use moonring_core::command::LeaveCause;
use moonring_wire::id::{ClientId, TrackId};

const MODES: [IoMode; 2] = [IoMode::Uring, IoMode::Mmsg];
const WAIT: Duration = Duration::from_secs(5);
/// Events that wait at which the echoing core takes no further command.
const BACKED_UP: usize = 200;

/// What the fake core saw, for the test to look at.
#[derive(Debug, PartialEq)]
enum Seen {
    Command(String),
    Timeout,
    Panic(Phase),
    Stop,
}

/// Echoes datagrams, answers `Leave` by `Left`, and does what the first byte or a command's name say.
struct Echo {
    seen: std_mpsc::Sender<Seen>,
    events: Vec<Event>,
    pending: Vec<(AddressPair, Vec<u8>)>,
    /// Becomes pending when the timer is due.
    later: Vec<(AddressPair, Vec<u8>)>,
    timeout: Option<Instant>,
    scripts_due: bool,
    go_on: Receiver<()>,
    panic_in_forward: bool,
}

impl Core for Echo {
    fn handle_datagram(&mut self, now: Instant, from: AddressPair, bytes: &mut [u8], out: &mut SendBatch) {
        match bytes.first() {
            Some(b'!') => panic!("a test's panic over a datagram"),
            Some(b'f') => self.pending.push((from, bytes.to_vec())),
            Some(b'l') => {
                self.later.push((from, bytes.to_vec()));
                self.timeout = Some(now + Duration::from_millis(3));
            }
            Some(b'p') => self.panic_in_forward = true,
            Some(b's') => self.scripts_due = out.push(from, bytes),
            Some(_) => assert!(out.push(from, bytes)),
            None => assert!(out.push(from, b"empty")),
        }
    }

    fn handle_command(&mut self, now: Instant, command: Command, _out: &mut SendBatch) {
        let Command::Leave { client, reason } = command else { panic!("a test's panic over a command") };
        if reason == "timer" {
            self.timeout = Some(now + Duration::from_millis(3));
        }
        let _ = self.seen.send(Seen::Command(reason));
        self.events.insert(0, Event::Left { client, cause: LeaveCause::Left });
    }

    /// Each pending datagram goes out thirty times.
    fn forward(&mut self, _now: Instant, out: &mut SendBatch) -> bool {
        if std::mem::take(&mut self.panic_in_forward) {
            panic!("a test's panic while forwarding");
        }
        while let Some((to, bytes)) = self.pending.last() {
            if !out.has_room(30) {
                return true;
            }
            assert!((0..30).all(|_| out.push(*to, bytes)));
            self.pending.pop();
        }
        false
    }

    fn handle_timeout(&mut self, _now: Instant, _out: &mut SendBatch) {
        self.timeout = None;
        self.pending.append(&mut self.later);
        let _ = self.seen.send(Seen::Timeout);
    }

    fn has_scripts_due(&self, _now: Instant) -> bool {
        self.scripts_due
    }

    fn run_scripts(&mut self, _now: Instant, _out: &mut SendBatch) {
        self.scripts_due = self.go_on.recv_timeout(WAIT).is_err();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    fn is_backed_up(&self) -> bool {
        self.events.len() >= BACKED_UP
    }

    fn handle_panic(&mut self, _now: Instant, phase: Phase, _out: &mut SendBatch) {
        let _ = self.seen.send(Seen::Panic(phase));
    }

    fn handle_stop(&mut self, _now: Instant, _out: &mut SendBatch) {
        let _ = self.seen.send(Seen::Stop);
    }
}

struct World {
    shard: ShardThread,
    address: SocketAddr,
    seen: Receiver<Seen>,
    events: EventReceiver,
    peer: UdpSocket,
    peer_address: SocketAddr,
    go_on: std_mpsc::Sender<()>,
}

fn world(mode: IoMode, change: impl FnOnce(&mut LoopSettings)) -> World {
    world_with_events(mode, 1_000, change)
}

fn world_with_events(mode: IoMode, event_capacity: usize, change: impl FnOnce(&mut LoopSettings)) -> World {
    let mut settings = LoopSettings::default();
    settings.udp.io = mode;
    change(&mut settings);
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, seen) = std_mpsc::channel();
    let (event_sender, events) = event_queue(event_capacity);
    let (go_on, wait) = std_mpsc::channel();
    let build = || Echo {
        seen: sender,
        events: vec![],
        pending: vec![],
        later: vec![],
        timeout: None,
        scripts_due: false,
        go_on: wait,
        panic_in_forward: false,
    };
    let shard = spawn_shard(settings, vec![socket], build, event_sender).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(address).unwrap();
    peer.set_read_timeout(Some(WAIT)).unwrap();
    World { peer_address: peer.local_addr().unwrap(), shard, address, seen, events, peer, go_on }
}

impl World {
    fn echo(&self, datagram: &[u8]) -> Vec<u8> {
        self.peer.send(datagram).unwrap();
        self.receive()
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2_000];
        let len = self.peer.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    fn send(&self, reason: &str) {
        self.shard.sender().send(leave(reason)).unwrap();
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(WAIT).unwrap()
    }
}

fn leave(reason: &str) -> Command {
    Command::Leave { client: ClientId::parse("c").unwrap(), reason: reason.into() }
}

#[test]
fn datagrams_are_answered_whatever_the_pause_between_them() {
    for mode in MODES {
        let world = world(mode, |_| {});
        for round in 0..60u64 {
            assert_eq!(world.echo(&round.to_be_bytes()[4..]), round.to_be_bytes()[4..], "{mode:?}");
            std::thread::sleep(Duration::from_micros(round * 137 % 5_000));
        }
        assert_eq!(world.echo(b""), b"empty");
        assert!(world.shard.stop());
    }
}

#[test]
fn ten_thousand_datagrams_at_a_moderate_rate_are_all_answered() {
    for mode in MODES {
        let world = world(mode, |_| {});
        for burst in 0..1_000u32 {
            for number in 0..10 {
                world.peer.send(&(0x0100_0000 + burst * 10 + number).to_be_bytes()).unwrap();
            }
            for number in 0..10 {
                assert_eq!(world.receive(), (0x0100_0000 + burst * 10 + number).to_be_bytes(), "{mode:?}");
            }
        }
        assert!(world.shard.stop());
    }
}

#[test]
fn a_command_wakes_a_sleeping_shard_and_its_event_comes_out() {
    for mode in MODES {
        let mut world = world(mode, |settings| settings.longest_sleep = Duration::from_secs(3_600));
        for round in 0..50 {
            world.send("wake");
            assert_eq!(world.next(), Seen::Command("wake".into()), "{mode:?} {round}");
            assert!(matches!(world.events.blocking_recv(), Some(Event::Left { .. })));
        }
        assert!(world.shard.stop());
    }
}

#[test]
fn a_timer_fires_on_a_shard_that_nothing_else_wakes() {
    for mode in MODES {
        let world = world(mode, |_| {});
        for _ in 0..20 {
            world.send("timer");
            assert_eq!([world.next(), world.next()], [Seen::Command("timer".into()), Seen::Timeout], "{mode:?}");
        }
        assert!(world.shard.stop());
    }
}

#[test]
fn what_there_is_to_send_leaves_before_scripts_run() {
    for mode in MODES {
        let world = world(mode, |_| {});
        for _ in 0..20 {
            // The answer comes while the scripts of its tick still run.
            assert_eq!(world.echo(b"scripts"), b"scripts", "{mode:?}");
            world.go_on.send(()).unwrap();
        }
        assert!(world.shard.stop());
    }
}

#[test]
fn what_does_not_fit_one_flush_leaves_in_several() {
    for mode in MODES {
        let world = world(mode, |settings| settings.send_bytes = 60_000);
        for number in 0..5u8 {
            world.peer.send(&[b'f', number]).unwrap();
        }
        let mut count = [0; 5];
        for _ in 0..150 {
            count[usize::from(world.receive()[1])] += 1;
        }
        assert_eq!(count, [30; 5], "{mode:?}");
        assert!(world.shard.stop());
    }
}

#[test]
fn there_is_room_for_the_answer_to_every_datagram_of_a_coalesced_receive() {
    for mode in MODES {
        let world = world(mode, |settings| settings.send_bytes = 13_000);
        let mut peer = Udp::new(vec![bind("127.0.0.1:0".parse().unwrap()).unwrap()], &UdpSettings::default()).unwrap();
        let mut train = SendBatch::new(64 << 10, 2);
        assert!((0..30).all(|number| train.push(world.address, &[number; 1_000])));
        assert_eq!(peer.flush(&train).sent, 30);
        let mut got = vec![];
        for _ in 0..1_000 {
            peer.wait(Duration::from_millis(5));
            peer.receive(30, |_, bytes| {
                got.push(bytes[0]);
                true
            });
            if got.len() == 30 {
                break;
            }
        }
        assert_eq!(got, (0..30).collect::<Vec<_>>(), "{mode:?}");
        assert!(world.seen.try_recv().is_err());
    }
}

#[test]
fn a_panic_in_the_core_ends_what_caused_it_and_nothing_else() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for mode in MODES {
        let world = world(mode, |_| {});
        world.peer.send(b"!").unwrap();
        assert_eq!(world.next(), Seen::Panic(Phase::Datagram(world.peer_address.into())), "{mode:?}");
        let (client, track) = (ClientId::parse("c").unwrap(), TrackId::parse("t").unwrap());
        world.shard.sender().send(Command::Unpublish { client, track }).unwrap();
        assert_eq!(world.next(), Seen::Panic(Phase::Command), "{mode:?}");
        world.peer.send(b"p").unwrap();
        assert_eq!(world.next(), Seen::Panic(Phase::Forward), "{mode:?}");
        assert_eq!(world.echo(b"alive"), b"alive");
        assert!(world.shard.is_running() && world.shard.stop());
    }
    std::panic::set_hook(quiet);
}

#[test]
fn a_stopped_shard_says_goodbye_and_frees_its_port() {
    for mode in MODES {
        let world = world(mode, |_| {});
        assert_eq!(world.echo(b"hello"), b"hello");
        let sender = world.shard.sender().clone();
        assert!(world.shard.stop(), "{mode:?}");
        assert_eq!(world.seen.try_recv(), Ok(Seen::Stop));
        assert!(UdpSocket::bind(world.address).is_ok(), "{mode:?}");
        assert!(sender.send(leave("too late")).is_err());
    }
}

#[test]
fn a_shard_whose_handle_is_dropped_stops_by_itself() {
    for mode in MODES {
        let world = world(mode, |settings| settings.longest_sleep = Duration::from_secs(3_600));
        drop(world.shard);
        assert_eq!(world.seen.recv_timeout(WAIT), Ok(Seen::Stop), "{mode:?}");
    }
}

#[test]
fn a_shard_that_cannot_start_says_why() {
    let mut settings = LoopSettings { cpu: Some(100_000), ..LoopSettings::default() };
    settings.udp.io = IoMode::Uring;
    let (events, _receiver) = event_queue(1);
    let build = || -> Echo { panic!("not reached") };
    let error = spawn_shard(settings, vec![bind("127.0.0.1:0".parse().unwrap()).unwrap()], build, events).unwrap_err();
    let line = error.to_string();
    assert!(line.starts_with("the shard's executor does not start: ") && line.lines().count() == 1, "{line}");
}

#[test]
fn what_a_timer_lets_pass_leaves_in_the_same_tick() {
    for mode in MODES {
        // Nothing else wakes the shard while the peer waits.
        let world = world(mode, |settings| settings.longest_sleep = Duration::from_secs(3_600));
        assert_eq!(world.echo(b"later"), b"later", "{mode}");
        assert!(world.shard.stop());
    }
}
