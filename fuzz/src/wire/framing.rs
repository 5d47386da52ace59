//! The stream of a connection for media.

use moonring_wire::transport::framing::{append, frame_at};

use super::joined;

const LONGEST: usize = 300;

/// A stream that comes in two pieces, cut where its first byte says, has the same frames as one that comes whole; what they
/// hold is framed again to the same bytes.
pub(super) fn framing(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let (whole, end, is_broken) = frames(stream);
    let (mut pieces, mut kept) = (Vec::new(), Vec::new());
    for piece in [&stream[..usize::from(*cut).min(stream.len())], &stream[usize::from(*cut).min(stream.len())..]] {
        kept.extend_from_slice(piece);
        let (found, end, is_broken) = frames(&kept);
        pieces.extend(found);
        kept.drain(..end);
        if is_broken {
            break;
        }
    }
    assert_eq!(pieces, whole);
    assert!(is_broken || kept == stream[end..]);
    let mut again = Vec::new();
    assert!(whole.iter().all(|datagram| datagram.len() <= LONGEST && append(&mut again, datagram)));
    assert_eq!(again, stream[..end]);
}

/// The frames that are whole, where the rest begins, and whether it cannot be followed.
fn frames(stream: &[u8]) -> (Vec<Vec<u8>>, usize, bool) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        match frame_at(stream, at, LONGEST) {
            Ok(Some(frame)) => {
                at = frame.end;
                found.push(stream[frame].to_vec());
            }
            Ok(None) => return (found, at, false),
            Err(_) => return (found, at, true),
        }
    }
}

pub(super) fn framing_seeds() -> Vec<Vec<u8>> {
    let stream = joined([&[1; 20][..], &[], &[2; 300], &[3; 7]]);
    [0, 1, 30, 200].map(|cut| [&[cut], &stream[..]].concat()).to_vec()
}
