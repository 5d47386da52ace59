//! Streams that come in crumbs, and connections that end in all the ways there are.

use std::net::Shutdown;

use rustix::net::sockopt::set_socket_linger;

use super::*;

/// Ends a connection with RST.
fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Whether a loop that sleeps would be woken again and again.
fn is_busy(tcp: &mut Tcp, now: Instant) -> bool {
    let mut keep = Keep { at_a_time: 1, ..Keep::default() };
    let is_served = (0..100).any(|_| !tcp.receive_into(now, 1_000, &mut keep).more);
    !is_served || tcp.epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO) != Ok(0)
}

#[test]
fn a_stream_that_comes_byte_by_byte_is_the_same_stream() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let mut ada = connect(address);
    ada.set_nodelay(true).unwrap();
    let mut keep = Keep { at_a_time: 1, ..Keep::default() };
    for byte in framed(&[b"one", b"", b"two"]) {
        ada.write_all(&[byte]).unwrap();
        let before = tcp.stats().datagrams_in;
        std::thread::sleep(Duration::from_millis(1));
        tcp.receive_into(now, 1_000, &mut keep);
        assert!(tcp.stats().datagrams_in - before <= 1);
    }
    receive_more(&mut tcp, now, &mut keep, |_, keep| keep.taken.len() == 2);
    assert!(keep.taken.iter().map(|(_, bytes)| &bytes[..]).eq([&b"one"[..], b"two"]));
}

#[test]
fn what_came_before_the_end_is_taken_and_a_half_of_a_connection_is_none() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let mut ada = connect(address);
    ada.write_all(&framed(&[b"the last words"])).unwrap();
    ada.write_all(&[0, 100, 1, 2, 3]).unwrap();
    ada.shutdown(Shutdown::Write).unwrap();
    let taken = receive(&mut tcp, now, 1, |tcp, keep| !keep.taken.is_empty() && tcp.stats().open == 0).taken;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].1, b"the last words");
    assert!(is_closed(&mut ada));
}

#[test]
fn a_connection_that_is_reset_is_gone_also_with_something_to_be_written() {
    for packets in [0, 1, 10_000] {
        let ((mut tcp, address), now) = (listening(10), Instant::now());
        let mut ada = connect(address);
        ada.write_all(&framed(&[b"a check"])).unwrap();
        let (from, _) = first(&mut tcp, now);
        let mut batch = SendBatch::new(1 << 20, 1_024);
        for _ in 0..packets {
            assert!(batch.push(from, &[128; 1_200]));
            tcp.flush(now, &mut batch);
            batch.clear();
        }
        reset(ada);
        receive(&mut tcp, now, 1, |tcp, _| tcp.stats().open == 0);
        assert!(!is_busy(&mut tcp, now), "{packets}");
        // The core sends on, as it does to an address where nobody is.
        let before = tcp.stats().left_out;
        assert!(batch.push(from, &[128; 1_200]));
        tcp.flush(now, &mut batch);
        assert_eq!(tcp.stats().left_out, before + 1, "{packets}");
    }
}

#[test]
fn who_reads_nothing_for_ever_holds_what_is_bounded_and_is_no_work() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let mut ada = connect(address);
    ada.write_all(&framed(&[b"a check"])).unwrap();
    let (from, _) = first(&mut tcp, now);
    let mut batch = SendBatch::new(1 << 20, 1_024);
    while tcp.stats().left_out < 1_000 {
        assert!(batch.push(from, &[128; 1_200]));
        tcp.flush(now, &mut batch);
        batch.clear();
        assert!(tcp.stats().datagrams_out < 100_000);
    }
    let waiting: usize = tcp.connections.values().map(|connection| connection.outbox.len()).sum();
    assert!((30_000..66_000).contains(&waiting), "{waiting}");
    assert!(!is_busy(&mut tcp, now));
    tcp.look_after(now, |_| false);
    assert_eq!(tcp.stats().open, 1, "it has its ten seconds");
    tcp.look_after(now + STRANGER_FOR, |_| false);
    assert_eq!(tcp.stats().open, 0);
}
