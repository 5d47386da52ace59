//! The shards of other nodes: by which number this process knows each, and what is said to them about rooms that both have.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::courier::{Came, Courier, Head, News, Pair};
use super::engine::Message;
use super::messages::{Beat, Node, Run, place_subject, shard_of};
use super::peers::Standing;
use super::{Cluster, Host};
use crate::config::RoomSpread;
use moonring_core::command::{PlaceMessage, read_places, write_places};
use moonring_wire::id::{PlaceId, RoomId};
use moonring_wire::link::{LinkPeer, Place};

/// Between two looks at what is to be said again.
const LOOK: Duration = Duration::from_millis(50);
/// Messages of other nodes' shards that wait to be read, each of at most half a mebibyte; more are lost, and said again.
const MESSAGES: usize = 256;

/// The shards of all nodes, by this process' own numbers.
#[derive(Debug)]
pub(super) struct Places {
    /// Shards of this node, which have the numbers from 0 on.
    near: u16,
    next: u16,
    far: BTreeMap<PlaceId, Far>,
    /// Those that messages do not reach.
    away: HashSet<PlaceId>,
}

/// A shard of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Far {
    node: Node,
    shard: u16,
    address: SocketAddr,
}

impl Places {
    pub(super) fn new(near: usize) -> Self {
        let near = u16::try_from(near).unwrap_or(u16::MAX);
        Self { near, next: near, far: BTreeMap::new(), away: HashSet::new() }
    }

    /// Takes in where a node's shards are; whether that is news.
    fn hear(&mut self, beat: &Beat) -> bool {
        let mut is_news = false;
        for (shard, address) in (0_u16..).zip(&beat.links) {
            let far = Far { node: beat.node.clone(), shard, address: *address };
            let is_it = |known: &Far| (known.node.run, known.shard) == (far.node.run, shard);
            match self.far.values_mut().find(|known| is_it(known)) {
                Some(known) if *known == far => continue,
                Some(known) => *known = far,
                None => match self.free() {
                    Some(id) => drop(self.far.insert(id, far)),
                    None => continue,
                },
            }
            is_news = true;
        }
        is_news
    }

    /// A number that was not given out for as long as there are others.
    fn free(&mut self) -> Option<PlaceId> {
        for _ in self.near..u16::MAX {
            let id = PlaceId(self.next);
            self.next = if self.next >= u16::MAX - 1 { self.near } else { self.next + 1 };
            if !self.far.contains_key(&id) {
                return Some(id);
            }
        }
        None
    }

    /// Forgets the shards of the nodes that are gone; which.
    fn forget(&mut self, is_gone: impl Fn(&Node) -> bool) -> Vec<PlaceId> {
        let gone: Vec<_> = self.far.iter().filter(|(_, far)| is_gone(&far.node)).map(|(id, _)| *id).collect();
        for id in &gone {
            self.far.remove(id);
            self.away.remove(id);
        }
        gone
    }

    fn find(&self, run: Run, shard: u16) -> Option<PlaceId> {
        self.far.iter().find(|(_, far)| (far.node.run, far.shard) == (run, shard)).map(|(id, _)| *id)
    }

    fn peers(&self) -> Vec<LinkPeer> {
        let peer = |(id, far): (&PlaceId, &Far)| LinkPeer {
            id: *id,
            place: Place { run: far.node.run.0.into(), shard: far.shard },
            address: far.address,
        };
        self.far.iter().map(peer).collect()
    }
}

/// What the shards of this node say to those of others, and the other way.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) places: Places,
    courier: Courier,
}

impl Mail {
    pub(super) fn new(near: usize) -> Self {
        Self { places: Places::new(near), courier: Courier::default() }
    }
}

impl Cluster {
    /// Whether rooms may be on several nodes.
    pub(crate) fn spread(&self) -> RoomSpread {
        self.0.spread
    }

    /// A shard of this node has something to say to one of another.
    pub(crate) fn place_said(&self, shard: usize, to: PlaceId, messages: Vec<(RoomId, PlaceMessage)>) -> bool {
        let Ok(shard) = u16::try_from(shard) else { return false };
        let own = self.0.own.run;
        let mut mail = self.mail();
        let Mail { places, courier } = &mut *mail;
        if !places.far.contains_key(&to) {
            return true;
        }
        let name = |id: PlaceId| {
            let far = places.far.get(&id).map(|far| Place { run: far.node.run.0.into(), shard: far.shard });
            far.or_else(|| (id.0 < places.near).then(|| Place { run: own.0.into(), shard: id.0 }))
        };
        let (pieces, errors) = write_places(messages, &name);
        for error in errors {
            tracing::error!("a shard cannot tell one of another node something: {error}");
        }
        let lost = courier.say(Instant::now(), (shard, to), pieces);
        drop(mail);
        self.0.said.notify_one();
        lost.is_none()
    }

    /// Carries messages between shards for as long as the server runs.
    pub(super) async fn carry(self, host: Arc<dyn Host>) {
        if self.0.links.is_empty() {
            return;
        }
        let (inbox, mut messages) = mpsc::channel(MESSAGES);
        let shards = 0..u16::try_from(self.0.links.len()).unwrap_or(u16::MAX);
        let serve = |shard| self.0.engine.serve(&place_subject(&self.0.own, shard), inbox.clone());
        let _serving: Vec<_> = shards.map(serve).collect();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(message) = messages.recv() => self.take_mail(&host, &message),
                () = self.0.said.notified() => {}
                _ = looks.tick() => self.look_at_mail(&host),
            }
            self.send_mail().await;
        }
    }

    async fn send_mail(&self) {
        let due = {
            let mut mail = self.mail();
            let due = mail.courier.due(Instant::now(), self.0.own.run);
            let to = |(pair, bytes): (Pair, bytes::Bytes)| {
                let far = mail.places.far.get(&pair.1)?;
                Some((place_subject(&far.node, far.shard), bytes))
            };
            due.into_iter().filter_map(to).collect::<Vec<_>>()
        };
        for (subject, bytes) in due {
            // Without randomness nothing is said, and it is tried again.
            if let Some(sealed) = self.0.seal.encrypt(&subject, &bytes) {
                self.0.engine.tell(&subject, sealed).await;
            }
        }
    }

    fn look_at_mail(&self, host: &Arc<dyn Host>) {
        let changes = self.mail().courier.changes(Instant::now());
        for change in changes {
            match change {
                News::Away((shard, place), is_away) => {
                    host.place_away(shard.into(), place, is_away);
                }
                News::Lost((shard, place)) => host.place_lost(shard.into(), place),
            }
        }
    }

    fn take_mail(&self, host: &Arc<dyn Host>, message: &Message) {
        let body = match self.0.seal.decrypt(&message.subject, &message.body) {
            Ok(body) => body,
            Err(error) => return self.refuse_message(&message.subject, &error),
        };
        let Some(shard) = shard_of(&message.subject) else { return };
        let Some((head, piece)) = Head::read(&body) else { return };
        let now = Instant::now();
        let mut mail = self.mail();
        // Of a node that has not been heard yet, or is gone: it says it again.
        let Some(from) = mail.places.find(head.run, head.shard) else { return };
        let pair = (shard, from);
        let (piece, is_lost) = match mail.courier.hear(now, pair, &head, piece) {
            Came::Next(piece) => (piece, false),
            Came::Lost(piece) => (piece, true),
            Came::Nothing => return,
        };
        let own = self.0.own.run;
        let find = |place: Place| {
            let run = Run(u64::try_from(place.run).ok()?);
            if run == own { Some(PlaceId(place.shard)) } else { mail.places.find(run, place.shard) }
        };
        let read = read_places(piece, &mut { find });
        drop(mail);
        if is_lost {
            host.place_lost(shard.into(), from);
        }
        let is_taken = match read {
            Ok(messages) => host.place_heard(shard.into(), from, messages),
            Err(error) => {
                if self.state().warns(format!("place {} {error}", from.0)) {
                    tracing::error!(place = from.0, "{error}: what is spread over both nodes ends");
                }
                host.place_lost(shard.into(), from);
                true
            }
        };
        // What its shard has no time for is said again.
        if is_taken {
            self.mail().courier.took(pair, &head);
            self.0.said.notify_one();
        }
    }

    /// Takes in where a node's shards are.
    pub(super) fn hear_links(&self, host: &Arc<dyn Host>, beat: &Beat) {
        if self.0.links.is_empty() {
            return;
        }
        let mut mail = self.mail();
        if mail.places.hear(beat) {
            let peers = mail.places.peers();
            drop(mail);
            host.peers(peers);
        }
    }

    /// Nodes that are dead, or run anew, have no shards any more.
    pub(super) fn look_at_places(&self, host: &Arc<dyn Host>) {
        let now = Instant::now();
        let state = self.state();
        let is_gone = |node: &Node| {
            matches!(state.peers.standing(now, &node.name, Some(node.run)), Standing::Dead | Standing::Replaced)
        };
        let mut mail = self.mail();
        let gone = mail.places.forget(is_gone);
        if gone.is_empty() {
            return;
        }
        gone.iter().for_each(|place| mail.courier.forget(*place));
        let peers = mail.places.peers();
        drop((mail, state));
        self.0.counts.links_ended.fetch_add(gone.len() as u64, Ordering::Relaxed);
        // Those who are in their rooms are sent away before the shards end them.
        gone.iter().for_each(|place| host.home_lost(*place, &self.0.own.url));
        host.peers(peers);
    }

    /// What the shards of other nodes are called.
    pub(super) fn place_names(&self) -> BTreeMap<PlaceId, String> {
        let mail = self.mail();
        mail.places.far.iter().map(|(id, far)| (*id, format!("{}/{}", far.node.name, far.shard))).collect()
    }

    /// The node of a shard of another node.
    pub(super) fn node_at(&self, place: PlaceId) -> Option<Node> {
        self.mail().places.far.get(&place).map(|far| far.node.clone())
    }

    /// By which number this process knows a shard of a node.
    pub(super) fn place_of(&self, node: &Node, shard: u16) -> Option<PlaceId> {
        self.mail().places.find(node.run, shard)
    }

    /// A panic while it was held left whole entries behind.
    fn mail(&self) -> std::sync::MutexGuard<'_, Mail> {
        self.0.mail.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
