//! Many who come at once, and a process that has no descriptor left for them.

use std::fs::File;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

use super::*;

/// So many connections, as if from many networks: loopback is none, see [`STRANGERS_PER_NETWORK`].
fn crowd(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(address)).collect()
}

#[test]
fn who_has_proven_to_be_a_client_a_moment_ago_does_not_make_room_for_strangers() {
    let ((mut tcp, address), now) = (listening(1_000), Instant::now());
    let mut clients = crowd(address, 40);
    for client in &mut clients {
        client.write_all(&framed(&[b"a check"])).unwrap();
    }
    let mut keep = Keep { at_a_time: 1_000, knows: true, ..Keep::default() };
    receive_more(&mut tcp, now, &mut keep, |_, keep| keep.taken.len() == 40);
    let mut strangers = Vec::new();
    // As many as may wait for being let in, and some more than may stay.
    for accepted in [190, 340] {
        strangers.extend(crowd(address, 150));
        receive_more(&mut tcp, now, &mut keep, |tcp, _| tcp.stats().accepted == accepted);
    }
    assert_eq!((tcp.stats().strangers, tcp.stats().open), (44, 296));
    assert!(is_closed(&mut strangers[0]));
    for client in &mut clients {
        client.write_all(&framed(&[b"another"])).unwrap();
    }
    receive_more(&mut tcp, now, &mut keep, |_, keep| keep.taken.len() == 80);
}

#[test]
fn where_no_room_is_left_a_stranger_makes_it_and_a_client_does_not() {
    let ((mut tcp, address), now) = (listening(3), Instant::now());
    let mut keep = Keep { at_a_time: 1_000, knows: true, ..Keep::default() };
    let mut client = connect(address);
    client.write_all(&framed(&[b"a check"])).unwrap();
    receive_more(&mut tcp, now, &mut keep, |_, keep| keep.taken.len() == 1);
    let mut strangers = crowd(address, 2);
    receive_more(&mut tcp, now, &mut keep, |tcp, _| tcp.stats().accepted == 3);
    let mut newcomers = crowd(address, 2);
    for newcomer in &mut newcomers {
        newcomer.write_all(&framed(&[b"a check, too"])).unwrap();
    }
    receive_more(&mut tcp, now, &mut keep, |_, keep| keep.taken.len() == 3);
    assert!(strangers.iter_mut().all(is_closed));
    let mut one_too_many = connect(address);
    receive_more(&mut tcp, now, &mut keep, |tcp, _| tcp.stats().refused == 1);
    assert!(is_closed(&mut one_too_many));
    client.write_all(&framed(&[b"still here"])).unwrap();
    receive_more(&mut tcp, now, &mut keep, |_, keep| keep.taken.len() == 4);
}

#[test]
fn who_comes_while_no_descriptor_is_left_is_let_in_once_there_is_one() {
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::has_no_descriptor_left");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let status = child.args(["--exact", &name, "--nocapture", "--include-ignored"]).status().unwrap();
    assert!(status.success());
}

/// As many descriptors as this process may have.
fn all_that_are_left() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
#[ignore = "run by who_comes_while_no_descriptor_is_left_is_let_in_once_there_is_one, as all of a process has to do without"]
fn has_no_descriptor_left() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let mut ada = connect(address);
    ada.write_all(&framed(&[b"a check"])).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let mut taken = all_that_are_left();
    for second in 0..3 {
        let mut keep = Keep { at_a_time: 1, ..Keep::default() };
        for _ in 0..100 {
            assert!(!tcp.receive_into(now, 1_000, &mut keep).more, "it does not go round and round");
        }
        assert_eq!(tcp.stats().accepted, 0);
        // Others have what it lets go.
        taken.extend(all_that_are_left());
        tcp.look_after(now + PAUSE * (second + 1), |_| false);
    }
    drop(taken);
    tcp.look_after(now + PAUSE * 5, |_| false);
    assert_eq!(first(&mut tcp, now).1, b"a check");
}
