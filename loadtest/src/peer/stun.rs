//! Connectivity checks as a client sends them, and what comes back (RFC 8489, RFC 8445 section 7). Its own code: it is
//! the foreign side to the server's.

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Longest check: two ufrags of 256 characters.
pub const MAX_REQUEST: usize = 640;
const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_A442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802A;

/// What names a request and its response.
pub type Transaction = [u8; 12];

/// The state of an HMAC that a password was put into.
#[derive(Clone)]
pub struct Key(Hmac<Sha1>);

impl Key {
    /// The password as it stands in the server's answer.
    pub fn new(password: &str) -> Self {
        Self(<Hmac<Sha1> as Mac>::new_from_slice(password.as_bytes()).expect("HMAC takes keys of any length"))
    }
}

/// A check that nominates its pair.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the response will name.
    pub transaction: Transaction,
    /// The server's ufrag, a colon, the client's.
    pub username: &'a str,
    /// Of the client's candidate.
    pub priority: u32,
    /// For the case that both sides believe to control.
    pub tie_breaker: u64,
}

impl Request<'_> {
    /// Writes the request and returns its length.
    pub fn write(&self, key: &Key, out: &mut [u8; MAX_REQUEST]) -> usize {
        let mut message = Vec::with_capacity(MAX_REQUEST);
        message.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
        message.extend_from_slice(&[0, 0]);
        message.extend_from_slice(&COOKIE.to_be_bytes());
        message.extend_from_slice(&self.transaction);
        attribute(&mut message, USERNAME, self.username.as_bytes());
        attribute(&mut message, PRIORITY, &self.priority.to_be_bytes());
        attribute(&mut message, ICE_CONTROLLING, &self.tie_breaker.to_be_bytes());
        attribute(&mut message, USE_CANDIDATE, &[]);
        set_length(&mut message, 24);
        let mac = key.0.clone().chain_update(&message).finalize().into_bytes();
        attribute(&mut message, MESSAGE_INTEGRITY, &mac);
        set_length(&mut message, 8);
        let crc = fingerprint(&message);
        attribute(&mut message, FINGERPRINT, &crc);
        out[..message.len()].copy_from_slice(&message);
        message.len()
    }
}

/// The transaction of a success response that is authentic under `key`; `None` for anything else.
pub(super) fn verify_success(bytes: &[u8], key: &Key) -> Option<Transaction> {
    let header = bytes.first_chunk::<HEADER>()?;
    let is_success = header[..2] == BINDING_SUCCESS.to_be_bytes();
    if !is_success || header[4..8] != COOKIE.to_be_bytes() || u16_at(bytes, 2)? as usize + HEADER != bytes.len() {
        return None;
    }
    let (mut at, mut integrity, mut crc) = (HEADER, None, None);
    while at < bytes.len() {
        let len = usize::from(u16_at(bytes, at + 2)?);
        let value = bytes.get(at + 4..at + 4 + len)?;
        match u16_at(bytes, at)? {
            MESSAGE_INTEGRITY => integrity = integrity.or(Some((at, value))),
            FINGERPRINT => crc = Some((at, value)),
            _ => {}
        }
        at += 4 + len.next_multiple_of(4);
    }
    let (crc_at, crc) = crc?;
    if crc != fingerprint(&bytes[..crc_at]) {
        return None;
    }
    let (at, mac) = integrity?;
    // RFC 8489 section 14.5: the length counts up to and including MESSAGE-INTEGRITY.
    let length = (at + 24 - HEADER) as u16;
    let expected = key.0.clone().chain_update(&bytes[..2]).chain_update(length.to_be_bytes());
    expected.chain_update(&bytes[4..at]).verify_slice(mac).ok()?;
    bytes[8..HEADER].try_into().ok()
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// The length with the attribute of `more` bytes that comes next.
fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() - HEADER + more) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// RFC 8489 section 14.7.
fn fingerprint(covered: &[u8]) -> [u8; 4] {
    (crc32fast::hash(covered) ^ 0x5354_554E).to_be_bytes()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::transport::stun as server;

    fn request() -> ([u8; MAX_REQUEST], usize) {
        let request = Request { transaction: [7; 12], username: "server:client", priority: 99, tie_breaker: 5 };
        let mut bytes = [0; MAX_REQUEST];
        let len = request.write(&Key::new("password"), &mut bytes);
        (bytes, len)
    }

    #[test]
    fn the_server_takes_a_check_and_its_response_is_verified() {
        let (bytes, len) = request();
        let request = server::parse(&bytes[..len]).unwrap();
        assert!(request.verify(&server::StunKey::new("password")));
        assert!(!request.verify(&server::StunKey::new("passwort")));
        assert!(request.use_candidate() && !request.is_controlled());
        assert_eq!((request.local_ufrag(), request.priority()), (&b"server"[..], Some(99)));

        let mut response = [0; server::MAX_RESPONSE];
        let address = "127.0.0.1:9".parse().unwrap();
        let len = request.respond(&server::StunKey::new("password"), address, &mut response);
        assert_eq!(verify_success(&response[..len], &Key::new("password")), Some([7; 12]));
        assert_eq!(verify_success(&response[..len], &Key::new("other")), None);
        for at in 0..len {
            let mut changed = response;
            changed[at] ^= 1;
            assert_eq!(verify_success(&changed[..len], &Key::new("password")), None, "byte {at}");
            assert_eq!(verify_success(&response[..at], &Key::new("password")), None, "{at} bytes");
        }
    }
}
