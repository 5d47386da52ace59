use std::time::Duration;

use moonring_core::command::OfferRequest;
use serde_json::json;

use super::*;
use moonring_wire::id::{Mid, TrackId};
use moonring_wire::media::Source;

const OFFER: &str = include_str!("../../../../wire/src/sdp/fixtures/ffmpeg_whip.sdp");

fn new(now: Instant) -> Session {
    Session::new(now, 1000)
}

fn joined(now: Instant) -> Session {
    let mut session = new(now);
    session.joining();
    let client = ClientId::parse("c1").unwrap();
    session.tell(&room(), Event::Joined { client, clients: vec![], tracks: vec![] });
    session
}

fn room() -> RoomId {
    RoomId::parse("demo").unwrap()
}

fn offer(request: u64) -> String {
    let publish = json!([{"mid": "0", "source": "microphone"}]);
    json!({"type": "offer", "request": request, "sdp": OFFER, "publish": publish}).to_string()
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_code_and_named() {
    let now = Instant::now();
    let long = |n: usize| "x".repeat(n);
    let join = |fields: Value| {
        let mut message = json!({"type": "join", "room": "demo"});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message.to_string()
    };
    let bad_sdp = json!({"type": "offer", "request": 9, "sdp": "v=1"}).to_string();
    for (is_joined, text, code, named) in [
        (false, "{", ErrorCode::BadMessage, "EOF"),
        (false, "[]", ErrorCode::BadMessage, "`type`"),
        (false, r#"{"type":"dance"}"#, ErrorCode::BadMessage, "dance"),
        (false, r#"{"type":"join","room":"a/b"}"#, ErrorCode::BadMessage, "character '/'"),
        (false, &join(json!({"protocol": 2})), ErrorCode::Protocol, "not 2"),
        (false, &join(json!({"token": long(8193)})), ErrorCode::TooLarge, "token has 8193 bytes"),
        (false, &join(json!({"metadata": long(16_384)})), ErrorCode::TooLarge, "metadata has 16386 bytes"),
        (false, &long(256 * 1024 + 1), ErrorCode::TooLarge, "the message has 262145 bytes"),
        (false, &offer(1), ErrorCode::OutOfOrder, "an offer before joined"),
        (false, r#"{"type":"message","value":1}"#, ErrorCode::OutOfOrder, "a message before joined"),
        (true, &join(json!({})), ErrorCode::OutOfOrder, "a second join"),
        (true, &bad_sdp, ErrorCode::BadSdp, "session part"),
        (true, r#"{"type":"mute","track":"t"}"#, ErrorCode::BadMessage, "muted"),
        (
            true,
            &json!({"type":"message","value":long(65_535)}).to_string(),
            ErrorCode::TooLarge,
            "value has 65537 bytes",
        ),
    ] {
        let mut session = if is_joined { joined(now) } else { new(now) };
        let refused = session.read(now, text).unwrap_err();
        assert_eq!(refused.code, code, "{named}");
        assert!(refused.message.contains(named), "{named}: {}", refused.message);
    }
    assert_eq!(joined(now).read(now, &bad_sdp).unwrap_err().request, Some(9));
}

#[test]
fn one_offer_waits_for_its_answer_at_a_time() {
    let now = Instant::now();
    let mut session = joined(now);
    let Ok(Step::Command(Command::Offer(OfferRequest { request: 1, publish, offer: parsed, .. }))) =
        session.read(now, &offer(1))
    else {
        panic!("the first offer is taken");
    };
    assert_eq!(publish, [PublishIntent { mid: Mid::parse("0").unwrap(), source: Source::Microphone }]);
    assert_eq!(parsed.sections.len(), 2);
    let refused = session.read(now, &offer(2)).unwrap_err();
    assert_eq!((refused.code, refused.request), (ErrorCode::Busy, Some(2)));
    let client = ClientId::parse("c1").unwrap();
    let event = |request| Event::Refused {
        client: client.clone(),
        request,
        code: RefusalCode::BadOffer,
        message: "no common codec".into(),
    };
    session.tell(&room(), event(None));
    assert!(session.read(now, &offer(3)).is_err(), "another refusal does not answer the offer");
    let Told::Message(told) = session.tell(&room(), event(Some(1))) else { panic!("the client stays") };
    let expected = json!({"type": "error", "code": "bad_sdp", "message": "no common codec", "request": 1});
    assert_eq!(serde_json::to_value(told).unwrap(), expected);
    assert!(session.read(now, &offer(4)).is_ok());
}

#[test]
fn messages_become_commands_of_the_joined_client() {
    let now = Instant::now();
    let mut session = joined(now);
    for (text, expected) in [
        (r#"{"type":"unpublish","track":"t"}"#, r#"Unpublish { client: "c1", track: "t" }"#),
        (r#"{"type":"unsubscribe","track":"t"}"#, r#"Unsubscribe { client: "c1", track: "t" }"#),
        (r#"{"type":"mute","track":"t","muted":true}"#, r#"SetMuted { client: "c1", track: "t", muted: true }"#),
        (r#"{"type":"layer","track":"t","layer":null}"#, r#"SetLayer { client: "c1", track: "t", layer: None }"#),
        (r#"{"type":"message","value":7}"#, r#"Message { client: "c1", value: Number(7) }"#),
    ] {
        match session.read(now, text) {
            Ok(Step::Command(command)) => assert_eq!(format!("{command:?}"), expected),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(session.read(now, r#"{"type":"leave"}"#), Ok(Step::Leave)));
}

#[test]
fn how_a_client_ends_is_told_in_the_policys_words() {
    let now = Instant::now();
    let client = ClientId::parse("c1").unwrap();
    let words = || "because".to_owned();
    let (rejected, kicked) = (Some(("rejected", "because")), Some(("kicked", "because")));
    for (is_joined, cause, expected) in [
        (false, LeaveCause::Rejected(words()), rejected),
        (false, LeaveCause::Limit(words()), rejected),
        (false, LeaveCause::Shutdown, Some(("rejected", SHUTDOWN))),
        (true, LeaveCause::Kicked(words()), kicked),
        (true, LeaveCause::TransportFailed(words()), kicked),
        (true, LeaveCause::Shutdown, Some(("kicked", SHUTDOWN))),
        (true, LeaveCause::Left, None),
    ] {
        let mut session = if is_joined { joined(now) } else { new(now) };
        match (session.tell(&room(), Event::Left { client: client.clone(), cause }), expected) {
            (Told::Last(message), Some((kind, reason))) => {
                assert_eq!(serde_json::to_value(message).unwrap(), json!({"type": kind, "reason": reason}));
            }
            (Told::Close, None) => {}
            (other, expected) => panic!("{other:?} is not {expected:?}"),
        }
    }
}

#[test]
fn errors_end_a_connection_at_once_before_the_join_and_at_the_bound_after_it() {
    let now = Instant::now();
    assert!(new(now).count_error());
    let mut session = joined(now);
    let survived = (0..MAX_ERRORS).take_while(|_| !session.count_error()).count();
    assert_eq!(survived, MAX_ERRORS as usize - 1);
}

#[test]
fn messages_beyond_the_rate_are_refused_until_time_has_passed() {
    let now = Instant::now();
    let mut session = Session::new(now, 2);
    session.phase = Phase::Joined { client: ClientId::parse("c1").unwrap() };
    let mute = r#"{"type":"mute","track":"t","muted":true}"#;
    let taken = |session: &mut Session, now| (0..100).take_while(|_| session.read(now, mute).is_ok()).count();
    assert_eq!(taken(&mut session, now), 20);
    assert_eq!(session.read(now, mute).unwrap_err().code, ErrorCode::Limit);
    assert_eq!(taken(&mut session, now + Duration::from_secs(3)), 6);
}

#[test]
fn a_long_error_is_shortened() {
    let message = refused(ErrorCode::BadMessage, "ä".repeat(1000)).into_message();
    let ServerMessage::Error { message, .. } = message else { panic!("an error") };
    assert_eq!(message.chars().count(), MAX_ERROR_CHARACTERS + 3);
}

#[test]
fn a_track_id_that_is_none_is_named() {
    let refused =
        joined(Instant::now()).read(Instant::now(), r#"{"type":"mute","track":"","muted":true}"#).unwrap_err();
    assert!(refused.message.contains("is empty"), "{}", refused.message);
    assert!(TrackId::parse("").is_err());
}
