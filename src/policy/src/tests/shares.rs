//! What one person's messages may take of what waits in a room.

use super::waits::{SECOND, message};
use super::*;

/// A client from an address of its own.
fn join_from(world: &mut World, id: &str, ip: [u8; 4]) -> Rc<ClientFacts> {
    let mut facts = client(world.now, id);
    Rc::get_mut(&mut facts).unwrap().connection.ip = ip.into();
    let outcome = world.call(HookCall::ClientConnect { client: facts.clone(), auth_token: String::new() });
    assert_eq!(outcome.verdict, Verdict::Allow, "{id}: {outcome:?}");
    facts.presence.set(Presence::Joined);
    facts
}

/// How many of these messages wait, and why the last of the others is refused.
fn waiting_of(world: &mut World, client: &Rc<ClientFacts>, messages: usize, value: &Value) -> (usize, Option<String>) {
    let mut refused = Vec::new();
    for _ in 0..messages {
        world.submit(message(client, value.clone()));
        refused.extend(world.outputs().into_iter().filter_map(|output| match output {
            PolicyOutput::Outcome { outcome, .. } => outcome.refused,
            other => panic!("{other:?}"),
        }));
    }
    (messages - refused.len(), refused.pop())
}

const SLEEPING: &str = "function on_client_connect() return true end function on_message() sfu.sleep(60000) end";

#[test]
fn one_persons_messages_leave_room_for_everybody_else_while_a_hook_of_its_sleeps() {
    let mut world = World::new(SLEEPING);
    let (noisy, other) = (join_from(&mut world, "a", [10, 0, 0, 1]), join_from(&mut world, "b", [10, 0, 0, 2]));
    let own = Some("too many of your messages wait for the room's script, please try again".to_owned());
    assert_eq!(waiting_of(&mut world, &noisy, 2_000, &json!(1)), (1 + 256, own.clone()));
    let again = join_from(&mut world, "a2", [10, 0, 0, 1]);
    assert_eq!(waiting_of(&mut world, &again, 20, &json!(1)), (1, own.clone()), "it is the same person");
    assert_eq!(waiting_of(&mut world, &other, 20, &json!(1)), (20, None));
    let named = join_from(&mut world, "c", [10, 0, 0, 1]);
    named.identity.set("carol".to_owned()).unwrap();
    assert_eq!(waiting_of(&mut world, &named, 20, &json!(1)), (20, None), "another person behind the same address");
    world.pass(SECOND * 61);
    assert_eq!(waiting_of(&mut world, &noisy, 5, &json!(1)), (1, own), "one is heard, and one can wait in its place");
}

#[test]
fn one_persons_messages_take_no_more_than_their_share_of_what_the_host_holds() {
    let mut world = World::new(SLEEPING);
    let noisy = join_from(&mut world, "a", [10, 0, 0, 1]);
    let (waiting, refused) = waiting_of(&mut world, &noisy, 200, &json!("x".repeat(60_000)));
    assert_eq!((waiting, refused.is_some()), (1 + (1 << 20) / 60_288, true));
    let other = join_from(&mut world, "b", [10, 0, 0, 2]);
    assert_eq!(waiting_of(&mut world, &other, 10, &json!("x".repeat(60_000))), (10, None));
    world.pass(SECOND * 3_600);
    assert_eq!(world.engine.room_status(world.key).unwrap().queued, 0);
    let (waiting, _) = waiting_of(&mut world, &noisy, 200, &json!("x".repeat(60_000)));
    assert_eq!(waiting, 1 + (1 << 20) / 60_288, "what is heard gives its place back");
}
