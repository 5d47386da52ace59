//! The ClientHello decides which library does the handshake; browsers send it in several datagrams.

use crate::drops::DropReason;
use crate::transport::srtp::SrtpProfile;

use super::record::{self, Fragment, HANDSHAKE};
use super::{DtlsTerms, DtlsVersions};

const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
/// Longest ClientHello: those of browsers have 1.4 KB, most of it a post-quantum key share.
const MAX_HELLO: usize = 8 * 1024;
/// Datagrams kept until the ClientHello is complete.
const MAX_DATAGRAMS: usize = 16;
/// Version 1.3 as DTLS writes it.
const DTLS_1_3: u16 = 0xFEFC;
const USE_SRTP: u16 = 14;
const SUPPORTED_VERSIONS: u16 = 43;

/// Keeps datagrams until a whole ClientHello is there.
#[derive(Debug, Default)]
pub(super) struct HelloCollector {
    datagrams: Vec<Vec<u8>>,
}

impl HelloCollector {
    /// Takes a datagram; returns the ClientHello with the last missing part, and every datagram of it, for the library that
    /// is chosen. `may_be_second`: the client may have been asked for a cookie.
    pub(super) fn push(&mut self, datagram: &[u8], may_be_second: bool) -> Result<Option<Whole>, DropReason> {
        let first = fragments_of(datagram).find(|f| f.sequence == 0 || may_be_second).ok_or(DropReason::Dtls)?;
        let (sequence, length) = (first.sequence, first.length);
        let is_part = move |f: &Fragment<'_>| (f.sequence, f.length) == (sequence, length);
        // A client that begins anew, or somebody else: what was collected is of no more use.
        let other = self.datagrams.first().is_some_and(|first| !fragments_of(first).all(|f| is_part(&f)));
        if other || self.datagrams.len() == MAX_DATAGRAMS {
            self.datagrams.clear();
        }
        self.datagrams.push(datagram.to_vec());
        let Some(message) = self.message(length, is_part) else { return Ok(None) };
        let datagrams = std::mem::take(&mut self.datagrams);
        let hello = Hello::parse(&message).ok_or(DropReason::Dtls)?;
        Ok(Some(Whole { hello, is_second: sequence > 0, datagrams }))
    }

    fn message(&self, length: usize, is_part: impl Fn(&Fragment<'_>) -> bool) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        while message.len() < length {
            let next = |f: &Fragment<'_>| f.offset <= message.len() && f.offset + f.bytes.len() > message.len();
            let mut parts = self.datagrams.iter().flat_map(|d| fragments_of(d)).filter(&is_part);
            let fragment = parts.find(next)?;
            message.extend_from_slice(&fragment.bytes[message.len() - fragment.offset..]);
        }
        Some(message)
    }
}

/// A ClientHello that is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) hello: Hello,
    /// It is the client's second message, with which it shows the cookie that it was asked for.
    pub(super) is_second: bool,
    /// The datagrams that it came in.
    pub(super) datagrams: Vec<Vec<u8>>,
}

/// The parts of a client's first or second ClientHello in a datagram.
fn fragments_of(datagram: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    messages_of(datagram, CLIENT_HELLO).filter(|f| f.sequence < 2 && (1..=MAX_HELLO).contains(&f.length))
}

fn messages_of(datagram: &[u8], kind: u8) -> impl Iterator<Item = Fragment<'_>> {
    let in_the_clear = record::records(datagram).filter(|r| r.kind == HANDSHAKE && r.epoch == 0);
    let fragments = in_the_clear.filter_map(|r| record::fragments(r.fragment)).flatten();
    fragments.filter(move |f| f.kind == kind)
}

/// The cookie of a HelloVerifyRequest: version (2) | cookie <1> (RFC 6347 section 4.2.1).
pub(super) fn requested_cookie(datagram: &[u8]) -> Option<Vec<u8>> {
    let request = messages_of(datagram, HELLO_VERIFY_REQUEST).next()?;
    Some(vector(&mut request.bytes.get(2..)?, 1)?.to_vec())
}

/// The parts of a ClientHello that matter here (RFC 5246 section 7.4.1.2).
///
/// ```text
/// version (2) | random (32) | session id <1> | cookie <1> | cipher suites <2> | compression <1> | extensions <2>
/// extension     type (2) | data <2>
/// use_srtp      profiles <2> | MKI <1>                                         (RFC 5764 section 4.1.1)
/// supported_versions  versions <1>                                             (RFC 8446 section 4.2.1)
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hello {
    /// What tells one handshake from another.
    pub(super) random: [u8; 32],
    /// Empty when the client was not asked for one.
    pub(super) cookie: Vec<u8>,
    /// DTLS 1.3 is among the versions.
    pub(super) offers_1_3: bool,
    /// The SRTP profiles that this server knows, in the client's order.
    pub(super) profiles: Vec<SrtpProfile>,
}

impl Hello {
    fn parse(message: &[u8]) -> Option<Self> {
        let mut rest = message.get(34..)?;
        vector(&mut rest, 1)?;
        let cookie = vector(&mut rest, 1)?.to_vec();
        vector(&mut rest, 2)?;
        vector(&mut rest, 1)?;
        let mut extensions = if rest.is_empty() { rest } else { vector(&mut rest, 2)? };
        let random = *message.get(2..)?.first_chunk()?;
        let mut hello = Self { random, cookie, ..Self::default() };
        while !extensions.is_empty() {
            let kind = word(take(&mut extensions, 2)?);
            let mut data = vector(&mut extensions, 2)?;
            match kind {
                USE_SRTP => {
                    let all = vector(&mut data, 2)?.chunks_exact(2).map(word);
                    hello.profiles = all.filter_map(SrtpProfile::from_id).collect();
                }
                SUPPORTED_VERSIONS => {
                    hello.offers_1_3 = vector(&mut data, 1)?.chunks_exact(2).any(|v| word(v) == DTLS_1_3)
                }
                _ => {}
            }
        }
        Some(hello)
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

/// A vector after its length in `bytes_of_length` bytes.
fn vector<'a>(rest: &mut &'a [u8], bytes_of_length: usize) -> Option<&'a [u8]> {
    let len = take(rest, bytes_of_length)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    take(rest, len)
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The library that does a handshake, and the SRTP profile that comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// DTLS 1.2 by `rtc-dtls`, with this profile.
    Rtc(SrtpProfile),
    /// DTLS 1.2 by `dimpl`, which takes the strongest profile.
    Dimpl12,
    /// DTLS 1.3 by `dimpl`, which takes the client's first profile.
    Dimpl13,
}

/// Chooses for a client; `None` without a common SRTP profile.
pub(super) fn choose(hello: &Hello, terms: &DtlsTerms) -> Option<Choice> {
    let best = *terms.profiles.iter().find(|profile| hello.profiles.contains(profile))?;
    // A client that does not offer DTLS 1.3 is not a browser, and may have an RSA certificate.
    if !hello.offers_1_3 || terms.versions == DtlsVersions::V12 {
        return Some(Choice::Rtc(best));
    }
    let first = hello.profiles[0];
    let as_fast = first.is_aead() || !best.is_aead();
    if terms.profiles.contains(&first) && (as_fast || terms.versions == DtlsVersions::V13IfOffered) {
        return Some(Choice::Dimpl13);
    }
    let strongest = SrtpProfile::ALL.into_iter().find(|profile| hello.profiles.contains(profile));
    Some(if strongest == Some(best) { Choice::Dimpl12 } else { Choice::Rtc(best) })
}

#[cfg(test)]
mod tests;
