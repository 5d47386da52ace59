//! The shards of other nodes: by which number this process knows each, and what is said to them about rooms that both have.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::courier::{Came, Courier, Head, News, Pair};
use super::dead_links::DeadLinks;
use super::engine::Message;
use super::messages::{Beat, Node, NodeName, Run, place_subject, shard_of};
use super::peers::Standing;
use super::witness::LinksHeard;
use super::{Cluster, Host};
use crate::config::RoomSpread;
use moonring_core::command::{PlaceMessage, read_places, write_places};
use moonring_wire::id::{PlaceId, RoomId};
use moonring_wire::link::{LinkPeer, Place};

/// Shards of dead nodes that are remembered.
const MAX_DEAD: usize = 1024;
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
    /// Shards of nodes that were found dead: one that comes back in the same run has the number that it had.
    dead: VecDeque<(PlaceId, Run, u16)>,
    /// Those of them that are not, since this was last asked.
    risen: Vec<PlaceId>,
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
    pub(super) fn new(near: u16) -> Self {
        Self { near, next: near, far: BTreeMap::new(), dead: VecDeque::new(), risen: Vec::new(), away: HashSet::new() }
    }

    /// Takes in where a node's shards are; whether that is news.
    pub(super) fn hear(&mut self, beat: &Beat) -> bool {
        let mut is_news = false;
        for (shard, address) in (0_u16..).zip(&beat.links) {
            let far = Far { node: beat.node.clone(), shard, address: *address };
            let is_it = |known: &Far| (known.node.run, known.shard) == (far.node.run, shard);
            match self.far.values_mut().find(|known| is_it(known)) {
                Some(known) if *known == far => continue,
                Some(known) => *known = far,
                None => match self.risen(far.node.run, shard).or_else(|| self.free()) {
                    Some(id) => drop(self.far.insert(id, far)),
                    None => continue,
                },
            }
            is_news = true;
        }
        is_news
    }

    /// The number of a shard of a node that was found dead, and is not.
    fn risen(&mut self, run: Run, shard: u16) -> Option<PlaceId> {
        let at = self.dead.iter().position(|(_, of, number)| (*of, *number) == (run, shard))?;
        let (id, ..) = self.dead.remove(at)?;
        self.risen.push(id);
        Some(id)
    }

    /// A number that was not given out for as long as there are others.
    fn free(&mut self) -> Option<PlaceId> {
        for _ in self.near..u16::MAX {
            let id = PlaceId(self.next);
            self.next = if self.next >= u16::MAX - 1 { self.near } else { self.next + 1 };
            if !self.far.contains_key(&id) && self.dead.iter().all(|(dead, ..)| *dead != id) {
                return Some(id);
            }
        }
        None
    }

    /// Takes out the shards of the nodes that are gone: which, and whether they may come back.
    pub(super) fn take_gone(&mut self, standing: impl Fn(&Node) -> Standing) -> Vec<(PlaceId, bool)> {
        let gone = self.far.iter().filter_map(|(id, far)| match standing(&far.node) {
            Standing::Dead => Some((*id, true)),
            Standing::Replaced => Some((*id, false)),
            _ => None,
        });
        let gone: Vec<_> = gone.collect();
        for (id, may_rise) in &gone {
            self.away.remove(id);
            if let Some(far) = self.far.remove(id).filter(|_| *may_rise) {
                self.dead.push_back((*id, far.node.run, far.shard));
            }
        }
        gone
    }

    /// The shards that have been gone for longer than there is room to remember.
    fn forgotten(&mut self) -> Vec<PlaceId> {
        let over = self.dead.len().saturating_sub(MAX_DEAD);
        self.dead.drain(..over).map(|(id, ..)| id).collect()
    }

    fn find(&self, run: Run, shard: u16) -> Option<PlaceId> {
        self.far.iter().find(|(_, far)| (far.node.run, far.shard) == (run, shard)).map(|(id, _)| *id)
    }

    /// The shards of a run of a node.
    pub(super) fn of(&self, node: &Node) -> impl Iterator<Item = PlaceId> {
        self.far.iter().filter(move |(_, far)| far.node.run == node.run).map(|(id, _)| *id)
    }

    /// The shards of the nodes of this name.
    pub(super) fn of_name(&self, name: &NodeName) -> impl Iterator<Item = PlaceId> {
        self.far.iter().filter(move |(_, far)| far.node.name == *name).map(|(id, _)| *id)
    }

    /// Whose shard a place is.
    pub(super) fn name_of(&self, place: PlaceId) -> Option<NodeName> {
        self.far.get(&place).map(|far| far.node.name.clone())
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
    pub(super) heard: LinksHeard,
    pub(super) dead: DeadLinks,
    courier: Courier,
}

impl Mail {
    pub(super) fn new(near: u16) -> Self {
        Self {
            places: Places::new(near),
            heard: LinksHeard::default(),
            dead: DeadLinks::default(),
            courier: Courier::default(),
        }
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
        let Mail { places, courier, .. } = &mut *mail;
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
        if self.0.linked == 0 {
            return;
        }
        let (inbox, mut messages) = mpsc::channel(MESSAGES);
        let serve = |shard| self.0.engine.serve(&place_subject(&self.0.own, shard), inbox.clone());
        let _serving: Vec<_> = (0..self.0.linked).map(serve).collect();
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
        if self.0.linked == 0 {
            return;
        }
        let mut mail = self.mail();
        if mail.places.hear(beat) {
            let (peers, risen) = (mail.places.peers(), std::mem::take(&mut mail.places.risen));
            risen.into_iter().for_each(|place| mail.courier.greet(Instant::now(), place));
            drop(mail);
            host.peers(peers);
        }
    }

    /// Nodes that are dead, or run anew, have no shards any more.
    pub(super) fn look_at_places(&self, host: &Arc<dyn Host>) {
        let now = Instant::now();
        let state = self.state();
        let standing = |node: &Node| state.peers.standing(now, &node.name, Some(node.run));
        let mut mail = self.mail();
        let gone = mail.places.take_gone(standing);
        if gone.is_empty() {
            return;
        }
        for (place, may_rise) in &gone {
            mail.heard.forget(*place);
            mail.dead.forget(*place);
            if *may_rise { mail.courier.suspend(*place) } else { mail.courier.forget(*place) }
        }
        for place in mail.places.forgotten() {
            mail.courier.forget(place);
        }
        let peers = mail.places.peers();
        drop((mail, state));
        self.0.counts.links_ended.fetch_add(gone.len() as u64, Ordering::Relaxed);
        host.peers(peers);
        gone.iter().for_each(|(place, _)| host.home_lost(*place));
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
    pub(super) fn mail(&self) -> std::sync::MutexGuard<'_, Mail> {
        self.0.mail.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
