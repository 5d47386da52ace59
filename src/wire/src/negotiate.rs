//! Offer and answer as types: what [`crate::sdp`] reads from and writes as text, and what a room decides on.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::{Mid, Pt, Rid, Ssrc};
use crate::media::{Codec, Extension, Kind, TrackInfo};

mod fingerprint;

pub use fingerprint::{Fingerprint, MalformedFingerprint};

/// Most media sections in one offer.
pub const MAX_SECTIONS: usize = 256;

/// `a=ice-ufrag` and `a=ice-pwd` (RFC 8839 section 5.4).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IceCredentials {
    /// 4 to 256 characters.
    pub ufrag: String,
    /// 22 to 256 characters; not shown in logs.
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({})", self.ufrag)
    }
}

/// `a=setup` (RFC 8842 section 5.2): who sends the DTLS ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setup {
    /// This side does.
    Active,
    /// The other side does.
    Passive,
    /// Either (offers only).
    ActPass,
}

/// `a=sendrecv` and its kin, as seen by whoever wrote the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// The writer sends.
    SendOnly,
    /// The writer receives.
    RecvOnly,
    /// Nothing flows.
    Inactive,
}

impl Direction {
    /// True when the writer wants to send.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }
    /// True when the writer wants to receive.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// What a media section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// `m=audio` or `m=video`.
    Media(Kind),
    /// `m=application` and whatever else there may be: always refused.
    Other,
}

/// What the answer to a refused section repeats of the offer's `m=` line (RFC 3264 section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaLine {
    /// `audio`, `video`, `application`, `text` or any other word.
    pub media: String,
    /// `UDP/TLS/RTP/SAVPF` for media.
    pub protocol: String,
    /// Payload types, for media. A section with port 0 may have none.
    pub formats: Vec<String>,
}

/// The `a=rtcp-fb` lines of one payload type that the forwarder has a use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// `nack`.
    pub nack: bool,
    /// `nack pli`.
    pub pli: bool,
    /// `ccm fir`.
    pub fir: bool,
    /// `goog-remb`.
    pub remb: bool,
    /// `transport-cc`.
    pub transport_cc: bool,
}

/// One payload type that an offer lists, with the payload type of its retransmissions (RFC 4588), if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedCodec {
    /// The offer's payload type.
    pub pt: Pt,
    /// What it stands for.
    pub codec: Codec,
    /// The payload type whose `apt` is `pt`.
    pub rtx: Option<Pt>,
    /// The feedback its sender or receiver can do.
    pub feedback: Feedback,
}

/// One stream of `a=simulcast` (RFC 8853 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulcastLayer {
    /// Its name.
    pub rid: Rid,
    /// `~`: nothing is sent of it for now.
    pub is_paused: bool,
}

/// One media section of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferSection {
    /// `a=mid`, or a name made for a section without one.
    pub mid: Mid,
    /// False where `mid` is not the offer's: the answer does not show it then.
    pub has_mid: bool,
    /// What it is for.
    pub kind: SectionKind,
    /// Port 0, and not a part of the bundle: the client has given it up.
    pub stopped: bool,
    /// It would need a transport of its own, beside the one that the offer's other sections share: refused.
    pub unbundled: bool,
    /// The ICE credentials that it names.
    pub ice: Option<IceCredentials>,
    /// As the client sees it.
    pub direction: Direction,
    /// Known codecs in the offer's order of preference; unknown ones and FEC are left out, RED is another
    /// Opus ([`Codec::is_red`]).
    pub codecs: Vec<OfferedCodec>,
    /// Known header extensions with the offer's ids.
    pub extensions: Vec<(u8, Extension)>,
    /// Media SSRC and its RTX SSRC (`a=ssrc-group:FID`), in order. Empty when not announced (simulcast with rids).
    pub ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
    /// `ssrcs` are the simulcast layers of an `a=ssrc-group:SIM`, in its order; else only the first one is used.
    pub ssrcs_are_layers: bool,
    /// `a=simulcast:send` layers in the offer's order, which is the order of `a=rid` lines. Empty without simulcast.
    pub rids: Vec<SimulcastLayer>,
    /// The `m=` line, repeated when the section is refused.
    pub line: MediaLine,
}

impl OfferSection {
    /// How many simulcast layers are announced; 1 without simulcast.
    pub fn layers(&self) -> usize {
        let ssrcs = if self.ssrcs_are_layers { self.ssrcs.len() } else { 1 };
        if self.rids.is_empty() { ssrcs.max(1) } else { self.rids.len() }
    }

    /// The mid that the answer shows.
    pub fn shown_mid(&self) -> Option<Mid> {
        self.has_mid.then(|| self.mid.clone())
    }
}

/// What a client offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The client's ICE credentials (a change of ufrag is an ICE restart).
    pub ice: IceCredentials,
    /// The client's certificate; every SHA-256 fingerprint of the bundle is the same.
    pub fingerprint: Fingerprint,
    /// The client's DTLS role.
    pub setup: Setup,
    /// In the offer's order.
    pub sections: Vec<OfferSection>,
}

impl Offer {
    /// The client's ICE credentials when those sections are refused that are not `accepted`: the transport is that of the first
    /// one that is left (RFC 8843 section 7.3.2).
    pub fn ice_of(&self, accepted: impl Fn(&OfferSection) -> bool) -> &IceCredentials {
        let left = || self.sections.iter().filter(|section| accepted(section));
        let is_kept = left().any(|section| section.ice.as_ref() == Some(&self.ice));
        left().find_map(|section| section.ice.as_ref()).filter(|_| !is_kept).unwrap_or(&self.ice)
    }
}

/// What a section of an answer says of one codec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerCodec {
    /// The client's payload type.
    pub pt: Pt,
    /// What it stands for.
    pub codec: Codec,
    /// The client's payload type for retransmissions.
    pub rtx: Option<Pt>,
    /// The feedback both sides do.
    pub feedback: Feedback,
}

/// The stream that the server sends in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerStream {
    /// The forward's SSRC.
    pub ssrc: Ssrc,
    /// Its retransmissions' SSRC.
    pub rtx_ssrc: Option<Ssrc>,
    /// `a=msid` stream id: tracks of one publisher share it, so that lips and voice stay together.
    pub stream_id: String,
    /// `a=msid` track id.
    pub track_id: String,
    /// RTCP CNAME: the same for all tracks of one publisher.
    pub cname: String,
}

/// One media section of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerSection {
    /// Refused: port 0.
    Refused {
        /// The offer's mid, where it has one.
        mid: Option<Mid>,
        /// The offer's `m=` line.
        line: MediaLine,
    },
    /// Taken.
    Accepted {
        /// The offer's mid, where it has one.
        mid: Option<Mid>,
        /// Sound or pictures.
        kind: Kind,
        /// The `<proto>` of the offer's `m=` line, as it stands there (RFC 8829 section 5.3.1).
        protocol: String,
        /// As the server sees it.
        direction: Direction,
        /// Every codec that both sides know, in the order of the offer.
        codecs: Vec<AnswerCodec>,
        /// The header extensions both sides use, with the client's ids.
        extensions: Vec<(u8, Extension)>,
        /// The layers that the server wants to receive, in the offer's order.
        rids: Vec<SimulcastLayer>,
        /// What the server sends, when it sends.
        stream: Option<AnswerStream>,
        /// `b=TIAS` for the client's sending, in bit/s, which holds until another answer.
        max_bitrate_bps: Option<u64>,
    },
}

impl AnswerSection {
    /// The offer's mid, where it has one.
    pub fn mid(&self) -> Option<&Mid> {
        let (Self::Refused { mid, .. } | Self::Accepted { mid, .. }) = self;
        mid.as_ref()
    }
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Session version: counts up with every answer to one client.
    pub version: u64,
    /// The server's ICE credentials for this client.
    pub ice: IceCredentials,
    /// The server's certificate.
    pub fingerprint: Fingerprint,
    /// The server's DTLS role, never `ActPass`.
    pub setup: Setup,
    /// The shard's addresses, as announced.
    pub candidates: Vec<SocketAddr>,
    /// Clients may connect to these by TCP, too (RFC 6544).
    pub over_tcp: bool,
    /// As many as the offer has, in its order.
    pub sections: Vec<AnswerSection>,
}

/// Numbers an offer, so that its answer is told from others; chosen by the client.
pub type RequestId = u64;

/// How one section's intent came out.
#[derive(Clone, Debug, PartialEq)]
pub struct SectionOutcome {
    /// Which section.
    pub mid: Mid,
    /// The track published or received there; `None` when it was refused.
    pub track: Option<TrackInfo>,
    /// Why it was refused, in words for the user.
    pub reason: Option<String>,
}
