//! The edge from a track to another shard: a forward without numbering. What is new in each wanted encoding goes out as it
//! came, once for all receivers there.

use std::time::{Duration, Instant};

use super::cap::Room;
use super::history::History;
use moonring_wire::id::PlaceId;
use moonring_wire::link::MAX_LAYERS;
use moonring_wire::rtp::nack::NackGenerator;

/// How long a want holds that is not repeated.
const PATIENCE: Duration = Duration::from_secs(3);
/// A key frame so young is begun with: no other would be asked for.
const YOUNG: Duration = Duration::from_millis(500);

/// One edge.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Where to.
    pub link: PlaceId,
    /// The encodings that are wanted there: bit `n` is layer `n`. None, and it is told of rates all the same.
    pub wanted: u8,
    /// The layers that clients there would have use for: bit `n` is the `n`th of those that clients are told of.
    pub useful: u8,
    /// What the paths of its receivers there have room for.
    pub room: Option<Room>,
    until: Instant,
    /// Arrival number of the next packet to send, of each encoding.
    pub(super) cursors: [u64; MAX_LAYERS],
}

impl Hop {
    /// To a shard that has just asked for the first time.
    pub fn new(now: Instant, link: PlaceId) -> Self {
        Self { link, wanted: 0, useful: 0, room: None, until: now + PATIENCE, cursors: [0; MAX_LAYERS] }
    }

    /// Whether the shard has not repeated what it wants for too long.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// The shard wants these encodings from now on. One that it did not want begins with its last key frame, when that is so
    /// young that no other would be asked for, else with the next packet.
    pub fn want<'h>(&mut self, now: Instant, histories: impl ExactSizeIterator<Item = &'h History>, wanted: u8) {
        self.until = now + PATIENCE;
        let wanted = wanted & known(histories.len());
        let fresh = wanted & !self.wanted;
        self.wanted = wanted;
        for (n, history) in histories.enumerate().filter(|(n, _)| fresh >> n & 1 == 1) {
            let is_young = |n: &u64| {
                let packet = history.get(*n);
                packet.is_some_and(|p| now.saturating_duration_since(p.arrival) < YOUNG)
            };
            self.cursors[n] = history.key_frame().filter(is_young).unwrap_or(history.end());
        }
    }
}

/// A bit for each of so many layers.
fn known(layers: usize) -> u8 {
    ((1_u16 << layers.min(MAX_LAYERS)) - 1) as u8
}

/// Where a track comes from that is published on another shard.
#[derive(Clone, Debug)]
pub struct Far {
    /// The shard that has its publisher.
    pub link: PlaceId,
    /// Its number there.
    pub handle: u64,
    /// The encodings that were asked for: bit `n` is layer `n`.
    pub wanted: u8,
    /// The layers that clients here have use for.
    pub useful: u8,
    /// What their paths have room for, as it was told last.
    pub room: u32,
    /// When that was last looked at.
    pub room_seen: Option<Instant>,
    /// How often the publisher has begun each encoding anew, as its last packet said.
    pub restarts: [Option<u8>; MAX_LAYERS],
}

impl Far {
    /// Nothing of it is wanted yet.
    pub fn new(link: PlaceId, handle: u64) -> Self {
        Self { link, handle, wanted: 0, useful: 0, room: 0, room_seen: None, restarts: [None; MAX_LAYERS] }
    }
}

/// The shard that a track came from before its publisher moved: what was under way then still comes from there, and is asked
/// for there.
#[derive(Clone, Debug)]
pub struct Former {
    /// The shard.
    pub link: PlaceId,
    /// The track's number there.
    pub handle: u64,
    /// For how long it is asked.
    pub until: Instant,
    /// Where the publisher is here: what has not come of each encoding that was wanted, and had come there.
    pub missing: Vec<Option<NackGenerator>>,
}
