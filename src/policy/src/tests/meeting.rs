//! The policy that ships: `scripts/default_room.lua`.

use super::*;

const SCRIPT: &str = include_str!("../../../../scripts/default_room.lua");

fn meeting(config: Value) -> World {
    let config = config.as_object().cloned().unwrap_or_default();
    World::with(PolicySettings { config, ..generous() }, SCRIPT)
}

fn connect(world: &mut World, id: &str, token: &str) -> Verdict {
    let client = client(world.now, id);
    world.call(HookCall::ClientConnect { client, auth_token: token.into() }).verdict
}

fn rejected(words: &str) -> Verdict {
    Verdict::Reject(words.into())
}

#[test]
fn only_the_secret_opens_the_room_and_only_while_there_is_a_seat() {
    let mut world = meeting(json!({ "secret": "s3cret", "max_participants": 2 }));
    for (id, token, expected) in [
        ("c1", "", rejected("A token is required")),
        ("c1", "wrong", rejected("Wrong token")),
        ("c1", "s3cret", Verdict::Allow),
        ("c2", "s3cret", Verdict::Allow),
        ("c3", "s3cret", rejected("The room is full (2 participants)")),
    ] {
        assert_eq!(connect(&mut world, id, token), expected, "{id} {token}");
    }
    for config in [json!({}), json!({ "secret": "" })] {
        assert_eq!(connect(&mut meeting(config), "c1", "x"), rejected("This server has no secret configured"));
    }
}

#[test]
fn the_third_publishers_video_is_refused() {
    let mut world = meeting(json!({ "secret": "good", "max_video_publishers": 2 }));
    let clients = ["c1", "c2", "c3"].map(|id| world.join(id));
    let mut publish = |client: &Rc<ClientFacts>, kind| {
        let track = track("t", client.id.as_str(), kind);
        let outcome = world.call(HookCall::PublishRequest { client: client.clone(), track: track.clone() });
        if outcome.verdict == Verdict::Allow {
            client.tracks.borrow_mut().push(track);
        }
        outcome.verdict
    };
    let refused = rejected("Only 2 participants may show video here");
    assert_eq!(publish(&clients[0], Kind::Video), Verdict::Allow);
    assert_eq!(publish(&clients[1], Kind::Video), Verdict::Allow);
    assert_eq!(publish(&clients[1], Kind::Video), Verdict::Allow, "a screen beside the camera");
    assert_eq!(publish(&clients[2], Kind::Video), refused);
    assert_eq!(publish(&clients[2], Kind::Audio), Verdict::Allow);
    clients[0].tracks.borrow_mut().clear();
    assert_eq!(publish(&clients[2], Kind::Video), Verdict::Allow);
}

#[test]
fn texts_go_to_the_others_and_who_leaves_is_announced() {
    let mut world = meeting(json!({ "secret": "good" }));
    let (first, _second) = (world.join("c1"), world.join("c2"));
    let outcome = world.message(&first, json!({ "type": "chat", "text": "hi" }));
    let value = json!({ "type": "chat", "from": "c1", "text": "hi" });
    assert_eq!(outcome.actions, [Action::Broadcast { value, except: Some(first.id.clone()) }]);
    for message in [json!(null), json!("x"), json!({ "type": "chat", "text": "x".repeat(2001) }), json!({ "type": 1 })]
    {
        let outcome = world.message(&first, message);
        assert!(
            matches!(&outcome.actions[..], [Action::Send { value, .. }] if value["type"] == "error"),
            "{outcome:?}"
        );
    }
    let outcome = world.leave(&first);
    let value = json!({ "type": "goodbye", "from": "c1", "reason": "bye" });
    assert_eq!(outcome.actions, [Action::Broadcast { value, except: None }]);
}

#[test]
fn a_reload_of_the_same_policy_changes_nothing() {
    let mut world = meeting(json!({ "secret": "good" }));
    world.join("c1");
    assert!(world.reload(SCRIPT).is_ok());
    assert_eq!(connect(&mut world, "c2", "good"), Verdict::Allow);
}
