//! Offers of other clients as they were reported, from their text to the text of the answer.

use moonring_core::command::PublishIntent;
use moonring_core::shard::ShardSettings;
use moonring_wire::id::Mid;
use moonring_wire::media::CodecName::H264;
use moonring_wire::negotiate::{Direction, SectionKind};
use moonring_wire::sdp;

use crate::sim::flows::{sends, wants};
use crate::sim::raw::section;
use crate::sim::{OPEN, World, settings};

/// The text of a case that was reported.
macro_rules! case {
    ($name:literal) => {
        include_str!(concat!("../../src/wire/src/sdp/fixtures/", $name, ".sdp"))
    };
}

/// Somebody posts `text`, and publishes in every section that sends: each outcome, and the answer's `m=` lines.
fn posted(text: &str) -> (Vec<String>, Vec<String>, String) {
    let mut world = World::new(76);
    let who = world.join_raw("encoder");
    let offer = sdp::parse_offer(text).unwrap();
    let sending = offer.sections.iter().filter(|s| !s.stopped && s.kind != SectionKind::Other && s.direction.sends());
    let publish: Vec<PublishIntent> = sending.map(|s| sends(s.mid.as_str())).collect();
    world.raw(who).sections = offer.sections;
    let mut outcomes: Vec<String> = world
        .offer(who, publish, vec![])
        .into_iter()
        .map(|o| format!("{} {}", o.mid, o.reason.unwrap_or_else(|| "ok".into())))
        .collect();
    outcomes.sort();
    let answer = world.raw(who).answer.clone().unwrap();
    let text = if sdp::has_bundle(text) { sdp::render_answer(&answer) } else { sdp::render_unbundled_answer(&answer) };
    let lines = text.lines().filter_map(|line| line.strip_prefix("m=")).map(str::to_owned).collect();
    (outcomes, lines, text)
}

#[test]
fn each_reported_offer_is_answered_and_what_it_sends_is_published() {
    let (sound, picture) = ("audio 9 UDP/TLS/RTP/SAVPF 111", "video 9 UDP/TLS/RTP/SAVPF 96");
    for (name, text, outcomes, lines) in [
        ("s1", case!("port0_bundled_no_bundleonly"), &["0 ok", "1 ok"][..], &[sound, picture][..]),
        ("s3b", case!("no_mid_single_video"), &["_0 ok"], &[picture]),
        ("s4b", case!("rejected_section_with_mid_no_formats"), &["0 ok"], &[sound, "video 0 UDP/TLS/RTP/SAVPF"]),
        ("s5d", case!("three_fingerprints"), &["0 ok", "1 ok"], &[sound, picture]),
        ("s7", case!("obs_libdatachannel"), &["0 ok", "1 ok"], &[sound, picture]),
        ("s8", case!("text_section"), &["0 ok", "1 ok"], &[sound, picture, "text 0 UDP/TLS/RTP/SAVPF 98"]),
        ("s11b", case!("extmap_256"), &["0 ok", "1 ok"], &[sound, picture]),
        ("s18", case!("h264_no_fmtp"), &["0 ok"], &[picture]),
        ("s23", case!("sim_group"), &["0 ok"], &[picture]),
        (
            "gst_offer",
            case!("gstreamer_unbundled"),
            &[
                "audio1 section audio1 is not in a=group:BUNDLE with the others, which share one transport; use the bundle \
                 policy max-bundle",
                "video0 ok",
            ],
            &[picture, "audio 0 UDP/TLS/RTP/SAVPF 97"],
        ),
    ] {
        let (seen_outcomes, seen_lines, text) = posted(text);
        assert_eq!(seen_outcomes, outcomes, "{name}");
        assert_eq!(seen_lines, lines, "{name}");
        assert!(!text.contains("a=mid:_"), "{name}: {text}");
    }
}

#[test]
fn a_layer_that_the_offer_pauses_is_paused_in_the_answer() {
    let paused = case!("chrome_simulcast").replace("a=simulcast:send l;m;h", "a=simulcast:send l;~m;~h");
    for (text, expected) in [(case!("chrome_simulcast"), "l;m;h"), (&paused, "l;~m;~h")] {
        let (outcomes, _, answer) = posted(text);
        assert_eq!(outcomes, ["0 ok"]);
        let layers: Vec<_> =
            answer.lines().filter(|line| line.contains("=rid:") || line.contains("simulcast")).collect();
        let expected = format!("a=simulcast:recv {expected}");
        assert_eq!(layers, ["a=rid:l recv", "a=rid:m recv", "a=rid:h recv", &expected]);
    }
}

#[test]
fn an_answers_section_has_the_protocol_of_the_offers() {
    for protocol in ["UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "RTP/SAVPF"] {
        let (outcomes, lines, _) = posted(&case!("h264_no_fmtp").replace("UDP/TLS/RTP/SAVPF", protocol));
        assert_eq!((outcomes, lines), (vec!["0 ok".to_owned()], vec![format!("video 9 {protocol} 96")]));
    }
}

#[test]
fn sections_of_hostile_offers_come_out_one_by_one() {
    let many: String = (2..256).map(|n| format!("m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:x{n}\r\n")).collect();
    let (outcomes, lines, _) = posted(&format!("{}{many}", case!("rejected_section_with_mid_no_formats")));
    assert_eq!((outcomes, lines.len()), (vec!["0 ok".to_owned()], 256));

    // A name that the server would make is somebody's: each section is published under its own.
    let taken =
        case!("port0_bundled_no_bundleonly").replace("a=mid:1", "a=mid:_0").replace("BUNDLE 0 1", "BUNDLE 0 _0");
    assert_eq!(posted(&taken).0, ["0 ok", "_0 ok"]);
    let absurd = case!("extmap_256")
        .replace("a=extmap:256 http://example.com/x", "a=extmap:0 urn:ietf:params:rtp-hdrext:sdes:mid");
    assert!(!posted(&absurd).2.contains("a=extmap:"));
}

#[test]
fn h264_without_parameters_goes_to_a_receiver_of_mode_1_and_another_profile_needs_the_setting() {
    let viewer = || {
        let mut viewer = section("0", H264, Direction::RecvOnly);
        viewer.codecs[0].codec.fmtp = "level-asymmetry-allowed=1;Packetization-Mode=1;profile-level-id=42e01f".into();
        viewer
    };
    let high = case!("obs_libdatachannel").replace("profile-level-id=42e01f", "PROFILE-LEVEL-ID=640c1f");
    let refusal = "section 0 offers H264 with profile 42e0 (Constrained Baseline), the track has profile 640c (High); \
        offer that one, publish another, or let the server's h264_any_profile leave it to the decoder";
    for (text, any_profile, expected) in [
        (case!("h264_no_fmtp"), false, None),
        (case!("obs_libdatachannel"), false, None),
        (&high, false, Some(refusal)),
        (&high, true, None),
    ] {
        let settings = ShardSettings { h264_any_profile: any_profile, ..settings() };
        let mut world = World::with(77, settings, OPEN);
        let (encoder, bob) = (world.join_raw("encoder"), world.join_raw("bob"));
        world.raw(encoder).sections = sdp::parse_offer(text).unwrap().sections;
        let video = world.raw(encoder).sections.last().unwrap().mid.clone();
        let track = world.offer(encoder, vec![sends(video.as_str())], vec![])[0].track.clone().unwrap();
        world.raw(bob).sections = vec![viewer()];
        let outcome = world.offer(bob, vec![], vec![wants(&Mid::parse("0").unwrap(), Some(&track.id))]).remove(0);
        assert_eq!(outcome.reason.as_deref(), expected, "{any_profile} {text}");
    }
}
