//! Who asks to join while the room ends waits until it is gone, as on a shard, and finds a fresh one.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Value, json};

use super::World;
use super::acts::Asked;
use crate::Ticket;
use crate::client::{ClientFacts, Connection};
use crate::hook::HookCall;
use moonring_wire::id::ClientId;

/// Somebody asks to join.
pub(super) struct Join {
    pub(super) id: ClientId,
    pub(super) connection: Connection,
    pub(super) token: String,
    pub(super) metadata: Value,
}

/// Those who wait.
#[derive(Default)]
pub(super) struct Late {
    joins: Vec<(Ticket, Join)>,
    /// What the harness knows their calls by.
    told: HashMap<Ticket, Ticket>,
}

impl Late {
    pub(super) fn waits(&self, id: &str) -> bool {
        self.joins.iter().any(|(_, join)| join.id.as_str() == id)
    }

    /// Somebody waits no longer; false when he does not.
    pub(super) fn give_up(&mut self, id: &str) -> bool {
        let before = self.joins.len();
        self.joins.retain(|(_, join)| join.id.as_str() != id);
        self.joins.len() < before
    }

    /// All of them wait no longer.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = ClientId> {
        std::mem::take(self).joins.into_iter().map(|(_, join)| join.id)
    }

    /// What the harness knows a call by.
    pub(super) fn told(&mut self, ticket: Ticket) -> Ticket {
        self.told.remove(&ticket).unwrap_or(ticket)
    }
}

impl World {
    /// Somebody comes into the room, or into a fresh one if it is over.
    pub(super) fn join(&mut self, join: Join) -> Result<Ticket, String> {
        self.open_again()?;
        let Join { id, connection, token, metadata } = join;
        let client = Rc::new(ClientFacts::new(id.clone(), connection, metadata.into(), self.now));
        self.clients.insert(id, client.clone());
        let call = HookCall::ClientConnect { client: client.clone(), auth_token: token };
        Ok(self.submit_as(Asked::Connect(client), call))
    }

    pub(super) fn wait_for_end(&mut self, join: Join) -> Ticket {
        let ticket = self.own_ticket();
        self.late.joins.push((ticket, join));
        ticket
    }

    /// The room is gone: who has waited for that joins; false when nobody has.
    pub(super) fn join_late(&mut self) -> bool {
        let late = std::mem::take(&mut self.late.joins);
        let is_anybody = !late.is_empty();
        for (told, join) in late {
            match self.join(join) {
                Ok(ticket) => drop(self.late.told.insert(ticket, told)),
                Err(reason) => self.happened.push(json!({ "op": "outcome", "ticket": told.0, "allowed": false,
                    "reason": reason, "failed": true, "missing": false, "refused": null, "answer": null })),
            }
        }
        is_anybody
    }
}
