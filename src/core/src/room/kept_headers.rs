//! What left a forward without RTX, as far as the same packet could not be made again from the history: see `resends`.

use super::form::Form;
use moonring_wire::id::TrackKey;

/// Headers kept of one forward: more than a second of video, as long as the histories go.
const KEPT: usize = 512;
/// Longest header kept: 12 bytes, and the extensions that the server writes with the descriptor of three spatial layers with
/// three temporal ones.
const MAX_HEADER: usize = 160;

/// A packet as it left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Its SRTP index.
    pub(super) index: u64,
    pub(super) track: TrackKey,
    pub(super) layer: u8,
    /// Its number in the layer's history.
    pub(super) arrival: u64,
    pub(super) form: Form,
    pub(super) header_len: u8,
    pub(super) header: [u8; MAX_HEADER],
}

/// The headers of the packets that left a forward last, about 100 KiB. Only a forward without RTX has them.
#[derive(Debug)]
pub struct KeptHeaders(Box<[Option<Kept>]>);

impl Default for KeptHeaders {
    fn default() -> Self {
        Self(vec![None; KEPT].into())
    }
}

impl KeptHeaders {
    /// The newest packet that left with `sequence`.
    pub(super) fn find(&self, sequence: u16) -> Option<&Kept> {
        self.0[usize::from(sequence) % KEPT].as_ref().filter(|kept| kept.index as u16 == sequence)
    }
}

/// Where a packet that is being sealed is noted, and where it comes from.
#[derive(Debug)]
pub struct Keeping<'a> {
    /// The notes.
    pub headers: &'a mut KeptHeaders,
    /// The track it is of.
    pub track: TrackKey,
    /// The layer it is of.
    pub layer: u8,
    /// Its number in the layer's history.
    pub arrival: u64,
}

impl Keeping<'_> {
    /// Notes that a packet leaves with `header` under the SRTP index `index`. One whose header is too long is not sent
    /// again.
    pub(super) fn note(self, header: &[u8], index: u64, form: Form) {
        let Self { headers, track, layer, arrival } = self;
        let place = &mut headers.0[usize::from(index as u16) % KEPT];
        *place = None;
        if header.len() > MAX_HEADER {
            return;
        }
        let kept = place.insert(Kept {
            index,
            track,
            layer,
            arrival,
            form,
            header_len: header.len() as u8,
            header: [0; MAX_HEADER],
        });
        kept.header[..header.len()].copy_from_slice(header);
    }
}
