//! Session descriptions and signalling messages on their way through a shard.

use moonring_core::command::{Command, Event, OfferRequest, PublishIntent, SubscribeIntent};
use moonring_loadtest::peer::answer_text;
use moonring_wire::id::ClientId;
use moonring_wire::media::Source;
use moonring_wire::message::ClientMessage;
use moonring_wire::negotiate::Offer;
use moonring_wire::sdp;

use super::{PANICS, POLICY};
use crate::sim::World;

/// Offers, one behind the other with a line of dashes between: a client's first, and then its changed mind. What is a
/// description gets an answer, and answers can be read.
pub(super) fn offers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let offers: Vec<_> = text.split("----\n").filter_map(|text| sdp::parse_offer(text).ok()).take(3).collect();
    if offers.is_empty() {
        return;
    }
    let mut world = World::ruled(1, POLICY);
    let client = world.join_raw("client");
    for offer in offers {
        let (publish, subscribe) = intents(&offer);
        world.offer_with(client, offer, publish, subscribe);
    }
    for event in &world.events {
        let Event::Answered { answer, .. } = event else { continue };
        let text = sdp::render_answer(answer);
        assert!(answer_text::parse(&text).is_ok(), "{text}");
        sdp::render_unbundled_answer(answer);
    }
    assert_eq!(world.shard.counters().panics, 0, "{PANICS}");
}

pub(super) fn offers_seeds() -> Vec<Vec<u8>> {
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

/// Publishes what sends, asks for something where the client receives.
fn intents(offer: &Offer) -> (Vec<PublishIntent>, Vec<SubscribeIntent>) {
    let sends = offer.sections.iter().filter(|section| section.direction.sends());
    let receives = offer.sections.iter().filter(|section| !section.direction.sends() && section.direction.receives());
    (
        sends
            .map(|section| PublishIntent { mid: section.mid.clone(), source: Source::Camera, makes_key_frames: true })
            .collect(),
        receives.map(|section| SubscribeIntent { mid: section.mid.clone(), track: None }).collect(),
    )
}

/// Messages, a line each, of two clients in turn: what a session makes of them goes to the shard.
pub(super) fn messages(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let messages: Vec<_> = text.lines().take(20).map(serde_json::from_str::<ClientMessage>).collect();
    if messages.iter().all(Result::is_err) {
        return;
    }
    let mut world = World::ruled(1, POLICY);
    let clients = ["one", "two"].map(|name| world.join_raw(name)).map(|who| world.id(who));
    for (message, client) in messages.into_iter().zip(clients.iter().cycle()) {
        if let Some(command) = message.ok().and_then(|message| command(client.clone(), message)) {
            world.command(command);
        }
    }
    assert_eq!(world.shard.counters().panics, 0, "{PANICS}");
}

fn command(client: ClientId, message: ClientMessage) -> Option<Command> {
    Some(match message {
        ClientMessage::Join { .. } => return None,
        ClientMessage::Resume { .. } => Command::Snapshot { client },
        ClientMessage::View { track, width, height } => Command::SetView { client, track, width, height },
        ClientMessage::Offer { request, sdp, publish, subscribe } => Command::Offer(OfferRequest {
            client,
            request,
            offer: Box::new(sdp::parse_offer(&sdp).ok()?),
            publish: publish
                .into_iter()
                .map(|p| PublishIntent { mid: p.mid, source: p.source, makes_key_frames: p.key_frames })
                .collect(),
            subscribe: subscribe.into_iter().map(|s| SubscribeIntent { mid: s.mid, track: Some(s.track) }).collect(),
        }),
        ClientMessage::Unpublish { track } => Command::Unpublish { client, track },
        ClientMessage::Unsubscribe { track } => Command::Unsubscribe { client, track },
        ClientMessage::Mute { track, muted } => Command::SetMuted { client, track, muted },
        ClientMessage::Layer { track, layer } => Command::SetLayer { client, track, layer },
        ClientMessage::Message { value } => Command::Message { client, value },
        ClientMessage::Leave {} => Command::Leave { client, reason: "left".into() },
    })
}

pub(super) fn messages_seeds() -> Vec<Vec<u8>> {
    let sdp = include_str!("../../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp");
    let publish = serde_json::json!([{ "mid": "0", "source": "camera" }, { "mid": "1" }]);
    let offer = serde_json::json!({ "type": "offer", "request": 1, "sdp": sdp, "publish": publish });
    let track = r#"{"type":"subscribe"}
{"type":"mute","track":"t","muted":true}
{"type":"layer","track":"t","layer":1}
{"type":"unsubscribe","track":"t"}
{"type":"unpublish","track":"t"}"#;
    let message = r#"{"type":"message","value":{"a":[1,2.5,null,"x",{"b":false}],"c":[]}}
{"type":"join","room":"demo","token":"t","metadata":{"name":"Ada"},"protocol":1}
{"type":"leave"}"#;
    vec![format!("{offer}\n{offer}\n").into_bytes(), track.into(), message.into()]
}
