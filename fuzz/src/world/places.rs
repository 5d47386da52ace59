//! What a shard of another node says about rooms.

use moonring_core::command::{Command, read_places};
use moonring_wire::id::PlaceId;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use super::{PANICS, POLICY};
use crate::sim::places::{id_at, over_two_nodes};
use crate::sim::{World, room};

/// Ada publishes at the home, Carol at the other node; all receive both.
fn scene() -> World {
    over_two_nodes();
    let mut world = World::ruled(1, POLICY);
    let members = ["ada", "bob", "carol", "dan"].map(|name| world.join(name));
    let tracks = [world.publish(members[0], Vp8), world.publish(members[2], Opus)];
    world.subscribe(members[3], &tracks[0], Vp8);
    world.subscribe(members[1], &tracks[1], Opus);
    world
}

/// To whom, and a piece. It is refused, or the shard goes on.
pub(super) fn places(bytes: &[u8]) {
    let Some((who, bytes)) = bytes.split_first() else { return };
    let Ok(messages) = read_places(bytes, &mut |place| Some(PlaceId(place.shard % 6))) else { return };
    let mut world = scene();
    let (to, from) = if who % 2 == 0 { (0, 2) } else { (2, 0) };
    world.command_to(to, Command::FromPlace { from: id_at(to, from), messages });
    world.run_ms(100);
    for place in 0..4 {
        assert_eq!(world.shard_at(place).counters().panics, 0, "{PANICS}");
    }
}

pub(super) fn places_seeds() -> Vec<Vec<u8>> {
    let mut world = scene();
    world.command(Command::Message { client: world.id(3), value: json!({ "say": [1, 2] }) });
    world.run_ms(600);
    world.leave(2);
    world.run_ms(200);
    // Bob and then the home itself go to the other node.
    world.begin_move(1, 3).expect("he may move");
    world.run_ms(300);
    world.leave(0);
    world.run_ms(7_000);
    world.command_to(0, Command::MoveHome { id: 1, room: room("demo"), to: id_at(0, 2) });
    world.run_ms(200);
    let pieces = std::mem::take(&mut world.mail.pieces);
    pieces.into_iter().enumerate().map(|(n, piece)| [&[n as u8][..], &piece].concat()).collect()
}
