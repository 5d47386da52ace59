//! The edge from a track to another shard: a forward without numbering. What is new in each wanted encoding goes out as it
//! came, once for all receivers there.

use std::time::{Duration, Instant};

use slotmap::Key;

use super::history::Packet;
use super::links::{Links, SMALL_PAYLOAD, Sent};
use super::track::{KEY_FRAME_INTERVAL, Layer, Track};
use moonring_wire::drops::{DropReason, Drops};
use moonring_wire::id::{PlaceId, TrackKey};
use moonring_wire::link::{Frame, MAX_LAYERS, Media, Stream};
use moonring_wire::packet::SendBatch;

/// How long a want holds that is not repeated.
const PATIENCE: Duration = Duration::from_secs(3);

/// One edge.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Where to.
    pub link: PlaceId,
    /// The encodings that are wanted there: bit `n` is layer `n`. None, and it is told of rates all the same.
    pub wanted: u8,
    /// The layers that clients there would have use for: bit `n` is the `n`th of those that clients are told of.
    pub useful: u8,
    until: Instant,
    /// Arrival number of the next packet to send, of each encoding.
    cursors: [u64; MAX_LAYERS],
}

impl Hop {
    /// To a shard that has just asked for the first time.
    pub fn new(now: Instant, link: PlaceId) -> Self {
        Self { link, wanted: 0, useful: 0, until: now + PATIENCE, cursors: [0; MAX_LAYERS] }
    }

    /// Whether the shard has not repeated what it wants for too long.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// The shard wants these encodings from now on. One that it did not want begins with its last key frame, when that is so
    /// young that no other would be asked for, else with the next packet.
    pub fn want(&mut self, now: Instant, layers: &[Layer], wanted: u8) {
        self.until = now + PATIENCE;
        let wanted = wanted & known(layers.len());
        let fresh = wanted & !self.wanted;
        self.wanted = wanted;
        for (n, layer) in layers.iter().enumerate().filter(|(n, _)| fresh >> n & 1 == 1) {
            let history = &layer.history;
            let is_young = |n: &u64| {
                let packet = history.get(*n);
                packet.is_some_and(|p| now.saturating_duration_since(p.arrival) < KEY_FRAME_INTERVAL)
            };
            self.cursors[n] = history.key_frame().filter(is_young).unwrap_or(history.end());
        }
    }
}

/// A bit for each of so many layers.
fn known(layers: usize) -> u8 {
    ((1_u16 << layers.min(MAX_LAYERS)) - 1) as u8
}

/// A packet of an encoding as it travels.
pub fn media<'l>(key: TrackKey, (n, layer): (usize, &'l Layer), packet: &Packet, again: bool) -> Frame<'l> {
    Frame::Media(Media {
        stream: Stream { handle: handle(key), layer: n as u8 },
        restarts: layer.restarts,
        again,
        marker: packet.marker,
        hop: false,
        is_red: packet.is_red,
        index: packet.index,
        timestamp: packet.timestamp,
        kept: packet.kept,
        descriptor: layer.history.descriptor(packet),
        payload: layer.history.payload(packet),
    })
}

/// The number of a track on links.
pub fn handle(key: TrackKey) -> u64 {
    key.data().as_ffi()
}

/// Sends everything that waits for other shards; false when `out` is full and there is more. The packets of one encoding lie
/// back to back, and leave as one send.
pub fn send_waiting(
    key: TrackKey,
    track: &mut Track,
    links: &mut Links,
    out: &mut SendBatch,
    drops: &mut Drops,
) -> bool {
    let Track { layers, hops, .. } = track;
    for hop in hops {
        for (n, layer) in layers.iter().enumerate().filter(|(n, _)| hop.wanted >> n & 1 == 1) {
            let cursor = &mut hop.cursors[n];
            *cursor = (*cursor).max(layer.history.oldest());
            while let Some(packet) = layer.history.get(*cursor) {
                let frame = media(key, (n, layer), packet, false);
                let sent = match packet.payload_len() {
                    small if small <= SMALL_PAYLOAD => links.gather(hop.link, &frame, out),
                    _ => links.send(hop.link, &frame, packet.padding, out),
                };
                match sent {
                    Sent::Full => return false,
                    Sent::Never => drops.count(DropReason::SendFailed),
                    Sent::Yes => links.relayed += 1,
                }
                *cursor += 1;
            }
        }
    }
    true
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
    /// How often the publisher has begun each encoding anew, as its last packet said.
    pub restarts: [Option<u8>; MAX_LAYERS],
}

impl Far {
    /// Nothing of it is wanted yet.
    pub fn new(link: PlaceId, handle: u64) -> Self {
        Self { link, handle, wanted: 0, useful: 0, restarts: [None; MAX_LAYERS] }
    }
}
