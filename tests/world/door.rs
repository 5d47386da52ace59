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
    knock_at(world, "demo", name);
}

fn knock_at(world: &mut World, room: &str, name: &str) {
    let (room, client) = (RoomId::parse(room).unwrap(), ClientId::parse(name).unwrap());
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
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn strangers_who_wait_in_a_room_for_two_keep_neither_of_the_two_out() {
    crate::sim::places::on_one_shard();
    let mut world = World::with(711, ShardSettings { max_clients_per_room: 2, max_clients: 2, ..settings() }, SLOW);
    (0..100).for_each(|n| knock(&mut world, &format!("slow{n}")));
    let pair = [world.join("ada"), world.join("bob")];
    assert_eq!(pair.map(|member| world.left(member).cloned()), [None, None]);
    let third = world.join("eve");
    assert_eq!(world.left(third), Some(&LeaveCause::Limit("this server is full: 2 clients on one shard".into())));
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn the_joins_that_wait_in_a_room_and_on_a_shard_are_bounded() {
    let mut world = World::with(712, settings(), SLOW);
    (0..1_500).for_each(|n| knock(&mut world, &format!("slow{n}")));
    assert_eq!(world.refused_by("too many people are joining this room"), 1_500 - 1_024 - 128, "as the policy has it");
    for n in 0..5_000 {
        knock_at(&mut world, &format!("room{}", n % 10), &format!("slow-{n}"));
    }
    assert_eq!(world.refused_by("too many people are joining at once"), 5_000 - (4_096 - 1_024 - 128));
    assert_eq!(world.audit(), Vec::<String>::new());
}
