//! What is too long, too much, refused or gone: counted, and the rest goes on.

use super::*;

/// Closing a ring may interrupt a call that waits on the same thread.
fn recv(peer: &UdpSocket, buffer: &mut [u8]) -> usize {
    loop {
        match peer.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome.unwrap(),
        }
    }
}

#[test]
fn an_address_of_a_family_without_a_socket_is_a_failure_of_its_own() {
    for io in MODES {
        let (mut udp, _) = udp_on("127.0.0.1:0", &settings(io));
        let (_peer, peer_address) = peer();
        let report = udp.flush(&batch_of(&[("[::1]:9".parse().unwrap(), vec![0; 10]), (peer_address, vec![0; 10])]));
        assert_eq!((report.sent, report.failed, report.last_error), (1, 1, libc::EAFNOSUPPORT), "{io}");
    }
}

#[test]
fn a_datagram_over_the_buffer_is_dropped_and_counted_and_those_around_it_are_not() {
    for io in MODES {
        let settings = UdpSettings { gro: false, receive_buffer_bytes: 1_000, ..settings(io) };
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings);
        let (peer, peer_address) = peer();
        for len in [900, 5_000, 901] {
            peer.send_to(&payload(0, len), address).unwrap();
        }
        assert_eq!(collect(&mut udp, 2), [(peer_address, payload(0, 900)), (peer_address, payload(0, 901))], "{io}");
        assert_eq!(udp.stats().too_long, 1);
    }
}

#[test]
fn a_panic_over_one_datagram_neither_repeats_it_nor_loses_the_next() {
    for io in MODES {
        let (mut sender, _) = udp_on("127.0.0.1:0", &settings(io));
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings(io));
        let sent: Vec<_> = (0..3).map(|n| (address, payload(n, 100))).collect();
        for _ in 0..200 {
            sender.flush(&batch_of(&sent));
            let mut seen = 0;
            while seen == 0 {
                let call = std::panic::AssertUnwindSafe(|| {
                    udp.receive(100, |_, _| {
                        seen += 1;
                        std::panic::resume_unwind(Box::new("a bug"))
                    })
                });
                let _ = std::panic::catch_unwind(call);
            }
            let rest: Vec<_> = collect(&mut udp, 2).into_iter().map(|(_, bytes)| bytes).collect();
            assert_eq!(rest, [payload(1, 100), payload(2, 100)], "{io}");
        }
    }
}

#[test]
fn a_burst_over_the_receive_buffers_waits_in_the_socket() {
    for io in MODES {
        let settings = UdpSettings { receive_buffers: 4, ..settings(io) };
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings);
        let (peer, peer_address) = peer();
        for number in 0..300 {
            peer.send_to(&payload(number, 200), address).unwrap();
        }
        let expected: Vec<_> = (0..300).map(|number| (peer_address, payload(number, 200))).collect();
        assert_eq!(collect(&mut udp, 300), expected, "{io}");
        udp.poll_kernel_drops();
        assert_eq!(udp.stats().kernel_drops, 0);
        assert!(udp.stats().out_of_buffers > 0, "{io}");
    }
}

#[test]
fn a_burst_over_the_socket_buffer_is_lost_counted_and_survived() {
    for io in MODES {
        let settings = UdpSettings { socket_receive_bytes: 32_768, receive_buffers: 4, ..settings(io) };
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings);
        let (peer, peer_address) = peer();
        for number in 0..500 {
            peer.send_to(&payload(number, 1_200), address).unwrap();
        }
        udp.poll_kernel_drops();
        let drops = udp.stats().kernel_drops as usize;
        assert!(drops > 0, "{io}");
        assert_eq!(collect(&mut udp, 500 - drops).len(), 500 - drops, "{io}");
        peer.send_to(b"after", address).unwrap();
        assert_eq!(collect(&mut udp, 1), [(peer_address, b"after".to_vec())], "{io}");
    }
}

#[test]
fn an_address_that_answers_with_icmp_errors_stalls_nobody() {
    for io in MODES {
        let (mut udp, address) = udp_on("127.0.0.1:0", &settings(io));
        let (gone, gone_address) = peer();
        drop(gone);
        let (peer, peer_address) = peer();
        for round in 0..50 {
            let report = udp.flush(&batch_of(&[(gone_address, vec![1; 100]), (peer_address, vec![2; 100])]));
            assert_eq!((report.sent, report.failed), (2, 0), "{io} {round}");
            assert_eq!(peer.recv(&mut [0; 200]).unwrap(), 100);
            peer.send_to(&payload(round, 50), address).unwrap();
            assert_eq!(collect(&mut udp, 1), [(peer_address, payload(round, 50))], "{io} {round}");
        }
    }
}

#[test]
fn a_send_that_the_kernel_refuses_is_counted_and_the_others_leave() {
    for io in MODES {
        let (mut udp, _) = udp_on("127.0.0.1:0", &settings(io));
        let (peer, peer_address) = peer();
        // Port 0 is no destination: EINVAL; broadcast needs permission: EACCES.
        let refused: [SocketAddr; 2] = ["127.0.0.1:0".parse().unwrap(), "255.255.255.255:9".parse().unwrap()];
        let datagrams = [
            (peer_address, vec![1; 10]),
            (refused[0], vec![2; 10]),
            (peer_address, vec![3; 10]),
            (refused[1], vec![4; 10]),
            (refused[0], vec![5; 10]),
            (refused[0], vec![5; 10]),
            (peer_address, vec![6; 10]),
        ];
        let report = udp.flush(&batch_of(&datagrams));
        assert_eq!((report.sent, report.failed, report.would_block), (3, 4, 0), "{io}");
        assert_eq!((udp.stats().datagrams_out, udp.stats().bytes_out), (3, 30), "{io}");
        for expected in [1, 3, 6] {
            let mut buffer = [0; 20];
            assert_eq!((peer.recv(&mut buffer).unwrap(), buffer[0]), (10, expected), "{io}");
        }
    }
}

/// Loopback never fills a send buffer, a slow link does:
/// `unshare -n sh -c 'ip link set lo up; tc qdisc add dev lo root tbf rate 800kbit burst 4k limit 10m; cargo test --lib
/// a_full_send -- --ignored'`.
#[test]
#[ignore = "needs a slow loopback in a network namespace"]
fn a_full_send_buffer_drops_and_counts_and_never_waits() {
    for io in MODES {
        for size in [1_000, 1] {
            let settings = UdpSettings { socket_send_bytes: 20_000, ..settings(io) };
            let (mut udp, _) = udp_on("127.0.0.1:0", &settings);
            let (peer, peer_address) = peer();
            let many: Vec<_> = (0..400).map(|n| (peer_address, payload(n, size + n % 2))).collect();
            let report = udp.flush(&batch_of(&many));
            assert_eq!((report.sent + report.would_block, report.failed), (400, 0), "{io} {report:?}");
            assert!(report.would_block > 0 && report.sent > 0, "{io} {report:?}");
            // What was said to be sent arrives, and nothing else.
            for _ in 0..report.sent {
                let len = recv(&peer, &mut [0; 2_000]);
                assert!(len == size || len == size + 1);
            }
            peer.set_nonblocking(true).unwrap();
            assert!(peer.recv(&mut [0; 2_000]).is_err(), "{io}");
            assert_eq!(udp.flush(&batch_of(&many[..1])).sent, 1, "{io}: the socket works again");
        }
    }
}

/// `unshare -n sh -c 'ip link set lo up mtu 900; cargo test --lib over_the_interfaces_mtu -- --ignored'`.
#[test]
#[ignore = "needs a narrow loopback in a network namespace"]
fn datagrams_over_the_interfaces_mtu_leave_in_fragments_alone_and_in_runs() {
    for io in MODES {
        let (mut udp, _) = udp_on("127.0.0.1:0", &settings(io));
        let (peer, peer_address) = peer();
        let lengths = [1_200, 1_200, 1_200, 700, 1_300];
        let sent: Vec<_> = lengths.iter().enumerate().map(|(n, len)| (peer_address, payload(n, *len))).collect();
        let report = udp.flush(&batch_of(&sent));
        assert_eq!((report.sent, report.failed, report.would_block), (lengths.len(), 0, 0), "{io} {report:?}");
        let mut buffer = [0; 2_000];
        for (_, bytes) in &sent {
            let len = recv(&peer, &mut buffer);
            assert_eq!(buffer[..len], *bytes, "{io}");
        }
    }
}
