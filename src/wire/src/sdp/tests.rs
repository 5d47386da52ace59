//! Offers of real clients to values, values to text, and mutations of both. `chrome_*.sdp` were recorded from
//! Chromium 156; the others are written after what those clients send.

use std::io::Cursor;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sdp::description::session::SessionDescription;

use super::*;
use crate::id::{Mid, Pt, Rid, Ssrc};
use crate::media::{Codec, CodecName, Extension, Kind};
use crate::negotiate::*;

const FIXTURES: [(&str, &str); 7] = [
    ("chrome_bundle", include_str!("fixtures/chrome_bundle.sdp")),
    ("chrome_simulcast", include_str!("fixtures/chrome_simulcast.sdp")),
    ("firefox", include_str!("fixtures/firefox.sdp")),
    ("aiortc", include_str!("fixtures/aiortc.sdp")),
    ("gstreamer_whip", include_str!("fixtures/gstreamer_whip.sdp")),
    ("ffmpeg_whip", include_str!("fixtures/ffmpeg_whip.sdp")),
    ("safari", include_str!("fixtures/safari.sdp")),
];

fn fixture(name: &str) -> &'static str {
    FIXTURES.iter().find(|(n, _)| *n == name).unwrap().1
}

fn layer(rid: &str) -> SimulcastLayer {
    SimulcastLayer { rid: Rid::parse(rid).unwrap(), is_paused: false }
}

/// One line per section: what a room decides on.
fn summary(offer: &Offer) -> Vec<String> {
    let section = |s: &OfferSection| {
        let kind = match s.kind {
            SectionKind::Media(kind) => kind.as_str(),
            SectionKind::Other => "other",
        };
        let codecs: Vec<String> = s
            .codecs
            .iter()
            .map(|c| {
                let f = c.feedback;
                let flags = [(f.nack, 'n'), (f.pli, 'p'), (f.fir, 'f'), (f.remb, 'r'), (f.transport_cc, 't')];
                let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, c)| c).collect();
                let rtx = c.rtx.map_or(String::new(), |rtx| format!("+{}", rtx.0));
                let name = if c.codec.is_red() { "red" } else { c.codec.name.as_sdp() };
                format!("{}{rtx}:{name}:{flags}", c.pt.0)
            })
            .collect();
        let extensions: Vec<String> = s.extensions.iter().map(|(id, e)| format!("{id}={e:?}")).collect();
        let ssrcs: Vec<String> = s.ssrcs.iter().map(|(m, r)| format!("{}/{}", m.0, r.map_or(0, |r| r.0))).collect();
        let rids: Vec<&str> = s.rids.iter().map(|layer| layer.rid.as_str()).collect();
        let stopped = if s.stopped { " stopped" } else { "" };
        format!(
            "{} {kind} {:?}{stopped} [{}] [{}] [{}] [{}]",
            s.mid,
            s.direction,
            codecs.join(" "),
            extensions.join(" "),
            ssrcs.join(" "),
            rids.join(" ")
        )
    };
    offer.sections.iter().map(section).collect()
}

#[test]
fn offers_of_real_clients_are_understood() {
    for (name, ufrag, setup, first_octet, expected) in [
        (
            "firefox",
            "1f3b2a7c",
            Setup::ActPass,
            0x6d,
            &[
                "0 audio SendRecv [109:opus:] [1=AudioLevel 3=Mid] [1767262432/0] []",
                "1 video SendRecv [120+124:VP8:npfrt 121+125:VP9:npfrt 126+127:H264:npfrt 97+98:H264:npfrt] \
                 [3=Mid 4=AbsSendTime 6=PlayoutDelay 7=TransportSequence] [3163127013/1014225877] []",
                "2 video RecvOnly [120+124:VP8:npf] [3=Mid] [] []",
            ][..],
        ),
        (
            "aiortc",
            "xT4k",
            Setup::ActPass,
            0x1e,
            &[
                "0 audio SendRecv [96:opus:] [1=Mid 2=AudioLevel] [2206187394/0] []",
                "1 video SendRecv [97+98:VP8:npr 99+100:H264:npr] [1=Mid 3=AbsSendTime] [3911722465/1178840731] []",
            ],
        ),
        (
            "gstreamer_whip",
            "0g1bJcHVlDYt0zQz5r1nyo9Ns8kPH1wE",
            Setup::ActPass,
            0x5d,
            &[
                "video0 video SendOnly [96+97:H264:npft] [1=TransportSequence] [2841936417/1733062294] []",
                "audio1 audio SendOnly [98:opus:t] [1=TransportSequence] [993175208/0] []",
            ],
        ),
        (
            "ffmpeg_whip",
            "2bc1dff2",
            Setup::Passive,
            0xaa,
            &[
                "0 audio SendOnly [111:opus:] [] [3110478211/0] []",
                "1 video SendOnly [106+105:H264:n] [] [1455627816/2873664017] []",
            ],
        ),
        (
            "safari",
            "Zr0P",
            Setup::ActPass,
            0xc4,
            &[
                "0 audio SendRecv [111:opus:t 63:red:] [1=AudioLevel 2=AbsSendTime 3=TransportSequence 4=Mid] [2954387761/0] []",
                "1 video SendRecv [96+97:H264:npfrt 98+99:H264:npfrt 100+101:VP8:npfrt] [2=AbsSendTime \
                 13=VideoOrientation 3=TransportSequence 5=PlayoutDelay 4=Mid 10=Rid 11=RepairedRid] \
                 [1389244097/3870155062] []",
                "2 other SendRecv [] [] [] []",
            ],
        ),
    ] {
        let offer = parse_offer(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(offer.ice.ufrag, ufrag, "{name}");
        assert_eq!(offer.setup, setup, "{name}");
        assert_eq!(offer.fingerprint.bytes()[0], first_octet, "{name}");
        assert_eq!(summary(&offer), expected, "{name}");
    }
}

#[test]
fn chromes_offers_keep_what_is_forwarded_and_leave_out_fec() {
    let offer = parse_offer(fixture("chrome_bundle")).unwrap();
    let names: Vec<Vec<&str>> =
        offer.sections.iter().map(|s| s.codecs.iter().map(|c| c.codec.name.as_sdp()).collect()).collect();
    assert_eq!(names[0], ["opus", "opus"]);
    let sound = &offer.sections[0].codecs;
    assert_eq!((sound[1].codec.is_red(), sound[1].codec.fmtp.as_str()), (true, "111/111"));
    assert_eq!(names[1], ["VP8", "H264", "H264", "H264", "H264", "H264", "H264", "AV1", "VP9", "VP9"]);
    assert!(names[2].len() > names[1].len());
    assert!(offer.sections[1].codecs.iter().all(|c| c.rtx.is_some()));
    assert_eq!(offer.sections[1].ssrcs, [(Ssrc(162_630_826), Some(Ssrc(1_744_748_434)))]);
    assert_eq!(
        offer.sections[1].codecs[1].codec.fmtp,
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"
    );
    let directions: Vec<Direction> = offer.sections.iter().map(|s| s.direction).collect();
    assert_eq!(directions, [Direction::SendOnly, Direction::SendOnly, Direction::RecvOnly, Direction::RecvOnly]);

    let offer = parse_offer(fixture("chrome_simulcast")).unwrap();
    assert_eq!(offer.sections[0].rids, ["l", "m", "h"].map(layer));
    assert_eq!(offer.sections[0].ssrcs, []);
    assert_eq!(offer.sections[1].kind, SectionKind::Other);
    let rid = offer.sections[0].extensions.iter().find(|(_, e)| *e == Extension::Rid);
    assert_eq!(rid, Some(&(10, Extension::Rid)));
}

#[test]
fn a_certificate_is_taken_by_its_strongest_fingerprint() {
    let octets = |n: usize| vec!["AB"; n].join(":");
    let line = |hash: &str, n: usize| format!("a=fingerprint:{hash} {}\r\n", octets(n));
    let all = [line("sha-256", 32), line("sha-384", 48), line("sha-512", 64)];
    let ffmpeg = fixture("ffmpeg_whip");
    let with = |lines: &str| {
        let kept: String =
            ffmpeg.lines().filter(|l| !l.starts_with("a=fingerprint")).map(|l| format!("{l}\r\n")).collect();
        kept.replace("a=setup", &format!("{lines}a=setup"))
    };
    for (lines, hash) in [
        (all[2].clone(), "sha-512"),
        (all[1].clone(), "sha-384"),
        (all.concat(), "sha-512"),
        (all[2].clone() + &all[0], "sha-512"),
        (all[1].replace("sha", "SHA") + &all[0], "sha-384"),
        (line("sha-1", 20) + &all[0], "sha-256"),
    ] {
        assert_eq!(parse_offer(&with(&lines)).unwrap().fingerprint.hash(), hash, "{lines}");
    }
    let differs = with(&all[2]).replacen("sha-512 AB", "sha-512 AC", 1);
    assert!(parse_offer(&differs).unwrap_err().to_string().contains("differs from another"));
    let too_short = with(&all[2].replace("sha-512 AB:", "sha-512 "));
    assert!(parse_offer(&too_short).unwrap_err().to_string().contains("malformed"));
}

#[test]
fn what_is_wrong_with_an_offer_is_said_with_its_section_and_line() {
    let ffmpeg = fixture("ffmpeg_whip");
    let many = format!("{}{}", ffmpeg, "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:x\r\n".repeat(MAX_SECTIONS));
    let long = format!("a={}", "x".repeat(70_000));
    let stopped =
        ffmpeg.replace("BUNDLE 0 1", "BUNDLE").replace("m=audio 9", "m=audio 0").replace("m=video 9", "m=video 0");
    // The offer, the section, the beginning of the line, the words.
    for (text, section, blamed, words) in [
        ("", None, "", "session part: no SDP: it has to begin with the lines v=0, o= and s="),
        ("v=1", None, "", "no SDP"),
        ("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nt=0 0\r\n", None, "", "no SDP"),
        ("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", None, "", "no media section"),
        ("hello", None, "hello", "is not of the form"),
        (&ffmpeg.replace("a=rtcp-mux\r\na=rtcp-rsize\r\n", ""), Some(1), "m=video", "no a=rtcp-mux"),
        (
            &ffmpeg.replace("sha-256", "sha-1"),
            Some(0),
            "a=fingerprint:sha-1",
            "no a=fingerprint with sha-256, sha-384 or sha-512",
        ),
        (&ffmpeg.replacen("AA:1C", "AB:1C", 1), Some(1), "a=fingerprint:sha-256 AA:1C", "differs from another"),
        (&ffmpeg.replacen("AA:1C", "AA1C", 1), Some(0), "a=fingerprint:sha-256 AA1C", "has a malformed value"),
        (&ffmpeg.replace("a=setup:passive\r\n", ""), Some(0), "m=audio", "no a=setup"),
        (&ffmpeg.replace("setup:passive", "setup:holdconn"), Some(0), "a=setup:hold", "a=setup has a malformed value"),
        (&ffmpeg.replace("a=ice-ufrag:2bc1dff2\r\n", ""), Some(0), "m=audio", "no a=ice-ufrag"),
        (&ffmpeg.replace("pwd:6cb8ff8ad7ba1fc2", "pwd:"), Some(0), "a=ice-pwd:d3d4", "a=ice-pwd has a malformed value"),
        (&ffmpeg.replace("a=mid:0", "a=mid:a/b"), Some(0), "a=mid:a/b", "the mid has the character '/'"),
        (&ffmpeg.replace("a=mid:1", "a=mid:0"), Some(1), "a=mid:0", "the mid \"0\" is used twice"),
        (&ffmpeg.replace("a=mid:1\r\n", ""), Some(1), "m=video", "no a=mid"),
        (&ffmpeg.replace("opus", "ilbc").replace("H264", "H263"), None, "", "no audio or video section"),
        (&stopped, None, "", "every media section is stopped (port 0): keep one of them, inactive, or leave"),
        (&ffmpeg.replace("9 UDP/TLS/RTP/SAVPF", "9 RTP/AVP"), Some(0), "m=audio", "the protocol \"RTP/AVP\""),
        (&ffmpeg.replace("a=ssrc:1455627816 c", "a=ssrc:-1 c"), Some(1), "a=ssrc:-1", "a=ssrc has a malformed value"),
        (&ffmpeg.replace("FID 1455627816", "FID"), Some(1), "a=ssrc-group:FID", "a=ssrc-group has a malformed value"),
        (&ffmpeg.replace("m=video 9", "m=video nine"), Some(1), "m=video nine", "m=video nine UDP"),
        (&ffmpeg.replacen("a=rtcp-mux", &long, 1), Some(0), "a=xxx", "is 70002 bytes long"),
        (&ffmpeg.replacen("a=rtcp-mux", "a=rtcp\rmux", 1), Some(0), "a=rtcp\rmux", "is not of the form"),
        (&many, Some(256), "m=video 0", "more than 256 media sections"),
        (&"i=x\n".repeat(20_000), None, "i=x", "more than 16384 lines"),
        (&"a=x\n".repeat(20_000), None, "a=x", "more than 1024 attributes"),
    ] {
        let error = parse_offer(text).expect_err(words);
        let shown = error.to_string();
        assert!(shown.contains(words), "{words}: {shown}");
        assert_eq!(error.section, section, "{shown}");
        let line = error.line.map_or("", |line| text.split('\n').nth(line - 1).unwrap());
        assert!(line.starts_with(blamed) && line.is_empty() == blamed.is_empty(), "{shown}: {line:?}");
    }
}

#[test]
fn what_other_sections_say_of_the_transport_does_not_matter_in_a_bundle() {
    let text = fixture("firefox");
    let reordered = text.replace("BUNDLE 0 1 2", "BUNDLE 1 0 2");
    let stopped = text.replace("m=audio 9", "m=audio 0").replace("BUNDLE 0 1 2", "BUNDLE 1 2");
    let codecless = text.replace("opus/48000", "opus/8000");
    for (text, ufrag) in
        [(text, "1f3b2a7c"), (&reordered, "77c0de21"), (&stopped, "77c0de21"), (&codecless, "77c0de21")]
    {
        let offer = parse_offer(text).unwrap();
        assert_eq!(offer.ice.ufrag, ufrag);
        // Who can take nothing of some sections has the transport of the first one of the others.
        for (refused, left) in [("", ufrag), ("0", "77c0de21"), ("2", ufrag)] {
            assert_eq!(offer.ice_of(|section| section.mid.as_str() != refused).ufrag, left, "without {refused}");
        }
    }
}

#[test]
fn oddities_that_clients_may_send_are_taken() {
    let ffmpeg = fixture("ffmpeg_whip");
    let candidates = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(3000);
    for (what, text) in [
        ("line feeds only", ffmpeg.replace("\r\n", "\n")),
        ("no last line end", ffmpeg.trim_end().to_owned()),
        ("an unknown medium", ffmpeg.to_owned() + "m=haptic 9 TCP/WSS x\r\na=mid:9\r\n"),
        ("a fractional bandwidth", ffmpeg.replace("a=mid:0", "b=AS:0.5\r\na=mid:0")),
        ("a session id that is no number", ffmpeg.replace("4489045141692799359", "99999999999999999999999")),
        ("thousands of candidates", ffmpeg.replace("a=mid:0\r\n", &format!("a=mid:0\r\n{candidates}"))),
        ("an old spelling of the protocol", ffmpeg.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF")),
        ("lower case", ffmpeg.replace("sha-256", "SHA-256").replace("H264", "h264")),
    ] {
        let offer = parse_offer(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(offer.sections[1].codecs.len(), 1, "{what}");
    }
    assert!(has_bundle(ffmpeg) && !has_bundle(&ffmpeg.replace("BUNDLE 0 1", "LS 0 1")));
}

#[test]
fn each_section_has_its_own_extension_ids() {
    // An id that is another extension in the next section (aiortc had that), and MID with another id there (baresip, webrtc-rs).
    let (sound, pictures) = ("a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:2", "a=extmap:3 http");
    let text = fixture("aiortc").replace(sound, &sound.replace(":1 ", ":4 ")).replace(pictures, "a=extmap:2 http");
    let offer = parse_offer(&text).unwrap();
    assert_eq!(offer.sections[0].extensions, [(4, Extension::Mid), (2, Extension::AudioLevel)]);
    assert_eq!(offer.sections[1].extensions, [(1, Extension::Mid), (2, Extension::AbsSendTime)]);
}

fn answer() -> Answer {
    let opus = Codec { name: CodecName::Opus, fmtp: "minptime=10;useinbandfec=1".into() };
    let vp8 = Codec { name: CodecName::Vp8, fmtp: String::new() };
    let vp9 = Codec { name: CodecName::Vp9, fmtp: "profile-id=0".into() };
    let stream = |ssrc, track: &str| AnswerStream {
        ssrc: Ssrc(ssrc),
        rtx_ssrc: Some(Ssrc(ssrc + 1)),
        stream_id: "ada".into(),
        track_id: track.into(),
        cname: "ada".into(),
    };
    let all = Feedback { nack: true, pli: true, fir: true, remb: true, transport_cc: true };
    let mid = |text| Some(Mid::parse(text).unwrap());
    Answer {
        version: 3,
        ice: IceCredentials { ufrag: "srv1".into(), pwd: "0123456789abcdefghijkl".into() },
        fingerprint: Fingerprint::Sha256([0xa5; 32]),
        setup: Setup::Passive,
        candidates: vec!["192.0.2.1:40000".parse().unwrap(), "[2001:db8::1]:40000".parse().unwrap()],
        over_tcp: false,
        sections: vec![
            AnswerSection::Refused {
                mid: mid("0"),
                line: MediaLine {
                    media: "application".into(),
                    protocol: "UDP/DTLS/SCTP".into(),
                    formats: vec!["webrtc-datachannel".into()],
                },
            },
            AnswerSection::Accepted {
                mid: mid("1"),
                kind: Kind::Video,
                protocol: "UDP/TLS/RTP/SAVPF".into(),
                direction: Direction::RecvOnly,
                codecs: vec![AnswerCodec { pt: Pt(96), codec: vp8, rtx: Some(Pt(97)), feedback: all }],
                extensions: vec![(4, Extension::TransportSequence), (9, Extension::Mid)],
                rids: vec![layer("l"), layer("m"), SimulcastLayer { is_paused: true, ..layer("h") }],
                stream: None,
                max_bitrate_bps: Some(2_500_000),
            },
            AnswerSection::Accepted {
                mid: mid("2"),
                kind: Kind::Audio,
                protocol: "UDP/TLS/RTP/SAVPF".into(),
                direction: Direction::SendOnly,
                codecs: vec![AnswerCodec { pt: Pt(111), codec: opus, rtx: None, feedback: Feedback::default() }],
                extensions: vec![],
                rids: vec![],
                stream: Some(stream(7, "t1")),
                max_bitrate_bps: None,
            },
            AnswerSection::Accepted {
                mid: mid("3"),
                kind: Kind::Video,
                protocol: "UDP/TLS/RTP/SAVPF".into(),
                direction: Direction::SendOnly,
                codecs: vec![AnswerCodec { pt: Pt(98), codec: vp9, rtx: Some(Pt(99)), feedback: Feedback::default() }],
                extensions: vec![],
                rids: vec![],
                stream: Some(stream(9, "t2")),
                max_bitrate_bps: None,
            },
        ],
    }
}

#[test]
fn an_answer_is_this_text() {
    let expected = include_str!("fixtures/answer.txt");
    let text = render_answer(&answer());
    assert_eq!(text.replace("\r\n", "\n"), expected);
    let parsed = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes())).unwrap();
    assert_eq!(parsed.marshal(), text, "what the crate reads, it writes");
    assert!(!render_unbundled_answer(&answer()).contains("BUNDLE"));
    assert!(!text.contains("\n\n") && text.ends_with("\r\n"));
}

#[test]
fn a_mutated_offer_never_panics() {
    let mut rng = SmallRng::seed_from_u64(0x5d9);
    let alphabet = b"\r\n\0 :=/;,*a=mv09-~\xff";
    for round in 0..6000 {
        let (_, text) = FIXTURES[round % FIXTURES.len()];
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..8) {
            let at = rng.random_range(0..bytes.len());
            let end = (at + rng.random_range(0..40)).min(bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[at] = alphabet[rng.random_range(0..alphabet.len())],
                1 => drop(bytes.drain(at..end)),
                2 => bytes.insert(at, alphabet[rng.random_range(0..alphabet.len())]),
                _ => {
                    let copy = bytes[at..end].to_vec();
                    let to = rng.random_range(0..=bytes.len());
                    bytes.splice(to..to, copy);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'v');
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = parse_offer(&text) {
            assert!(error.to_string().len() < 300, "{error}");
        }
    }
}
