//! The links of a shard to the other shards, of its own node and of others: sealed datagrams over the shards' own sockets.
//!
//! Those of the own node have the first numbers and are there from the start. Those of other nodes come and go
//! ([`Links::set_peers`]); another run of a process is another place, with other keys.

mod health;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

pub use self::health::{Change, Health, INTERVAL};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{PlaceId, TrackKey};
use moonring_wire::link::{Frame, HEAD, LinkPeer, MAX_LINK_DATAGRAM, OVERHEAD, Opener, Place, Sealer};
use moonring_wire::packet::SendBatch;

/// Frames are gathered into datagrams of at most this many bytes.
const GATHERED: usize = 1_200;
/// Links that have ended and are remembered: a node that was only thought to be gone goes on under the same keys.
const MAX_ENDED: usize = 4_096;
/// A frame of media with a longer payload leaves in a datagram of its own.
pub const SMALL_PAYLOAD: usize = 400;

/// What a shard has to know of the others.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Its own number.
    pub own: PlaceId,
    /// The process's, random.
    pub run: u128,
    /// What the keys between the shards of the process are derived from.
    pub secret: [u8; 32],
    /// What the keys between nodes are derived from: this one seals with that of the first, others may with that of any of them.
    pub nodes_secrets: Vec<[u8; 32]>,
    /// The addresses of all shards by their numbers, its own among them.
    pub addresses: Vec<SocketAddr>,
    /// Those that clients of each shard send media to.
    pub candidates: Vec<Vec<SocketAddr>>,
}

/// The way to one other shard, and back.
pub struct Link {
    place: Place,
    address: SocketAddr,
    /// How the way is, to a shard of another node.
    pub health: Option<Box<Health>>,
    /// Whether something was sent since this was last looked at.
    pub was_used: bool,
    sealer: Sealer,
    opener: Opener,
    /// Frames that wait for more, behind room for the datagram's head.
    gathered: Box<[u8]>,
    end: usize,
    /// The tracks that come from there, by the numbers that they have there.
    pub tracks: HashMap<u64, TrackKey>,
}

/// All of them.
#[derive(Default)]
pub struct Links {
    /// The shard's own number.
    pub own: PlaceId,
    own_place: Option<Place>,
    nodes_secrets: Vec<[u8; 32]>,
    /// Shards of the own node, this one counted; the links behind so many lead to other nodes.
    near: usize,
    links: Vec<Option<Link>>,
    /// Those that have ended: were one made anew for the same two runs, its counter would go back, and seal twice under one nonce.
    ended: VecDeque<Link>,
    addresses: HashMap<SocketAddr, PlaceId>,
    /// Links with gathered frames.
    waiting: Vec<PlaceId>,
    /// Packets of media sent.
    pub relayed: u64,
    /// Tracks of this shard's clients that other shards know.
    pub hopped: Vec<TrackKey>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or waits to be with others.
    Yes,
    /// The batch is full: flush, and try again.
    Full,
    /// It cannot leave: there is no such link, or it is too long.
    Never,
}

impl Links {
    /// The links that `settings` describe.
    pub fn new(settings: &LinkSettings) -> Self {
        let place = |shard: usize| Place { run: settings.run, shard: shard as u16 };
        let own = place(usize::from(settings.own.0));
        let link = |(shard, address): (usize, &SocketAddr)| {
            let other = place(shard);
            (other != own).then(|| Link::new((&settings.secret, &[]), (own, other), *address))
        };
        let links: Vec<_> = settings.addresses.iter().enumerate().map(link).collect();
        let known = links.iter().enumerate().filter_map(|(n, link)| Some((link.as_ref()?.address, PlaceId(n as u16))));
        Self {
            own: settings.own,
            own_place: Some(own),
            nodes_secrets: settings.nodes_secrets.clone(),
            near: links.len(),
            addresses: known.collect(),
            links,
            ..Self::default()
        }
    }

    /// The links to other nodes are these from now on. Those that stay keep their keys and counters. The places that are gone.
    pub fn set_peers(&mut self, now: Instant, peers: &[LinkPeer]) -> Vec<PlaceId> {
        let Some(own) = self.own_place else { return Vec::new() };
        let Some((secret, further)) = self.nodes_secrets.split_first() else { return Vec::new() };
        let mut gone = Vec::new();
        for (n, link) in self.links.iter_mut().enumerate().skip(self.near) {
            let id = PlaceId(n as u16);
            let stays = |link: &Link| peers.iter().any(|peer| peer.id == id && peer.place == link.place);
            if let Some(ended) = link.take_if(|link| !stays(link)) {
                if self.ended.len() == MAX_ENDED {
                    self.ended.pop_front();
                }
                self.ended.push_back(ended);
                gone.push(id);
                self.waiting.retain(|waiting| *waiting != id);
            }
        }
        for peer in peers.iter().filter(|peer| usize::from(peer.id.0) >= self.near) {
            let n = usize::from(peer.id.0);
            if self.links.len() <= n {
                self.links.resize_with(n + 1, || None);
            }
            let (ended, secrets) = (&mut self.ended, (secret, further));
            let link = self.links[n].get_or_insert_with(|| {
                let before = ended.iter().position(|link| link.place == peer.place);
                let before = before.and_then(|at| ended.remove(at));
                let link = before.unwrap_or_else(|| Link::new(secrets, (own, peer.place), peer.address));
                let health = Some(Box::new(Health::new(now)));
                Link { health, tracks: HashMap::new(), end: HEAD, was_used: false, ..link }
            });
            link.address = peer.address;
        }
        let known =
            self.links.iter().enumerate().filter_map(|(n, link)| Some((link.as_ref()?.address, PlaceId(n as u16))));
        self.addresses = known.collect();
        gone
    }

    /// Whether a place is of this node.
    pub fn is_near(&self, place: PlaceId) -> bool {
        usize::from(place.0) < self.near
    }

    /// Whether there is a link to a place.
    pub fn is_linked(&self, place: PlaceId) -> bool {
        self.links.get(usize::from(place.0)).is_some_and(Option::is_some)
    }

    /// How many layers less than receivers have use for are asked for over a link.
    pub fn layers_down(&self, place: PlaceId) -> usize {
        self.health(place).map_or(0, |health| health.layers_down.into())
    }

    /// How the link to a shard of another node is.
    pub fn health(&self, place: PlaceId) -> Option<&Health> {
        self.links.get(usize::from(place.0))?.as_ref()?.health.as_deref()
    }

    /// How the links to other nodes are, with how many datagrams were sent on each.
    pub fn healths(&self) -> impl Iterator<Item = (PlaceId, u64, &Health)> {
        let links = self.links.iter().enumerate().skip(self.near);
        links.filter_map(|(n, link)| {
            let link = link.as_ref()?;
            Some((PlaceId(n as u16), link.sent(), link.health.as_deref()?))
        })
    }

    /// The links to other nodes.
    pub fn to_nodes(&mut self) -> impl Iterator<Item = (PlaceId, &mut Link)> {
        let links = self.links.iter_mut().enumerate().skip(self.near);
        links.filter_map(|(n, link)| Some((PlaceId(n as u16), link.as_mut()?)))
    }

    /// The link to `place`.
    pub fn get_mut(&mut self, place: PlaceId) -> Option<&mut Link> {
        self.links.get_mut(usize::from(place.0))?.as_mut()
    }

    /// The tracks that come over the link to `place`, in their order: what is said of them goes out in it.
    pub fn tracks_from(&self, place: PlaceId) -> Vec<TrackKey> {
        let link = self.links.get(usize::from(place.0)).and_then(Option::as_ref);
        let mut tracks: Vec<_> = link.into_iter().flat_map(|link| link.tracks.values().copied()).collect();
        tracks.sort_unstable();
        tracks
    }

    /// Those of all links, one link after the other.
    pub fn far_tracks(&self) -> Vec<TrackKey> {
        (0..self.links.len()).flat_map(|n| self.tracks_from(PlaceId(n as u16))).collect()
    }

    /// Whose a datagram is, with its frames, opened in place.
    pub fn open<'d>(&mut self, from: SocketAddr, datagram: &'d mut [u8]) -> Result<(PlaceId, &'d [u8]), DropReason> {
        let place = *self.addresses.get(&from).ok_or(DropReason::LinkUnknown)?;
        let link = self.get_mut(place).ok_or(DropReason::LinkUnknown)?;
        let frames = link.opener.open(datagram)?;
        if let Some(health) = &mut link.health {
            health.received += 1;
        }
        Ok((place, frames))
    }

    /// Sends a frame with `padding` bytes behind it, at once.
    pub fn send(&mut self, to: PlaceId, frame: &Frame<'_>, padding: u8, out: &mut SendBatch) -> Sent {
        let Some(link) = self.get_mut(to) else { return Sent::Never };
        // What was said before leaves before.
        if !link.flush(out) {
            return Sent::Full;
        }
        link.was_used = true;
        let Some(mut slot) = out.slot(link.address, MAX_LINK_DATAGRAM) else { return Sent::Full };
        let buf = slot.bytes();
        let room = buf.len() - OVERHEAD + HEAD;
        let Some(len) = frame.write(&mut buf[HEAD..room]) else { return Sent::Never };
        let end = (HEAD + len + usize::from(padding)).min(room);
        buf[HEAD + len..end].fill(0);
        let len = link.sealer.seal(buf, end);
        slot.commit(len);
        Sent::Yes
    }

    /// Adds a frame to the datagram that leaves with [`Self::flush`].
    pub fn gather(&mut self, to: PlaceId, frame: &Frame<'_>, out: &mut SendBatch) -> Sent {
        let Some(link) = self.get_mut(to) else { return Sent::Never };
        for _ in 0..2 {
            let (end, room) = (link.end, GATHERED + HEAD);
            if let Some(len) = frame.write(&mut link.gathered[end..room]) {
                link.end += len;
                link.was_used = true;
                if end == HEAD {
                    self.waiting.push(to);
                }
                return Sent::Yes;
            }
            if !link.flush(out) {
                return Sent::Full;
            }
        }
        self.send(to, frame, 0, out)
    }

    /// Whether something was gathered.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many shards this node has, this one counted; 0 where rooms are not spread.
    pub fn places(&self) -> usize {
        self.near
    }

    /// Whether there may be other shards.
    pub fn are_there(&self) -> bool {
        self.near > 0
    }

    /// Sends what was gathered; false when `out` is full and some is left.
    pub fn flush(&mut self, out: &mut SendBatch) -> bool {
        while let Some(place) = self.waiting.last().copied() {
            if self.get_mut(place).is_some_and(|link| !link.flush(out)) {
                return false;
            }
            self.waiting.pop();
        }
        true
    }
}

impl Link {
    /// This end seals with the first secret; the other one may with any of the further ones.
    fn new((secret, further): (&[u8; 32], &[[u8; 32]]), (own, other): (Place, Place), address: SocketAddr) -> Self {
        Self {
            place: other,
            address,
            health: None,
            was_used: false,
            sealer: Sealer::new(secret, own, other),
            opener: Opener::believing(secret, further, other, own),
            gathered: vec![0; GATHERED + OVERHEAD].into(),
            end: HEAD,
            tracks: HashMap::new(),
        }
    }

    /// Datagrams that were sent.
    pub fn sent(&self) -> u64 {
        self.sealer.sealed()
    }

    /// False when there is no room for what was gathered.
    fn flush(&mut self, out: &mut SendBatch) -> bool {
        if self.end == HEAD {
            return true;
        }
        let Some(mut slot) = out.slot(self.address, GATHERED + OVERHEAD) else { return false };
        let buf = slot.bytes();
        buf[HEAD..self.end].copy_from_slice(&self.gathered[HEAD..self.end]);
        let len = self.sealer.seal(buf, self.end);
        slot.commit(len);
        self.end = HEAD;
        true
    }
}
