//! Offers that failed once, or that nobody sends but in bad faith, and what is read in them.

use super::limits::MAX_ATTRIBUTES;
use super::*;
use crate::id::{Mid, Ssrc};
use crate::media::Extension;
use crate::negotiate::{Answer, AnswerSection, Direction, MAX_SECTIONS, Offer, Setup};

const PORT0_BUNDLED: &str = include_str!("fixtures/port0_bundled_no_bundleonly.sdp");
const NO_MID: &str = include_str!("fixtures/no_mid_single_video.sdp");
const REJECTED: &str = include_str!("fixtures/rejected_section_with_mid_no_formats.sdp");
const TEXT: &str = include_str!("fixtures/text_section.sdp");
const EXTMAP: &str = include_str!("fixtures/extmap_256.sdp");
const SIM: &str = include_str!("fixtures/sim_group.sdp");
const UNBUNDLED: &str = include_str!("fixtures/gstreamer_unbundled.sdp");

/// One line per section: the mid, in parentheses where it is not the offer's, its place in the answer, and its codecs.
fn places(offer: &Offer) -> Vec<String> {
    let place = |s: &crate::negotiate::OfferSection| {
        let mid = if s.has_mid { s.mid.to_string() } else { format!("({})", s.mid) };
        let place = match (s.stopped, s.unbundled) {
            (true, _) => "stopped",
            (_, true) => "unbundled",
            _ => "used",
        };
        let codecs: Vec<_> = s.codecs.iter().map(|c| c.codec.name.as_sdp()).collect();
        format!("{mid} {} {place} {}", s.line.media, codecs.join(" ")).trim_end().to_owned()
    };
    offer.sections.iter().map(place).collect()
}

fn read(text: &str) -> Vec<String> {
    places(&parse_offer(text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

#[test]
fn each_section_is_used_or_refused_by_itself() {
    let bundle_only = PORT0_BUNDLED.replace("a=mid:1", "a=mid:1\r\na=bundle-only");
    let not_listed = bundle_only.replace("BUNDLE 0 1", "BUNDLE 0");
    let given_up = PORT0_BUNDLED.replace("a=mid:1\r\na=sendonly", "a=mid:1\r\na=inactive");
    let idle = bundle_only.replace("a=mid:1\r\na=bundle-only\r\na=sendonly", "a=mid:1\r\na=bundle-only\r\na=inactive");
    let bare = REJECTED.replace("a=mid:1\r\n", "");
    let listed_without_formats = REJECTED.replace("BUNDLE 0", "BUNDLE 0 1");
    let rejected_data = REJECTED.to_owned() + "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n";
    let without_group = PORT0_BUNDLED.replace("a=group:BUNDLE 0 1\r\n", "").replace("m=video 0", "m=video 9");
    let half_listed = PORT0_BUNDLED.replace("BUNDLE 0 1", "BUNDLE 1").replace("m=video 0", "m=video 9");
    let no_mids = without_group.replace("a=mid:0\r\n", "").replace("a=mid:1\r\n", "");
    let stranger_listed = NO_MID.replace("m=video", "a=group:BUNDLE _0 7\r\nm=video");
    for (what, text, expected) in [
        ("bundled with port 0", PORT0_BUNDLED, &["0 audio used opus", "1 video used H264"][..]),
        ("bundle-only", &bundle_only, &["0 audio used opus", "1 video used H264"]),
        ("bundle-only outside of the bundle", &not_listed, &["0 audio used opus", "1 video stopped"]),
        ("given up and left in the bundle", &given_up, &["0 audio used opus", "1 video stopped"]),
        ("bundle-only and inactive", &idle, &["0 audio used opus", "1 video used H264"]),
        ("one section without mid", NO_MID, &["(_0) video used H264"]),
        ("one section without mid, a group without it", &stranger_listed, &["(_0) video used H264"]),
        ("rejected, no formats", REJECTED, &["0 audio used opus", "1 video stopped"]),
        ("rejected, no formats, no mid", &bare, &["0 audio used opus", "(_1) video stopped"]),
        ("rejected, no formats, listed", &listed_without_formats, &["0 audio used opus", "1 video stopped"]),
        (
            "rejected data without mid",
            &rejected_data,
            &["0 audio used opus", "1 video stopped", "(_2) application stopped"],
        ),
        ("another medium", TEXT, &["0 audio used opus", "1 video used H264", "2 text used"]),
        ("no bundle", &without_group, &["0 audio used opus", "1 video unbundled H264"]),
        ("no bundle, no mids", &no_mids, &["(_0) audio used opus", "(_1) video unbundled H264"]),
        ("the second in a bundle", &half_listed, &["0 audio unbundled opus", "1 video used H264"]),
        ("GStreamer's without a bundle", UNBUNDLED, &["video0 video used VP8", "audio1 audio unbundled opus"]),
        ("OBS", include_str!("fixtures/obs_libdatachannel.sdp"), &["0 audio used opus", "1 video used H264"]),
        ("three hashes", include_str!("fixtures/three_fingerprints.sdp"), &["0 audio used opus", "1 video used H264"]),
        ("SHA-512", include_str!("fixtures/sha512_only.sdp"), &["0 audio used opus", "1 video used H264"]),
        ("SHA-384", include_str!("fixtures/sha384_only.sdp"), &["0 audio used opus", "1 video used H264"]),
        ("no fmtp", include_str!("fixtures/h264_no_fmtp.sdp"), &["0 video used H264"]),
    ] {
        assert_eq!(read(text), expected, "{what}");
    }
}

#[test]
fn a_name_made_for_a_section_is_none_of_the_offers_and_stays() {
    let taken = format!("{NO_MID}m=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:_0\r\nm=audio 0 X 0\r\n");
    assert_eq!(read(&taken), ["(_256) video used H264", "_0 audio stopped", "(_2) audio stopped"]);
    assert_eq!(read(&taken), read(&taken));
    // All names of the first one but the last are taken.
    let rest: String = (1..MAX_SECTIONS).map(|n| format!("m=x 0 X\r\na=mid:_{}\r\n", (n - 1) * MAX_SECTIONS)).collect();
    assert_eq!(read(&format!("{NO_MID}{rest}"))[0], format!("(_{}) video used H264", 255 * MAX_SECTIONS));
}

#[test]
fn as_many_sections_as_are_allowed_are_read_and_two_of_a_name_are_not() {
    let section = |n: usize| format!("m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:x{n}\r\n");
    let many = |n: usize| format!("{REJECTED}{}", (2..n).map(section).collect::<String>());
    assert_eq!(read(&many(MAX_SECTIONS)).len(), MAX_SECTIONS);
    assert_eq!(parse_offer(&many(MAX_SECTIONS + 1)).unwrap_err().problem, Problem::TooManySections);
    for (name, of) in [("0", "2"), ("x2", "4")] {
        let twice = format!("{REJECTED}{}m=video 0 X\r\na=mid:{name}\r\n", section(2));
        let error = parse_offer(&twice).unwrap_err();
        assert_eq!(error.problem, Problem::DuplicateMid(name.into()), "{of}");
        assert_eq!(error.section, Some(3));
    }
}

#[test]
fn a_section_has_as_many_attributes_as_are_allowed_and_no_more_beside_its_candidates() {
    let own = EXTMAP.rsplit("m=").next().unwrap().lines().filter(|line| line.starts_with("a=")).count();
    let padded = |n: usize| format!("{EXTMAP}{}{}", "a=x:y\r\n".repeat(n), "a=candidate:1\r\n".repeat(MAX_ATTRIBUTES));
    assert_eq!(read(&padded(MAX_ATTRIBUTES - own)), read(EXTMAP));
    let error = parse_offer(&padded(MAX_ATTRIBUTES - own + 1)).unwrap_err();
    assert_eq!(error.problem, Problem::TooMany("attributes", MAX_ATTRIBUTES));
    assert_eq!((error.section, error.line), (Some(1), Some(EXTMAP.lines().count() + MAX_ATTRIBUTES - own + 1)));
}

#[test]
fn redundancy_of_anything_but_opus_is_no_codec_of_ours() {
    let sound = |red: &str| {
        let maps = "a=rtpmap:111 opus/48000/2\r\na=rtpmap:9 G722/8000\r\na=rtpmap:63 red/48000/2\r\n";
        let text = format!("{NO_MID}m=audio 9 UDP/TLS/RTP/SAVPF 63 111 9\r\na=mid:s\r\n{maps}a=fmtp:63 {red}\r\n");
        let offer = parse_offer(&text).unwrap();
        offer.sections.last().unwrap().codecs.iter().map(|codec| codec.pt.0).collect::<Vec<_>>()
    };
    assert_eq!(sound("111/111"), [63, 111]);
    for other in ["111/9", "9/9", "111/", "", "111/x", "111/300"] {
        assert_eq!(sound(other), [111], "{other}");
    }
}

#[test]
fn an_extension_id_that_cannot_be_used_costs_that_line_only() {
    assert_eq!(parse_offer(EXTMAP).unwrap().sections[1].extensions, []);
    let mid = Extension::Mid.uri();
    for (id, expected) in [
        ("256", None),
        ("0", None),
        ("-1", None),
        ("4096", None),
        ("99999999999999999999", None),
        ("x", None),
        ("", None),
        ("1", Some(1)),
        ("255/sendonly", Some(255)),
    ] {
        let text = EXTMAP.replace("256 http://example.com/x", &format!("{id} {mid}"));
        let offer = parse_offer(&text).unwrap_or_else(|error| panic!("{id}: {error}"));
        let found = offer.sections[1].extensions.first().copied();
        assert_eq!(found, expected.map(|id| (id, Extension::Mid)), "{id:?}");
        assert_eq!(offer.sections[1].codecs.len(), 1, "{id:?}");
    }
}

#[test]
fn a_sim_group_names_the_layers_in_its_order_each_with_its_retransmissions() {
    let (low, high, low_rtx, high_rtx) = (1_815_289_772, 3_974_668_332, 1_199_324_968, 4_137_902_746);
    let with_group = |group: &str| SIM.replace("SIM 1815289772 3974668332", group);
    let both = [(low, Some(low_rtx)), (high, Some(high_rtx))];
    let turned = [(high, Some(high_rtx)), (low, Some(low_rtx))];
    for (what, text, layers, expected) in [
        ("as it is", SIM.to_owned(), 2, &both[..]),
        ("the other way round", with_group("SIM 3974668332 1815289772"), 2, &turned),
        ("one twice", with_group("SIM 1815289772 3974668332 1815289772"), 2, &both),
        ("with one that is not announced", with_group("SIM 7 1815289772 3974668332"), 2, &both),
        ("with one of retransmissions", with_group("SIM 1815289772 1199324968 3974668332"), 2, &both),
        ("of one layer", with_group("SIM 3974668332"), 1, &both),
        ("of one layer, twice", with_group("SIM 3974668332 3974668332"), 1, &both),
        ("of none", with_group("SIM"), 1, &both),
        ("of no numbers", with_group("SIM a b"), 1, &both),
        ("no group", with_group("LS 1 2"), 1, &both),
        (
            "two that claim one stream of retransmissions",
            SIM.replace("FID 3974668332 4137902746", "FID 3974668332 1199324968"),
            2,
            &[(low, Some(low_rtx)), (high, None)],
        ),
    ] {
        let offer = parse_offer(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
        let section = &offer.sections[0];
        let expected: Vec<_> = expected.iter().map(|(ssrc, rtx)| (Ssrc(*ssrc), rtx.map(Ssrc))).collect();
        assert_eq!(section.layers(), layers, "{what}");
        let announced = &section.ssrcs[..expected.len()];
        assert_eq!(announced, expected, "{what}");
    }
}

#[test]
fn an_answer_repeats_what_is_refused_and_shows_only_the_offers_mids() {
    let offer = parse_offer(&REJECTED.replace("a=mid:1\r\n", "")).unwrap();
    let text = answer_refusing_all_but_the_first(&offer);
    let (_, refused) = text.rsplit_once("m=").unwrap();
    // GStreamer looks for the transport's attributes also where the port is 0.
    let transport = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:passive\r\n"];
    assert!(transport.iter().all(|attribute| refused.contains(attribute)), "{refused}");
    assert!(
        refused.starts_with("video 0 UDP/TLS/RTP/SAVPF\r\n") && refused.ends_with("passive\r\na=inactive\r\n"),
        "{text}"
    );
    assert!(text.contains("a=group:BUNDLE 0\r\n"), "{text}");

    let offer = parse_offer(TEXT).unwrap();
    let text = answer_refusing_all_but_the_first(&offer);
    let (_, refused) = text.rsplit_once("m=").unwrap();
    assert!(refused.starts_with("text 0 UDP/TLS/RTP/SAVPF 98\r\n"), "{text}");
    assert!(refused.ends_with("passive\r\na=mid:2\r\na=inactive\r\n"), "{text}");

    let text = answer_refusing_all_but_the_first(&parse_offer(NO_MID).unwrap());
    assert!(!text.contains("a=mid") && !text.contains("BUNDLE") && text.contains("a=candidate"), "{text}");
}

fn answer_refusing_all_but_the_first(offer: &Offer) -> String {
    render_answer(&answer_to_the_first(offer))
}

fn answer_to_the_first(offer: &Offer) -> Answer {
    let sections = offer.sections.iter().enumerate().map(|(at, s)| match (at, s.kind) {
        (0, crate::negotiate::SectionKind::Media(kind)) => AnswerSection::Accepted {
            mid: s.shown_mid(),
            kind,
            protocol: s.line.protocol.clone(),
            direction: Direction::RecvOnly,
            codecs: vec![],
            extensions: vec![],
            rids: vec![],
            stream: None,
            max_bitrate_bps: None,
        },
        _ => AnswerSection::Refused { mid: s.shown_mid(), line: s.line.clone() },
    });
    Answer {
        version: 1,
        ice: offer.ice.clone(),
        fingerprint: offer.fingerprint,
        setup: Setup::Passive,
        candidates: vec!["192.0.2.1:40000".parse().unwrap()],
        over_tcp: false,
        sections: sections.collect(),
    }
}

#[test]
fn candidates_over_tcp_stand_behind_all_over_udp_and_are_preferred_less() {
    let candidates = ["192.0.2.1:40000", "[2001:db8::1]:40000"].map(|address| address.parse().unwrap()).to_vec();
    let answer = Answer { candidates, over_tcp: true, ..answer_to_the_first(&parse_offer(TEXT).unwrap()) };
    let text = render_answer(&answer);
    let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("a=candidate:")).collect();
    assert_eq!(
        lines,
        [
            "1 1 udp 2130706431 192.0.2.1 40000 typ host",
            "2 1 udp 2130706175 2001:db8::1 40000 typ host",
            "t1 1 tcp 1520435199 192.0.2.1 40000 typ host tcptype passive",
            "t2 1 tcp 1520434943 2001:db8::1 40000 typ host tcptype passive",
        ]
    );
    let text = render_answer(&Answer { over_tcp: false, ..answer });
    assert!(text.contains("udp") && !text.contains("tcp "), "{text}");
}

#[test]
fn names_of_parameters_are_compared_without_case() {
    let text = include_str!("fixtures/gstreamer_whip.sdp").replace("apt=", "APT=");
    assert_eq!(parse_offer(&text).unwrap().sections[0].codecs[0].rtx.map(|pt| pt.0), Some(97));
}

#[test]
fn hostile_names_are_refused_or_void() {
    for (mid, words) in [("", "is empty"), ("a b", "' '"), ("../x", "'.'"), (&"m".repeat(65), "65 bytes")] {
        let error = parse_offer(&TEXT.replace("a=mid:1", &format!("a=mid:{mid}"))).unwrap_err().to_string();
        assert!(error.contains("the mid") && error.contains(words), "{error}");
    }
    let group = format!("BUNDLE {} 0 1", "0 1 _0 ".repeat(500));
    assert_eq!(read(&TEXT.replace("BUNDLE 0 1 2", &group))[..2], ["0 audio used opus", "1 video used H264"]);
    assert_eq!(Mid::parse("_0").unwrap().as_str(), "_0");
}
