//! Which payload type may carry what: profiles of codecs, and the payload types that were answered for a section.

use serde::{Deserialize, Serialize};

use moonring_wire::id::Pt;
use moonring_wire::media::{Codec, CodecName, ExtensionIds};
use moonring_wire::negotiate::AnswerCodec;

/// What decides on whether a decoder that was set up for one format decodes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    name: CodecName,
    /// H.264: profile_idc and profile-iop, the first two bytes of `profile-level-id`; VP9's and AV1's profile number.
    profile: u16,
    /// H.264's packetization-mode; [`RED`] for Opus with packets of the past in it.
    mode: u8,
}

/// See [`Profile`].
const RED: u8 = 1;

impl Profile {
    /// The profile of a codec; what its parameters do not say, or not in digits, has the default of its RFC.
    pub fn of(codec: &Codec) -> Self {
        let number = |name: &str| parameter(codec, name).and_then(|value| value.parse().ok()).unwrap_or(0);
        let (profile, mode) = match codec.name {
            CodecName::Opus => (0, if codec.is_red() { RED } else { 0 }),
            CodecName::Vp8 => (0, 0),
            CodecName::Vp9 => (number("profile-id"), 0),
            CodecName::Av1 => (number("profile"), 0),
            CodecName::H264 => {
                // RFC 6184 section 8.1: without it Baseline, without constraints, is meant.
                let id = parameter(codec, "profile-level-id").and_then(|value| value.get(..4));
                let profile = id.and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or(0x4200);
                let mode = parameter(codec, "packetization-mode").map_or(0, |value| value.parse().unwrap_or(u8::MAX));
                (profile, mode)
            }
        };
        Self { name: codec.name, profile, mode }
    }

    /// False for H.264 in interleaved mode (packetization-mode 2), whose packets the forwarder cannot look into.
    pub fn can_be_forwarded(self) -> bool {
        self.mode <= 1
    }

    /// True for Opus with packets of the past in it.
    pub fn is_red(self) -> bool {
        self.name == CodecName::Opus && self.mode == RED
    }

    /// How well a decoder that was set up for this suits what is sent as `sent`: less is better, `None` is not at all.
    /// `any_h264_profile` leaves it to the decoder whether it knows another H.264 profile.
    pub fn suits(self, sent: Self, any_h264_profile: bool) -> Option<u8> {
        if self.name != sent.name {
            return None;
        }
        if self.name != CodecName::H264 {
            return (self.profile == sent.profile && self.mode == sent.mode).then_some(0);
        }
        // RFC 6184 section 5.4: single NAL units, all that mode 0 has, are allowed in mode 1, not the other way round.
        let mode = match (self.mode, sent.mode) {
            (ours, theirs) if ours == theirs => 0,
            (1, 0) => 1,
            _ => return None,
        };
        match (self.profile, sent.profile) {
            (ours, theirs) if ours == theirs => Some(mode),
            // Of one profile_idc; constraints that the sender keeps beyond the receiver's need do no harm.
            (ours, theirs) if ours >> 8 == theirs >> 8 => Some(2 + mode),
            _ => any_h264_profile.then_some(4 + mode),
        }
    }

    /// Why this does not suit `sent`, of the same codec: in words, after "offers H264 ".
    pub fn difference(self, sent: Self) -> String {
        if self.mode != sent.mode && (self.profile >> 8 == sent.profile >> 8 || self.mode > 1) {
            return format!("with packetization-mode={}, the track is sent with {}", self.mode, sent.mode);
        }
        let advice = match self.name {
            CodecName::H264 => {
                "; offer that one, publish another, or let the server's h264_any_profile leave it to the decoder"
            }
            _ => "",
        };
        format!("with profile {self}, the track has profile {sent}{advice}")
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name != CodecName::H264 {
            return write!(f, "{}", self.profile);
        }
        let [idc, iop] = self.profile.to_be_bytes();
        // H.264 section A.2; constraint_set1_flag makes Baseline the constrained one that WebRTC uses.
        let name = match (idc, iop & 0x40) {
            (0x42, 0x40) => " (Constrained Baseline)",
            (0x42, _) => " (Baseline)",
            (0x4D, _) => " (Main)",
            (0x58, _) => " (Extended)",
            (0x64, _) => " (High)",
            (0x6E, _) => " (High 10)",
            (0x7A, _) => " (High 4:2:2)",
            (0xF4, _) => " (High 4:4:4)",
            _ => "",
        };
        write!(f, "{:04x}{name}", self.profile)
    }
}

/// The value of a format parameter, whose names are compared without case (RFC 4855 section 3).
fn parameter<'a>(codec: &'a Codec, name: &str) -> Option<&'a str> {
    let pairs = codec.fmtp.split(';').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// A payload type, and the one of its retransmissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// The payload type.
    pub pt: Pt,
    /// That of its retransmissions, when negotiated.
    pub rtx: Option<Pt>,
    /// What it carries.
    pub profile: Profile,
}

impl Format {
    /// The format of an answered codec.
    pub fn of(codec: &AnswerCodec) -> Self {
        Self { pt: codec.pt, rtx: codec.rtx, profile: Profile::of(&codec.codec) }
    }
}

/// The place of the profile that suits `sent` best; the first of several.
pub fn best(profiles: impl Iterator<Item = Profile>, sent: Profile, any_h264_profile: bool) -> Option<usize> {
    let ranks = profiles.enumerate().filter_map(|(at, profile)| Some((profile.suits(sent, any_h264_profile)?, at)));
    ranks.min().map(|(_, at)| at)
}

/// Which of the formats answered for a section is to carry `sent`; `None` when none suits.
pub fn format_for(formats: &[Format], sent: &Codec, any_h264_profile: bool) -> Option<Format> {
    let profiles = formats.iter().map(|format| format.profile);
    best(profiles, Profile::of(sent), any_h264_profile).map(|at| formats[at])
}

/// The payload types that were answered for a section that a client publishes in, and its ids of header extensions.
///
/// Every codec that both sides know is answered, so a publisher may send with any of these payload types, and change
/// from one to another without a word (RFC 3264 section 6.1). Those whose packets the receivers of the track's codec
/// decode anyway are taken as they come. The others are of another codec, which the track follows; see
/// `Shard::follow_format`.
#[derive(Clone, Debug)]
pub struct PublishedFormats {
    /// The publisher's ids of header extensions in its section.
    pub ids: ExtensionIds,
    answered: Vec<AnswerCodec>,
    /// A bit for each payload type of media that is taken as it comes.
    media: u128,
    /// The same for retransmissions.
    rtx: u128,
    /// A bit for each payload type of media that has packets of the past in it.
    red: u128,
}

impl PublishedFormats {
    /// The formats of a track that is sent in `current`, which is one of `answered`, without header extensions.
    pub fn new(answered: Vec<AnswerCodec>, current: &Codec) -> Self {
        let mut formats = Self { ids: ExtensionIds::default(), answered, media: 0, rtx: 0, red: 0 };
        formats.set_current(current);
        formats
    }

    /// Every codec that was answered.
    pub fn answered(&self) -> &[AnswerCodec] {
        &self.answered
    }

    /// Takes what suits `current` as it comes from now on.
    pub fn set_current(&mut self, current: &Codec) {
        (self.media, self.rtx, self.red) = (0, 0, 0);
        let current = Profile::of(current);
        for format in self.answered.iter().map(Format::of).filter(|f| current.suits(f.profile, false).is_some()) {
            self.media |= bit(format.pt);
            self.rtx |= format.rtx.map_or(0, bit);
        }
        let red = |f: &Format| current.name == CodecName::Opus && f.profile.is_red();
        self.red = self.answered.iter().map(Format::of).filter(red).fold(0, |bits, format| bits | bit(format.pt));
        self.media |= self.red;
    }

    /// True for a payload type that the track's receivers decode.
    pub fn is_media(&self, pt: Pt) -> bool {
        self.media & bit(pt) != 0
    }

    /// True for a payload type whose packets have those of the past in them.
    pub fn is_red(&self, pt: Pt) -> bool {
        self.red & bit(pt) != 0
    }

    /// True for retransmissions of such a one.
    pub fn is_rtx(&self, pt: Pt) -> bool {
        self.rtx & bit(pt) != 0
    }

    /// The answered codec of a payload type of media, whether it is taken as it comes or not.
    pub fn codec(&self, pt: Pt) -> Option<&AnswerCodec> {
        self.answered.iter().find(|codec| codec.pt == pt)
    }
}

fn bit(pt: Pt) -> u128 {
    1_u128.checked_shl(pt.0.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::negotiate::Feedback;

    fn codec(name: CodecName, fmtp: &str) -> Codec {
        Codec { name, fmtp: fmtp.into() }
    }

    #[test]
    fn a_decoder_suits_what_is_sent_or_does_not() {
        use CodecName::{Av1, H264, Opus, Vp8, Vp9};
        for (ours, sent, strictly, loosely) in [
            ((Vp8, ""), (Vp8, "x"), Some(0), Some(0)),
            ((Opus, ""), (Vp8, ""), None, None),
            ((Opus, "111/111"), (Opus, "useinbandfec=1"), None, None),
            ((Opus, "minptime=10;useinbandfec=1"), (Opus, ""), Some(0), Some(0)),
            ((Vp9, "profile-id=0"), (Vp9, ""), Some(0), Some(0)),
            ((Vp9, "profile-id=0"), (Vp9, "Profile-ID=2"), None, None),
            ((Av1, "profile=1"), (Av1, "profile=0"), None, None),
            ((H264, "packetization-mode=1;profile-level-id=42e01f"), (H264, ""), Some(3), Some(3)),
            ((H264, "packetization-mode=1"), (H264, ""), Some(1), Some(1)),
            ((H264, ""), (H264, "packetization-mode=1"), None, None),
            ((H264, "packetization-mode=1"), (H264, "Packetization-Mode=1; PROFILE-LEVEL-ID=42000D"), Some(0), Some(0)),
            ((H264, "profile-level-id=640c1f"), (H264, "profile-level-id=640C0A"), Some(0), Some(0)),
            ((H264, "profile-level-id=42e01f"), (H264, "profile-level-id=640c1f"), None, Some(4)),
            ((H264, "profile-level-id=zz"), (H264, ""), Some(0), Some(0)),
            ((H264, "packetization-mode=2"), (H264, "packetization-mode=1"), None, None),
            ((H264, "packetization-mode=70000"), (H264, ""), None, None),
        ] {
            let (decoder, sender) = (Profile::of(&codec(ours.0, ours.1)), Profile::of(&codec(sent.0, sent.1)));
            assert_eq!(decoder.suits(sender, false), strictly, "{ours:?} {sent:?}");
            assert_eq!(decoder.suits(sender, true), loosely, "{ours:?} {sent:?}");
        }
    }

    #[test]
    fn a_difference_is_said_in_words() {
        use CodecName::{H264, Vp9};
        let h264 = |fmtp: &str| Profile::of(&codec(H264, fmtp));
        let vp9 = |fmtp: &str| Profile::of(&codec(Vp9, fmtp));
        for (decoder, sent, expected) in [
            (
                h264("profile-level-id=42e01f"),
                h264("profile-level-id=640c1f;packetization-mode=1"),
                "with profile 42e0 (Constrained Baseline), the track has profile 640c (High); offer that one, publish another, \
                 or let the server's h264_any_profile leave it to the decoder",
            ),
            (h264(""), h264("packetization-mode=1"), "with packetization-mode=0, the track is sent with 1"),
            (vp9(""), vp9("profile-id=2"), "with profile 0, the track has profile 2"),
        ] {
            assert_eq!(decoder.difference(sent), expected);
        }
    }

    #[test]
    fn payload_types_that_the_receivers_decode_are_taken_as_they_come() {
        let answered = |pt: u8, name, fmtp: &str| AnswerCodec {
            pt: Pt(pt),
            codec: codec(name, fmtp),
            rtx: Some(Pt(pt + 1)),
            feedback: Feedback::default(),
        };
        let all = vec![
            answered(96, CodecName::H264, "packetization-mode=1"),
            answered(98, CodecName::H264, ""),
            answered(100, CodecName::H264, "profile-level-id=640c1f;packetization-mode=1"),
            answered(126, CodecName::Vp8, ""),
        ];
        let mut formats = PublishedFormats::new(all.clone(), &all[0].codec);
        let taken = |formats: &PublishedFormats| -> (Vec<u8>, Vec<u8>) {
            let all = || (0..=255).map(Pt);
            (
                all().filter(|pt| formats.is_media(*pt)).map(|pt| pt.0).collect(),
                all().filter(|pt| formats.is_rtx(*pt)).map(|pt| pt.0).collect(),
            )
        };
        assert_eq!(taken(&formats), (vec![96, 98], vec![97, 99]));
        formats.set_current(&all[1].codec);
        assert_eq!(taken(&formats), (vec![98], vec![99]));
        formats.set_current(&all[3].codec);
        assert_eq!(taken(&formats), (vec![126], vec![127]));
        assert_eq!(formats.codec(Pt(100)), Some(&all[2]));
        assert_eq!(formats.codec(Pt(97)), None);
    }
}
