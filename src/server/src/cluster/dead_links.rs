//! Nodes that live while the links to them do not: what comes from there stands still, so nobody stays where he depends on it.
//!
//! Either end may be the one that hears nothing. A node says in its beats of whom it hears nothing, so that the other one,
//! which may hear everything, knows it, too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::Cluster;
use super::messages::{Beat, NodeName};
use moonring_core::report::LinkReport;
use moonring_wire::id::{PlaceId, RoomId};

/// A link that has been silent for so long is dead: at the third word of a shard that it is, which is one a second and begins
/// after a second of silence. Of a shorter one a client notices less than of a move.
const DEAD: Duration = Duration::from_millis(1500);
/// What was found so long ago is so still: shards tell of their links once a second, and nodes beat more often.
const LATELY: Duration = Duration::from_millis(2500);
/// For so long nobody is seated where he would need a link that was dead: who uses it would find that out.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Nodes that one beat names.
pub(super) const MAX_NAMED: usize = 16;
/// Rooms that are remembered.
const MAX_ROOMS: usize = 16_384;

/// Which links are dead.
#[derive(Debug, Default)]
pub(super) struct DeadLinks {
    /// Since when a shard of this node hears nothing of one of another.
    silent: BTreeMap<(usize, PlaceId), Instant>,
    nodes: BTreeMap<NodeName, Found>,
    /// Rooms with tracks that should come over them, and when that was found last.
    rooms: HashMap<RoomId, Instant>,
}

/// When the links to a node were last found to be dead.
#[derive(Debug, Default)]
struct Found {
    /// By this node.
    here: Option<Instant>,
    /// By that one.
    there: Option<Instant>,
}

/// Whom dead links concern now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Severed {
    /// Shards of nodes whose links are dead.
    places: HashSet<PlaceId>,
    /// Rooms with tracks that should come over them.
    rooms: HashSet<RoomId>,
}

impl DeadLinks {
    /// A shard of this node tells of its links; `name_of`: whose a place is. Nodes whose links were not known to be dead.
    pub(super) fn told(
        &mut self,
        now: Instant,
        (shard, links): (usize, &[LinkReport]),
        name_of: impl Fn(PlaceId) -> Option<NodeName>,
    ) -> Vec<NodeName> {
        let mut news = Vec::new();
        for link in links {
            if !link.is_silent {
                self.silent.remove(&(shard, link.place));
                continue;
            }
            let since = *self.silent.entry((shard, link.place)).or_insert(now);
            if now.saturating_duration_since(since) < DEAD {
                continue;
            }
            let Some(name) = name_of(link.place) else { continue };
            if !self.is_dead(now, &name, LATELY) {
                news.push(name.clone());
            }
            self.nodes.entry(name).or_default().here = Some(now);
            for room in &link.rooms {
                if self.rooms.len() < MAX_ROOMS || self.rooms.contains_key(room) {
                    self.rooms.insert(room.clone(), now);
                }
            }
        }
        news
    }

    /// A beat says of whom its node hears nothing: whether this node, `own`, is news among them.
    pub(super) fn hear(&mut self, now: Instant, beat: &Beat, own: &NodeName) -> bool {
        if !beat.unheard.contains(own) {
            return false;
        }
        let is_news = !self.is_dead(now, &beat.node.name, LATELY);
        self.nodes.entry(beat.node.name.clone()).or_default().there = Some(now);
        is_news
    }

    /// Of whom this node hears nothing, for its beats.
    pub(super) fn unheard(&self, now: Instant) -> Vec<NodeName> {
        let is_lately = |found: &Found| found.here.is_some_and(|at| is_within(now, at, LATELY));
        let names = self.nodes.iter().filter(|(_, found)| is_lately(found)).map(|(name, _)| name.clone());
        names.take(MAX_NAMED).collect()
    }

    /// The links to a shard have ended.
    pub(super) fn forget(&mut self, place: PlaceId) {
        self.silent.retain(|(_, of), _| *of != place);
    }

    fn is_dead(&self, now: Instant, node: &NodeName, within: Duration) -> bool {
        let last = self.nodes.get(node).and_then(Found::last);
        last.is_some_and(|at| is_within(now, at, within))
    }

    /// Whether somebody in the room, which has its home on `home`, would need a link that is dead, or was lately.
    pub(super) fn concern(&self, now: Instant, room: &RoomId, home: &NodeName) -> bool {
        let room = self.rooms.get(room).is_some_and(|at| is_within(now, *at, REMEMBERED));
        room || self.is_dead(now, home, REMEMBERED)
    }

    /// The nodes and rooms that dead links concern now; what was found long ago is forgotten.
    fn lately(&mut self, now: Instant) -> (Vec<NodeName>, HashSet<RoomId>) {
        self.nodes.retain(|_, found| found.last().is_some_and(|at| is_within(now, at, REMEMBERED)));
        self.rooms.retain(|_, at| is_within(now, *at, REMEMBERED));
        let nodes = self.nodes.keys().filter(|node| self.is_dead(now, node, LATELY)).cloned().collect();
        let rooms = self.rooms.iter().filter(|(_, at)| is_within(now, **at, LATELY));
        (nodes, rooms.map(|(room, _)| room.clone()).collect())
    }
}

impl Found {
    fn last(&self) -> Option<Instant> {
        self.here.max(self.there)
    }
}

fn is_within(now: Instant, at: Instant, time: Duration) -> bool {
    now.saturating_duration_since(at) < time
}

impl Severed {
    /// Whether there is nobody.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.rooms.is_empty()
    }

    /// Whether clients here of a room whose home is this shard of another node go there.
    pub(crate) fn concerns(&self, room: &RoomId, home: PlaceId) -> bool {
        self.places.contains(&home) || self.rooms.contains(room)
    }
}

impl Cluster {
    /// Whom dead links concern now.
    pub(crate) fn severed(&self) -> Severed {
        let mut mail = self.mail();
        let (nodes, rooms) = mail.dead.lately(Instant::now());
        Severed { places: nodes.iter().flat_map(|node| mail.places.of_name(node)).collect(), rooms }
    }

    /// A shard of this node tells of its links.
    pub(crate) fn links_told(&self, shard: usize, links: &[LinkReport]) {
        let (now, mut mail) = (Instant::now(), self.mail());
        links.iter().for_each(|link| mail.heard.told(now, (shard, link.place), link.received));
        let found = &mut *mail;
        let news = found.dead.told(now, (shard, links), |place| found.places.name_of(place));
        drop(mail);
        news.iter().for_each(|node| {
            tracing::warn!(%node, "lives, and nothing comes from its shards: clients of rooms of both nodes go to the rooms' homes");
        });
    }

    /// A node says in a beat of whom it hears nothing.
    pub(super) fn hear_unheard(&self, beat: &Beat) {
        if self.mail().dead.hear(Instant::now(), beat, &self.0.own.name) {
            let node = &beat.node.name;
            tracing::warn!(%node, "lives, and hears nothing of this node's shards: clients of rooms of both nodes go to the rooms' homes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn room(id: &str) -> RoomId {
        RoomId::parse(id).unwrap()
    }

    fn link(place: u16, is_silent: bool, rooms: &[&str]) -> LinkReport {
        LinkReport {
            place: PlaceId(place),
            sent: 0,
            received: 0,
            lost: 0,
            layers_down: 0,
            is_silent,
            rooms: rooms.iter().map(|id| room(id)).collect(),
            rtt: Duration::ZERO,
        }
    }

    /// The shards 2 and 3 are of one node, 4 of another.
    fn of(place: PlaceId) -> Option<NodeName> {
        [None, None, Some("b"), Some("b"), Some("c")][usize::from(place.0)].map(name)
    }

    #[test]
    fn links_to_a_node_are_dead_once_one_of_them_has_been_silent_for_two_seconds_more() {
        let (mut links, start) = (DeadLinks::default(), Instant::now());
        let mut told = |s: u64, reports: &[LinkReport]| {
            let now = start + Duration::from_secs(s);
            (links.told(now, (0, reports), of), links.lately(now).0)
        };
        let silent = [link(2, true, &["demo"]), link(3, false, &[])];
        for s in 0..2 {
            assert_eq!(told(s, &silent), (vec![], vec![]), "after {s} s");
        }
        assert_eq!(told(2, &silent), (vec![name("b")], vec![name("b")]), "it is news");
        assert_eq!(told(3, &silent), (vec![], vec![name("b")]));
        assert_eq!(told(4, &[link(2, false, &[])]), (vec![], vec![name("b")]), "it was so lately");
        assert_eq!(told(6, &[link(2, true, &["demo"])]), (vec![], vec![]), "a new silence");
        assert_eq!(told(8, &silent), (vec![name("b")], vec![name("b")]));
    }

    #[test]
    fn who_would_need_a_link_that_was_dead_lately_is_seated_at_home() {
        let (mut links, start) = (DeadLinks::default(), Instant::now());
        for s in 0..3 {
            links.told(start + Duration::from_secs(s), (0, &[link(4, true, &["demo"])]), of);
        }
        let found = start + Duration::from_secs(2);
        for (id, home, concerns) in [("demo", "b", true), ("other", "b", false), ("other", "c", true)] {
            assert_eq!(links.concern(found, &room(id), &name(home)), concerns, "{id} of {home}");
            assert!(!links.concern(found + REMEMBERED, &room(id), &name(home)), "{id} of {home}, later");
        }
        let (_, rooms) = links.lately(found);
        assert_eq!(rooms, HashSet::from([room("demo")]));
        links.lately(found + REMEMBERED);
        assert!(links.rooms.is_empty() && links.nodes.is_empty(), "nothing is kept for ever");
    }

    #[test]
    fn rooms_beyond_the_bound_are_not_remembered() {
        let (mut links, start) = (DeadLinks::default(), Instant::now());
        let ids: Vec<_> = (0..MAX_ROOMS + 9).map(|n| n.to_string()).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        for s in [0, 2] {
            links.told(start + Duration::from_secs(s), (0, &[link(2, true, &ids)]), of);
        }
        assert_eq!(links.rooms.len(), MAX_ROOMS);
    }
}
