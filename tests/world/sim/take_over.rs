//! Another process goes on with a shard's socket.

use moonring_core::command::Command;
use moonring_core::shard::Shard;
use moonring_core::shard::take_over::{HandedOver, TakeOverError};
use moonring_policy::CarriedPolicy;
use moonring_wire::id::RoomId;

use super::World;

/// What a room's script has handed over, or why nothing.
pub(crate) type Carried = (RoomId, Result<CarriedPolicy, String>);

impl World {
    /// What the shard hands over, with everything sent that could be.
    pub(crate) fn hand_over(&mut self) -> HandedOver {
        while self.at(0, |shard, now, out| shard.forward_all(now, out)) {}
        let handed = self.shard.hand_over(self.now);
        self.take_events();
        handed
    }

    /// A shard of another process that has read this.
    pub(crate) fn reader_of(&self, handed: &HandedOver) -> Result<Shard, TakeOverError> {
        let mut next = (self.fresh)(self.now);
        next.take_over(self.now, handed.pieces.iter().cloned())?;
        Ok(next)
    }

    /// Another process goes on; the scripts' states, which are still on their way.
    pub(crate) fn take_over_media(&mut self) -> Vec<Carried> {
        let handed = self.hand_over();
        let next = self.reader_of(&handed).unwrap();
        let mut former = std::mem::replace(&mut self.shard, next);
        let mut carried = Vec::new();
        former.hand_over_policies(self.now, |room, policy| carried.push((room.clone(), policy)));
        self.settle();
        carried
    }

    /// The scripts' states arrive.
    pub(crate) fn bring(&mut self, carried: Vec<Carried>) {
        for (room, carried) in carried {
            let carried = carried.ok().map(Box::new);
            self.command(Command::PolicyCarried { room, carried });
        }
    }

    /// The process is gone, and another one begins with nothing.
    pub(crate) fn lose_process(&mut self) {
        self.shard = (self.fresh)(self.now);
        self.members.clear();
        self.settle();
    }

    /// Another process goes on with everything.
    pub(crate) fn take_over(&mut self) {
        let carried = self.take_over_media();
        self.run_ms(20);
        self.bring(carried);
    }
}
