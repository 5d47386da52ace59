//! What to answer to an offer's sections: codecs, feedback, header extensions. Pure functions.

use moonring_wire::media::{Codec, CodecName, Extension, ExtensionIds, Kind};
use moonring_wire::negotiate::{
    AnswerCodec, AnswerSection, Direction, Feedback, OfferSection, OfferedCodec, SectionKind, Setup,
};

/// Most simulcast layers taken of one publisher.
pub const MAX_LAYERS: usize = 3;
/// Header extensions the server reads from publishers.
const FROM_PUBLISHERS: [Extension; 8] = [
    Extension::Mid,
    Extension::Rid,
    Extension::RepairedRid,
    Extension::AudioLevel,
    Extension::TransportSequence,
    Extension::VideoOrientation,
    Extension::PlayoutDelay,
    Extension::DependencyDescriptor,
];
/// Header extensions the server writes to subscribers.
const TO_SUBSCRIBERS: [Extension; 6] = [
    Extension::TransportSequence,
    Extension::AudioLevel,
    Extension::AbsSendTime,
    Extension::VideoOrientation,
    Extension::PlayoutDelay,
    Extension::DependencyDescriptor,
];

/// The server's DTLS role for a client's: the server (passive) wherever the client leaves the choice.
pub fn answer_setup(offered: Setup) -> Setup {
    match offered {
        Setup::ActPass | Setup::Active => Setup::Passive,
        Setup::Passive => Setup::Active,
    }
}

/// The codec a client publishes with: the first it offers that `allowed` has.
pub fn publish_codec(section: &OfferSection, allowed: &[CodecName]) -> Option<AnswerCodec> {
    let SectionKind::Media(kind) = section.kind else { return None };
    let fits = |c: &&OfferedCodec| c.codec.name.kind() == kind && allowed.contains(&c.codec.name);
    // A publisher's single-NAL-unit mode (packetization-mode 0) is of no use to anybody else's decoder settings.
    let good = |c: &&OfferedCodec| fits(c) && (c.codec.name != CodecName::H264 || h264(&c.codec).1 == "1");
    let chosen = section.codecs.iter().find(good).or_else(|| section.codecs.iter().find(fits))?;
    Some(answer_codec(chosen, Feedback { nack: kind == Kind::Video && chosen.feedback.nack, ..chosen.feedback }))
}

/// How a client's section can carry `codec`; `None` when it does not offer it.
pub fn section_codec(section: &OfferSection, codec: &Codec, feedback: fn(Feedback) -> Feedback) -> Option<AnswerCodec> {
    let same = |c: &&OfferedCodec| is_compatible(&c.codec, codec, true);
    let alike = |c: &&OfferedCodec| is_compatible(&c.codec, codec, false);
    let chosen = section.codecs.iter().find(same).or_else(|| section.codecs.iter().find(alike))?;
    Some(answer_codec(chosen, feedback(chosen.feedback)))
}

/// The feedback the server takes from a subscriber.
pub fn subscriber_feedback(offered: Feedback) -> Feedback {
    offered
}

fn answer_codec(chosen: &OfferedCodec, feedback: Feedback) -> AnswerCodec {
    AnswerCodec { pt: chosen.pt, codec: chosen.codec.clone(), rtx: chosen.rtx, feedback }
}

/// True when a decoder set up for `a` decodes `b`. `exactly` asks for the same H.264 profile-iop too.
fn is_compatible(a: &Codec, b: &Codec, exactly: bool) -> bool {
    if a.name != b.name {
        return false;
    }
    match a.name {
        CodecName::Opus | CodecName::Vp8 => true,
        CodecName::Vp9 => parameter(a, "profile-id").unwrap_or("0") == parameter(b, "profile-id").unwrap_or("0"),
        CodecName::Av1 => parameter(a, "profile").unwrap_or("0") == parameter(b, "profile").unwrap_or("0"),
        CodecName::H264 => {
            let digits = if exactly { 4 } else { 2 };
            let ((profile_a, mode_a), (profile_b, mode_b)) = (h264(a), h264(b));
            mode_a == mode_b && profile_a.get(..digits) == profile_b.get(..digits)
        }
    }
}

/// (profile-level-id in lower case, packetization-mode), with the defaults of RFC 6184 section 8.1.
fn h264(codec: &Codec) -> (String, &str) {
    let profile = parameter(codec, "profile-level-id").unwrap_or("420010").to_ascii_lowercase();
    (profile, parameter(codec, "packetization-mode").unwrap_or("0"))
}

fn parameter<'a>(codec: &'a Codec, name: &str) -> Option<&'a str> {
    codec
        .fmtp
        .split(';')
        .find_map(|p| p.trim().split_once('=').filter(|(k, _)| k.trim() == name).map(|(_, v)| v.trim()))
}

/// The extensions of a section that both sides use; `ids` learns the client's numbers.
fn extensions(section: &OfferSection, wanted: &[Extension], ids: &mut ExtensionIds) -> Vec<(u8, Extension)> {
    let agreed: Vec<_> = section.extensions.iter().copied().filter(|(_, e)| wanted.contains(e)).collect();
    for (id, extension) in &agreed {
        ids.set(*extension, *id);
    }
    agreed
}

/// The answer to a section that a client publishes in.
pub fn publishing(
    section: &OfferSection,
    kind: Kind,
    codec: AnswerCodec,
    max_bitrate_bps: Option<u64>,
    ids: &mut ExtensionIds,
) -> AnswerSection {
    AnswerSection::Accepted {
        mid: section.mid.clone(),
        kind,
        direction: Direction::RecvOnly,
        codecs: vec![codec],
        extensions: extensions(section, &FROM_PUBLISHERS, ids),
        rids: section.rids.iter().take(MAX_LAYERS).cloned().collect(),
        stream: None,
        max_bitrate_bps,
    }
}

/// The answer to a section that a client receives in.
pub fn receiving(
    section: &OfferSection,
    kind: Kind,
    codec: AnswerCodec,
    stream: moonring_wire::negotiate::AnswerStream,
    ids: &mut ExtensionIds,
) -> AnswerSection {
    AnswerSection::Accepted {
        mid: section.mid.clone(),
        kind,
        direction: Direction::SendOnly,
        codecs: vec![codec],
        extensions: extensions(section, &TO_SUBSCRIBERS, ids),
        rids: Vec::new(),
        stream: Some(stream),
        max_bitrate_bps: None,
    }
}

/// The answer to a section that nothing flows in: inactive where it can be used later, else refused.
pub fn idle(section: &OfferSection) -> AnswerSection {
    match section.kind {
        SectionKind::Media(kind) if !section.stopped && !section.codecs.is_empty() => AnswerSection::Accepted {
            mid: section.mid.clone(),
            kind,
            direction: Direction::Inactive,
            codecs: section.codecs.iter().map(|c| answer_codec(c, c.feedback)).collect(),
            extensions: Vec::new(),
            rids: Vec::new(),
            stream: None,
            max_bitrate_bps: None,
        },
        kind => AnswerSection::Refused {
            mid: section.mid.clone(),
            media: match kind {
                SectionKind::Media(kind) => kind.as_str().to_owned(),
                SectionKind::Other => "application".to_owned(),
            },
            protocol: section.protocol.clone(),
            formats: section.formats.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::{Mid, Pt};

    fn offered(list: &[(u8, CodecName, &str)]) -> OfferSection {
        let codec = |(pt, name, fmtp): &(u8, CodecName, &str)| OfferedCodec {
            pt: Pt(*pt),
            codec: Codec { name: *name, fmtp: (*fmtp).to_owned() },
            rtx: Some(Pt(pt + 1)),
            feedback: Feedback { nack: true, pli: true, fir: true, remb: true, transport_cc: true },
        };
        OfferSection {
            mid: Mid::parse("0").unwrap(),
            kind: SectionKind::Media(Kind::Video),
            stopped: false,
            direction: Direction::SendRecv,
            codecs: list.iter().map(codec).collect(),
            extensions: vec![(3, Extension::TransportSequence), (2, Extension::AbsSendTime)],
            ssrcs: vec![],
            rids: vec![],
            protocol: "UDP/TLS/RTP/SAVPF".into(),
            formats: vec!["96".into()],
        }
    }

    #[test]
    fn a_publisher_sends_the_first_codec_it_offers_that_the_server_allows() {
        use CodecName::{Av1, H264, Vp8, Vp9};
        let offer = [
            (96, H264, "packetization-mode=0;profile-level-id=42e01f"),
            (98, H264, "profile-level-id=42e01f;packetization-mode=1"),
            (100, Vp8, ""),
            (102, Vp9, "profile-id=2"),
        ];
        for (allowed, expected) in
            [(&[H264, Vp8][..], Some(98)), (&[Vp8], Some(100)), (&[Vp9, Vp8], Some(100)), (&[Av1], None)]
        {
            let chosen = publish_codec(&offered(&offer), allowed);
            assert_eq!(chosen.map(|c| c.pt.0), expected, "{allowed:?}");
        }
    }

    #[test]
    fn a_subscriber_gets_the_payload_type_whose_profile_fits_the_track() {
        use CodecName::{H264, Vp8, Vp9};
        let offer = offered(&[
            (96, H264, "profile-level-id=42001f;packetization-mode=1"),
            (98, H264, "profile-level-id=42E01F;packetization-mode=1"),
            (100, H264, "profile-level-id=42e01f;packetization-mode=0"),
            (102, Vp9, "profile-id=0"),
            (104, Vp9, "profile-id=2"),
        ]);
        for (name, fmtp, expected) in [
            (H264, "packetization-mode=1; profile-level-id=42e034", Some(98)),
            (H264, "packetization-mode=1;profile-level-id=420c1f", Some(96)),
            (H264, "packetization-mode=0;profile-level-id=42e01f", Some(100)),
            (H264, "packetization-mode=1;profile-level-id=64001f", None),
            (Vp9, "profile-id=2", Some(104)),
            (Vp9, "", Some(102)),
            (Vp8, "", None),
        ] {
            let codec = Codec { name, fmtp: fmtp.to_owned() };
            let chosen = section_codec(&offer, &codec, subscriber_feedback);
            assert_eq!(chosen.map(|c| c.pt.0), expected, "{name:?} {fmtp}");
        }
    }

    #[test]
    fn subscribers_and_publishers_are_asked_for_transport_wide_feedback() {
        let (mut ids, section) = (ExtensionIds::default(), offered(&[(96, CodecName::Vp8, "")]));
        let agreed = |wanted: &[Extension], ids: &mut ExtensionIds| extensions(&section, wanted, ids);
        assert_eq!(agreed(&FROM_PUBLISHERS, &mut ids), [(3, Extension::TransportSequence)]);
        assert_eq!(agreed(&TO_SUBSCRIBERS, &mut ids), [(3, Extension::TransportSequence), (2, Extension::AbsSendTime)]);
        assert_eq!((ids.get(Extension::TransportSequence), ids.get(Extension::AbsSendTime)), (Some(3), Some(2)));
        let codec = section_codec(&section, &section.codecs[0].codec.clone(), subscriber_feedback).unwrap();
        assert!(codec.feedback.transport_cc && codec.feedback.remb);
    }
}
