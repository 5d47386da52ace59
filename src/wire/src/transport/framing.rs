//! Datagrams in a stream: each behind its length in two bytes (RFC 4571 section 2). ICE over TCP frames STUN, DTLS and SRTP
//! alike (RFC 6544 section 3).

use std::ops::Range;

/// Bytes before each datagram.
pub const LENGTH_BYTES: usize = 2;

/// A stream that cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {len} bytes, {longest} are allowed")]
pub struct TooLong {
    /// What the frame says of itself.
    pub len: usize,
    /// The bound.
    pub longest: usize,
}

/// Where in `bytes` the datagram lies whose frame begins at `at`; the next frame begins at its end. `None`: not all of it has
/// come. The length is looked at first, so that nobody waits for a frame that would not be taken.
pub fn frame_at(bytes: &[u8], at: usize, longest: usize) -> Result<Option<Range<usize>>, TooLong> {
    let Some([high, low]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<LENGTH_BYTES>()) else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len > longest {
        return Err(TooLong { len, longest });
    }
    let start = at + LENGTH_BYTES;
    Ok((start + len <= bytes.len()).then_some(start..start + len))
}

/// Appends a datagram as a frame; false, and nothing is appended, when it is longer than a frame can be.
pub fn append(out: &mut Vec<u8>, datagram: &[u8]) -> bool {
    let Ok(len) = u16::try_from(datagram.len()) else { return false };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(datagram);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_once_all_of_it_is_there() {
        let bytes = [0, 3, 7, 8, 9, 0, 0, 0, 2, 1];
        for (have, at, expected) in [
            (0, 0, None),
            (1, 0, None),
            (4, 0, None),
            (5, 0, Some(2..5)),
            (6, 5, None),
            (7, 5, Some(7..7)),
            (10, 7, None),
            (10, 10, None),
            (10, 99, None),
        ] {
            assert_eq!(frame_at(&bytes[..have], at, 1_500), Ok(expected), "{have} bytes from {at} on");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_length_alone() {
        assert_eq!(frame_at(&[0x08, 0x01], 0, 2_048), Err(TooLong { len: 2_049, longest: 2_048 }));
        assert_eq!(frame_at(&[0x08, 0x00], 0, 2_048), Ok(None));
    }

    #[test]
    fn a_datagram_that_is_longer_than_a_frame_can_be_is_not_appended() {
        let mut out = vec![1];
        assert!(!append(&mut out, &[0; 65_536]));
        assert_eq!(out, [1]);
        assert!(append(&mut out, &[0; 65_535]));
        assert_eq!(out.len(), 1 + 2 + 65_535);
    }

    #[test]
    fn what_is_appended_is_found_however_the_stream_is_cut() {
        let datagrams: Vec<Vec<u8>> = (0..40).map(|n| vec![n; usize::from(n) * 37 % 300]).collect();
        let mut stream = Vec::new();
        assert!(datagrams.iter().all(|datagram| append(&mut stream, datagram)));
        for cut in 1..400 {
            let (mut bytes, mut found) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                bytes.extend_from_slice(piece);
                let mut at = 0;
                while let Some(frame) = frame_at(&bytes, at, 300).unwrap() {
                    at = frame.end;
                    found.push(bytes[frame].to_vec());
                }
                bytes.drain(..at);
            }
            assert!(found == datagrams && bytes.is_empty(), "cut every {cut} bytes");
        }
    }
}
