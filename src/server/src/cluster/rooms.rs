//! The rooms that this node is the home of, and what it remembers of other homes.
//!
//! A room's **term** is the revision of its claim. Whoever has the higher one is its home: a node that learns of a higher
//! term than its own gives way.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::messages::{Claim, Node};
use moonring_wire::id::RoomId;

/// Homes of other rooms that are remembered.
const MAX_FAR: usize = 4096;
/// For how long: a home that dies is noticed when it is asked again.
const FAR_FRESH: Duration = Duration::from_secs(5);

/// Own rooms, and others' homes. `S` is what goes on for as long as a room is this node's.
#[derive(Debug)]
pub(super) struct Rooms<S> {
    own: Node,
    owned: HashMap<RoomId, Owned<S>>,
    far: HashMap<RoomId, Far>,
}

/// The home of a room of another node.
#[derive(Debug)]
struct Far {
    node: Node,
    term: u64,
    at: Instant,
}

#[derive(Debug)]
struct Owned<S> {
    term: u64,
    /// Joins that are on their way into it.
    holds: u32,
    /// It is not given up before: somebody is about to come.
    keep_until: Instant,
    serving: S,
}

/// What a change of a claim means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect<S> {
    /// Nothing for this node.
    None,
    /// Another node is the room's home, with a higher term.
    GiveWay(Node, S),
    /// The claim of a room of this node's is gone, or older than its term: it is to be written again, over this revision.
    Rewrite(Option<u64>),
}

impl<S> Rooms<S> {
    pub(super) fn new(own: Node) -> Self {
        Self { own, owned: HashMap::new(), far: HashMap::new() }
    }

    /// How many are this node's.
    pub(super) fn len(&self) -> usize {
        self.owned.len()
    }

    /// The term of a room of this node's.
    pub(super) fn term(&self, room: &RoomId) -> Option<u64> {
        self.owned.get(room).map(|owned| owned.term)
    }

    /// All of this node's, with their terms.
    pub(super) fn all(&self) -> Vec<(RoomId, u64)> {
        self.owned.iter().map(|(room, owned)| (room.clone(), owned.term)).collect()
    }

    /// Gives all of them up; the terms that their claims have. A claim that goes then is nobody's to write again.
    pub(super) fn leave(&mut self) -> Vec<(RoomId, u64)> {
        self.owned.drain().map(|(room, owned)| (room, owned.term)).collect()
    }

    /// Keeps a room of this node's from being given up until [`Rooms::let_go`]; false when it is not this node's.
    pub(super) fn hold(&mut self, room: &RoomId) -> bool {
        let owned = self.owned.get_mut(room);
        owned.map(|owned| owned.holds += 1).is_some()
    }

    pub(super) fn let_go(&mut self, room: &RoomId) {
        if let Some(owned) = self.owned.get_mut(room) {
            owned.holds = owned.holds.saturating_sub(1);
        }
    }

    /// The room is this node's, with this term, until `keep_until` at least; `serving` is made when it was not.
    pub(super) fn won(&mut self, room: &RoomId, term: u64, keep_until: Instant, serving: impl FnOnce() -> S) {
        self.far.remove(room);
        match self.owned.get_mut(room) {
            Some(owned) => {
                owned.term = term;
                owned.keep_until = owned.keep_until.max(keep_until);
            }
            None => {
                self.owned.insert(room.clone(), Owned { term, holds: 0, keep_until, serving: serving() });
            }
        }
    }

    /// The claim of a room of this node's was written again.
    pub(super) fn rewritten(&mut self, room: &RoomId, term: u64) {
        if let Some(owned) = self.owned.get_mut(room) {
            owned.term = term;
        }
    }

    /// Gives a room up that nobody is on the way into; the term that its claim has.
    pub(super) fn end(&mut self, now: Instant, room: &RoomId) -> Option<(u64, S)> {
        if self.owned.get(room).is_none_or(|owned| owned.holds > 0 || now < owned.keep_until) {
            return None;
        }
        self.owned.remove(room).map(|owned| (owned.term, owned.serving))
    }

    /// Gives a room up, whoever is in it; the term that its claim has.
    pub(super) fn give_up(&mut self, room: &RoomId) -> Option<(u64, S)> {
        self.owned.remove(room).map(|owned| (owned.term, owned.serving))
    }

    /// The claim of a room has become this; `None`: nobody's.
    pub(super) fn changed(&mut self, now: Instant, room: &RoomId, revision: u64, claim: Option<Claim>) -> Effect<S> {
        let Some(term) = self.term(room) else {
            match claim {
                Some(claim) if self.far.contains_key(room) => self.know(now, room, (claim.node, revision)),
                Some(_) => {}
                None => drop(self.far.remove(room)),
            }
            return Effect::None;
        };
        match claim {
            // What is told late.
            _ if revision <= term => Effect::None,
            Some(claim) => self.contested(now, room, revision, claim),
            None => Effect::Rewrite(None),
        }
    }

    /// The claim of a room of this node's was read, after a time in which changes may have been missed.
    pub(super) fn checked(&mut self, now: Instant, room: &RoomId, found: Option<(u64, Claim)>) -> Effect<S> {
        let Some(term) = self.term(room) else { return Effect::None };
        match found {
            None => Effect::Rewrite(None),
            Some((revision, claim)) if revision > term || claim.node.run == self.own.run => {
                self.contested(now, room, revision, claim)
            }
            // A table that has begun anew, or a copy that lags behind: the write decides.
            Some((revision, _)) => Effect::Rewrite(Some(revision)),
        }
    }

    fn contested(&mut self, now: Instant, room: &RoomId, revision: u64, claim: Claim) -> Effect<S> {
        if claim.node.run == self.own.run {
            self.rewritten(room, revision);
            return Effect::None;
        }
        let gone = self.owned.remove(room);
        self.know(now, room, (claim.node.clone(), revision));
        gone.map_or(Effect::None, |owned| Effect::GiveWay(claim.node, owned.serving))
    }

    /// Another node is a room's home, with this term.
    pub(super) fn know(&mut self, now: Instant, room: &RoomId, (node, term): (Node, u64)) {
        if self.far.len() >= MAX_FAR && !self.far.contains_key(room) {
            self.far.retain(|_, far| now.saturating_duration_since(far.at) < FAR_FRESH);
            if self.far.len() >= MAX_FAR {
                self.far.clear();
            }
        }
        self.far.insert(room.clone(), Far { node, term, at: now });
    }

    /// The home of a room, if another node was lately.
    pub(super) fn far(&self, now: Instant, room: &RoomId) -> Option<&Node> {
        let Far { node, at, .. } = self.far.get(room)?;
        (now.saturating_duration_since(*at) < FAR_FRESH).then_some(node)
    }

    /// The highest term that was heard of another home of a room, however long ago; 0: none.
    pub(super) fn far_term(&self, room: &RoomId) -> u64 {
        self.far.get(room).map_or(0, |far| far.term)
    }

    /// What is remembered of other homes may be wrong.
    pub(super) fn forget_far(&mut self) {
        self.far.clear();
    }
}

#[cfg(test)]
mod tests;
