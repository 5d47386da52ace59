//! A connectivity check as any client could send it, true or forged (RFC 8489, RFC 8445 section 7).

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// A binding request for `username` (`server:client`) under `password`, which nominates its pair.
pub(crate) fn check(username: &str, password: &str, transaction: u64) -> Vec<u8> {
    let mut message = vec![0x00, 0x01, 0, 0, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0];
    message.extend_from_slice(&transaction.to_be_bytes());
    attribute(&mut message, 0x0006, username.as_bytes());
    attribute(&mut message, 0x0024, &0x6E00_1EFF_u32.to_be_bytes());
    attribute(&mut message, 0x802A, &7_u64.to_be_bytes());
    attribute(&mut message, 0x0025, &[]);
    set_length(&mut message, 24);
    let mut mac = <Hmac<Sha1> as Mac>::new_from_slice(password.as_bytes()).unwrap();
    mac.update(&message);
    let tag = mac.finalize().into_bytes();
    attribute(&mut message, 0x0008, &tag);
    set_length(&mut message, 8);
    let crc = (crc32fast::hash(&message) ^ 0x5354_554E).to_be_bytes();
    attribute(&mut message, 0x8028, &crc);
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// The length with the attribute of `more` bytes that comes next.
fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() - 20 + more) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}
