//! The JSON of the messages.

use super::*;

#[test]
fn messages_are_the_json_that_the_documentation_shows() {
    let join: ClientMessage =
        serde_json::from_str(r#"{"type":"join","room":"demo","token":"t","metadata":{"name":"Ada"}}"#).unwrap();
    assert!(matches!(join, ClientMessage::Join { room, .. } if room.as_str() == "demo"));
    let kicked = ServerMessage::Kicked { reason: "no".into() };
    assert_eq!(serde_json::to_string(&kicked).unwrap(), r#"{"type":"kicked","reason":"no"}"#);
}

#[test]
fn an_unknown_message_or_field_is_named() {
    for (text, named) in [
        (r#"{"type":"dance"}"#, "dance"),
        (r#"{"type":"join","room":"demo","shoe":1}"#, "shoe"),
        (r#"{"type":"join","room":"../etc"}"#, "'.' in front"),
        (r#"{"type":"mute","track":"t"}"#, "muted"),
    ] {
        let error = serde_json::from_str::<ClientMessage>(text).unwrap_err().to_string();
        let named = if named.starts_with("'.'") { "character '.'" } else { named };
        assert!(error.contains(named), "{text}: {error}");
    }
}
