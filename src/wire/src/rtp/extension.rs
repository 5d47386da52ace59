//! The values of header extensions, to and from bytes.

use std::time::Duration;

/// Longest text of a mid or rid extension that is looked at.
const MAX_TEXT: usize = crate::id::MAX_ID_LEN;

/// `abs-send-time`: seconds since any epoch, 6.18 bits fixed point, which wraps every 64 seconds.
pub fn abs_send_time(since_epoch: Duration) -> [u8; 3] {
    let nanos = (since_epoch.as_secs() % 64) * 1_000_000_000 + u64::from(since_epoch.subsec_nanos());
    let fixed = (nanos << 18) / 1_000_000_000;
    let [_, bytes @ ..] = (fixed as u32).to_be_bytes();
    bytes
}

/// The time of an `abs-send-time`, from 0 to 64 seconds.
pub fn parse_abs_send_time(value: &[u8]) -> Option<Duration> {
    let [a, b, c] = *<&[u8; 3]>::try_from(value).ok()?;
    let fixed = u64::from(u32::from_be_bytes([0, a, b, c]));
    Some(Duration::from_nanos((fixed * 1_000_000_000) >> 18))
}

/// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).
pub fn transport_sequence(sequence: u16) -> [u8; 2] {
    sequence.to_be_bytes()
}

/// The number of a transport-wide sequence number element.
pub fn parse_transport_sequence(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

/// Header extension values that are passed on as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptExtensions {
    /// RFC 6464.
    pub audio_level: Option<u8>,
    /// 3GPP TS 26.114.
    pub orientation: Option<u8>,
    /// Playout delay.
    pub playout_delay: Option<[u8; 3]>,
}

/// How loud a packet of sound is (RFC 6464 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// 0 (the loudest) to 127 (silence), in -dBov.
    pub level: u8,
    /// The sender believes that there is a voice in it.
    pub voice: bool,
}

impl AudioLevel {
    /// Reads an element. RFC 6464 section 3 lets the two-byte form pad it, so that a longer value is fine.
    pub fn parse(value: &[u8]) -> Option<Self> {
        value.first().map(|byte| Self { level: byte & 0x7F, voice: byte & 0x80 != 0 })
    }

    /// The element's byte.
    pub fn encode(self) -> [u8; 1] {
        [u8::from(self.voice) << 7 | self.level.min(127)]
    }
}

/// The text of a mid, rid or repaired rid element (RFC 8843, RFC 8852): not empty, at most 64 bytes of printable ASCII.
pub fn parse_text(value: &[u8]) -> Option<&str> {
    let printable = !value.is_empty() && value.len() <= MAX_TEXT && value.iter().all(u8::is_ascii_graphic);
    printable.then(|| std::str::from_utf8(value).ok()).flatten()
}

/// The byte of a video orientation element (3GPP TS 26.114 section 7.4.5), which is passed on as it is.
pub fn parse_video_orientation(value: &[u8]) -> Option<u8> {
    value.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abs_send_time_is_seconds_with_18_bits_of_fraction_and_wraps_after_64() {
        for (time, expected) in [
            (Duration::ZERO, 0),
            (Duration::from_secs(1), 1 << 18),
            (Duration::from_millis(1500), 3 << 17),
            (Duration::from_secs(64), 0),
            (Duration::from_nanos(63_999_999_999), 0xFF_FFFF),
        ] {
            let [a, b, c] = abs_send_time(time);
            assert_eq!(u32::from_be_bytes([0, a, b, c]), expected, "{time:?}");
        }
        assert_eq!(parse_abs_send_time(&[0x04, 0, 0]), Some(Duration::from_secs(1)));
        assert_eq!(parse_abs_send_time(&[0x06, 0, 0]), Some(Duration::from_millis(1500)));
        assert_eq!(parse_abs_send_time(&[0, 0]), None);
    }

    #[test]
    fn audio_levels_are_what_another_implementation_writes() {
        use webrtc_util::marshal::Marshal;
        for (level, voice) in [(0, false), (0, true), (42, true), (127, false)] {
            let theirs = rtp::extension::audio_level_extension::AudioLevelExtension { level, voice }.marshal().unwrap();
            assert_eq!(AudioLevel { level, voice }.encode(), theirs[..]);
            assert_eq!(AudioLevel::parse(&theirs), Some(AudioLevel { level, voice }));
        }
        assert_eq!(AudioLevel::parse(&[]), None);
    }

    #[test]
    fn a_transport_sequence_number_is_two_bytes() {
        assert_eq!(transport_sequence(0x1234), [0x12, 0x34]);
        assert_eq!(parse_transport_sequence(&[0x12, 0x34]), Some(0x1234));
        assert_eq!(parse_transport_sequence(&[0x12]), None);
        assert_eq!(parse_transport_sequence(&[0x12, 0x34, 0]), None);
    }

    #[test]
    fn a_text_is_printable_and_short() {
        for (value, expected) in [
            (&b"hi"[..], Some("hi")),
            (b"", None),
            (b"a\0", None),
            (b"\xC3\xA4", None),
            (&[b'x'; 64], Some("x".repeat(64).as_str())),
            (&[b'x'; 65], None),
        ] {
            assert_eq!(parse_text(value), expected);
        }
    }
}
