//! The links of a shard to the other shards: sealed datagrams over the shards' own sockets.

use std::collections::HashMap;
use std::net::SocketAddr;

use moonring_wire::drops::DropReason;
use moonring_wire::id::{PlaceId, TrackKey};
use moonring_wire::link::{Frame, HEAD, MAX_LINK_DATAGRAM, OVERHEAD, Opener, Place, Sealer};
use moonring_wire::packet::SendBatch;

/// Frames are gathered into datagrams of at most this many bytes.
const GATHERED: usize = 1_200;
/// A frame of media with a longer payload leaves in a datagram of its own.
pub const SMALL_PAYLOAD: usize = 400;

/// What a shard has to know of the others.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Its own number.
    pub own: PlaceId,
    /// The process's, random.
    pub run: u128,
    /// What keys are derived from.
    pub secret: [u8; 32],
    /// The addresses of all shards by their numbers, its own among them.
    pub addresses: Vec<SocketAddr>,
    /// Those that clients of each shard send media to.
    pub candidates: Vec<Vec<SocketAddr>>,
}

/// The way to one other shard, and back.
pub struct Link {
    address: SocketAddr,
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
    links: Vec<Option<Link>>,
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
            (other != own).then(|| Link {
                address: *address,
                sealer: Sealer::new(&settings.secret, own, other),
                opener: Opener::new(&settings.secret, other, own),
                gathered: vec![0; GATHERED + OVERHEAD].into(),
                end: HEAD,
                tracks: HashMap::new(),
            })
        };
        let links: Vec<_> = settings.addresses.iter().enumerate().map(link).collect();
        let known = links.iter().enumerate().filter_map(|(n, link)| Some((link.as_ref()?.address, PlaceId(n as u16))));
        Self { own: settings.own, addresses: known.collect(), links, ..Self::default() }
    }

    /// The link to `place`.
    pub fn get_mut(&mut self, place: PlaceId) -> Option<&mut Link> {
        self.links.get_mut(usize::from(place.0))?.as_mut()
    }

    /// The tracks that come over links: where from, and which.
    pub fn far_tracks(&self) -> impl Iterator<Item = (PlaceId, TrackKey)> + '_ {
        let links = self.links.iter().enumerate().filter_map(|(n, link)| Some((PlaceId(n as u16), link.as_ref()?)));
        links.flat_map(|(place, link)| link.tracks.values().map(move |track| (place, *track)))
    }

    /// Whose a datagram is, with its frames, opened in place.
    pub fn open<'d>(&mut self, from: SocketAddr, datagram: &'d mut [u8]) -> Result<(PlaceId, &'d [u8]), DropReason> {
        let place = *self.addresses.get(&from).ok_or(DropReason::LinkUnknown)?;
        let link = self.get_mut(place).ok_or(DropReason::LinkUnknown)?;
        Ok((place, link.opener.open(datagram)?))
    }

    /// Sends a frame with `padding` bytes behind it, at once.
    pub fn send(&mut self, to: PlaceId, frame: &Frame<'_>, padding: u8, out: &mut SendBatch) -> Sent {
        let Some(link) = self.get_mut(to) else { return Sent::Never };
        // What was said before leaves before.
        if !link.flush(out) {
            return Sent::Full;
        }
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

    /// How many shards there are, this one counted; 0 where rooms are not spread.
    pub fn places(&self) -> usize {
        self.links.len()
    }

    /// Whether there are other shards.
    pub fn are_there(&self) -> bool {
        !self.links.is_empty()
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
