//! Strangers at a room's door take nobody's place.

use moonring_core::command::{Command, JoinRequest, LeaveCause};
use moonring_core::shard::ShardSettings;
use moonring_wire::id::{ClientId, RoomId};
use serde_json::Value;

use crate::sim::{World, settings};

const SLOW: &str = "function on_client_connect(c, token)
    if token:sub(1, 4) == 'slow' then sfu.sleep(60000) return false end
    return true
end";

fn knock(world: &mut World, name: &str) {
    let (room, client) = (RoomId::parse("demo").unwrap(), ClientId::parse(name).unwrap());
    let (token, metadata, connection) = (name.to_owned(), Value::Null, Box::new([192, 0, 2, 1].into()));
    world.command(Command::Join(JoinRequest { room, client, token, metadata, connection }));
}

#[test]
fn who_waits_for_a_verdict_takes_no_seat() {
    let mut world = World::with(710, ShardSettings { max_clients_per_room: 20, ..settings() }, SLOW);
    (0..10).for_each(|n| knock(&mut world, &format!("slow{n}")));
    let members: Vec<_> = (0..20).map(|n| world.join(&format!("quick{n}"))).collect();
    assert!(members.iter().all(|member| world.left(*member).is_none()));
    let late = world.join("late");
    assert_eq!(world.left(late), Some(&LeaveCause::Limit("room demo is full: 20 clients".into())));
    assert_eq!(world.shard.audit(), Vec::<String>::new());
}

#[test]
fn a_room_lets_only_so_many_wait_at_its_door() {
    let mut world = World::with(711, ShardSettings { max_clients: 2_000, ..settings() }, SLOW);
    (0..600).for_each(|n| knock(&mut world, &format!("slow{n}")));
    let refused = world.refused_for_their_number();
    assert_eq!(refused, 600 - 100, "as many as a room has seats");
}
