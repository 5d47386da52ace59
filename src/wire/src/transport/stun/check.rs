//! Checks of the server's own: whether a client is where its requests claim to come from.
//!
//! A lite agent needs none for ICE itself (RFC 8445 section 2.5), but a source address is easily forged, and media goes
//! where requests come from. A full agent answers them like any other (RFC 8445 section 7.3): whoever answers has
//! received the transaction at that address.

use subtle::ConstantTimeEq;

use super::{
    Attributes, COOKIE, FINGERPRINT_LEN, HEADER, INTEGRITY_LEN, StunKey, Writer, attribute, fingerprint, message,
};
use crate::drops::DropReason;
use crate::negotiate::IceCredentials;

/// What names a check and its answer.
pub type Transaction = [u8; 12];

/// Longest ufrag (RFC 8839 section 5.4).
const MAX_UFRAG: usize = 256;
/// Longest check: both ufrags, and attributes of a fixed length.
pub const MAX_CHECK: usize = HEADER + 4 + MAX_UFRAG + 1 + 32 + 3 + 8 + 12 + 4 + INTEGRITY_LEN + 4 + FINGERPRINT_LEN;
/// RFC 8445 section 5.1.2.1: of a host candidate.
const PRIORITY: u32 = 126 << 24 | 0xFFFF << 8 | 255;
/// A lite agent never controls, so nobody compares it. Not 0: libjuice answers that with 400, as if the attribute was missing.
const TIE_BREAKER: u64 = 1;

/// Writes a check from `local` to `remote`, whose password is in `key`; its length, or `None` when a ufrag is longer than
/// they may be.
pub fn write(
    (local, remote): (&IceCredentials, &IceCredentials),
    key: &StunKey,
    transaction: &Transaction,
    out: &mut [u8; MAX_CHECK],
) -> Option<usize> {
    if remote.ufrag.len() > MAX_UFRAG || local.ufrag.len() > 32 {
        return None;
    }
    let mut writer = Writer::new(out, message::BINDING_REQUEST, transaction);
    writer.attribute(attribute::USERNAME, &[remote.ufrag.as_bytes(), b":", local.ufrag.as_bytes()]);
    writer.attribute(attribute::PRIORITY, &[&PRIORITY.to_be_bytes()]);
    writer.attribute(attribute::ICE_CONTROLLED, &[&TIE_BREAKER.to_be_bytes()]);
    Some(writer.finish(key))
}

/// A well-formed success response; nothing in it is authenticated until [`Answer::verify`] says so.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    bytes: &'a [u8],
    integrity_at: usize,
}

/// True for a success response, by its type.
pub fn is_answer(bytes: &[u8]) -> bool {
    bytes.first_chunk() == Some(&message::BINDING_SUCCESS.to_be_bytes())
}

/// Reads a datagram as the answer to a check.
pub fn read(bytes: &[u8]) -> Result<Answer<'_>, DropReason> {
    let header = bytes.first_chunk::<HEADER>().ok_or(DropReason::StunMalformed)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[4..8] != COOKIE || length % 4 != 0 || length + HEADER != bytes.len() {
        return Err(DropReason::StunMalformed);
    }
    let found = Attributes::read(bytes)?;
    // RFC 8489 section 7.3: some agents leave FINGERPRINT out of responses; one that is there holds.
    if let Some(at) = found.fingerprint_at
        && fingerprint(&bytes[..at]) != bytes[at + 4..at + 4 + FINGERPRINT_LEN]
    {
        return Err(DropReason::StunBadIntegrity);
    }
    let integrity_at = found.integrity_at.ok_or(DropReason::StunBadIntegrity)?;
    Ok(Answer { bytes, integrity_at })
}

impl Answer<'_> {
    /// Which check it answers.
    pub fn transaction(&self) -> Transaction {
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&self.bytes[8..HEADER]);
        transaction
    }

    /// Whether MESSAGE-INTEGRITY holds under the password that the check was made with.
    pub fn verify(&self, key: &StunKey) -> bool {
        let at = self.integrity_at;
        let length = (at + 4 + INTEGRITY_LEN - HEADER) as u16;
        let expected = key.mac(&[&self.bytes[..2], &length.to_be_bytes(), &self.bytes[4..at]]);
        expected.ct_eq(&self.bytes[at + 4..at + 4 + INTEGRITY_LEN]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::stun;

    fn credentials(ufrag: &str) -> IceCredentials {
        IceCredentials { ufrag: ufrag.into(), pwd: format!("password-of-{ufrag:-<24.24}") }
    }

    #[test]
    fn a_check_is_a_request_to_the_clients_credentials_and_its_answer_is_verified() {
        let (local, remote) = (credentials(&"s".repeat(16)), credentials(&"c".repeat(MAX_UFRAG)));
        let key = StunKey::new(&remote.pwd);
        let mut out = [0; MAX_CHECK];
        let len = write((&local, &remote), &key, &[7; 12], &mut out).unwrap();
        let request = stun::parse(&out[..len]).unwrap();
        assert!(request.verify(&key) && request.is_controlled() && !request.use_candidate());
        assert_eq!(request.local_ufrag(), remote.ufrag.as_bytes());
        assert_eq!(request.remote_ufrag(), local.ufrag.as_bytes());

        let mut response = [0; stun::MAX_RESPONSE];
        let len = request.respond(&key, "192.0.2.1:9".parse().unwrap(), &mut response);
        assert!(is_answer(&response[..len]) && !is_answer(&out));
        let answer = read(&response[..len]).unwrap();
        assert_eq!(answer.transaction(), [7; 12]);
        assert!(answer.verify(&key) && !answer.verify(&StunKey::new("another password")));
        // What is behind MESSAGE-INTEGRITY is not needed: a response may have no FINGERPRINT at all.
        for at in 0..len - 4 - FINGERPRINT_LEN {
            let mut changed = response;
            changed[at] ^= 0x10;
            let believed = read(&changed[..len]).is_ok_and(|answer| answer.verify(&key));
            assert!(!believed, "byte {at}");
            assert!(!read(&response[..at]).is_ok_and(|answer| answer.verify(&key)), "{at} bytes");
        }
    }

    /// libjuice, which is in OBS, refuses one of 0 as if there was none, with 400.
    #[test]
    fn the_tie_breaker_of_a_check_is_not_zero() {
        let (mut out, key) = ([0; MAX_CHECK], StunKey::new("password"));
        let len = write((&credentials("here"), &credentials("there")), &key, &[7; 12], &mut out).unwrap();
        let [high, low] = attribute::ICE_CONTROLLED.to_be_bytes();
        let at = out[..len].windows(4).position(|bytes| bytes == [high, low, 0, 8]).unwrap() + 4;
        assert_ne!(out[at..at + 8], [0; 8]);
    }

    #[test]
    fn a_ufrag_that_is_too_long_is_never_asked_for() {
        let (local, remote) = (credentials("here"), credentials(&"c".repeat(MAX_UFRAG + 1)));
        assert_eq!(write((&local, &remote), &StunKey::new("p"), &[7; 12], &mut [0; MAX_CHECK]), None);
    }
}
