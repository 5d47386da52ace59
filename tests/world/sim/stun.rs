//! A connectivity check as any client could send it, true or forged.

use moonring_loadtest::peer::stun::{Key, MAX_REQUEST, Request};

/// A binding request for `username` (`server:client`) under `password`, which nominates its pair.
pub(crate) fn check(username: &str, password: &str, transaction: u64) -> Vec<u8> {
    let mut id = [0; 12];
    id[4..].copy_from_slice(&transaction.to_be_bytes());
    let mut message = [0; MAX_REQUEST];
    let request = Request { transaction: id, username, priority: 0x6E00_1EFF, tie_breaker: 7 };
    let len = request.write(&Key::new(password), &mut message);
    message[..len].to_vec()
}
