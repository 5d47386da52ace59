//! The state of a client from another shard.

use moonring_core::command::{Command, MoveMessage, MovedClient, PlaceMessage};
use moonring_core::shard::ClientState;
use moonring_wire::id::PlaceId;
use moonring_wire::media::CodecName::{Opus, Vp8};

use super::PANICS;
use crate::sim::places::over_three_shards;
use crate::sim::{OPEN, World, room};

/// Ada publishes at shard 0, Bob receives at shard 1, and one of them is expected at shard 2: the message with which it would
/// be stopped is lost. The same seed makes the same credentials.
fn expected(who: u8) -> (World, usize) {
    over_three_shards();
    let mut world = World::ruled(1, OPEN);
    let members = ["ada", "bob"].map(|name| world.join(name));
    let tracks = [world.publish(members[0], Vp8), world.publish(members[0], Opus)];
    world.subscribe(members[1], &tracks[0], Vp8);
    world.subscribe(members[1], &tracks[1], Opus);
    world.run_ms(300);
    let who = members[usize::from(who % 2)];
    world.begin_move(who, 2).expect("it may move");
    (world, who)
}

/// Who it is, and its state. It is refused, and the client ends; or it goes on with it.
pub(super) fn moved(bytes: &[u8]) {
    let Some((who, bytes)) = bytes.split_first() else { return };
    if ClientState::read(bytes).is_err() && bytes.len() % 8 != 0 {
        // A world for each of them would take too long.
        return;
    }
    let (mut world, who) = expected(*who);
    world.lose = Some(|message| matches!(message, PlaceMessage::Move(MoveMessage::Freeze(_))));
    world.run_ms(60);
    let state = bytes.to_vec().into();
    let moved = MovedClient { client: world.id(who), receivers: Vec::new(), state, stay: Vec::new().into() };
    let messages = vec![(room("demo"), PlaceMessage::Move(MoveMessage::Moved(Box::new(moved))))];
    world.command_to(2, Command::FromPlace { from: PlaceId(world.members[who].place as u16), messages });
    world.members[who].place = 2;
    world.run_ms(300);
    world.leave(who);
    world.run_ms(50);
    for place in 0..3 {
        assert_eq!(world.shard_at(place).counters().panics, 0, "{PANICS}");
    }
    assert_eq!(world.shard_at(2).audit(), Vec::<String>::new(), "the tables do not agree");
}

pub(super) fn moved_seeds() -> Vec<Vec<u8>> {
    let seed = |who: u8| {
        let (mut world, _) = expected(who);
        world.run_ms(100);
        let state = world.states.last().expect("it has moved").clone();
        [&[who][..], &state].concat()
    };
    vec![seed(0), seed(1)]
}
