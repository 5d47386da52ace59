//! str0m, a WebRTC implementation that nobody here wrote, publishes by WHIP and receives by WHEP: real HTTP, real UDP
//! on loopback, the server in this process.

mod client;
mod server;

use std::time::{Duration, Instant};

use client::Client;
use server::TestServer;
use str0m::media::MediaKind::{Audio, Video};

/// Drives clients until `done` or, at the latest, for 20 s.
fn drive(clients: &mut [&mut Client], mut done: impl FnMut(&mut [&mut Client]) -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        for client in clients.iter_mut() {
            client.step();
        }
        if done(clients) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// A publisher of sound and pictures, connected.
fn publisher(server: &TestServer) -> Client {
    let mut client = Client::publish(server, "demo", &[Audio, Video]);
    assert!(drive(&mut [&mut client], |clients| clients[0].connected), "the publisher connects");
    client
}

fn receiver(server: &TestServer) -> Client {
    Client::receive(server, "demo", &[Audio, Video])
}

#[test]
fn frames_and_sound_go_from_one_to_the_other_and_a_newcomer_gets_a_key_frame() {
    let server = TestServer::start();
    let mut alice = publisher(&server);
    // What came before the receiver is of no use to it.
    let until = Instant::now() + Duration::from_millis(500);
    drive(&mut [&mut alice], |_| Instant::now() > until);
    let mut bob = receiver(&server);
    let enough = |c: &mut [&mut Client]| c[1].frames(Video).len() >= 60 && c[1].frames(Audio).len() >= 100;
    assert!(drive(&mut [&mut alice, &mut bob], enough), "{bob:?}");
    let frames = bob.frames(Video);
    assert!(frames[0].is_key, "pictures begin with a key frame");
    assert!(frames.windows(2).all(|pair| pair[1].counter == pair[0].counter + 1), "{frames:?}");
    assert!(frames.iter().all(|frame| frame.intact), "byte by byte");
    let sound = bob.frames(Audio);
    assert!(sound.windows(2).all(|pair| pair[1].counter == pair[0].counter + 1));
}

#[test]
fn a_receivers_request_for_a_key_frame_reaches_the_publisher() {
    let server = TestServer::start();
    let mut alice = publisher(&server);
    let mut bob = receiver(&server);
    assert!(drive(&mut [&mut alice, &mut bob], |c| c[1].frames(Video).len() >= 10), "{bob:?}");
    let (asked, keys) = (alice.key_frame_requests, bob.frames(Video).iter().filter(|frame| frame.is_key).count());
    bob.ask_for_key_frame();
    let came = |c: &mut [&mut Client]| c[1].frames(Video).iter().filter(|frame| frame.is_key).count() > keys;
    assert!(drive(&mut [&mut alice, &mut bob], came), "{bob:?}");
    assert!(alice.key_frame_requests > asked);
}

#[test]
fn what_either_side_loses_is_repaired() {
    let server = TestServer::start();
    let alice = publisher(&server);
    let bob = receiver(&server);
    lose_and_repair(alice, bob);
}

#[test]
fn what_a_receiver_without_rtx_loses_is_repaired_too() {
    let server = TestServer::start();
    let alice = publisher(&server);
    let bob = Client::receive_without_rtx(&server, "demo", &[Audio, Video]);
    lose_and_repair(alice, bob);
}

/// Loses a packet of 25 on both ways; hardly a frame is missing.
fn lose_and_repair(mut alice: Client, mut bob: Client) {
    assert!(drive(&mut [&mut alice, &mut bob], |c| c[1].frames(Video).len() >= 10), "{bob:?}");
    (alice.lose_one_in, bob.lose_one_in) = (25, 25);
    let start = bob.frames(Video).len();
    assert!(drive(&mut [&mut alice, &mut bob], |c| c[1].frames(Video).len() >= start + 150), "{bob:?}");
    assert!(alice.lost > 10 && bob.lost > 10, "{} and {} datagrams were lost", alice.lost, bob.lost);
    let frames = bob.frames(Video);
    let missing: u64 = frames.windows(2).map(|pair| pair[1].counter - pair[0].counter - 1).sum();
    assert!(missing <= 3, "{missing} frames of 150 are missing");
}

#[test]
fn delete_ends_a_session_for_both_sides() {
    let server = TestServer::start();
    let mut alice = publisher(&server);
    let mut bob = receiver(&server);
    assert!(drive(&mut [&mut alice, &mut bob], |c| c[1].frames(Video).len() >= 10), "{bob:?}");
    assert_eq!(alice.delete(&server), 200);
    // Two seconds without a frame.
    let mut last = (bob.frames(Video).len(), Instant::now());
    let silent = |c: &mut [&mut Client]| {
        let count = c[1].frames(Video).len();
        if count != last.0 {
            last = (count, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(2)
    };
    assert!(drive(&mut [&mut alice, &mut bob], silent));
    assert_eq!(alice.delete(&server), 404, "it is gone");
    let mut carol = publisher(&server);
    assert!(drive(&mut [&mut carol, &mut bob], |c| c[0].connected), "the room is still there");
}

#[test]
fn a_wrong_token_is_refused_with_the_scripts_words() {
    let server = TestServer::start();
    let offer = Client::offer_text(&[Audio]);
    let response = server.request("POST", "/whip/demo", Some("wrong"), &offer);
    assert!(response.status == 403 && response.body.contains(r#""detail":"Wrong token""#), "{response:?}");
    let response = server.request("POST", "/whip/demo", None, &offer);
    assert!(matches!(response.status, 401 | 403), "{response:?}");
    let response = server.request("POST", "/whip/demo", Some(server::SECRET), "v=0\r\nnonsense");
    assert_eq!(response.status, 400, "{response:?}");
}
