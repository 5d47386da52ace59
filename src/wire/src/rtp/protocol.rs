//! Which protocol a datagram is of, by its first two bytes (RFC 7983 section 7, RFC 5761 section 4).

use crate::drops::DropReason;

/// The first byte of a datagram between shards: of none of the protocols that RFC 7983 lists.
pub const LINK: u8 = 0xC1;

/// A protocol that shares the media port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 8489.
    Stun,
    /// RFC 9147.
    Dtls,
    /// RFC 3711, media.
    Rtp,
    /// RFC 3711, control.
    Rtcp,
    /// Between shards ([`crate::link`]).
    Link,
}

/// The protocol of a datagram. ZRTP and TURN channels, which RFC 7983 also lists, are not spoken here.
pub fn classify(datagram: &[u8]) -> Result<Protocol, DropReason> {
    match datagram.first() {
        None => Err(DropReason::Empty),
        Some(0..=3) => Ok(Protocol::Stun),
        Some(20..=63) => Ok(Protocol::Dtls),
        Some(128..=191) => match datagram.get(1) {
            None => Err(DropReason::RtpMalformed),
            Some(second) if is_rtcp(*second) => Ok(Protocol::Rtcp),
            Some(_) => Ok(Protocol::Rtp),
        },
        Some(&LINK) => Ok(Protocol::Link),
        Some(_) => Err(DropReason::UnknownProtocol),
    }
}

/// RFC 5761 section 4: RTCP packet types 192 to 223 are told from a marker bit with payload types 64 to 95, which no
/// session that multiplexes may use.
pub fn is_rtcp(second_byte: u8) -> bool {
    matches!(second_byte, 192..=223)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_bytes_tell_the_protocol() {
        for (bytes, expected) in [
            (&[][..], Err(DropReason::Empty)),
            (&[0, 1], Ok(Protocol::Stun)),
            (&[3], Ok(Protocol::Stun)),
            (&[4], Err(DropReason::UnknownProtocol)),
            (&[16], Err(DropReason::UnknownProtocol)),
            (&[20], Ok(Protocol::Dtls)),
            (&[63], Ok(Protocol::Dtls)),
            (&[64], Err(DropReason::UnknownProtocol)),
            (&[127], Err(DropReason::UnknownProtocol)),
            (&[128], Err(DropReason::RtpMalformed)),
            (&[128, 96], Ok(Protocol::Rtp)),
            (&[128, 0x80 | 96], Ok(Protocol::Rtp)),
            (&[128, 191], Ok(Protocol::Rtp)),
            (&[128, 192], Ok(Protocol::Rtcp)),
            (&[191, 200], Ok(Protocol::Rtcp)),
            (&[128, 223], Ok(Protocol::Rtcp)),
            (&[128, 224], Ok(Protocol::Rtp)),
            (&[192, 200], Err(DropReason::UnknownProtocol)),
            (&[193, 1], Ok(Protocol::Link)),
            (&[194, 1], Err(DropReason::UnknownProtocol)),
        ] {
            assert_eq!(classify(bytes), expected, "{bytes:?}");
        }
    }
}
