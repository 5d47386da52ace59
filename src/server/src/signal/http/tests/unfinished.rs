//! Messages that do not end: what has come of one is held.

use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::*;
use moonring_wire::message::MAX_MESSAGE_BYTES;

const PIECE: usize = 16 * 1024;

/// Whether a connection still answers a ping behind so many bytes of a message that is not whole. Pings stand between them, too.
async fn is_open_behind(socket: &mut Socket, bytes: usize) -> bool {
    for n in 0..bytes / PIECE {
        let kind = if n == 0 { Data::Text } else { Data::Continue };
        let piece = Frame::message(vec![b'x'; PIECE], OpCode::Data(kind), false);
        if socket.0.send(Message::Frame(piece)).await.is_err() {
            return false;
        }
        if n % 4 == 0 && !answers(socket).await {
            return false;
        }
    }
    answers(socket).await
}

async fn answers(socket: &mut Socket) -> bool {
    if socket.0.send(Message::Ping(Default::default())).await.is_err() {
        return false;
    }
    matches!(socket.0.next().await, Some(Ok(Message::Pong(_))))
}

#[tokio::test]
async fn strangers_have_little_of_a_message_held_and_members_the_longest_one() {
    let world = start(&config());
    for (is_member, bytes, expected) in [
        (false, 160 * 1024, true),
        (false, 320 * 1024, false),
        (true, MAX_MESSAGE_BYTES, true),
        (true, 5 * MAX_MESSAGE_BYTES, false),
    ] {
        let mut socket = world.socket().await;
        if is_member {
            assert_eq!(socket.join("yes").await["type"], "joined");
        }
        assert_eq!(is_open_behind(&mut socket, bytes).await, expected, "{is_member} {bytes}");
    }
}

#[tokio::test]
async fn what_was_whole_does_not_count_towards_what_follows() {
    let world = start(&config());
    let mut socket = world.socket().await;
    assert_eq!(socket.join("yes").await["type"], "joined");
    for _ in 0..4 {
        let long = json!({"type": "message", "value": "x".repeat(MAX_MESSAGE_BYTES - 100)});
        socket.send(long).await;
        assert_eq!(socket.next().await["code"], "too_large");
    }
    assert!(is_open_behind(&mut socket, MAX_MESSAGE_BYTES).await);
}
