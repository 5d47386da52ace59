//! What the shard of another process hands over to the one that takes over from it.

use moonring_core::command::Command;
use moonring_core::shard::take_over::HandedOver;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use super::{PANICS, POLICY, Parts, joined};
use crate::sim::places::on_one_shard;
use crate::sim::{World, room};

/// A shard's state, piece by piece: it is refused, or the shard goes on with everybody in it, whose scripts' states do not come.
pub(super) fn predecessor(bytes: &[u8]) {
    on_one_shard();
    let pieces = Parts(bytes).map(|piece| piece.to_vec().into()).collect();
    let mut world = World::ruled(1, POLICY);
    let Ok(next) = world.reader_of(&HandedOver { pieces, clients: Vec::new() }) else { return };
    world.shard = next;
    world.run_ms(60);
    assert_eq!(world.shard.audit(), Vec::<String>::new(), "the tables do not agree");
    world.command(Command::PolicyCarried { room: room("demo"), carried: None });
    let who = world.join_raw("eve");
    world.command(Command::Message { client: world.id(who), value: json!({ "say": [1, 2] }) });
    world.run_ms(300);
    assert_eq!(world.shard.counters().panics, 0, "{PANICS}");
    assert_eq!(world.shard.audit(), Vec::<String>::new(), "the tables do not agree");
}

pub(super) fn predecessor_seeds() -> Vec<Vec<u8>> {
    on_one_shard();
    let seed = |is_call: bool| {
        let mut world = World::ruled(1, POLICY);
        let [ada, bob] = ["ada", "bob"].map(|name| world.join(name));
        for codec in [Vp8, Opus].into_iter().filter(|_| is_call) {
            let track = world.publish(ada, codec);
            world.subscribe(bob, &track, codec);
        }
        world.run_ms(300);
        joined(world.hand_over().pieces.iter().map(|piece| piece.as_slice()))
    };
    vec![seed(false), seed(true)]
}
