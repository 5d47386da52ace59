//! The sessions of WHIP and WHEP, by the secret names of their resources.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::directory::random_text;
use moonring_policy::client::Via;
use moonring_wire::id::{ClientId, RoomId};

/// Characters of a resource's secret name: 190 bits.
const NAME_CHARACTERS: usize = 32;

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Protocol {
    Whip,
    Whep,
}

impl Protocol {
    /// As policies know it.
    pub(super) fn via(self) -> Via {
        match self {
            Self::Whip => Via::Whip,
            Self::Whep => Via::Whep,
        }
    }

    /// As paths and scripts have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// A bearer token's digest: tokens themselves are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// A session.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) protocol: Protocol,
    pub(super) room: RoomId,
    pub(super) client: ClientId,
    /// The right that it was opened with; `None` without a token.
    pub(super) token: Option<TokenDigest>,
    /// Told when the session is deleted.
    pub(super) deleted: Arc<Notify>,
}

impl Resource {
    fn is_of(&self, protocol: Protocol, room: &str) -> bool {
        self.protocol == protocol && self.room.as_str() == room
    }
}

/// A session, for a process that takes over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeldSession {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) room: RoomId,
    pub(super) client: ClientId,
    pub(super) token: Option<TokenDigest>,
}

/// The sessions there are.
#[derive(Debug, Default)]
pub(super) struct Resources(Mutex<HashMap<String, Resource>>);

impl Resources {
    /// Keeps a session under a new name.
    pub(super) fn insert(&self, resource: Resource) -> String {
        let name = random_text(NAME_CHARACTERS);
        self.entries().insert(name.clone(), resource);
        name
    }

    /// Keeps a session of the process before under its name.
    pub(super) fn inherit(&self, name: String, resource: Resource) {
        self.entries().insert(name, resource);
    }

    /// The sessions of these clients, by name.
    pub(super) fn of(&self, clients: &HashSet<ClientId>) -> Vec<HeldSession> {
        let entries = self.entries();
        let held = entries.iter().filter(|(_, resource)| clients.contains(&resource.client));
        let session = |(name, resource): (&String, &Resource)| HeldSession {
            name: name.clone(),
            protocol: resource.protocol,
            room: resource.room.clone(),
            client: resource.client.clone(),
            token: resource.token,
        };
        held.map(session).collect()
    }

    /// Whether there is a session of that name in that room.
    pub(super) fn has(&self, protocol: Protocol, room: &str, name: &str) -> bool {
        self.entries().get(name).is_some_and(|resource| resource.is_of(protocol, room))
    }

    /// Ends a session at its client's request; false when there is none of that name in that room.
    pub(super) fn delete(&self, protocol: Protocol, room: &str, name: &str) -> bool {
        let mut entries = self.entries();
        let is_it = entries.get(name).is_some_and(|resource| resource.is_of(protocol, room));
        match is_it.then(|| entries.remove(name)).flatten() {
            Some(resource) => {
                resource.deleted.notify_one();
                true
            }
            None => false,
        }
    }

    /// Forgets a session that has ended.
    pub(super) fn forget(&self, name: &str) {
        self.entries().remove(name);
    }

    /// The publishers that came into a room with the same token.
    pub(super) fn publishers(&self, room: &RoomId, token: TokenDigest) -> Vec<ClientId> {
        let is_one = |r: &&Resource| r.protocol == Protocol::Whip && r.token == Some(token) && r.room == *room;
        self.entries().values().filter(is_one).map(|resource| resource.client.clone()).collect()
    }

    /// A panic while it was held left whole entries behind.
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Resource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
