//! What to answer to an offer's sections: codecs, feedback, header extensions. Pure functions.

use super::formats::{self, Profile};
use moonring_wire::id::Mid;
use moonring_wire::media::{Codec, CodecName, Extension, ExtensionIds, Kind};
use moonring_wire::negotiate::{
    AnswerCodec, AnswerSection, AnswerStream, Direction, Feedback, OfferSection, OfferedCodec, SectionKind, Setup,
    SimulcastLayer,
};

/// Most simulcast layers taken of one publisher.
pub const MAX_LAYERS: usize = 4;
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
/// Header extensions of sections that subscribers receive in: those that the server writes, and the names of streams. Every
/// section of a bundle has the MID (RFC 8843 section 9.1), and Chromium leaves out of a new section's offer what the one
/// before of its kind ended without. Browsers estimate what they can receive themselves (REMB, by
/// the send time) until the first packet with a transport-wide number, and leave it to the sender from then on.
const TO_SUBSCRIBERS: [Extension; 9] = [
    Extension::Mid,
    Extension::Rid,
    Extension::RepairedRid,
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

/// The codecs that a section has in common with the server, which takes those in `allowed`, in the offer's order
/// (RFC 3264 section 6.1). All of them are answered: some clients cannot use an answer that leaves out the one they
/// mean (Pion's default engine), and a section can carry another track of another codec later.
fn common_codecs(section: &OfferSection, allowed: &[CodecName]) -> Vec<AnswerCodec> {
    let SectionKind::Media(kind) = section.kind else { return Vec::new() };
    let is_common = |c: &&OfferedCodec| {
        c.codec.name.kind() == kind && allowed.contains(&c.codec.name) && Profile::of(&c.codec).can_be_forwarded()
    };
    // Feedback on packets by a number that none of them has never comes: GStreamer names it without the extension.
    let is_numbered = section.extensions.iter().any(|(_, extension)| *extension == Extension::TransportSequence);
    let answer = |c: &OfferedCodec| AnswerCodec {
        pt: c.pt,
        codec: c.codec.clone(),
        rtx: c.rtx,
        feedback: Feedback { transport_cc: c.feedback.transport_cc && is_numbered, ..c.feedback },
    };
    section.codecs.iter().filter(is_common).map(answer).collect()
}

/// What a client may publish with, its first choice first. The server gives all the feedback there is, also NACK for sound.
pub fn publish_codecs(section: &OfferSection, allowed: &[CodecName]) -> Vec<AnswerCodec> {
    common_codecs(section, allowed)
}

/// What a client may be sent. Of its feedback the server serves all: without RTX, NACK by the same packet again.
pub fn receive_codecs(section: &OfferSection, allowed: &[CodecName]) -> Vec<AnswerCodec> {
    common_codecs(section, allowed)
}

/// Which of `codecs` is to carry `sent`; `None` when none suits.
pub fn codec_for<'c>(codecs: &'c [AnswerCodec], sent: &Codec, any_h264_profile: bool) -> Option<&'c AnswerCodec> {
    let profiles = codecs.iter().map(|codec| Profile::of(&codec.codec));
    formats::best(profiles, Profile::of(sent), any_h264_profile).map(|at| &codecs[at])
}

/// Why none of `codecs`, which section `mid` offers, suits `sent`.
pub fn mismatch(mid: &Mid, codecs: &[AnswerCodec], sent: &Codec) -> String {
    let name = sent.name.as_sdp();
    match codecs.iter().find(|codec| codec.codec.name == sent.name) {
        Some(nearest) => {
            let difference = Profile::of(&nearest.codec).difference(Profile::of(sent));
            format!("section {mid} offers {name} {difference}")
        }
        None => format!("section {mid} does not offer {name}"),
    }
}

/// Why nothing can be published in section `mid`.
pub fn nothing_taken(mid: &Mid) -> String {
    format!("section {mid} offers no codec that this server takes")
}

/// The extensions of a section that both sides use.
fn extensions(section: &OfferSection, wanted: &[Extension]) -> Vec<(u8, Extension)> {
    section.extensions.iter().copied().filter(|(_, extension)| wanted.contains(extension)).collect()
}

fn ids(agreed: Vec<(u8, Extension)>) -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    agreed.into_iter().for_each(|(id, extension)| ids.set(extension, id));
    ids
}

/// The ids that a publisher's packets in this section have.
pub fn ids_from_publisher(section: &OfferSection) -> ExtensionIds {
    ids(extensions(section, &FROM_PUBLISHERS))
}

/// The ids that packets to a subscriber in this section have.
pub fn ids_to_subscriber(section: &OfferSection) -> ExtensionIds {
    ids(extensions(section, &TO_SUBSCRIBERS))
}

/// The layers of a section that are taken.
fn layers(section: &OfferSection) -> Vec<SimulcastLayer> {
    section.rids.iter().take(MAX_LAYERS).cloned().collect()
}

/// The answer to a section that a client publishes in.
pub fn publishing(
    section: &OfferSection,
    kind: Kind,
    codecs: Vec<AnswerCodec>,
    max_bitrate_bps: Option<u64>,
) -> AnswerSection {
    AnswerSection::Accepted {
        mid: section.shown_mid(),
        kind,
        protocol: section.line.protocol.clone(),
        direction: Direction::RecvOnly,
        codecs,
        extensions: extensions(section, &FROM_PUBLISHERS),
        rids: layers(section),
        stream: None,
        max_bitrate_bps,
    }
}

/// The answer to a section that a client receives in.
pub fn receiving(section: &OfferSection, kind: Kind, codecs: Vec<AnswerCodec>, stream: AnswerStream) -> AnswerSection {
    AnswerSection::Accepted {
        mid: section.shown_mid(),
        kind,
        protocol: section.line.protocol.clone(),
        direction: Direction::SendOnly,
        codecs,
        extensions: extensions(section, &TO_SUBSCRIBERS),
        rids: Vec::new(),
        stream: Some(stream),
        max_bitrate_bps: None,
    }
}

/// Whether a section is not refused, whatever is done with it.
pub fn is_usable(section: &OfferSection, allowed: &[CodecName]) -> bool {
    let is_media = matches!(section.kind, SectionKind::Media(_));
    is_media && !section.stopped && !section.unbundled && !receive_codecs(section, allowed).is_empty()
}

/// The answer to a section that nothing flows in: inactive where it can be used later, else refused with the offer's
/// own words. It has all that the section may be used with later: libwebrtc takes an answer without layers, or without
/// the extension that names them, as the end of simulcast in that sender for good, whatever the direction.
pub fn idle(section: &OfferSection, allowed: &[CodecName]) -> AnswerSection {
    let codecs = receive_codecs(section, allowed);
    match section.kind {
        SectionKind::Media(kind) if is_usable(section, allowed) => AnswerSection::Accepted {
            mid: section.shown_mid(),
            kind,
            protocol: section.line.protocol.clone(),
            direction: Direction::Inactive,
            codecs,
            extensions: section.extensions.clone(),
            rids: layers(section),
            stream: None,
            max_bitrate_bps: None,
        },
        _ => AnswerSection::Refused { mid: section.shown_mid(), line: section.line.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::Pt;
    use moonring_wire::negotiate::MediaLine;

    fn offered(list: &[(u8, CodecName, &str)]) -> OfferSection {
        let codec = |(pt, name, fmtp): &(u8, CodecName, &str)| OfferedCodec {
            pt: Pt(*pt),
            codec: Codec { name: *name, fmtp: (*fmtp).to_owned() },
            rtx: Some(Pt(pt + 1)),
            feedback: Feedback { nack: true, pli: true, fir: true, remb: true, transport_cc: true },
        };
        OfferSection {
            mid: Mid::parse("0").unwrap(),
            has_mid: true,
            kind: SectionKind::Media(Kind::Video),
            stopped: false,
            unbundled: false,
            ice: None,
            direction: Direction::SendRecv,
            codecs: list.iter().map(codec).collect(),
            extensions: vec![(3, Extension::TransportSequence), (2, Extension::AbsSendTime)],
            ssrcs: vec![],
            ssrcs_are_layers: false,
            rids: vec![],
            line: MediaLine { media: "video".into(), protocol: "UDP/TLS/RTP/SAVPF".into(), formats: vec!["96".into()] },
        }
    }

    fn payload_types(codecs: &[AnswerCodec]) -> Vec<u8> {
        codecs.iter().map(|codec| codec.pt.0).collect()
    }

    #[test]
    fn every_common_codec_is_answered_in_the_order_of_the_offer() {
        use CodecName::{Av1, H264, Opus, Vp8, Vp9};
        let offer = offered(&[
            (96, H264, "packetization-mode=0;profile-level-id=42e01f"),
            (98, H264, "profile-level-id=42e01f;packetization-mode=1"),
            (100, Vp8, ""),
            (102, Vp9, "profile-id=2"),
            (104, H264, "packetization-mode=2"),
        ]);
        for (allowed, expected) in [
            (&CodecName::ALL[..], &[96, 98, 100, 102][..]),
            (&[Vp8, H264], &[96, 98, 100]),
            (&[Vp9, Vp8], &[100, 102]),
            (&[Av1, Opus], &[]),
        ] {
            assert_eq!(payload_types(&publish_codecs(&offer, allowed)), expected, "{allowed:?}");
            assert_eq!(payload_types(&receive_codecs(&offer, allowed)), expected, "{allowed:?}");
        }
    }

    #[test]
    fn feedback_by_transport_wide_numbers_is_agreed_on_only_with_the_extension_that_has_them() {
        let mut offer = offered(&[(96, CodecName::Vp8, "")]);
        for expected in [true, false] {
            for codecs in [publish_codecs(&offer, &CodecName::ALL), receive_codecs(&offer, &CodecName::ALL)] {
                assert_eq!((codecs[0].feedback.transport_cc, codecs[0].feedback.nack), (expected, true));
            }
            offer.extensions.retain(|(_, extension)| *extension != Extension::TransportSequence);
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
        let codecs = receive_codecs(&offer, &CodecName::ALL);
        for (name, fmtp, expected) in [
            (H264, "packetization-mode=1; profile-level-id=42e034", Ok(98)),
            (H264, "packetization-mode=1;profile-level-id=420c1f", Ok(96)),
            (H264, "packetization-mode=0;profile-level-id=42e01f", Ok(100)),
            (H264, "", Ok(96)),
            (
                H264,
                "packetization-mode=1;profile-level-id=64001f",
                Err("offers H264 with profile 4200 (Baseline), the"),
            ),
            (Vp9, "profile-id=2", Ok(104)),
            (Vp9, "", Ok(102)),
            (Vp9, "profile-id=1", Err("offers VP9 with profile 0, the track has profile 1")),
            (Vp8, "", Err("does not offer VP8")),
        ] {
            let codec = Codec { name, fmtp: fmtp.to_owned() };
            let words = mismatch(&offer.mid, &codecs, &codec);
            match (codec_for(&codecs, &codec, false), expected) {
                (Some(chosen), Ok(pt)) => assert_eq!(chosen.pt.0, pt, "{name:?} {fmtp}"),
                (None, Err(expected)) => assert!(words.starts_with(&format!("section 0 {expected}")), "{words}"),
                (chosen, _) => panic!("{name:?} {fmtp}: {chosen:?}"),
            }
        }
        let high = Codec { name: H264, fmtp: "packetization-mode=1;profile-level-id=64001f".into() };
        assert_eq!(codec_for(&codecs, &high, true).map(|codec| codec.pt.0), Some(96));
    }

    #[test]
    fn feedback_is_answered_as_offered_where_the_server_does_it() {
        let section = offered(&[(96, CodecName::Vp8, "")]);
        let (numbers, send_time) = ((3, Extension::TransportSequence), (2, Extension::AbsSendTime));
        assert_eq!(extensions(&section, &FROM_PUBLISHERS), [numbers]);
        assert_eq!(extensions(&section, &TO_SUBSCRIBERS), [numbers, send_time]);
        for (ids, expected) in
            [(ids_from_publisher(&section), (Some(3), None)), (ids_to_subscriber(&section), (Some(3), Some(2)))]
        {
            assert_eq!((ids.get(Extension::TransportSequence), ids.get(Extension::AbsSendTime)), expected);
        }
        let all = section.codecs[0].feedback;
        assert_eq!(publish_codecs(&section, &CodecName::ALL)[0].feedback, all);
        assert_eq!(receive_codecs(&section, &CodecName::ALL)[0].feedback, all);

        let mut sound = offered(&[(111, CodecName::Opus, "")]);
        sound.kind = SectionKind::Media(Kind::Audio);
        assert_eq!(publish_codecs(&sound, &CodecName::ALL)[0].feedback, all);
        assert_eq!(receive_codecs(&sound, &CodecName::ALL)[0].feedback, all);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_own_line() {
        let usable = offered(&[(96, CodecName::Vp8, "")]);
        let stopped = OfferSection { stopped: true, ..usable.clone() };
        let unbundled = OfferSection { unbundled: true, ..usable.clone() };
        let codecless = OfferSection { codecs: vec![], ..usable.clone() };
        let mut text = OfferSection { kind: SectionKind::Other, has_mid: false, ..usable.clone() };
        text.line.media = "text".into();
        assert!(matches!(idle(&usable, &[CodecName::Vp8]), AnswerSection::Accepted { mid: Some(_), .. }));
        for section in [stopped, unbundled, codecless, text] {
            let mid = section.has_mid.then(|| section.mid.clone());
            let expected = AnswerSection::Refused { mid, line: section.line.clone() };
            assert_eq!(idle(&section, &CodecName::ALL), expected);
        }
        assert!(matches!(idle(&usable, &[CodecName::Vp9]), AnswerSection::Refused { .. }));
    }
}
