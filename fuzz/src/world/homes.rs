//! The state of a room whose home another node hands over, with its script.

use moonring_core::command::{Command, HomeMessage, PlaceMessage, read_places};
use moonring_wire::id::PlaceId;
use moonring_wire::media::CodecName::Opus;
use serde_json::{Value, json};

use super::PANICS;
use crate::sim::places::{id_at, over_two_nodes};
use crate::sim::{World, room};

/// What a script can hand over: values of all kinds, a timer with a name, and what it knows of its clients.
const POLICY: &str = "local kept = { n = 1, list = { 'a', true, 1.5 }, of = {} }
function on_init() sfu.announce('all') sfu.set_interval('beat', 200, function() kept.n = kept.n + 1 end) end
function on_client_connect(client, token)
  client:set_attributes({ name = client:get_id() })
  return true, { identity = 'person of ' .. client:get_id() }
end
function on_publish_request() return true end
function on_message(client, message) client:send({ message, kept, #sfu.clients() }) end
function on_unload() return kept end
function on_load(state) kept = state end";
/// Where the home is, and the node that it goes to.
const FROM: usize = 0;
const TO: usize = 2;

/// Carol and Dan are at the second node, the home is at the first one, where nobody is any more, and goes to them. `loses`: what
/// it hands over does not come.
fn on_its_way(loses: Option<fn(&PlaceMessage) -> bool>) -> World {
    over_two_nodes();
    let mut world = World::ruled(1, POLICY);
    let [ada, bob, carol, dan] = ["ada", "bob", "carol", "dan"].map(|name| world.join(name));
    let track = world.publish(carol, Opus);
    world.subscribe(dan, &track, Opus);
    world.run_ms(100);
    world.leave(ada);
    world.leave(bob);
    world.run_ms(100);
    world.lose = loses;
    world.command_to(FROM, Command::MoveHome { id: 1, room: room("demo"), to: id_at(FROM, TO) });
    world.run_ms(100);
    world.lose = None;
    world
}

/// In how many hundredths of it the first part ends, and the state. The other node refuses it, or goes on with it as the home.
pub(super) fn homes(bytes: &[u8]) {
    let Some((at, state)) = bytes.split_first() else { return };
    let mut world = on_its_way(Some(is_state));
    let (first, last) = state.split_at(state.len() * usize::from(*at % 101) / 100);
    let messages = [HomeMessage::Part(first.to_vec().into()), HomeMessage::Take(last.to_vec().into())];
    let messages = messages.map(|message| (room("demo"), PlaceMessage::Home(message))).into();
    world.command_to(TO, Command::FromPlace { from: id_at(TO, FROM), messages });
    world.run_ms(300);
    for who in [2, 3] {
        world.command(Command::Message { client: world.id(who), value: json!({ "say": [1, 2] }) });
    }
    world.run_ms(300);
    for place in 0..4 {
        assert_eq!(world.shard_at(place).counters().panics, 0, "{PANICS}");
    }
    assert_eq!(world.audit(), Vec::<String>::new(), "the tables do not agree");
    for who in [2, 3] {
        world.leave(who);
    }
    world.run_ms(300);
    for place in 0..4 {
        assert_eq!(world.shard_at(place).counters().panics, 0, "{PANICS}");
    }
}

fn is_state(message: &PlaceMessage) -> bool {
    matches!(message, PlaceMessage::Home(HomeMessage::Part(_) | HomeMessage::Take(_)))
}

pub(super) fn homes_seeds() -> Vec<Vec<u8>> {
    let world = on_its_way(None);
    assert_eq!(world.called(1), Ok(Value::Null), "the home has moved");
    let pieces = world.mail.pieces;
    let messages = pieces.iter().flat_map(|piece| read_places(piece, &mut |place| Some(PlaceId(place.shard))));
    let state = messages.flatten().find_map(|(_, message)| match message {
        PlaceMessage::Home(HomeMessage::Take(state)) => Some(state),
        _ => None,
    });
    let state = state.expect("its state");
    vec![[&[100], state.as_slice()].concat(), [&[40], state.as_slice()].concat()]
}
