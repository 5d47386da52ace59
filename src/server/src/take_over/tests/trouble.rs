//! Descriptors that do not come, strangers in the place of the running process, and what has come while a take-over failed.

use std::io::{IoSlice, pipe};
use std::mem::MaybeUninit;

use super::*;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

#[test]
fn descriptors_that_are_cut_off_are_an_error_and_those_that_came_are_closed() {
    let (raw, other) = UnixStream::pair().unwrap();
    let mut channel = Channel::new(other, SECOND).unwrap();
    let (mut reader, writer) = pipe().unwrap();
    // More than the other side has room for: the kernel says the same when it may open no more files.
    let descriptors = [writer.as_fd(); 12];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(12))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&raw, &[IoSlice::new(&[Kind::Listeners as u8, 0, 0, 0, 0])], &mut control, SendFlags::empty()).unwrap();
    drop(writer);
    let error = channel.receive().unwrap_err().to_string();
    assert!(error.starts_with("not all sockets have come: this process may open no more files"), "{error}");
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "nobody has its other end");
}

#[test]
fn what_came_while_a_take_over_failed_keeps_its_room_until_it_is_handled() {
    let running = Running::start();
    let room = || getsockopt(&running.media_socket, sockopt::RcvBuf).unwrap();
    let usual = room();
    let parted = running.shard.hand_over_handle().hand_over().recv().unwrap().unwrap();
    let large = room();
    assert!(large > usual, "{large} and {usual}");
    // The core waits for this at the first datagram.
    let seen = running.seen.lock().unwrap();
    let ticks = running.pulse.ticks();
    running.send("on");
    // The other process was allowed less.
    nix::sys::socket::setsockopt(&running.media_socket, sockopt::RcvBuf, &(usual / 4)).unwrap();
    drop(parted);
    while running.pulse.ticks() == ticks {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(room(), large);
    drop(seen);
    running.wait_for("on");
    let until = Instant::now() + 20 * SECOND;
    while room() != usual {
        assert!(Instant::now() < until, "{} instead of {usual}", room());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who listens first in a folder that everybody may write to would have the new process serve sockets and clients of its own.
#[test]
fn nothing_is_taken_over_from_a_process_of_another_user() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let (path, hello) = (folder.path().join("s"), Hello::of(&Config { shards: 1, ..Config::default() }));
    let (told, is_there) = std::sync::mpsc::channel();
    let stranger = std::thread::spawn({
        let (path, hello) = (path.clone(), hello.clone());
        move || {
            let nobody = Uid::from_raw(65_534);
            if set_thread_res_uid(nobody, nobody, nobody).is_err() {
                return told.send(false).unwrap();
            }
            let listener = UnixListener::bind(&path).unwrap();
            told.send(true).unwrap();
            let mut channel = Channel::new(listener.accept().unwrap().0, SECOND).unwrap();
            let asked = channel.receive().map(|frame| frame.kind);
            // It agrees with whatever is said.
            let _ = channel.send(Kind::Hello, &hello.bytes().unwrap(), &[]);
            assert!(asked.is_err(), "it is told nothing, and has got {asked:?}");
        }
    });
    if !is_there.recv().unwrap() {
        return eprintln!("skipped: only root can be another user");
    }
    let error = format!("{:#}", Successor::connect(&path, &hello).unwrap_err());
    stranger.join().unwrap();
    assert!(error.contains("listens user 65534"), "{error}");
}
