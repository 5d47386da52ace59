//! The loop that sends a track's packets to other shards.

use slotmap::Key;

use super::history::Packet;
use super::links::{Links, SMALL_PAYLOAD, Sent};
use super::track::{Layer, Track};
use moonring_wire::drops::{DropReason, Drops};
use moonring_wire::id::TrackKey;
use moonring_wire::link::{Frame, Media, Stream};
use moonring_wire::packet::SendBatch;

/// A packet of an encoding as it travels: `again` when it was asked for, `hop` when it has come over a link itself.
pub fn media<'l>(
    key: TrackKey,
    (n, layer): (usize, &'l Layer),
    packet: &Packet,
    (again, hop): (bool, bool),
) -> Frame<'l> {
    Frame::Media(Media {
        stream: Stream { handle: handle(key), layer: n as u8 },
        restarts: layer.restarts,
        goes_on: layer.goes_on,
        again,
        marker: packet.marker,
        hop,
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
    let Track { layers, hops, far, .. } = track;
    let is_passed_on = far.is_some();
    for hop in hops {
        for (n, layer) in layers.iter().enumerate().filter(|(n, _)| hop.wanted >> n & 1 == 1) {
            let cursor = &mut hop.cursors[n];
            *cursor = (*cursor).max(layer.history.oldest());
            while let Some(packet) = layer.history.get(*cursor) {
                let frame = media(key, (n, layer), packet, (false, is_passed_on));
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
