//! STUN binding requests and their answers, in place (RFC 8489), as an ICE agent uses them (RFC 8445 section 7).
//!
//! ```text
//! type (2) | length (2) | cookie (4) | transaction (12) | attributes: type (2) | length (2) | value, padded to 4
//! ```

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use crate::drops::DropReason;

pub mod check;
#[cfg(test)]
mod tests;

/// Longest answer: an error with its text and unknown attributes, or an IPv6 address, with integrity and fingerprint.
pub const MAX_RESPONSE: usize = 128;
/// Unknown attributes that an answer names; who sends more learns of the first ones.
const MAX_UNKNOWN: usize = 8;
const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const FINGERPRINT_XOR: u32 = 0x5354_554E;
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_LEN: usize = 4;

/// Message types (RFC 8489 section 5).
mod message {
    pub(super) const BINDING_REQUEST: u16 = 0x0001;
    pub(super) const BINDING_SUCCESS: u16 = 0x0101;
    pub(super) const BINDING_ERROR: u16 = 0x0111;
}

/// Attribute types (RFC 8489 section 18.3, RFC 8445 section 20.1).
mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    pub(super) const ICE_CONTROLLING: u16 = 0x802A;
}

/// A well-formed binding request whose FINGERPRINT holds. Nothing in it is authenticated until
/// [`BindingRequest::verify`] says so.
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    bytes: &'a [u8],
    username: &'a [u8],
    integrity_at: usize,
    use_candidate: bool,
    controlled: bool,
    priority: Option<u32>,
    unknown: [u16; MAX_UNKNOWN],
    unknown_count: usize,
}

/// Reads a datagram as a binding request.
pub fn parse(bytes: &[u8]) -> Result<BindingRequest<'_>, DropReason> {
    let header = bytes.first_chunk::<HEADER>().ok_or(DropReason::StunMalformed)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // RFC 8489 section 5: the first two bits are 0, and the length is a multiple of 4.
    if header[0] & 0xC0 != 0 || header[4..8] != COOKIE || length % 4 != 0 || length + HEADER != bytes.len() {
        return Err(DropReason::StunMalformed);
    }
    if u16::from_be_bytes([header[0], header[1]]) != message::BINDING_REQUEST {
        return Err(DropReason::StunNotRequest);
    }
    Attributes::read(bytes)?.into_request(bytes)
}

impl<'a> BindingRequest<'a> {
    /// The part of USERNAME before the colon: this server's ufrag (RFC 8445 section 7.2.2).
    pub fn local_ufrag(&self) -> &'a [u8] {
        self.username.split(|byte| *byte == b':').next().unwrap_or_default()
    }

    /// The part of USERNAME behind the colon: the client's ufrag.
    pub fn remote_ufrag(&self) -> &'a [u8] {
        let at = self.local_ufrag().len() + 1;
        self.username.get(at..).unwrap_or_default()
    }

    /// USE-CANDIDATE: the client nominates the pair.
    pub fn use_candidate(&self) -> bool {
        self.use_candidate
    }

    /// ICE-CONTROLLED: the client thinks that this server controls.
    pub fn is_controlled(&self) -> bool {
        self.controlled
    }

    /// PRIORITY, when it is there.
    pub fn priority(&self) -> Option<u32> {
        self.priority
    }

    /// Attributes that must be understood and are not.
    pub fn unknown_attributes(&self) -> &[u16] {
        &self.unknown[..self.unknown_count]
    }

    /// Whether MESSAGE-INTEGRITY holds under this key.
    pub fn verify(&self, key: &StunKey) -> bool {
        let at = self.integrity_at;
        // RFC 8489 section 14.5: the length covered is that up to and including MESSAGE-INTEGRITY.
        let length = (at + 4 + INTEGRITY_LEN - HEADER) as u16;
        let expected = key.mac(&[&self.bytes[..2], &length.to_be_bytes(), &self.bytes[4..at]]);
        expected.ct_eq(&self.bytes[at + 4..at + 4 + INTEGRITY_LEN]).into()
    }

    /// Writes the success response, which tells the client its address, and returns its length.
    pub fn respond(&self, key: &StunKey, from: SocketAddr, out: &mut [u8; MAX_RESPONSE]) -> usize {
        let mut writer = Writer::new(out, message::BINDING_SUCCESS, self.transaction());
        writer.xor_mapped_address(from);
        writer.finish(key)
    }

    /// Writes an error response and returns its length.
    pub fn refuse(&self, key: &StunKey, error: StunError, out: &mut [u8; MAX_RESPONSE]) -> usize {
        let mut writer = Writer::new(out, message::BINDING_ERROR, self.transaction());
        let (code, reason) = error.code_and_reason();
        // RFC 8489 section 14.8: the class is the hundreds, the number the rest.
        writer.attribute(attribute::ERROR_CODE, &[&[0, 0, (code / 100) as u8, (code % 100) as u8], reason]);
        if error == StunError::UnknownAttribute {
            let mut list = [0; 2 * MAX_UNKNOWN];
            for (slot, kind) in list.chunks_exact_mut(2).zip(self.unknown_attributes()) {
                slot.copy_from_slice(&kind.to_be_bytes());
            }
            writer.attribute(attribute::UNKNOWN_ATTRIBUTES, &[&list[..2 * self.unknown_count]]);
        }
        writer.finish(key)
    }

    fn transaction(&self) -> &'a [u8] {
        &self.bytes[8..HEADER]
    }
}

/// Why an authenticated request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StunError {
    /// 420: an attribute that must be understood and is not (RFC 8489 section 6.3.1).
    UnknownAttribute,
    /// 487: the client believes to be controlled, and so is this server (RFC 8445 section 7.3.1.1).
    RoleConflict,
}

impl StunError {
    fn code_and_reason(self) -> (u16, &'static [u8]) {
        match self {
            Self::UnknownAttribute => (420, b"Unknown Attribute"),
            Self::RoleConflict => (487, b"Role Conflict"),
        }
    }
}

/// A password, as the state of an HMAC that it was put into.
#[derive(Clone)]
pub struct StunKey(Hmac<Sha1>);

impl StunKey {
    /// Short-term credentials: the key is the password (RFC 8489 section 9.1.1).
    pub fn new(password: &str) -> Self {
        Self(<Hmac<Sha1> as Mac>::new_from_slice(password.as_bytes()).expect("HMAC takes keys of any length"))
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; INTEGRITY_LEN] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for StunKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StunKey")
    }
}

/// What reading the attributes of a request gathers.
#[derive(Default)]
struct Attributes<'a> {
    username: Option<&'a [u8]>,
    integrity_at: Option<usize>,
    fingerprint_at: Option<usize>,
    use_candidate: bool,
    controlled: bool,
    priority: Option<u32>,
    unknown: [u16; MAX_UNKNOWN],
    unknown_count: usize,
}

impl<'a> Attributes<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut found = Self::default();
        let mut at = HEADER;
        while at < bytes.len() {
            // RFC 8489 section 14.7: FINGERPRINT is the last one.
            let head = bytes[at..].first_chunk::<4>().filter(|_| found.fingerprint_at.is_none());
            let [a, b, c, d] = *head.ok_or(DropReason::StunMalformed)?;
            let len = usize::from(u16::from_be_bytes([c, d]));
            let value = bytes.get(at + 4..at + 4 + len).ok_or(DropReason::StunMalformed)?;
            found.take(u16::from_be_bytes([a, b]), at, value)?;
            at += 4 + len.next_multiple_of(4);
        }
        Ok(found)
    }

    fn take(&mut self, kind: u16, at: usize, value: &'a [u8]) -> Result<(), DropReason> {
        let expected_len = match kind {
            attribute::MESSAGE_INTEGRITY => Some(INTEGRITY_LEN),
            attribute::FINGERPRINT | attribute::PRIORITY => Some(4),
            attribute::ICE_CONTROLLED | attribute::ICE_CONTROLLING => Some(8),
            attribute::USE_CANDIDATE => Some(0),
            _ => None,
        };
        if expected_len.is_some_and(|len| len != value.len()) {
            return Err(DropReason::StunMalformed);
        }
        // RFC 8489 section 14.5: what follows MESSAGE-INTEGRITY is ignored, but for FINGERPRINT.
        if self.integrity_at.is_some() && kind != attribute::FINGERPRINT {
            return Ok(());
        }
        match kind {
            // RFC 8489 section 14: of several, the first one counts.
            attribute::USERNAME => self.username = self.username.or(Some(value)),
            attribute::MESSAGE_INTEGRITY => self.integrity_at = Some(at),
            attribute::FINGERPRINT => self.fingerprint_at = Some(at),
            attribute::PRIORITY => self.priority = value.try_into().ok().map(u32::from_be_bytes),
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLED => self.controlled = true,
            // RFC 8489 section 14: types up to 0x7FFF must be understood.
            0..=0x7FFF if !is_known(kind) && self.unknown_count < MAX_UNKNOWN => {
                self.unknown[self.unknown_count] = kind;
                self.unknown_count += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn into_request(self, bytes: &'a [u8]) -> Result<BindingRequest<'a>, DropReason> {
        // RFC 8445 section 7.2.2: a connectivity check has all three.
        let username = self.username.filter(|name| name.contains(&b':')).ok_or(DropReason::StunMalformed)?;
        let fingerprint_at = self.fingerprint_at.ok_or(DropReason::StunBadIntegrity)?;
        let integrity_at = self.integrity_at.ok_or(DropReason::StunBadIntegrity)?;
        let value = &bytes[fingerprint_at + 4..fingerprint_at + 4 + FINGERPRINT_LEN];
        if fingerprint(&bytes[..fingerprint_at]) != value {
            return Err(DropReason::StunBadIntegrity);
        }
        Ok(BindingRequest {
            bytes,
            username,
            integrity_at,
            use_candidate: self.use_candidate,
            controlled: self.controlled,
            priority: self.priority,
            unknown: self.unknown,
            unknown_count: self.unknown_count,
        })
    }
}

/// Attributes that must be understood and have no meaning here, but are no mistake either.
fn is_known(kind: u16) -> bool {
    use attribute::{ERROR_CODE, MESSAGE_INTEGRITY_SHA256, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS};
    matches!(kind, ERROR_CODE | UNKNOWN_ATTRIBUTES | MESSAGE_INTEGRITY_SHA256 | XOR_MAPPED_ADDRESS)
}

/// RFC 8489 section 14.7.
fn fingerprint(covered: &[u8]) -> [u8; FINGERPRINT_LEN] {
    (crc32fast::hash(covered) ^ FINGERPRINT_XOR).to_be_bytes()
}

/// Writes a message attribute by attribute.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut [u8], kind: u16, transaction: &[u8]) -> Self {
        out[..2].copy_from_slice(&kind.to_be_bytes());
        out[4..8].copy_from_slice(&COOKIE);
        out[8..HEADER].copy_from_slice(transaction);
        Self { out, len: HEADER }
    }

    fn attribute(&mut self, kind: u16, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&kind.to_be_bytes());
        self.put(&(len as u16).to_be_bytes());
        parts.iter().for_each(|part| self.put(part));
        self.put(&[0; 3][..len.next_multiple_of(4) - len]);
    }

    /// RFC 8489 section 14.2: the port XOR the cookie, the address XOR cookie and transaction.
    fn xor_mapped_address(&mut self, address: SocketAddr) {
        let mut port = address.port().to_be_bytes();
        xor(&mut port, &COOKIE);
        let mut key = [0; 16];
        key.copy_from_slice(&self.out[4..HEADER]);
        match address.ip() {
            IpAddr::V4(ip) => {
                let mut ip = ip.octets();
                xor(&mut ip, &key);
                self.attribute(attribute::XOR_MAPPED_ADDRESS, &[&[0, 1], &port, &ip]);
            }
            IpAddr::V6(ip) => {
                let mut ip = ip.octets();
                xor(&mut ip, &key);
                self.attribute(attribute::XOR_MAPPED_ADDRESS, &[&[0, 2], &port, &ip]);
            }
        }
    }

    fn finish(mut self, key: &StunKey) -> usize {
        self.set_length(4 + INTEGRITY_LEN);
        let integrity = key.mac(&[&self.out[..self.len]]);
        self.attribute(attribute::MESSAGE_INTEGRITY, &[&integrity]);
        self.set_length(4 + FINGERPRINT_LEN);
        let fingerprint = fingerprint(&self.out[..self.len]);
        self.attribute(attribute::FINGERPRINT, &[&fingerprint]);
        self.len
    }

    /// Sets the length to what there is and `more`, the attribute about to be added.
    fn set_length(&mut self, more: usize) {
        let length = (self.len - HEADER + more) as u16;
        self.out[2..4].copy_from_slice(&length.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

fn xor(bytes: &mut [u8], key: &[u8]) {
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
    }
}
