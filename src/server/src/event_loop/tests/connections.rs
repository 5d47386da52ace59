//! Media over TCP, beside media over UDP.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

/// A loop that also takes connections, and sleeps for as long as nothing wakes it.
fn world_with_connections(mode: IoMode) -> World {
    world(mode, |settings| {
        settings.connections = Some(16);
        settings.longest_sleep = Duration::from_secs(60);
    })
}

fn connect(world: &World) -> TcpStream {
    let stream = TcpStream::connect(world.address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, datagram: &[u8]) {
    let frame = [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat();
    stream.write_all(&frame).unwrap();
}

fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut datagram).unwrap();
    datagram
}

#[test]
fn a_frame_wakes_a_shard_that_sleeps_and_is_answered_on_its_connection() {
    for mode in MODES {
        let world = world_with_connections(mode);
        let mut streams = [connect(&world), connect(&world)];
        for round in 0..40_u64 {
            for (n, stream) in (0..).zip(&mut streams) {
                let words = format!("{round} on {n}");
                send(stream, words.as_bytes());
                assert_eq!(receive(stream), words.as_bytes(), "{mode:?}");
            }
            assert_eq!(world.echo(&round.to_be_bytes()), round.to_be_bytes(), "{mode:?}");
            std::thread::sleep(Duration::from_micros(round * 137 % 5_000));
        }
        assert!(world.shard.stop());
    }
}

#[test]
fn what_is_forwarded_later_goes_to_the_connection_that_it_came_by() {
    for mode in MODES {
        let world = world_with_connections(mode);
        let mut stream = connect(&world);
        send(&mut stream, b"forward this");
        assert!((0..30).all(|_| receive(&mut stream) == b"forward this"), "{mode:?}");
        send(&mut stream, b"later");
        assert!((0..30).all(|_| receive(&mut stream) == b"later"), "{mode:?}");
        assert!(world.shard.stop());
    }
}

#[test]
fn a_panic_over_a_frame_ends_its_connection_and_names_it() {
    for mode in MODES {
        let world = world_with_connections(mode);
        let (mut ada, mut eve) = (connect(&world), connect(&world));
        send(&mut ada, b"hello");
        assert_eq!(receive(&mut ada), b"hello");
        send(&mut eve, b"!");
        let Seen::Panic(Phase::Datagram(from)) = world.next() else { panic!("{mode:?}") };
        assert_eq!((from.remote, from.is_connection()), (eve.local_addr().unwrap(), true));
        assert_eq!(eve.read(&mut [0]).unwrap(), 0);
        send(&mut ada, b"still here");
        assert_eq!(receive(&mut ada), b"still here");
        assert_eq!(world.echo(b"and by UDP"), b"and by UDP");
        assert!(world.shard.stop());
    }
}
