//! Session descriptions and signalling messages, as far as their parsers go. What a room makes of them is fuzzed by
//! the targets `offers` and `messages`.

use moonring_wire::message::ClientMessage;
use moonring_wire::sdp;

/// An offer. Each section that is read has a mid of its own.
pub(super) fn sdp(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    sdp::has_bundle(text);
    let Ok(offer) = sdp::parse_offer(text) else { return };
    for (n, section) in offer.sections.iter().enumerate() {
        assert!(offer.sections[..n].iter().all(|other| other.mid != section.mid), "{text}");
    }
}

pub(super) fn sdp_seeds() -> Vec<Vec<u8>> {
    [
        &include_bytes!("../../../src/wire/src/sdp/fixtures/chrome_bundle.sdp")[..],
        include_bytes!("../../../src/wire/src/sdp/fixtures/chrome_simulcast.sdp"),
        include_bytes!("../../../src/wire/src/sdp/fixtures/firefox.sdp"),
        include_bytes!("../../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp"),
        include_bytes!("../../../src/wire/src/sdp/fixtures/gstreamer_whip.sdp"),
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Messages, one per line: what can be read can be written, and read again.
pub(super) fn signalling(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for message in text.lines().filter_map(|line| serde_json::from_str::<ClientMessage>(line).ok()) {
        let written = serde_json::to_string(&message).expect("a message");
        assert!(serde_json::from_str::<ClientMessage>(&written).is_ok(), "{written}");
    }
}

pub(super) fn signalling_seeds() -> Vec<Vec<u8>> {
    let offer = r#"{"type":"offer","request":1,"sdp":"v=0","publish":[{"mid":"0","source":"camera"},{"mid":"1"}],
"subscribe":[{"mid":"2","track":"t"}]}"#;
    let track = r#"{"type":"mute","track":"t","muted":true}
{"type":"layer","track":"t","layer":1}
{"type":"unsubscribe","track":"t"}
{"type":"unpublish","track":"t"}"#;
    let message = r#"{"type":"message","value":{"a":[1,2.5,null,"x",{"b":false}],"c":[]}}
{"type":"join","room":"demo","token":"t","metadata":{"name":"Ada"},"protocol":1}
{"type":"leave"}"#;
    vec![offer.replace('\n', "").into_bytes(), track.into(), message.into()]
}
