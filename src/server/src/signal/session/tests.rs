use std::time::Duration;

use moonring_core::command::{LeaveCause, News, OfferRequest, RefusalCode};
use moonring_policy::hook::Undecided;
use moonring_wire::shared::Shared;
use serde_json::json;

use super::*;
use moonring_wire::id::{Mid, TrackId};
use moonring_wire::media::Source;
use moonring_wire::rights::Rights;

const OFFER: &str = include_str!("../../../../wire/src/sdp/fixtures/ffmpeg_whip.sdp");

const SETTINGS: SessionSettings =
    SessionSettings { messages_per_s: 1000, resume_s: 15, shutdown_says: ShutdownSays::Restarting };

fn new(now: Instant) -> Session {
    Session::new(now, SETTINGS)
}

fn client() -> ClientId {
    ClientId::parse("c1").unwrap()
}

fn snapshot() -> Event {
    let (clients, tracks, own, attributes) = (vec![], vec![], vec![], json!({ "role": "guest" }).into());
    Event::Joined { client: client(), clients, tracks, own, attributes, rights: Rights::default() }
}

fn tell(session: &mut Session, event: Event) -> Told {
    session.tell(event, || "ticket".into())
}

fn joined(now: Instant) -> Session {
    let mut session = new(now);
    session.joining(room());
    tell(&mut session, snapshot());
    session
}

/// A connection that has presented a ticket, with the number of an offer that was undecided then.
fn resuming(now: Instant, missed: Vec<Event>, offer: Option<u64>) -> Session {
    let mut session = new(now);
    let mut kept = Kept::default();
    missed.into_iter().for_each(|event| kept.push(event));
    session.resuming(room(), kept, offer.map(|request| PendingOffer { request, bundled: false }));
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
        (false, &long(512 * 1024 + 1), ErrorCode::TooLarge, "the message has 524289 bytes"),
        (false, &offer(1), ErrorCode::OutOfOrder, "an offer before joined"),
        (false, r#"{"type":"message","value":1}"#, ErrorCode::OutOfOrder, "a message before joined"),
        (true, &join(json!({})), ErrorCode::OutOfOrder, "a second join"),
        (true, r#"{"type":"resume","ticket":"t"}"#, ErrorCode::OutOfOrder, "a second join"),
        (
            false,
            &json!({"type": "resume", "ticket": long(257)}).to_string(),
            ErrorCode::TooLarge,
            "ticket has 257 bytes",
        ),
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
fn an_offer_that_is_refused_unread_is_told_by_its_number_and_nothing_else_is() {
    let now = Instant::now();
    let offer = |fields: Value| {
        let mut message = json!({"type": "offer", "request": 7, "sdp": OFFER});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message.to_string()
    };
    let long = "x".repeat(MAX_MESSAGE_BYTES);
    for (text, code, request) in [
        (offer(json!({"publish": [{"mid": "0", "source": "webcam"}]})), ErrorCode::BadMessage, Some(7)),
        (offer(json!({"subscribe": [{"mid": "0"}]})), ErrorCode::BadMessage, Some(7)),
        (offer(json!({"sdp": 1})), ErrorCode::BadMessage, Some(7)),
        (offer(json!({"candidates": []})), ErrorCode::BadMessage, Some(7)),
        (offer(json!({"sdp": long})), ErrorCode::TooLarge, Some(7)),
        (offer(json!({"request": -1})), ErrorCode::BadMessage, None),
        (offer(json!({"type": "answer"})), ErrorCode::BadMessage, None),
        (json!({"type": "message", "request": 7, "value": 1}).to_string(), ErrorCode::BadMessage, None),
        ("{".to_owned(), ErrorCode::BadMessage, None),
    ] {
        let refused = joined(now).read(now, &text).unwrap_err();
        assert_eq!((refused.code, refused.request), (code, request), "{}", refused.message);
    }
    let mut session = Session::new(now, SessionSettings { messages_per_s: 0, ..SETTINGS });
    let refused = session.read(now, &offer(json!({}))).unwrap_err();
    assert_eq!((refused.code, refused.request), (ErrorCode::Limit, Some(7)));
}

#[test]
fn a_section_publishes_what_its_offer_says() {
    for (said, source, makes_key_frames) in [
        (json!({"mid": "0"}), Source::Other, false),
        (json!({"mid": "0", "source": "camera"}), Source::Camera, false),
        (json!({"mid": "0", "source": "camera", "key_frames": true}), Source::Camera, true),
    ] {
        let mut session = joined(Instant::now());
        let offer = json!({"type": "offer", "request": 1, "sdp": OFFER, "publish": [said]}).to_string();
        let Ok(Step::Offer(Command::Offer(OfferRequest { publish, .. }), _)) = session.read(Instant::now(), &offer)
        else {
            panic!("the offer is taken");
        };
        let mid = Mid::parse("0").unwrap();
        assert_eq!(publish, [PublishIntent { mid, source, makes_key_frames }], "{said}");
    }
}

fn offer_refused(request: Option<u64>) -> Event {
    Event::Refused { client: client(), request, code: RefusalCode::BadOffer, message: "no common codec".into() }
}

#[test]
fn one_offer_waits_for_its_answer_at_a_time() {
    let now = Instant::now();
    let mut session = joined(now);
    let Ok(Step::Offer(Command::Offer(OfferRequest { request: 1, publish, offer: parsed, .. }), pending)) =
        session.read(now, &offer(1))
    else {
        panic!("the first offer is taken");
    };
    assert_eq!(pending, PendingOffer { request: 1, bundled: true });
    assert_eq!(
        publish,
        [PublishIntent { mid: Mid::parse("0").unwrap(), source: Source::Microphone, makes_key_frames: false }]
    );
    assert_eq!(parsed.sections.len(), 2);
    let refused = session.read(now, &offer(2)).unwrap_err();
    assert_eq!((refused.code, refused.request), (ErrorCode::Busy, Some(2)));
    tell(&mut session, offer_refused(None));
    assert!(session.read(now, &offer(3)).is_err(), "another refusal does not answer the offer");
    let Told::Message(told) = tell(&mut session, offer_refused(Some(1))) else { panic!("the client stays") };
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
        (
            r#"{"type":"view","track":"t","width":640,"height":360}"#,
            r#"SetView { client: "c1", track: "t", width: 640, height: 360 }"#,
        ),
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
    let words = || "because".to_owned();
    let (rejected, kicked) = (Some(("rejected", "because")), Some(("kicked", "because")));
    let later = || LeaveCause::Later(words());
    let undecided = |why| LeaveCause::Undecided(why, words());
    for cause in [later(), undecided(Undecided::Crowded), undecided(Undecided::CutOff), undecided(Undecided::Unheard)] {
        let Told::Last(ServerMessage::Error { code, message, request: None }) =
            tell(&mut new(now), Event::Left { client: client(), cause })
        else {
            panic!("who could not come in yet is told to try again")
        };
        assert_eq!((code, message), (ErrorCode::TryAgain, words()));
    }
    for (is_joined, cause, expected) in [
        (false, LeaveCause::Rejected(words()), rejected),
        (false, undecided(Undecided::Failed), rejected),
        (false, LeaveCause::Limit(words()), rejected),
        (false, LeaveCause::Shutdown, Some(("restarting", RESTARTING))),
        (true, LeaveCause::Kicked(words()), kicked),
        (true, LeaveCause::TransportFailed(words()), kicked),
        (true, LeaveCause::Shutdown, Some(("restarting", RESTARTING))),
        (true, later(), Some(("restarting", "because"))),
        (true, LeaveCause::Left, None),
    ] {
        let mut session = if is_joined { joined(now) } else { new(now) };
        match (tell(&mut session, Event::Left { client: client(), cause }), expected) {
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
    assert_eq!(new(now).count_error(), Some("the first message was refused"));
    let mut session = joined(now);
    let survived = (0..MAX_ERRORS).take_while(|_| session.count_error().is_none()).count();
    assert_eq!((survived, session.count_error()), (MAX_ERRORS as usize - 1, Some("too many errors")));
}

#[test]
fn messages_beyond_the_rate_are_refused_until_time_has_passed() {
    let now = Instant::now();
    let mut session = Session::new(now, SessionSettings { messages_per_s: 2, ..SETTINGS });
    session.phase = Phase::Joined { client: client() };
    let mute = r#"{"type":"mute","track":"t","muted":true}"#;
    let taken = |session: &mut Session, now| (0..100).take_while(|_| session.read(now, mute).is_ok()).count();
    assert_eq!(taken(&mut session, now), 20);
    assert_eq!(session.read(now, mute).unwrap_err().code, ErrorCode::Limit);
    assert_eq!(taken(&mut session, now + Duration::from_secs(3)), 6);
}

#[test]
fn a_client_that_has_said_too_much_may_still_leave() {
    let now = Instant::now();
    let mut session = joined(now);
    while session.read(now, r#"{"type":"leaf"}"#).unwrap_err().code != ErrorCode::Limit {}
    let long = format!(r#"{{"type":"leave"{}}}"#, " ".repeat(MAX_GOODBYE_BYTES));
    for text in [long.as_str(), r#"{"type":"leave","now":true}"#, r#"{"type":"message","value":1}"#] {
        assert_eq!(session.read(now, text).unwrap_err().code, ErrorCode::Limit, "{text}");
    }
    assert!(matches!(session.read(now, r#"{"type": "leave"}"#), Ok(Step::Leave)));
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

#[test]
fn a_resumed_connection_is_told_the_snapshot_first_and_then_what_it_missed() {
    let now = Instant::now();
    let message = |n: u64| Event::message(client(), Value::from(n));
    let mut session = resuming(now, vec![message(1)], None);
    assert_eq!(session.read(now, &offer(3)).unwrap_err().code, ErrorCode::OutOfOrder);
    assert!(matches!(tell(&mut session, message(2)), Told::Later));
    let gone = Event::News { client: client(), news: Shared::new(News::ClientLeft(ClientId::parse("bob").unwrap())) };
    assert!(matches!(tell(&mut session, gone), Told::Later), "the snapshot, which comes later, says it");
    let Told::Message(told) = tell(&mut session, snapshot()) else { panic!("the snapshot is told") };
    let told = serde_json::to_value(told).unwrap();
    assert_eq!((&told["resumed"], &told["ticket"], &told["resume_s"]), (&json!(true), &json!("ticket"), &json!(15)));
    assert_eq!(told["messages_per_s"], json!(SETTINGS.messages_per_s));
    assert_eq!(told["key_frames"], json!(true));
    let missed: Vec<_> = session.take_early().into_iter().map(|event| tell(&mut session, event)).collect();
    let [Told::Text(first), Told::Text(second)] = &missed[..] else { panic!("{missed:?}") };
    assert_eq!(
        (&first[..], &second[..]),
        (&br#"{"type":"message","value":1}"#[..], &br#"{"type":"message","value":2}"#[..])
    );
    assert!(matches!(tell(&mut session, snapshot()), Told::Later), "a snapshot for an earlier connection");
}

#[test]
fn a_client_that_was_kicked_while_it_resumes_is_told_so() {
    let mut session = resuming(Instant::now(), vec![], None);
    let left = Event::Left { client: client(), cause: LeaveCause::Kicked("because".into()) };
    let Told::Last(message) = tell(&mut session, left) else { panic!("it ends") };
    assert_eq!(message, ServerMessage::Kicked { reason: "because".into() });
}

#[test]
fn an_offer_after_a_resume_waits_for_the_decision_on_the_one_before_it() {
    let now = Instant::now();
    // The client may count on, or begin again with the same number.
    for (stale, new) in [(7, 8), (7, 7)] {
        let mut session = resuming(now, vec![], Some(stale));
        tell(&mut session, snapshot());
        assert!(matches!(session.read(now, &offer(new)), Ok(Step::Wait)));
        assert_eq!(session.read(now, &offer(9)).unwrap_err().code, ErrorCode::Busy);
        assert!(session.released_offer().is_none());
        tell(&mut session, offer_refused(Some(stale)));
        let Some((Command::Offer(OfferRequest { request, .. }), pending)) = session.released_offer() else {
            panic!("it is free")
        };
        assert_eq!((request, pending), (new, PendingOffer { request: new, bundled: true }));
        assert!(session.released_offer().is_none());
        assert_eq!(session.read(now, &offer(9)).unwrap_err().code, ErrorCode::Busy);
        tell(&mut session, offer_refused(Some(new)));
        assert!(matches!(session.read(now, &offer(9)), Ok(Step::Offer(..))));
    }
}

#[test]
fn a_shutdown_says_whether_clients_come_back() {
    for (shutdown_says, kind) in [(ShutdownSays::Restarting, "restarting"), (ShutdownSays::Closing, "closing")] {
        let session = Session::new(Instant::now(), SessionSettings { shutdown_says, ..SETTINGS });
        assert_eq!(serde_json::to_value(session.shutdown(false)).unwrap()["type"], kind);
    }
}

#[test]
fn control_frames_count_as_messages_and_long_ones_as_several_also_before_the_join() {
    let now = Instant::now();
    let settings = SessionSettings { messages_per_s: 2, ..SETTINGS };
    let mut pings = Session::new(now, settings);
    assert_eq!((0..100).take_while(|_| pings.take_control(now, 125)).count(), 20);
    let mut long = Session::new(now, settings);
    assert_eq!((0..100).take_while(|_| long.take_control(now, 10 * bucket::BYTES_PER_TOKEN)).count(), 2);
    assert!(!long.take_control(now + Duration::from_secs(1), 1));
    assert!(long.take_control(now + Duration::from_secs(10), 1));
}
