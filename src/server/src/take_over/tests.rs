//! Two processes in one: frames and descriptors cross, and whatever fails before the last word leaves the first one going on.

mod trouble;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::channel::{Channel, Kind, MAX_BODY};
use super::*;
use crate::config::Config;
use crate::event_loop::{Core, HandOverHandle, LoopSettings, Phase, Pulse, ShardThread, Unloaded, spawn_shard};
use crate::event_queue::event_queue;
use crate::udp::UdpSettings;
use crate::watchdog::Watchdog;
use moonring_core::command::{Command, Event};
use moonring_core::shard::take_over::HandedOver;
use moonring_policy::CarriedPolicy;
use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::packet::{AddressPair, SendBatch};

const SECOND: Duration = Duration::from_secs(1);

fn pair() -> (Channel, Channel) {
    let (a, b) = UnixStream::pair().unwrap();
    (Channel::new(a, SECOND).unwrap(), Channel::new(b, SECOND).unwrap())
}

#[test]
fn frames_cross_with_their_descriptors() {
    let (mut a, mut b) = pair();
    let sockets: Vec<_> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let body = vec![7; 300_000];
    let sent = body.clone();
    let sender = std::thread::spawn(move || {
        a.send(Kind::Ready, &[], &[]).unwrap();
        a.send(Kind::Shard, &sent, &[sockets[0].as_fd(), sockets[1].as_fd()]).unwrap();
        a.send(Kind::Go, b"x", &[]).unwrap();
    });
    let frames: Vec<_> = (0..3).map(|_| b.receive().unwrap()).collect();
    sender.join().unwrap();
    assert_eq!(frames.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [Kind::Ready, Kind::Shard, Kind::Go]);
    assert_eq!((frames[1].body.to_vec(), frames[2].body.to_vec()), (body, b"x".to_vec()));
    let counts: Vec<_> = frames.iter().map(|frame| frame.descriptors.len()).collect();
    assert_eq!(counts, [0, 2, 0]);
    let [_, frame, _] = <[_; 3]>::try_from(frames).unwrap();
    let crossed: Vec<_> = frame.descriptors.into_iter().map(|fd| UdpSocket::from(fd).local_addr().unwrap()).collect();
    assert_eq!(crossed, addresses);
}

#[test]
fn what_is_no_frame_is_an_error_in_words() {
    for (bytes, words) in [
        (&b""[..], "the other process has ended"),
        (&[2, 0, 0], "the other process has ended"),
        (&[99, 0, 0, 0, 0], "a frame of the unknown kind 99 has come"),
        (&[0, 255, 255, 255, 255], "a frame of 4294967295 bytes has come, more than 268435456"),
        (&[0, 0, 0, 0, 9, 1], "the other process has ended"),
        (&[1, 0, 0, 0, 2, b'n', b'o'], "no"),
        (&[7, 0, 0, 0, 0], "Hello was to come, and Go(0 bytes, 0 descriptors) has"),
    ] {
        let (mut raw, other) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(other, SECOND).unwrap();
        raw.write_all(bytes).unwrap();
        drop(raw);
        assert_eq!(channel.expect(Kind::Hello).unwrap_err().to_string(), words, "{bytes:?}");
    }
    let (mut silent, other) = UnixStream::pair().unwrap();
    let mut channel = Channel::new(other, Duration::from_millis(50)).unwrap();
    silent.write_all(&[0]).unwrap();
    assert_eq!(channel.receive().unwrap_err().to_string(), "the other process does not answer");
    assert!(channel.send(Kind::Shard, &vec![0; MAX_BODY + 1], &[]).is_err());
    drop(channel);
    assert_eq!(silent.read(&mut [0; 9]).unwrap_or(0), 0, "nothing of it has left");
}

#[test]
fn the_socket_is_the_users_alone_and_takes_the_place_of_a_stale_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moonring.sock");
    assert!(endpoint::connect(&path).unwrap().is_none());
    drop(UnixListener::bind(&path).unwrap());
    assert!(endpoint::connect(&path).unwrap().is_none(), "nobody listens any more");
    let endpoint = Endpoint::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(endpoint::connect(&path).unwrap().is_some());
    assert!(endpoint.accept().is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = format!("{:#}", Endpoint::bind(&file).unwrap_err());
    assert!(error.contains("is there and is not a socket"), "{error}");
    let error = format!("{:#}", Endpoint::bind(&folder.path().join("none/x.sock")).unwrap_err());
    assert!(error.contains("cannot listen at") && error.contains("the folder has to be there"), "{error}");
}

#[test]
fn what_does_not_agree_is_named_with_both_values() {
    let running = Config { data_dir: "/tmp".into(), shards: 2, ..Config::default() };
    let differs = |new: Config| Hello::of(&running).differs_from(&Hello::of(&new));
    assert_eq!(differs(running.clone()), None);
    assert_eq!(differs(Config { data_dir: "/tmp/../tmp".into(), ..running.clone() }), None);
    let words = differs(Config { shards: 3, ..running.clone() }).unwrap();
    assert_eq!(words, "the number of shards is 2 in the running process and 3 in the new one");
    let words = differs(Config { data_dir: "/".into(), ..running.clone() }).unwrap();
    assert_eq!(words, "data_dir is \"/tmp\" in the running process and \"/\" in the new one");
    let words = differs(Config { listen: "127.0.0.1:1".parse().unwrap(), ..running.clone() }).unwrap();
    assert_eq!(words, "listen is [::]:8080 in the running process and 127.0.0.1:1 in the new one");
    let other = br#"{"protocol":9,"version":"8.1.0","more":[]}"#;
    let words = Hello::read(other).unwrap_err().to_string();
    assert!(
        words.contains("is 1 in moonring") && words.contains("and 9 in the other process, moonring 8.1.0"),
        "{words}"
    );
    assert!(Hello::read(b"GET / HTTP/1.1").is_err());
}

/// A core that counts datagrams, and hands the count over.
struct Counting {
    count: u8,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Core for Counting {
    fn handle_datagram(&mut self, _: Instant, _: AddressPair, bytes: &mut [u8], _: &mut SendBatch) {
        self.count += 1;
        self.seen.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
    }
    fn handle_command(&mut self, _: Instant, _: Command, _: &mut SendBatch) {}
    fn forward(&mut self, _: Instant, _: &mut SendBatch) -> bool {
        false
    }
    fn handle_timeout(&mut self, _: Instant, _: &mut SendBatch) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_event(&mut self) -> Option<Event> {
        None
    }
    fn handle_panic(&mut self, _: Instant, phase: Phase, _: &mut SendBatch) {
        panic!("{phase:?}");
    }
    fn hand_over(&mut self, _: Instant) -> Option<HandedOver> {
        let clients = vec![ClientId::parse("ada").unwrap()];
        Some(HandedOver { pieces: vec![vec![self.count].into(), vec![1, 2, 3].into()], clients })
    }
    fn hand_over_policies(&mut self, _: Instant, each: &mut dyn FnMut(Unloaded)) {
        each((RoomId::parse("one").unwrap(), Ok(CarriedPolicy::default())));
        each((RoomId::parse("two").unwrap(), Err("on_unload fails".to_owned())));
    }
    fn handle_stop(&mut self, _: Instant, _: &mut SendBatch) {
        self.seen.lock().unwrap().push("goodbye".to_owned());
    }
}

/// What the control plane was told, in order.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl ControlPlane for Told {
    fn close_door(&self, is_closed: bool) {
        self.0.lock().unwrap().push(format!("closed {is_closed}"));
    }
    fn hand_over(&self, clients: &HashSet<ClientId>) -> anyhow::Result<Vec<u8>> {
        self.0.lock().unwrap().push(format!("hands over {}", clients.len()));
        Ok(b"control".to_vec())
    }
    fn go_on(&self) {
        self.0.lock().unwrap().push("goes on".to_owned());
    }
    fn is_taken_over(&self) {
        self.0.lock().unwrap().push("taken over".to_owned());
    }
    fn has_handed_over(&self) {
        self.0.lock().unwrap().push("done".to_owned());
    }
}

/// A running process.
struct Running {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    hello: Hello,
    shard: ShardThread,
    pulse: Pulse,
    seen: Arc<Mutex<Vec<String>>>,
    told: Arc<Told>,
    media: std::net::SocketAddr,
    media_socket: UdpSocket,
    client: UdpSocket,
    public: std::net::SocketAddr,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let hello = Hello::of(&Config { shards: 1, ..Config::default() });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (media, seen, told) = (socket.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default(), Arc::default());
        let core = Counting { count: 0, seen: Arc::clone(&seen) };
        let (events, _) = event_queue(8);
        // Less than every system grants.
        let udp = UdpSettings { socket_receive_bytes: 50_000, ..UdpSettings::default() };
        let settings = LoopSettings { udp, ..LoopSettings::default() };
        let media_socket = socket.try_clone().unwrap();
        let pulse = settings.pulse.clone();
        let shard = spawn_shard(settings, vec![socket], move || core, events).unwrap();
        let [public, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = public.local_addr().unwrap();
        let control: Arc<Told> = Arc::clone(&told);
        let shards: Vec<HandOverHandle> = vec![shard.hand_over_handle()];
        let endpoint = Endpoint::bind(&path).unwrap();
        let listeners = [public, admin];
        Predecessor { endpoint, hello: hello.clone(), listeners, shards, control }.start().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self { _folder: folder, path, hello, shard, pulse, seen, told, media, media_socket, client, public: address }
    }

    fn send(&self, text: &str) {
        self.client.send_to(text.as_bytes(), self.media).unwrap();
    }

    /// Waits until the core has seen a datagram.
    fn wait_for(&self, text: &str) {
        let until = Instant::now() + 20 * SECOND;
        while !self.seen.lock().unwrap().iter().any(|seen| seen == text) {
            assert!(Instant::now() < until, "{text} in {:?}", self.seen.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_until_told(&self, words: &str) {
        let until = Instant::now() + 20 * SECOND;
        while self.told.0.lock().unwrap().last().is_none_or(|last| last != words) {
            assert!(Instant::now() < until, "{words} in {:?}", self.told.0.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn connect(path: &Path, hello: &Hello) -> Successor {
    Successor::connect(path, hello).unwrap().unwrap()
}

#[test]
fn another_process_gets_sockets_and_state_and_the_scripts_follow() {
    let running = Running::start();
    running.send("one");
    running.wait_for("one");
    let mut successor = connect(&running.path, &running.hello);
    let mut shards = Vec::new();
    let note = |n, shard| {
        shards.push((n, shard));
        Ok(())
    };
    let (listeners, control) = successor.receive(note).unwrap();
    // Stopped: this one is for whoever goes on.
    running.send("two");
    successor.take().unwrap();
    let mut rooms = Vec::new();
    successor.receive_policies(|n, room, carried| rooms.push((n, room.to_string(), carried.is_some()))).unwrap();
    assert_eq!(rooms, [(0, "one".to_owned(), true), (0, "two".to_owned(), false)]);
    assert_eq!((control, listeners[0].local_addr().unwrap()), (b"control".to_vec(), running.public));
    let (n, shard) = shards.pop().unwrap();
    let pieces: Vec<_> = shard.pieces.iter().map(|piece| piece.to_vec()).collect();
    assert_eq!((n, pieces), (0, vec![vec![1], vec![1, 2, 3]]));
    let mut bytes = [0; 9];
    let (len, _) = shard.sockets[0].recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"two");
    running.wait_until_told("done");
    assert_eq!(*running.told.0.lock().unwrap(), ["closed true", "hands over 1", "taken over", "done"]);
    assert!(running.shard.stop());
    assert_eq!(*running.seen.lock().unwrap(), ["one"], "without a goodbye");
}

#[test]
fn the_running_process_goes_on_whenever_the_new_one_ends_before_the_last_word() {
    type Step = fn(Successor);
    let steps: [(&str, Step); 4] = [
        ("before it is ready", |successor| drop(successor)),
        ("with the state", |mut successor| drop(successor.receive(|_, _| Ok(())).unwrap())),
        ("with a refusal", |mut successor| {
            successor.receive(|_, _| Ok(())).unwrap();
            successor.refuse(&anyhow::anyhow!("a bad state"));
        }),
        ("in the middle", |mut successor| drop(successor.receive(|_, _| anyhow::bail!("no memory")).unwrap_err())),
    ];
    let running = Running::start();
    for (when, step) in steps {
        step(connect(&running.path, &running.hello));
        running.send(when);
        running.wait_for(when);
        if when != "before it is ready" {
            running.wait_until_told("closed false");
        }
    }
    assert!(!running.told.0.lock().unwrap().contains(&"taken over".to_owned()));
    // And afterwards it can be taken over from.
    let mut successor = connect(&running.path, &running.hello);
    successor.receive(|_, _| Ok(())).unwrap();
    successor.take().unwrap();
    running.wait_until_told("done");
}

#[test]
fn a_process_that_does_not_agree_is_refused_in_words_and_the_running_one_goes_on() {
    let running = Running::start();
    let other = Hello::of(&Config { shards: 9, ..Config::default() });
    let error = format!("{:#}", Successor::connect(&running.path, &other).unwrap_err());
    assert!(error.contains("the number of shards is 1 in the running process and 9 in the new one"), "{error}");
    running.send("on");
    running.wait_for("on");
    let stranger: JoinHandle<()> = std::thread::spawn({
        let path = running.path.clone();
        move || UnixStream::connect(path).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap()
    });
    stranger.join().unwrap();
    let mut successor = connect(&running.path, &running.hello);
    successor.receive(|_, _| Ok(())).unwrap();
    successor.take().unwrap();
    running.wait_until_told("done");
}

#[test]
fn the_watchdog_goes_on_behind_a_take_over_that_came_to_nothing() {
    let looks = Arc::<AtomicU64>::default();
    let running = Running::start();
    let alive = Arc::clone(&looks);
    let watched = vec![("shard-0".to_owned(), running.pulse.clone())];
    Watchdog::new(watched, 0).start(move || _ = alive.fetch_add(1, Ordering::Relaxed)).unwrap();
    let parted = running.shard.hand_over_handle().hand_over().recv().unwrap().unwrap();
    // It looks once a second, at all shards that stand still.
    std::thread::sleep(3 * SECOND);
    drop(parted);
    let (seen, until) = (looks.load(Ordering::Relaxed), Instant::now() + 20 * SECOND);
    while looks.load(Ordering::Relaxed) < seen + 2 {
        assert!(Instant::now() < until, "it has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
}
