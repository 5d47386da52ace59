//! Joins that wait for their verdict. They take no member's seat; they have places of their own, bounded in all and per
//! room. When those are taken, a join makes way whose address has more of them waiting than the newcomer's: whoever
//! comes from few addresses keeps nobody out, however slowly a policy decides.

use std::collections::HashMap;

use super::State;
use crate::signal::door::Origin;
use moonring_core::command::LeaveCause;
use moonring_policy::hook::Undecided;
use moonring_wire::id::{ClientId, RoomId};

/// Joins that may wait on all shards together.
pub(super) const MAX_WAITING: usize = 4_096;
/// Joins that may wait in one room.
pub(super) const MAX_WAITING_PER_ROOM: usize = 512;

/// The joins that wait, by where they come from; those of one address in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_origin: HashMap<Origin, Vec<ClientId>>,
    len: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, origin: Origin, client: ClientId) {
        self.by_origin.entry(origin).or_default().push(client);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, origin: Origin, client: &ClientId) {
        let Some(clients) = self.by_origin.get_mut(&origin) else { return };
        let before = clients.len();
        clients.retain(|other| other != client);
        self.len -= before - clients.len();
        if clients.is_empty() {
            self.by_origin.remove(&origin);
        }
    }

    /// Whose join makes way for one from `origin`: the last of the address that has most. `None` when that would only
    /// turn things round.
    fn gives_way_to(&self, origin: Origin) -> Option<&ClientId> {
        let own = self.by_origin.get(&origin).map_or(0, Vec::len);
        let most = self.by_origin.values().max_by_key(|clients| clients.len())?;
        if most.len() > own + 1 { most.last() } else { None }
    }
}

/// Whether a join was refused for who asked, or as one of too many. A script that fails says nothing of that.
pub(super) fn is_refusal(cause: &LeaveCause) -> bool {
    matches!(cause, LeaveCause::Rejected(_) | LeaveCause::Undecided(Undecided::Crowded, _))
}

impl State {
    /// Whose join makes way for one from `origin`, if one has to, so that it has a place to wait in. An error when none does.
    pub(super) fn gives_way(&self, room: &RoomId, origin: Origin) -> Result<Option<ClientId>, ()> {
        let of_room = self.rooms.get(room).map(|placement| &placement.waiting);
        let full = of_room.filter(|waiting| waiting.len() >= MAX_WAITING_PER_ROOM);
        let Some(full) = full.or((self.waiting.len() >= MAX_WAITING).then_some(&self.waiting)) else { return Ok(None) };
        full.gives_way_to(origin).cloned().map(Some).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn origin(ip: &str) -> Origin {
        Origin::of(ip.parse::<IpAddr>().unwrap())
    }

    fn client(name: &str) -> ClientId {
        ClientId::parse(name).unwrap()
    }

    #[test]
    fn the_last_of_the_address_that_has_most_makes_way_and_nobody_for_one_that_has_as_many() {
        let mut waiting = Waiting::default();
        for (ip, name) in [("192.0.2.1", "a1"), ("192.0.2.1", "a2"), ("192.0.2.1", "a3"), ("192.0.2.2", "b1")] {
            waiting.insert(origin(ip), client(name));
        }
        for (ip, expected) in
            [("192.0.2.3", Some("a3")), ("192.0.2.2", Some("a3")), ("192.0.2.1", None), ("2001:db8::1", Some("a3"))]
        {
            assert_eq!(waiting.gives_way_to(origin(ip)), expected.map(client).as_ref(), "{ip}");
        }
        waiting.remove(origin("192.0.2.1"), &client("a2"));
        waiting.remove(origin("192.0.2.1"), &client("nobody"));
        assert_eq!(waiting.gives_way_to(origin("192.0.2.2")), None, "it would have more than the one that made way");
        assert_eq!(waiting.len(), 3);
        for (ip, name) in [("192.0.2.1", "a1"), ("192.0.2.1", "a3"), ("192.0.2.2", "b1")] {
            waiting.remove(origin(ip), &client(name));
        }
        assert_eq!((waiting.len(), waiting.by_origin.len()), (0, 0));
    }
}
