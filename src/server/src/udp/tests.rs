//! Both ways of calling the kernel, over loopback, against plain sockets and against each other.

mod trouble;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::*;
use moonring_wire::packet::Local;

const MODES: [IoMode; 2] = [IoMode::Uring, IoMode::Mmsg];
/// Receives that bring nothing before a test gives up; each waits a millisecond.
const PATIENCE: u32 = 2_000;

fn settings(io: IoMode) -> UdpSettings {
    UdpSettings { io, ..UdpSettings::default() }
}

fn udp_on(address: &str, settings: &UdpSettings) -> (Udp, SocketAddr) {
    let socket = bind(address.parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (Udp::new(vec![socket], settings).unwrap(), address)
}

fn peer() -> (UdpSocket, SocketAddr) {
    peer_on("127.0.0.1:0")
}

fn peer_on(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// `len` bytes that tell datagram `number` from others.
fn payload(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at + number * 31) as u8).collect()
}

/// Receives until there are `count` datagrams.
fn collect(udp: &mut Udp, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = vec![];
    for _ in 0..PATIENCE {
        let before = all.len();
        udp.receive(usize::MAX, |from, bytes| {
            all.push((from.remote, bytes.to_vec()));
            true
        });
        if all.len() >= count {
            break;
        }
        if all.len() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    all
}

fn batch_of(datagrams: &[(SocketAddr, Vec<u8>)]) -> SendBatch {
    let mut batch = SendBatch::new(4 << 20, 4096);
    assert!(datagrams.iter().all(|(to, bytes)| batch.push(*to, bytes)));
    batch
}

#[test]
fn datagrams_of_all_sizes_come_in_as_they_were_sent() {
    for io in MODES {
        for gro in [true, false] {
            let settings = UdpSettings { gro, receive_buffer_bytes: 65_535, ..settings(io) };
            let (mut udp, address) = udp_on("127.0.0.1:0", &settings);
            let (peer, peer_address) = peer();
            for (number, len) in
                [0, 1, 2, 15, 16, 100, 1_199, 1_200, 1_500, 9_000, 40_000, 65_507].into_iter().enumerate()
            {
                peer.send_to(&payload(number, len), address).unwrap();
                assert_eq!(collect(&mut udp, 1), [(peer_address, payload(number, len))], "{io} gro {gro} {len} bytes");
            }
        }
    }
}

#[test]
fn runs_leave_and_arrive_coalesced_and_are_split_as_they_were() {
    for from in MODES {
        for to in MODES {
            let (mut sender, sender_address) = udp_on("127.0.0.1:0", &settings(from));
            let (mut receiver, address) = udp_on("127.0.0.1:0", &settings(to));
            let lengths = [1_200, 1_200, 1_200, 700, 100, 1, 900, 900, 900, 900, 899, 1_300];
            let sent: Vec<_> = lengths.iter().enumerate().map(|(n, len)| (address, payload(n, *len))).collect();
            let batch = batch_of(&sent);
            let report = sender.flush(&batch);
            assert_eq!(report, SendReport { sent: lengths.len(), ..SendReport::default() }, "{from}");
            let got = collect(&mut receiver, lengths.len());
            let expected: Vec<_> = sent.into_iter().map(|(_, bytes)| (sender_address, bytes)).collect();
            assert_eq!(got, expected, "{from} to {to}");
            assert_eq!(sender.stats().sends, batch.runs().len() as u64);
            assert!(receiver.stats().receives < lengths.len() as u64, "nothing was coalesced");
        }
    }
}

#[test]
fn the_longest_run_fits_a_receive_buffer() {
    for io in MODES {
        let (mut sender, _) = udp_on("127.0.0.1:0", &settings(io));
        let (mut receiver, address) = udp_on("127.0.0.1:0", &settings(io));
        for (count, len) in [(64, 1_000), (46, 1_400), (64, 1), (43, 1_500)] {
            let sent: Vec<_> = (0..count).map(|n| (address, payload(n, len))).collect();
            let batch = batch_of(&sent);
            assert_eq!(batch.runs().len(), 1);
            assert_eq!(sender.flush(&batch).sent, count);
            let got: Vec<_> = collect(&mut receiver, count).into_iter().map(|(_, bytes)| (address, bytes)).collect();
            assert_eq!(got, sent, "{io} {count} of {len}");
        }
        assert_eq!(receiver.stats().too_long, 0);
    }
}

#[test]
fn without_gso_every_datagram_leaves_alone() {
    for io in MODES {
        let (mut sender, _) = udp_on("127.0.0.1:0", &UdpSettings { gso: false, ..settings(io) });
        let (receiver, address) = peer();
        let sent: Vec<_> = (0..130).map(|n| (address, payload(n, if n == 129 { 40 } else { 300 }))).collect();
        assert_eq!(sender.flush(&batch_of(&sent)).sent, 130);
        assert_eq!(sender.stats().sends, 130, "{io}");
        let mut buffer = [0; 2_000];
        for (_, bytes) in sent {
            let (len, _) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..len], bytes);
        }
    }
}

#[test]
fn a_dual_stack_socket_talks_to_both_families_by_their_own_addresses() {
    for io in MODES {
        let (mut udp, address) = udp_on("[::]:0", &settings(io));
        for (ip, bind_to) in [(Ipv4Addr::LOCALHOST.into(), "127.0.0.1:0"), (Ipv6Addr::LOCALHOST.into(), "[::1]:0")] {
            let (peer, peer_address) = peer_on(bind_to);
            peer.send_to(b"ping", SocketAddr::new(ip, address.port())).unwrap();
            assert_eq!(collect(&mut udp, 1), [(peer_address, b"ping".to_vec())], "{io}");
            assert_eq!(udp.flush(&batch_of(&[(peer_address, b"pong".to_vec())])).sent, 1);
            assert_eq!(peer.recv(&mut [0; 9]).unwrap(), 4);
        }
    }
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked_whichever_the_kernel_would_take() {
    for io in MODES {
        for (bind_to, asked) in [
            ("0.0.0.0:0", ["127.0.0.2", "127.0.0.1"]),
            ("[::]:0", ["127.0.0.3", "127.0.0.1"]),
            ("[::]:0", ["::1", "127.0.0.4"]),
        ] {
            let (mut udp, address) = udp_on(bind_to, &settings(io));
            for asked in asked.map(|ip| ip.parse::<IpAddr>().unwrap()) {
                let (peer, peer_address) = peer_on(if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
                let asked_at = SocketAddr::new(asked, address.port());
                peer.send_to(b"ping", asked_at).unwrap();
                let mut from = None;
                for _ in 0..PATIENCE {
                    udp.receive(1, |pair, _| from.replace(pair).is_none());
                    if from.is_some() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                let pair = from.unwrap();
                // The kernel takes the loopback's own by itself.
                let is_usual = [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()].contains(&asked);
                let local = if is_usual { Local::Any } else { Local::Address(asked) };
                assert_eq!(pair, AddressPair { remote: peer_address, local }, "{io} {bind_to}");
                // One run by GSO, and a datagram alone.
                let mut batch = SendBatch::new(1 << 16, 8);
                let lengths = [100, 100, 100, 101];
                assert!(lengths.iter().all(|len| batch.push(pair, &vec![1; *len])));
                assert_eq!((batch.runs().len(), udp.flush(&batch).sent), (2, 4));
                for len in lengths {
                    assert_eq!(peer.recv_from(&mut [0; 200]).unwrap(), (len, asked_at), "{io} {bind_to}");
                }
            }
            assert_eq!(udp.stats().without_gso, 0);
        }
    }
}

#[test]
fn an_address_that_this_machine_has_no_longer_costs_its_own_datagrams_alone() {
    for io in MODES {
        let (mut udp, _) = udp_on("0.0.0.0:0", &settings(io));
        let (peer, remote) = peer();
        let mut batch = SendBatch::new(1 << 16, 8);
        let gone = AddressPair { remote, local: Local::Address([192, 0, 2, 77].into()) };
        assert!([gone, remote.into(), gone].into_iter().all(|to| batch.push(to, b"hello")));
        let report = udp.flush(&batch);
        assert_eq!((report.sent, report.failed), (1, 2), "{io}");
        assert_eq!(peer.recv(&mut [0; 9]).unwrap(), 5);
    }
}

#[test]
fn with_a_socket_per_family_each_address_is_reached_through_its_own() {
    for io in MODES {
        let sockets = vec![bind("127.0.0.1:0".parse().unwrap()).unwrap(), bind("[::1]:0".parse().unwrap()).unwrap()];
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let mut udp = Udp::new(sockets, &settings(io)).unwrap();
        let peers = [peer_on("127.0.0.1:0"), peer_on("[::1]:0")];
        let batch = batch_of(&[(peers[0].1, vec![4; 4]), (peers[1].1, vec![6; 6]), (peers[0].1, vec![8; 8])]);
        assert_eq!(udp.flush(&batch).sent, 3);
        for ((peer, peer_address), (address, lengths)) in peers.iter().zip(addresses.iter().zip([&[4, 8][..], &[6]])) {
            for len in lengths {
                assert_eq!(peer.recv_from(&mut [0; 9]).unwrap(), (*len, *address), "{io}");
            }
            peer.send_to(b"hi", address).unwrap();
            assert_eq!(collect(&mut udp, 1), [(*peer_address, b"hi".to_vec())], "{io}");
        }
    }
}

#[test]
fn a_call_hands_over_no_more_than_its_limit_and_the_next_one_goes_on() {
    for io in MODES {
        let (mut sender, _) = udp_on("127.0.0.1:0", &settings(io));
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings(io));
        let sent: Vec<_> = (0..10).map(|n| (address, payload(n, 100))).collect();
        sender.flush(&batch_of(&sent));
        let mut got = VecDeque::new();
        assert_eq!(udp.receive(0, |_, _| true).datagrams, 0);
        for _ in 0..PATIENCE {
            let before = got.len();
            let received = udp.receive(3, |_, bytes| {
                got.push_back(bytes.to_vec());
                true
            });
            assert_eq!(received.datagrams, got.len() - before);
            assert!(received.datagrams <= 3);
            if got.len() == 10 {
                break;
            }
            assert!(received.more || got.is_empty(), "{io}");
        }
        assert_eq!(got, sent.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(), "{io}");
    }
}

#[test]
fn the_callback_can_stop_a_call_within_a_coalesced_receive() {
    for io in MODES {
        let (mut sender, _) = udp_on("127.0.0.1:0", &settings(io));
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings(io));
        let sent: Vec<_> = (0..5).map(|n| (address, payload(n, 100))).collect();
        sender.flush(&batch_of(&sent));
        let mut first = None;
        while first.is_none() {
            udp.receive(100, |_, bytes| {
                assert!(first.is_none());
                first = Some(bytes.to_vec());
                false
            });
        }
        assert_eq!(first, Some(payload(0, 100)), "{io}");
        let rest: Vec<_> = collect(&mut udp, 4).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(rest, (1..5).map(|n| payload(n, 100)).collect::<Vec<_>>(), "{io}");
    }
}

#[test]
fn the_port_is_free_as_soon_as_the_sockets_are_dropped() {
    for io in MODES {
        let (udp, address) = udp_on("127.0.0.1:0", &settings(io));
        assert!(UdpSocket::bind(address).is_err());
        drop(udp);
        assert!(UdpSocket::bind(address).is_ok(), "{io}");
    }
}

#[test]
fn a_batch_may_be_reused_right_after_its_flush() {
    for io in MODES {
        let (mut udp, _) = udp_on("127.0.0.1:0", &settings(io));
        let (peer, peer_address) = peer();
        let mut batch = SendBatch::new(64 << 10, 64);
        for number in 0..60 {
            batch.clear();
            assert!(batch.push(peer_address, &payload(number, 500)));
            assert_eq!(udp.flush(&batch).sent, 1);
        }
        let mut buffer = [0; 1_000];
        for number in 0..60 {
            let len = peer.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..len], payload(number, 500), "{io}");
        }
    }
}

#[test]
fn a_wait_ends_by_a_datagram_and_by_a_wake_up() {
    // Longer than any test runs: only what is waited for can end it.
    let long = Duration::from_secs(3_600);
    for io in MODES {
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings(io));
        let wake = WakeFd::new().unwrap();
        udp.watch(&wake);
        let (peer, peer_address) = peer();
        for round in 0..20 {
            wake.wake();
            udp.wait(long);
            peer.send_to(&payload(round, 9), address).unwrap();
            let mut got = vec![];
            while got.is_empty() {
                udp.wait(long);
                udp.receive(9, |from, bytes| {
                    got.push((from.remote, bytes.to_vec()));
                    true
                });
            }
            assert_eq!(got, [(peer_address, payload(round, 9))], "{io}");
        }
        udp.wait(Duration::from_millis(1));
    }
}

#[test]
fn a_flush_and_a_wait_in_one_send_all_and_end_by_what_comes() {
    let long = Duration::from_secs(3_600);
    for io in MODES {
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings(io));
        let wake = WakeFd::new().unwrap();
        udp.watch(&wake);
        let (peer, peer_address) = peer();
        for round in 0..20 {
            // More than one table, singles and runs; the peer answers before the wait begins.
            let sent: Vec<_> = (0..100).map(|n| (peer_address, payload(n, 100 + n % 3))).collect();
            peer.send_to(&payload(round, 9), address).unwrap();
            let report = udp.flush_and_wait(&batch_of(&sent), long);
            assert_eq!(report, SendReport { sent: 100, ..SendReport::default() }, "{io}");
            assert_eq!(collect(&mut udp, 1), [(peer_address, payload(round, 9))], "{io}");
            let mut buffer = [0; 200];
            for (_, bytes) in &sent {
                assert_eq!(peer.recv(&mut buffer).unwrap(), bytes.len(), "{io}");
            }
            wake.wake();
            udp.flush_and_wait(&SendBatch::new(1_000, 1), long);
        }
    }
}

/// A refused send ends the wait, so that the rest of the flush is settled at once.
#[test]
fn a_send_that_fails_ends_the_wait() {
    for io in MODES {
        let (mut udp, _) = udp_on("127.0.0.1:0", &settings(io));
        let refused: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let timeout = if io == IoMode::Uring { Duration::from_secs(3_600) } else { Duration::ZERO };
        let report = udp.flush_and_wait(&batch_of(&[(refused, vec![1; 10])]), timeout);
        assert_eq!((report.sent, report.failed), (0, 1), "{io}");
    }
}
