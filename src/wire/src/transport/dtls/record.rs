//! DTLS records as far as they can be read without keys.
//!
//! ```text
//! DTLS 1.2, and 1.3 in the clear   type (1) | version (2) | epoch (2) | sequence (6) | length (2) | fragment
//! DTLS 1.3, encrypted              001..... | ...                                       (RFC 9147 section 4)
//! handshake fragment               type (1) | length (3) | sequence (2) | offset (3) | fragment length (3) | bytes
//! ```

use crate::drops::DropReason;

const HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
/// Longest handshake message: a certificate chain of 32 KB is far more than any client has.
const MAX_MESSAGE: usize = 32 * 1024;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;

/// A record with a header in the clear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Content type.
    pub(super) kind: u8,
    /// 0 until ChangeCipherSpec: not encrypted, not authenticated.
    pub(super) epoch: u16,
    pub(super) fragment: &'a [u8],
    /// Header and fragment.
    pub(super) bytes: &'a [u8],
}

/// The records of a datagram; ends at the first byte that begins no whole record with a header in the clear.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<HEADER>().filter(|header| (20..=26).contains(&header[0]))?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        // RFC 6347 section 4.1: versions are written in ones' complement.
        let whole = rest.get(..HEADER + length).filter(|_| header[1] == 0xFE)?;
        rest = &rest[HEADER + length..];
        let epoch = u16::from_be_bytes([header[3], header[4]]);
        Some(Record { kind: header[0], epoch, fragment: &whole[HEADER..], bytes: whole })
    })
}

/// A part of a handshake message in the clear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    /// Handshake type: 1 is ClientHello.
    pub(super) kind: u8,
    /// Length of the whole message.
    pub(super) length: usize,
    /// Number of the message.
    pub(super) sequence: u16,
    pub(super) offset: usize,
    pub(super) bytes: &'a [u8],
}

/// The handshake fragments of a record in the clear; `None` when one of them contradicts itself.
pub(super) fn fragments(mut rest: &[u8]) -> Option<Vec<Fragment<'_>>> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let header = rest.first_chunk::<HANDSHAKE_HEADER>()?;
        let (length, offset, len) = (u24(header, 1), u24(header, 6), u24(header, 9));
        let bytes = rest.get(HANDSHAKE_HEADER..HANDSHAKE_HEADER + len)?;
        if length > MAX_MESSAGE || offset + len > length || (len == 0) != (length == 0) {
            return None;
        }
        all.push(Fragment {
            kind: header[0],
            length,
            sequence: u16::from_be_bytes([header[4], header[5]]),
            offset,
            bytes,
        });
        rest = &rest[HANDSHAKE_HEADER + len..];
    }
    Some(all)
}

fn u24(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 16 | usize::from(bytes[at + 1]) << 8 | usize::from(bytes[at + 2])
}

/// The parts of a datagram that can be seen without keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Records, an encrypted one of DTLS 1.3 and all that follows it counted as one.
    pub(super) records: usize,
    /// Description of an alert in the clear.
    pub(super) alert: Option<u8>,
}

/// Refuses what is not DTLS.
pub(super) fn check(datagram: &[u8]) -> Result<Summary, DropReason> {
    let (mut summary, mut read) = (Summary::default(), 0);
    for record in records(datagram) {
        summary.records += 1;
        read += record.bytes.len();
        if record.kind == ALERT && record.epoch == 0 {
            summary.alert = Some(record.fragment.get(1).copied().unwrap_or_default());
        }
    }
    match datagram.get(read) {
        None if datagram.is_empty() => Err(DropReason::Empty),
        None => Ok(summary),
        Some(0x20..0x40) => Ok(Summary { records: summary.records + 1, ..summary }),
        Some(_) => Err(DropReason::Dtls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of this type and epoch.
    fn record(kind: u8, epoch: u8, fragment: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 7, 0, fragment.len() as u8];
        bytes.extend(fragment);
        bytes
    }

    #[test]
    fn only_whole_records_pass_and_alerts_in_the_clear_are_seen() {
        let handshake = record(HANDSHAKE, 0, &[1; 30]);
        let alert = record(ALERT, 0, &[2, 40]);
        let wrong_version = [&[22, 3, 3][..], &handshake[3..]].concat();
        let summary = |records, alert| Ok(Summary { records, alert });
        for (datagram, expected) in [
            (handshake.clone(), summary(1, None)),
            ([handshake.clone(), handshake.clone()].concat(), summary(2, None)),
            (vec![0x2F, 1, 2], summary(1, None)),
            ([&handshake[..], &[0x2F, 1, 2]].concat(), summary(2, None)),
            (record(ALERT, 1, &[0; 26]), summary(1, None)),
            (alert.clone(), summary(1, Some(40))),
            (record(ALERT, 0, &[]), summary(1, Some(0))),
            ([handshake.clone(), alert].concat(), summary(2, Some(40))),
            (handshake[..handshake.len() - 1].to_vec(), Err(DropReason::Dtls)),
            ([handshake, vec![22]].concat(), Err(DropReason::Dtls)),
            (wrong_version, Err(DropReason::Dtls)),
            (vec![0xFF; 64], Err(DropReason::Dtls)),
            (vec![], Err(DropReason::Empty)),
        ] {
            assert_eq!(check(&datagram), expected, "{datagram:02x?}");
        }
    }

    #[test]
    fn handshake_fragments_that_contradict_themselves_are_refused() {
        let fragment = |length: u8, offset: u8, len: u8, bytes: &[u8]| {
            let mut all = vec![11, 0, 0, length, 0, 3, 0, 0, offset, 0, 0, len];
            all.extend(bytes);
            all
        };
        let two = [fragment(2, 0, 2, b"ab"), fragment(0, 0, 0, b"")].concat();
        let parts: Vec<_> =
            fragments(&two).unwrap().iter().map(|f| (f.kind, f.sequence, f.offset, f.bytes.len())).collect();
        assert_eq!(parts, [(11, 3, 0, 2), (11, 3, 0, 0)]);
        for wrong in [
            fragment(2, 0, 3, b"abc"),
            fragment(4, 3, 2, b"ab"),
            fragment(4, 0, 4, b"abc"),
            fragment(4, 0, 0, b""),
            vec![11; 11],
            [&[11, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 2, 1, 2][..]].concat(),
        ] {
            assert!(fragments(&wrong).is_none(), "{wrong:02x?}");
        }
    }
}
