//! Connections over loopback, with the clock as an argument.

mod crowds;
mod endings;
mod turns;

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use super::*;
use moonring_wire::packet::Local;
use moonring_wire::transport::framing;

const WAIT: Duration = Duration::from_secs(5);

/// Keeps what it takes; stops the receive after each `at_a_time` datagrams.
#[derive(Default)]
struct Keep {
    taken: Vec<(AddressPair, Vec<u8>)>,
    at_a_time: usize,
    /// Whoever has sent something has proven to be a client.
    knows: bool,
}

impl Receiver for Keep {
    fn expect(&mut self, _from: impl Iterator<Item = AddressPair>) {}

    fn take(&mut self, from: AddressPair, bytes: &mut [u8]) -> bool {
        assert_ne!(bytes, b"panic", "a test's panic");
        self.taken.push((from, bytes.to_vec()));
        !self.taken.len().is_multiple_of(self.at_a_time)
    }

    fn is_known(&self, from: AddressPair) -> bool {
        self.knows && self.taken.iter().any(|(of, _)| *of == from)
    }
}

fn listening(most: usize) -> (Tcp, SocketAddr) {
    let mut tcp = Tcp::listen(vec![(Ipv4Addr::LOCALHOST, 0).into()], most).unwrap();
    let address = tcp.listeners[0].local_addr().unwrap();
    tcp.at = vec![address];
    (tcp, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
}

fn framed(datagrams: &[&[u8]]) -> Vec<u8> {
    let mut stream = Vec::new();
    datagrams.iter().for_each(|datagram| assert!(framing::append(&mut stream, datagram)));
    stream
}

/// Receives until `is_enough`.
fn receive(tcp: &mut Tcp, now: Instant, at_a_time: usize, is_enough: impl Fn(&Tcp, &Keep) -> bool) -> Keep {
    let mut keep = Keep { at_a_time, ..Keep::default() };
    receive_more(tcp, now, &mut keep, is_enough);
    keep
}

/// The same, beside what has come before.
fn receive_more(tcp: &mut Tcp, now: Instant, keep: &mut Keep, is_enough: impl Fn(&Tcp, &Keep) -> bool) {
    let until = Instant::now() + WAIT;
    while !is_enough(tcp, keep) && Instant::now() < until {
        if !tcp.receive_into(now, 1_000, keep).more {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(is_enough(tcp, keep), "{} datagrams, {:?}", keep.taken.len(), tcp.stats());
}

/// The first datagram that comes, and from where.
fn first(tcp: &mut Tcp, now: Instant) -> (AddressPair, Vec<u8>) {
    receive(tcp, now, 1, |_, keep| !keep.taken.is_empty()).taken.remove(0)
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut datagram).unwrap();
    datagram
}

fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0)) || stream.take_error().is_ok_and(|error| error.is_some())
}

#[test]
fn frames_come_in_as_datagrams_and_what_is_sent_goes_out_as_frames() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let (mut ada, mut bob) = (connect(address), connect(address));
    ada.write_all(&framed(&[b"one", b"", b"two"])).unwrap();
    bob.write_all(&framed(&[b"three"])).unwrap();
    let taken = receive(&mut tcp, now, 1, |_, keep| keep.taken.len() == 3).taken;
    let of = |words: &[u8]| taken.iter().find(|(_, bytes)| bytes == words).unwrap().0;
    assert_eq!(of(b"one"), of(b"two"));
    assert_eq!(of(b"one").remote, ada.local_addr().unwrap());
    assert_eq!(of(b"three").remote, bob.local_addr().unwrap());

    let mut batch = SendBatch::new(1 << 16, 16);
    assert!(batch.push(of(b"one"), b"to Ada") && batch.push(of(b"three"), b"to Bob"));
    assert!(batch.push(of(b"one").remote, b"by UDP"));
    tcp.flush(now, &mut batch);
    assert_eq!((read_frame(&mut ada), read_frame(&mut bob)), (b"to Ada".to_vec(), b"to Bob".to_vec()));
    assert_eq!(batch.iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), [b"by UDP"]);
    let stats = tcp.stats();
    assert_eq!((stats.open, stats.accepted, stats.datagrams_in, stats.bytes_in), (2, 2, 3, 11));
    assert_eq!((stats.datagrams_out, stats.bytes_out, stats.left_out), (2, 12, 0));
}

#[test]
fn a_receive_that_is_stopped_goes_on_where_it_stopped() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let words: Vec<_> = (0..500).map(|n| format!("datagram {n}")).collect();
    let stream = framed(&words.iter().map(String::as_bytes).collect::<Vec<_>>());
    let mut ada = connect(address);
    for at_a_time in [1, 3, 1_000] {
        ada.write_all(&stream).unwrap();
        let taken = receive(&mut tcp, now, at_a_time, |_, keep| keep.taken.len() >= 500).taken;
        assert!(taken.iter().map(|(_, bytes)| bytes).eq(words.iter().map(String::as_bytes)), "{at_a_time} at a time");
    }
}

#[test]
fn a_stranger_is_closed_after_ten_seconds_and_a_client_when_it_is_gone() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let (mut ada, mut eve) = (connect(address), connect(address));
    ada.write_all(&framed(&[b"a check"])).unwrap();
    let (from, _) = first(&mut tcp, now);
    receive(&mut tcp, now, 1, |tcp, _| tcp.stats().open == 2);
    tcp.look_after(now + Duration::from_secs(9), |of| of == from);
    assert_eq!(tcp.stats().open, 2);
    tcp.look_after(now + Duration::from_secs(10), |of| of == from);
    assert!(is_closed(&mut eve));
    tcp.look_after(now + Duration::from_secs(3_600), |of| of == from);
    assert_eq!((tcp.stats().open, tcp.stats().strangers), (1, 1));
    tcp.look_after(now + Duration::from_secs(3_601), |_| false);
    assert!(is_closed(&mut ada));
    assert_eq!(tcp.stats().open, 0);
}

#[test]
fn a_frame_that_is_too_long_ends_its_sender_alone() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let (mut ada, mut eve) = (connect(address), connect(address));
    eve.write_all(&[0xff, 0xff]).unwrap();
    receive(&mut tcp, now, 1, |tcp, _| tcp.stats().strangers == 1);
    assert!(is_closed(&mut eve));
    ada.write_all(&framed(&[&[7; 2_048]])).unwrap();
    assert_eq!(first(&mut tcp, now).1, [7; 2_048]);
}

#[test]
fn datagrams_of_other_shards_are_not_taken_over_tcp() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let mut eve = connect(address);
    eve.write_all(&framed(&[&[moonring_wire::rtp::protocol::LINK; 60], b"another"])).unwrap();
    assert_eq!(first(&mut tcp, now).1, b"another");
}

#[test]
fn after_a_panic_the_connection_is_gone_and_the_others_are_served() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let (mut ada, mut eve) = (connect(address), connect(address));
    receive(&mut tcp, now, 1, |tcp, _| tcp.stats().open == 2);
    eve.write_all(&framed(&[b"panic"])).unwrap();
    let mut keep = Keep { at_a_time: 1, ..Keep::default() };
    let until = Instant::now() + WAIT;
    let quietly = std::panic::AssertUnwindSafe(|| {
        while Instant::now() < until {
            tcp.receive_into(now, 1_000, &mut keep);
        }
    });
    assert!(std::panic::catch_unwind(quietly).is_err());
    assert!(is_closed(&mut eve));
    assert_eq!(tcp.stats().open, 1);
    ada.write_all(&framed(&[b"still here"])).unwrap();
    assert_eq!(first(&mut tcp, now).1, b"still here");
}

#[test]
fn who_reads_slowly_misses_what_finds_no_room_and_gets_the_rest_whole_and_in_order() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let mut ada = connect(address);
    ada.write_all(&framed(&[b"a check"])).unwrap();
    let (from, _) = first(&mut tcp, now);
    let mut batch = SendBatch::new(1 << 20, 1_024);
    let mut number = 0_u32;
    // More than all buffers between here and there hold.
    while tcp.stats().left_out < 100 {
        let mut packet = vec![128; 1_200];
        packet[4..8].copy_from_slice(&number.to_be_bytes());
        assert!(batch.push(from, &packet));
        tcp.flush(now, &mut batch);
        batch.clear();
        (number, ()) = (number + 1, assert!(number < 100_000, "{:?}", tcp.stats()));
    }
    // A check gets through where video does not.
    assert!(batch.push(from, b"\0the check"));
    tcp.flush(now, &mut batch);
    let reader = std::thread::spawn(move || {
        let mut numbers = Vec::new();
        loop {
            let datagram = read_frame(&mut ada);
            match datagram.len() {
                1_200 => numbers.push(u32::from_be_bytes(*datagram[4..].first_chunk().unwrap())),
                _ => return (numbers, datagram),
            }
        }
    });
    while !reader.is_finished() {
        receive(&mut tcp, now, 1, |_, _| true);
        tcp.receive_into(now, 1_000, &mut Keep { at_a_time: 1, ..Keep::default() });
        std::thread::sleep(Duration::from_millis(1));
    }
    let (numbers, last) = reader.join().unwrap();
    assert_eq!(last, b"\0the check");
    assert_eq!(numbers.len() as u64 + 1, tcp.stats().datagrams_out);
    assert!(numbers.is_sorted());
}

#[test]
fn the_stranger_that_came_first_makes_room_in_its_network_or_among_all() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let from = |ips: Vec<IpAddr>| (100..).zip(ips);
    let crowd = |text: &str, count| vec![ip(text); count];
    let many = |count: u8| (0..count).map(|n| IpAddr::from([10, 0, 0, n])).collect::<Vec<_>>();
    for (strangers, newcomer, expected) in [
        (crowd("192.0.2.1", 31), "192.0.2.1", None),
        (crowd("192.0.2.1", 32), "192.0.2.1", Some(100)),
        (crowd("192.0.2.1", 32), "192.0.2.2", None),
        ([crowd("192.0.2.2", 1), crowd("192.0.2.1", 32)].concat(), "192.0.2.1", Some(101)),
        (crowd("2001:db8::1", 32), "2001:db8::2", Some(100)),
        (crowd("2001:db8::1", 32), "2001:db8:0:1::1", None),
        (crowd("127.0.0.1", 100), "127.0.0.1", None),
        (many(255), "192.0.2.1", None),
        ([many(255), crowd("192.0.2.1", 1)].concat(), "192.0.2.1", Some(100)),
    ] {
        assert_eq!(who_makes_room(from(strangers.clone()), ip(newcomer)), expected, "{} {newcomer}", strangers.len());
    }
}

#[test]
fn there_are_as_many_connections_as_are_allowed_and_an_ended_one_makes_room() {
    let ((mut tcp, address), now) = (listening(2), Instant::now());
    let (mut ada, mut bob) = (connect(address), connect(address));
    for client in [&mut ada, &mut bob] {
        client.write_all(&framed(&[b"a check"])).unwrap();
        first(&mut tcp, now);
    }
    tcp.look_after(now, |_| true);
    let mut eve = connect(address);
    receive(&mut tcp, now, 1, |tcp, _| tcp.stats().refused == 1);
    assert!(is_closed(&mut eve));
    drop(ada);
    receive(&mut tcp, now, 1, |tcp, _| tcp.stats().open == 1);
    let mut carl = connect(address);
    carl.write_all(&framed(&[b"Carl"])).unwrap();
    assert_eq!(first(&mut tcp, now).1, b"Carl");
}

#[test]
fn two_processes_listen_at_one_address_while_one_hands_over_to_the_other() {
    let ((mut before, address), now) = (listening(2), Instant::now());
    let mut after = Tcp::listen(vec![address], 2).unwrap();
    before.stop_listening();
    let mut ada = connect(address);
    ada.write_all(&framed(&[b"new"])).unwrap();
    assert_eq!(first(&mut after, now).1, b"new");
    drop(after);
    before.listen_again(now);
    let mut bob = connect(address);
    bob.write_all(&framed(&[b"back"])).unwrap();
    assert_eq!(first(&mut before, now).1, b"back");
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_that_says_which_setting_wants_it() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let error = Tcp::listen(vec![address], 2).unwrap_err().to_string();
    let expected = format!("TCP {address} cannot be listened at, as media_tcp wants it: Address already in use");
    assert!(error.starts_with(&expected) && error.ends_with("or leave media_tcp out"), "{error}");
}

#[test]
fn connections_of_one_process_have_numbers_of_their_own() {
    let ((mut one, first_address), (mut other, second_address)) = (listening(2), listening(2));
    let now = Instant::now();
    let mut streams = [first_address, second_address].map(connect);
    streams.iter_mut().for_each(|stream| stream.write_all(&framed(&[b"a check"])).unwrap());
    let [one, other] = [first(&mut one, now).0.local, first(&mut other, now).0.local];
    assert!(matches!(one, Local::Connection(_)) && one != other, "{one:?} {other:?}");
}
