//! What clients and strangers say to the listener: requests, frames of a WebSocket, tickets of other people's stays.

use std::cell::RefCell;

use moonring::fuzz::InMemory;

use super::{Parts, joined};

/// Parts of one connection.
const MOST: usize = 30;
/// Everybody may do everything, and what comes as a message goes back through the script.
const POLICY: &str = "function on_client_connect(_, token) return token ~= 'no' end
function on_publish_request() return true end
function on_message(client, message) client:send(message) end";
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const TEXT: u8 = 0x81;
const JOIN: &str = r#"{"type":"join","room":"demo","token":"t","metadata":{"name":"Ada"}}"#;

thread_local! {
    static SERVER: RefCell<InMemory> = RefCell::new(server());
}

pub(super) fn server() -> InMemory {
    InMemory::new(POLICY).expect("a server in memory")
}

/// Works with the one server of this thread, and looks that nothing of it is left afterwards.
pub(super) fn with_server<T>(work: impl FnOnce(&mut InMemory) -> T) -> T {
    SERVER.with_borrow_mut(|server| {
        let result = work(server);
        assert_eq!(server.settle(), 0, "somebody is left behind");
        result
    })
}

/// The bytes of a connection, in parts.
pub(super) fn http(bytes: &[u8]) {
    let parts: Vec<_> = Parts(bytes).take(MOST).collect();
    let answer = with_server(|server| server.talk(&parts));
    // A request of HTTP/1.0 is answered in it.
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
}

/// The frames of a WebSocket: each part is a frame's first byte and its payload, but for those whose first byte is 0x7F,
/// which are sent as they are.
pub(super) fn websocket(bytes: &[u8]) {
    let frames = Parts(bytes).take(MOST).filter_map(|part| {
        let (first, payload) = part.split_first()?;
        Some(if *first == 0x7F { payload.to_vec() } else { frame(*first, payload) })
    });
    let parts: Vec<_> = [UPGRADE.to_vec()].into_iter().chain(frames).collect();
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    let answer = with_server(|server| server.talk(&parts));
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
}

/// Tickets made of somebody's own: each part is what its characters are changed by. Only the ticket itself goes on with the
/// stay, and only once.
pub(super) fn tickets(bytes: &[u8]) {
    with_server(|server| {
        let ticket = joined_with(server);
        for change in Parts(bytes).take(MOST) {
            let changed: Vec<u8> = match change.split_first() {
                // In its place rather than over it.
                Some((0xFF, text)) => text.to_vec(),
                _ => {
                    let mask = change.iter().copied().chain(std::iter::repeat(0));
                    ticket.bytes().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
                }
            };
            let Ok(changed) = String::from_utf8(changed) else { continue };
            if changed != ticket {
                assert!(!is_resumed(server, &changed), "{changed} instead of {ticket}");
            }
        }
        assert!(is_resumed(server, &ticket), "what others try does not spend a ticket");
        assert!(!is_resumed(server, &ticket), "it is spent");
    });
}

/// Somebody joins, and loses the connection; the ticket.
fn joined_with(server: &mut InMemory) -> String {
    let said = server.talk(&[UPGRADE, &frame(TEXT, JOIN.as_bytes())]);
    ticket_of(&said).expect("a ticket")
}

/// The same; the id.
pub(super) fn join(server: &mut InMemory) -> String {
    let ticket = joined_with(server);
    ticket.split('.').next().expect("a client").to_owned()
}

fn is_resumed(server: &mut InMemory, ticket: &str) -> bool {
    let message = serde_json::json!({ "type": "resume", "ticket": ticket }).to_string();
    let answer = server.talk(&[UPGRADE, &frame(TEXT, message.as_bytes())]);
    String::from_utf8_lossy(&answer).contains(r#""resumed":true"#)
}

/// The ticket in what a client was told.
fn ticket_of(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let (_, rest) = text.split_once(r#""ticket":""#)?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// A client's frame (RFC 6455 section 5.2), masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

pub(super) fn http_seeds() -> Vec<Vec<u8>> {
    let sdp = include_str!("../../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp");
    let post = |path: &str| {
        let length = sdp.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer t\r\ncontent-type: application/sdp\r\n\
             content-length: {length}\r\n\r\n{sdp}"
        )
    };
    let page = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let chunked =
        "POST /whip/demo HTTP/1.1\r\nhost: a\r\ncontent-type: application/sdp\r\ntransfer-encoding: chunked\r\n\r\n";
    let delete = "DELETE /whip/demo/abcdefghijklmnopqrstuvwxyz012345 HTTP/1.1\r\nhost: a\r\nif-match: \"x\"\r\n\r\n";
    let talks: [&[&str]; 8] = [
        &["PRI * HTTP/1.0\r\n\r\n", page],
        &[page, "HEAD /client.js HTTP/1.1\r\nhost: a\r\n\r\n", "GET /healthz HTTP/1.0\r\n\r\n"],
        &[&post("/whip/demo"), delete, &post("/whep/demo/t1")],
        &[&post("/whip/%64emo/?x=1"), "OPTIONS /whip/demo HTTP/1.1\r\nhost: a\r\norigin: https://b\r\n\r\n"],
        &[
            chunked,
            "5\r\nv=0\r\n\r\n",
            "0\r\n\r\n",
            "PATCH /whip/demo/a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na=b",
        ],
        &[
            "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 12\r\n\r\n",
        ],
        &["GET /rooms HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 1.2.3.4, ::1\r\nexpect: 100-continue\r\n\r\n", page],
        &["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", page],
    ];
    talks.iter().map(|parts| joined(parts.iter().map(|part| part.as_bytes()))).collect()
}

pub(super) fn websocket_seeds() -> Vec<Vec<u8>> {
    let text = |json: &str| [&[TEXT], json.as_bytes()].concat();
    let sdp = include_str!("../../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp");
    let offer =
        serde_json::json!({ "type": "offer", "request": 1, "sdp": sdp, "publish": [{ "mid": "0" }, { "mid": "1" }] });
    let (start, rest) = JOIN.split_at(20);
    let (middle, end) = rest.split_at(20);
    let talks: [Vec<Vec<u8>>; 5] = [
        vec![text(JOIN), text(&offer.to_string()), text(r#"{"type":"message","value":{"a":[1,null]}}"#)],
        // In fragments, with control frames between them.
        vec![
            [&[0x01], start.as_bytes()].concat(),
            vec![0x89, b'h', b'i'],
            [&[0x00], middle.as_bytes()].concat(),
            vec![0x8A],
            [&[0x80], end.as_bytes()].concat(),
        ],
        vec![text(JOIN), vec![0x82, 1, 2, 3], vec![0x88, 0x03, 0xE8, b'b', b'y', b'e'], vec![0x89]],
        vec![text(JOIN), text(r#"{"type":"leave"}"#), vec![0x7F, 0x81, 0xFE, 0xFF, 0xFF, 0, 0, 0, 0, b'{']],
        vec![
            text(r#"{"type":"resume","ticket":"abcdefghijklmnop.00112233445566778899aabbccddeeff"}"#),
            text(r#"{"type":"join","room":"demo","token":"no"}"#),
            vec![0xC1, b'{'],
            vec![0x83, 0],
        ],
    ];
    talks.iter().map(|parts| joined(parts.iter().map(Vec::as_slice))).collect()
}

pub(super) fn tickets_seeds() -> Vec<Vec<u8>> {
    let at = |at: usize, mask: u8| [vec![0; at], vec![mask]].concat();
    let other = b"\xFFabcdefghijklmnop.00112233445566778899aabbccddeeff".to_vec();
    let talks: [Vec<Vec<u8>>; 3] = [
        vec![at(0, 1), at(15, 32), at(16, 1), at(17, 1), at(48, 1)],
        vec![other, b"\xFF".to_vec(), b"\xFF..".to_vec(), at(48, 0x20)],
        vec![vec![], at(60, 1)],
    ];
    talks.iter().map(|parts| joined(parts.iter().map(Vec::as_slice))).collect()
}
