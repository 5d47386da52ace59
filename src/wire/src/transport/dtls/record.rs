//! What can be told of DTLS records without keys.
//!
//! ```text
//! DTLS 1.2, and 1.3 in the clear   type (1) | version (2) | epoch (2) | sequence (6) | length (2) | fragment
//! DTLS 1.3, encrypted              001..... | ...                                       (RFC 9147 section 4)
//! ```

use crate::drops::DropReason;

const HEADER: usize = 13;
const ALERT: u8 = 21;

/// Keeps out what is no DTLS, and alerts in the clear: anybody who can guess the ports could end a handshake with
/// one (RFC 6347 section 4.1.2.7 lets invalid records be discarded silently). A true one costs a timeout.
pub(super) fn check(datagram: &[u8], connected: bool) -> Result<(), DropReason> {
    let mut rest = datagram;
    while let Some(first) = rest.first() {
        if (0x20..0x40).contains(first) {
            return Ok(());
        }
        let header = rest.first_chunk::<HEADER>().filter(|_| (20..=26).contains(first)).ok_or(DropReason::Dtls)?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let in_the_clear = header[3..5] == [0, 0];
        // RFC 6347 section 4.1: versions are written in ones' complement.
        if header[1] != 0xFE || (*first == ALERT && in_the_clear && !connected) {
            return Err(DropReason::Dtls);
        }
        rest = rest.get(HEADER + length..).ok_or(DropReason::Dtls)?;
    }
    (!datagram.is_empty()).then_some(()).ok_or(DropReason::Empty)
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
    fn only_whole_records_pass_and_no_alert_in_the_clear() {
        let handshake = record(22, 0, &[1; 30]);
        let alert = record(ALERT, 0, &[2, 40]);
        let wrong_version = [&[22, 3, 3][..], &handshake[3..]].concat();
        for (datagram, connected, expected) in [
            (handshake.clone(), false, Ok(())),
            ([handshake.clone(), handshake.clone()].concat(), false, Ok(())),
            (vec![0x2F, 1, 2], false, Ok(())),
            (record(ALERT, 1, &[0; 26]), false, Ok(())),
            (alert.clone(), true, Ok(())),
            (alert.clone(), false, Err(DropReason::Dtls)),
            ([handshake.clone(), alert].concat(), false, Err(DropReason::Dtls)),
            (handshake[..handshake.len() - 1].to_vec(), false, Err(DropReason::Dtls)),
            ([handshake, vec![22]].concat(), false, Err(DropReason::Dtls)),
            (wrong_version, false, Err(DropReason::Dtls)),
            (vec![0xFF; 64], false, Err(DropReason::Dtls)),
            (vec![], false, Err(DropReason::Empty)),
        ] {
            assert_eq!(check(&datagram, connected), expected, "{datagram:02x?}");
        }
    }
}
