//! The vocabulary of media: kinds, codecs, sources, header extensions.

use serde::{Deserialize, Serialize};

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

impl Kind {
    /// `"audio"` or `"video"`, as in SDP and in scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// Where a track's media comes from, as its publisher says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A shared screen or window.
    Screen,
    /// The sound of a shared screen.
    ScreenAudio,
    /// Anything else, or not said.
    #[default]
    Other,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 5] = [Self::Camera, Self::Microphone, Self::Screen, Self::ScreenAudio, Self::Other];

    /// The source of a word of scripts and messages.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }

    /// The word scripts and messages use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Microphone => "microphone",
            Self::Screen => "screen",
            Self::ScreenAudio => "screen_audio",
            Self::Other => "other",
        }
    }
}

/// A codec the forwarder can look into as far as it needs (key frames, layers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum CodecName {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// AOMedia's RTP payload format for AV1.
    Av1,
}

impl CodecName {
    /// Every codec, in the order in which the forwarder prefers them.
    pub const ALL: [Self; 5] = [Self::Opus, Self::Vp8, Self::H264, Self::Vp9, Self::Av1];

    /// The encoding name of `a=rtpmap`.
    pub fn as_sdp(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
            Self::Av1 => "AV1",
        }
    }

    /// The codec of an encoding name, which SDP compares without case (RFC 4855 section 3).
    pub fn from_sdp(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_sdp().eq_ignore_ascii_case(name))
    }

    /// Ticks of the RTP time stamp in one second.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            _ => 90_000,
        }
    }

    /// Sound or pictures.
    pub fn kind(self) -> Kind {
        match self {
            Self::Opus => Kind::Audio,
            _ => Kind::Video,
        }
    }
}

/// A codec with its format parameters: what a track is made of, and what a receiver must understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codec {
    /// Which one.
    pub name: CodecName,
    /// The value of `a=fmtp` without the payload type, as offered (`"profile-level-id=42e01f;packetization-mode=1"`).
    pub fmtp: String,
}

impl Codec {
    /// True for Opus with the packets of the past in each (RED, RFC 2198): its parameters are the payload types that may be
    /// inside, "111/111", as no others of Opus are. A track is never of it; its packets may be.
    pub fn is_red(&self) -> bool {
        let is_number = |pt: &str| !pt.is_empty() && pt.bytes().all(|byte| byte.is_ascii_digit());
        self.name == CodecName::Opus && self.fmtp.split('/').all(is_number)
    }
}

/// A header extension the forwarder reads or writes (RFC 8285).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 8843).
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    RepairedRid,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    AudioLevel,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    AbsSendTime,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    TransportSequence,
    /// `urn:3gpp:video-orientation`.
    VideoOrientation,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`.
    PlayoutDelay,
    /// AV1's dependency descriptor.
    DependencyDescriptor,
}

impl Extension {
    /// Every extension.
    pub const ALL: [Self; 9] = [
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::AudioLevel,
        Self::AbsSendTime,
        Self::TransportSequence,
        Self::VideoOrientation,
        Self::PlayoutDelay,
        Self::DependencyDescriptor,
    ];

    /// The URI of `a=extmap`.
    pub fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::TransportSequence => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
        }
    }

    /// The extension of a URI, if the forwarder knows it.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.uri() == uri)
    }
}

/// The ids that a client gave to the header extensions in one section; 0 where it has none. Ids are 1..=14 (one-byte form) or up
/// to 255 (two-byte form). In another section of its bundle an extension may have another id (RFC 8843 section 12: only an id
/// has to be the same extension everywhere, which some do not keep to either).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionIds([u8; Extension::ALL.len()]);

impl ExtensionIds {
    /// The id of `extension`, if it was negotiated.
    pub fn get(&self, extension: Extension) -> Option<u8> {
        let id = self.0[extension as usize];
        (id != 0).then_some(id)
    }

    /// Gives `extension` the id `id`.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.0[extension as usize] = id;
    }

    /// The extension that has `id`.
    pub fn find(&self, id: u8) -> Option<Extension> {
        if id == 0 {
            return None;
        }
        Extension::ALL.into_iter().find(|e| self.0[*e as usize] == id)
    }
}

/// What everybody is told of a track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TrackInfo {
    /// The server's name for it.
    pub id: crate::id::TrackId,
    /// Who publishes it.
    pub client: crate::id::ClientId,
    /// Sound or pictures.
    pub kind: Kind,
    /// What its publisher says it shows.
    pub source: Source,
    /// The codec it is sent in.
    pub codec: CodecName,
    /// Number of simulcast or spatial layers; 1 when there is one encoding only.
    pub layers: u8,
    /// Number of temporal layers of each; 1 when unknown.
    #[serde(default = "one_layer")]
    pub temporal_layers: u8,
    /// True while its publisher or the policy has muted it.
    pub muted: bool,
}

fn one_layer() -> u8 {
    1
}

impl TrackInfo {
    /// The coarse quality scripts decide on: from the number of layers and the source.
    pub fn quality(&self) -> &'static str {
        match (self.kind, self.layers) {
            (Kind::Audio, _) => "audio",
            (Kind::Video, 0 | 1) => "sd",
            (Kind::Video, 2) => "hd",
            (Kind::Video, _) => "fhd",
        }
    }
}

/// Why nothing is sent of a track that a client has subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum PauseReason {
    /// It does not fit into what the client's path carries.
    Bandwidth,
    /// The client does not show it.
    Hidden,
    /// The server has no time for it.
    Overload,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_is_found_by_its_uri_and_by_its_id() {
        let mut ids = ExtensionIds::default();
        for (n, extension) in Extension::ALL.into_iter().enumerate() {
            assert_eq!(Extension::from_uri(extension.uri()), Some(extension));
            assert_eq!(ids.get(extension), None);
            ids.set(extension, n as u8 + 1);
            assert_eq!(ids.find(n as u8 + 1), Some(extension));
        }
        assert_eq!(ids.find(0), None);
    }
}
