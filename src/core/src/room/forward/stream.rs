//! The stream that a client knows a forward by, and its packets.

use serde::{Deserialize, Serialize};

use crate::room::form::Redundancy;
use crate::room::pictures::PictureShift;
use moonring_policy::hook::DEFAULT_PRIORITY;
use moonring_wire::id::{Pt, Ssrc};
use moonring_wire::media::{Extension, ExtensionIds};

/// The highest layers that somebody allows; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerLimits {
    /// What the client asked for.
    pub client: Option<u8>,
    /// What the policy allows.
    pub policy: Terms,
    /// What is enough for the size at which the client shows it.
    pub view: Option<u8>,
}

impl LayerLimits {
    /// The highest layer that all of them allow; the highest number where there is no limit.
    pub fn highest(&self) -> u8 {
        [self.client, self.policy.max_layer, self.view].into_iter().flatten().fold(u8::MAX, u8::min)
    }
}

/// What the policy says of a track to a client that may receive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The highest layer that it may have; `None` is no limit.
    pub max_layer: Option<u8>,
    /// Of what does not all fit, tracks of a higher one are served first.
    pub priority: u8,
}

impl Default for Terms {
    fn default() -> Self {
        Self { max_layer: None, priority: DEFAULT_PRIORITY }
    }
}

/// Retransmissions of one forward (RFC 4588): a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rtx {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The client's payload type for it.
    pub pt: Pt,
    /// Its next extended sequence number.
    pub next_index: u64,
}

/// What a packet leaves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The client's extended sequence number: the SRTP index.
    pub index: u64,
    /// The client's time stamp.
    pub timestamp: u32,
    /// Change of the payload's picture numbers.
    pub pictures: PictureShift,
    /// The marker bit.
    pub marker: bool,
    /// What becomes of the packets of the past in it.
    pub redundancy: Redundancy,
    /// It leaves without its payload: a layer that the client does not get, whose number was free.
    pub is_filler: bool,
}

/// The stream that a client knows a forward by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingStream {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The client's payload type.
    pub pt: Pt,
    /// The client's ids of header extensions in its section.
    pub ids: ExtensionIds,
    /// Retransmissions, when negotiated.
    pub rtx: Option<Rtx>,
    /// Whether the client takes feedback by transport-wide sequence numbers.
    pub numbered: bool,
    /// Whether the client was answered that it may ask for packets again (NACK).
    pub nack: bool,
    /// The client's payload type for sound with packets of the past in it.
    pub red: Option<Pt>,
}

impl OutgoingStream {
    /// A stream without anything that may be negotiated.
    pub fn new(ssrc: Ssrc, pt: Pt) -> Self {
        Self { ssrc, pt, ids: ExtensionIds::default(), rtx: None, numbered: false, nack: false, red: None }
    }

    /// Whether its packets carry transport-wide sequence numbers.
    pub fn is_numbered(&self) -> bool {
        self.numbered && self.ids.get(Extension::TransportSequence).is_some()
    }
}

/// Which of a client's forwards an SSRC is of. Reports, NACKs and estimates name dozens of streams, and to look for each in all
/// forwards would read all of these, which are long.
#[derive(Debug, Default)]
pub struct OutgoingSsrcs {
    /// Of each forward by its place, media and retransmissions; 0, which nobody is given, for none.
    by_place: Vec<[Ssrc; 2]>,
}

impl OutgoingSsrcs {
    /// The forward at `place` is known by those of `stream` from now on; `None`: there is none.
    pub fn set(&mut self, place: u16, stream: Option<&OutgoingStream>) {
        let place = usize::from(place);
        if self.by_place.len() <= place {
            self.by_place.resize(place + 1, [Ssrc(0); 2]);
        }
        let rtx = stream.and_then(|stream| stream.rtx).map_or(Ssrc(0), |rtx| rtx.ssrc);
        self.by_place[place] = [stream.map_or(Ssrc(0), |stream| stream.ssrc), rtx];
    }

    /// The place of the forward whose SSRC, or whose retransmissions' SSRC, is `ssrc`.
    pub fn place_of(&self, ssrc: Ssrc) -> Option<u16> {
        let is_it = |ssrcs: &[Ssrc; 2]| ssrcs.contains(&ssrc) && ssrc != Ssrc(0);
        self.by_place.iter().position(is_it).map(|place| place as u16)
    }
}

/// What a forward has sent, for sender reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentCounts {
    /// Packets forwarded.
    pub packets: u32,
    /// Payload bytes forwarded.
    pub octets: u32,
    /// Packets that were overwritten before they could be forwarded: overload.
    pub skipped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_found_by_either_of_its_ssrcs_while_it_is_there() {
        let stream = |ssrc: u32, rtx: Option<u32>| OutgoingStream {
            rtx: rtx.map(|ssrc| Rtx { ssrc: Ssrc(ssrc), pt: Pt(97), next_index: 0 }),
            ..OutgoingStream::new(Ssrc(ssrc), Pt(96))
        };
        let mut ssrcs = OutgoingSsrcs::default();
        ssrcs.set(2, Some(&stream(10, Some(11))));
        ssrcs.set(0, Some(&stream(20, None)));
        let places = |ssrcs: &OutgoingSsrcs| [0, 10, 11, 20, 21].map(|ssrc| ssrcs.place_of(Ssrc(ssrc)));
        assert_eq!(places(&ssrcs), [None, Some(2), Some(2), Some(0), None]);
        ssrcs.set(2, None);
        assert_eq!(places(&ssrcs), [None, None, None, Some(0), None]);
    }
}
