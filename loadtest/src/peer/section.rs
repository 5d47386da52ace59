//! The media sections of a peer: what it offers, and what the answer made of it.

use moonring_wire::id::{Mid, Pt, Ssrc};
use moonring_wire::media::{Codec, CodecName, Extension, ExtensionIds, Kind};
use moonring_wire::negotiate::{
    Answer, AnswerSection, Direction, Feedback, Fingerprint, IceCredentials, MediaLine, Offer, OfferSection,
    OfferedCodec, SectionKind, Setup,
};
use moonring_wire::transport::dtls::DtlsRole;
use rand::Rng;
use rand::rngs::SmallRng;

use super::send::{SendTrack, TrackCounts, Wire};

/// The protocol of all media sections (RFC 8834 section 4.2).
const PROTOCOL: &str = "UDP/TLS/RTP/SAVPF";
/// The ids that Chrome gives to its header extensions.
const AUDIO_LEVEL_ID: u8 = 1;
const ABS_SEND_TIME_ID: u8 = 2;
const MID_ID: u8 = 4;
pub(super) const TRANSPORT_SEQUENCE_ID: u8 = 3;

/// Why an answer cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The text is no answer.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// It has other sections than the offer.
    #[error("the answer's sections are not the offer's: {0}")]
    OtherSections(String),
    /// It names no address of the server.
    #[error("the answer has no candidates")]
    NoCandidates,
    /// `a=setup:actpass` is for offers.
    #[error("the answer leaves the DTLS role open")]
    NoRole,
}

/// This peer's role, when the answer has that one.
pub(super) fn dtls_role(setup: Setup) -> Result<DtlsRole, AnswerError> {
    match setup {
        Setup::Active => Ok(DtlsRole::Server),
        Setup::Passive => Ok(DtlsRole::Client),
        Setup::ActPass => Err(AnswerError::NoRole),
    }
}

/// A payload type of ours.
struct Format {
    codec: CodecName,
    pt: Pt,
    rtx: Option<Pt>,
    fmtp: &'static str,
}

const FORMATS: [Format; 5] = [
    Format { codec: CodecName::Opus, pt: Pt(111), rtx: None, fmtp: "minptime=10;useinbandfec=1" },
    Format { codec: CodecName::Vp8, pt: Pt(96), rtx: Some(Pt(97)), fmtp: "" },
    Format { codec: CodecName::Vp9, pt: Pt(98), rtx: Some(Pt(99)), fmtp: "profile-id=0" },
    Format {
        codec: CodecName::H264,
        pt: Pt(102),
        rtx: Some(Pt(103)),
        fmtp: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    },
    Format { codec: CodecName::Av1, pt: Pt(45), rtx: Some(Pt(46)), fmtp: "level-idx=5;profile=0;tier=0" },
];

/// The codec of a payload type, and whether it is one of retransmissions.
pub(super) fn codec_of(pt: Pt) -> Option<(CodecName, bool)> {
    let format = FORMATS.iter().find(|f| f.pt == pt || f.rtx == Some(pt))?;
    Some((format.codec, format.pt != pt))
}

/// All sections, in the order of their mids.
pub(super) struct Sections {
    sections: Vec<Section>,
    /// What feedback is sent from when nothing is published.
    own_ssrc: Ssrc,
    cname: String,
}

/// One section.
pub(super) struct Section {
    mid: Mid,
    format: &'static Format,
    stopped: bool,
    role: Role,
}

enum Role {
    /// Its layers, from the lowest to the highest; one without simulcast.
    Sends(Vec<Layer>),
    /// The server's SSRCs: of media, and of retransmissions.
    Receives(Option<(Ssrc, Option<Ssrc>)>),
}

/// What is sent from one SSRC.
struct Layer {
    ssrc: Ssrc,
    rtx_ssrc: Option<Ssrc>,
    track: SendTrack,
}

impl Sections {
    pub(super) fn new(rng: &mut SmallRng) -> Self {
        let own_ssrc = Ssrc(rng.random_range(1..u32::MAX));
        Self { sections: Vec::new(), own_ssrc, cname: format!("load{:08x}", rng.random::<u32>()) }
    }

    pub(super) fn publish(
        &mut self,
        (codec, layers): (CodecName, u8),
        resend_packets: usize,
        rng: &mut SmallRng,
    ) -> Mid {
        let format = format_of(codec);
        let layer = |_| Layer {
            ssrc: Ssrc(rng.random_range(1..u32::MAX)),
            rtx_ssrc: format.rtx.map(|_| Ssrc(rng.random_range(1..u32::MAX))),
            track: SendTrack::new(codec.clock_rate(), resend_packets, rng),
        };
        let layers = (0..layers.max(1)).map(layer).collect();
        self.add(format, Role::Sends(layers))
    }

    pub(super) fn receive(&mut self, codec: CodecName) -> Mid {
        self.add(format_of(codec), Role::Receives(None))
    }

    fn add(&mut self, format: &'static Format, role: Role) -> Mid {
        let mid = Mid::parse(&self.sections.len().to_string()).expect("a number is an id");
        self.sections.push(Section { mid: mid.clone(), format, stopped: false, role });
        mid
    }

    pub(super) fn stop(&mut self, mid: &Mid) {
        if let Some(section) = self.get_mut(mid) {
            section.stopped = true;
            section.tracks().for_each(|track| track.set_wire(None));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Section> {
        self.sections.iter_mut()
    }

    pub(super) fn get(&self, mid: &Mid) -> Option<&Section> {
        self.sections.iter().find(|section| section.mid == *mid)
    }

    pub(super) fn get_mut(&mut self, mid: &Mid) -> Option<&mut Section> {
        self.sections.iter_mut().find(|section| section.mid == *mid)
    }

    /// The section that sends from an SSRC, and its layer there.
    pub(super) fn sending(&mut self, ssrc: Ssrc) -> Option<(&mut Section, u8)> {
        self.sections.iter_mut().find_map(|section| section.layer_of(ssrc).map(|layer| (section, layer)))
    }

    pub(super) fn cname(&self) -> &str {
        &self.cname
    }

    /// What reports come from.
    pub(super) fn reporter(&self) -> Ssrc {
        self.sections.iter().flat_map(Section::layers).next().map_or(self.own_ssrc, |layer| layer.ssrc)
    }

    /// Of a received SSRC: its codec, and the media SSRC when it is one of retransmissions.
    pub(super) fn announced(&self, ssrc: Ssrc) -> Option<(CodecName, Option<Ssrc>)> {
        self.sections.iter().find_map(|section| match section.role {
            Role::Receives(Some((media, _))) if media == ssrc => Some((section.format.codec, None)),
            Role::Receives(Some((media, Some(rtx)))) if rtx == ssrc => Some((section.format.codec, Some(media))),
            _ => None,
        })
    }

    pub(super) fn offer(&self, ice: IceCredentials, fingerprint: Fingerprint, transport_feedback: bool) -> Offer {
        let sections = self.sections.iter().map(|section| section.offer(transport_feedback)).collect();
        Offer { ice, fingerprint, setup: Setup::ActPass, sections }
    }

    /// Takes what the answer says of each section.
    pub(super) fn accept(&mut self, answer: &Answer) -> Result<(), AnswerError> {
        let (ours, theirs) = (self.sections.len(), answer.sections.len());
        // A section that was added after the offer waits for the next one.
        if theirs > ours {
            return Err(AnswerError::OtherSections(format!("{theirs} instead of {ours}")));
        }
        for (section, answered) in self.sections.iter_mut().zip(&answer.sections) {
            if answered.mid() != Some(&section.mid) {
                let mid = answered.mid().map_or("none", Mid::as_str);
                return Err(AnswerError::OtherSections(format!("mid {mid} instead of {}", section.mid)));
            }
            section.accept(answered);
        }
        Ok(())
    }
}

impl Section {
    pub(super) fn mid(&self) -> &Mid {
        &self.mid
    }

    fn layers(&self) -> &[Layer] {
        match &self.role {
            Role::Sends(layers) => layers,
            Role::Receives(_) => &[],
        }
    }

    fn layers_mut(&mut self) -> &mut [Layer] {
        match &mut self.role {
            Role::Sends(layers) => layers,
            Role::Receives(_) => &mut [],
        }
    }

    /// The tracks of its layers, of a section that sends.
    pub(super) fn tracks(&mut self) -> impl Iterator<Item = &mut SendTrack> {
        self.layers_mut().iter_mut().map(|layer| &mut layer.track)
    }

    /// The track of a layer.
    pub(super) fn layer(&mut self, layer: u8) -> Option<&mut SendTrack> {
        self.layers_mut().get_mut(usize::from(layer)).map(|layer| &mut layer.track)
    }

    /// The layer that is sent from an SSRC.
    pub(super) fn layer_of(&self, ssrc: Ssrc) -> Option<u8> {
        self.layers().iter().position(|layer| layer.ssrc == ssrc).map(|layer| layer as u8)
    }

    /// Of a section that sends: what went out in all its layers.
    pub(super) fn track_counts(&self) -> Option<TrackCounts> {
        let layers = Some(self.layers()).filter(|layers| !layers.is_empty())?;
        Some(layers.iter().map(|layer| layer.track.counts()).sum())
    }

    fn offer(&self, transport_feedback: bool) -> OfferSection {
        let Format { codec, pt, rtx, fmtp } = *self.format;
        let is_video = codec.kind() == Kind::Video;
        // Nothing that is sent carries transport-wide numbers: what is published is never held back.
        let transport_cc = transport_feedback && matches!(self.role, Role::Receives(_));
        let feedback = Feedback { nack: is_video, pli: is_video, fir: is_video, remb: is_video, transport_cc };
        let (direction, ssrcs) = match self.role {
            _ if self.stopped => (Direction::Inactive, Vec::new()),
            Role::Sends(ref layers) => {
                (Direction::SendOnly, layers.iter().map(|layer| (layer.ssrc, layer.rtx_ssrc)).collect())
            }
            Role::Receives(_) => (Direction::RecvOnly, Vec::new()),
        };
        let mut extensions = vec![(ABS_SEND_TIME_ID, Extension::AbsSendTime), (MID_ID, Extension::Mid)];
        if transport_cc {
            extensions.push((TRANSPORT_SEQUENCE_ID, Extension::TransportSequence));
        }
        if !is_video {
            extensions.insert(0, (AUDIO_LEVEL_ID, Extension::AudioLevel));
        }
        OfferSection {
            mid: self.mid.clone(),
            has_mid: true,
            kind: SectionKind::Media(codec.kind()),
            stopped: false,
            unbundled: false,
            ice: None,
            direction,
            codecs: vec![OfferedCodec { pt, codec: Codec { name: codec, fmtp: fmtp.into() }, rtx, feedback }],
            extensions,
            ssrcs_are_layers: ssrcs.len() > 1,
            ssrcs,
            rids: Vec::new(),
            line: MediaLine {
                media: codec.kind().as_str().into(),
                protocol: PROTOCOL.into(),
                formats: [Some(pt), rtx].into_iter().flatten().map(|pt| pt.0.to_string()).collect(),
            },
        }
    }

    fn accept(&mut self, answered: &AnswerSection) {
        let taken = match answered {
            AnswerSection::Accepted { direction, codecs, extensions, stream, .. } if !self.stopped => {
                Some((direction, codecs, extensions, stream))
            }
            _ => None,
        };
        match (&mut self.role, taken) {
            (Role::Sends(layers), Some((direction, codecs, extensions, _))) if direction.receives() => {
                let chosen = codecs.iter().find(|codec| codec.pt == self.format.pt);
                let mut ids = ExtensionIds::default();
                extensions.iter().for_each(|(id, extension)| ids.set(*extension, *id));
                for Layer { ssrc, rtx_ssrc, track } in layers {
                    let rtx = chosen.and_then(|codec| codec.rtx).zip(*rtx_ssrc);
                    let (ssrc, mid) = (*ssrc, self.mid.clone());
                    track.set_wire(chosen.map(|codec| Wire { pt: codec.pt, ssrc, rtx, ids, mid }));
                }
            }
            (Role::Sends(layers), _) => layers.iter_mut().for_each(|layer| layer.track.set_wire(None)),
            (Role::Receives(ssrcs), Some((direction, _, _, stream))) if direction.sends() => {
                *ssrcs = stream.as_ref().map(|stream| (stream.ssrc, stream.rtx_ssrc));
            }
            (Role::Receives(ssrcs), _) => *ssrcs = None,
        }
    }
}

fn format_of(codec: CodecName) -> &'static Format {
    FORMATS.iter().find(|format| format.codec == codec).expect("every codec has a payload type")
}
