//! The loop that forwarding is: for each client with something waiting, for each of its forwards, for each packet:
//! new header, then the shared plaintext encrypted straight into the place it leaves from. Client by client, so that
//! one client's packets lie back to back and leave as one send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slotmap::SlotMap;

use super::Room;
use super::client::Client;
use super::forward::{Forward, Outgoing};
use super::history::{History, Packet};
use super::track::Track;
use moonring_wire::drops::{DropReason, Drops};
use moonring_wire::id::{ClientKey, Pt, Ssrc, TrackKey};
use moonring_wire::media::{CodecName, Extension, ExtensionIds};
use moonring_wire::packet::{MAX_DATAGRAM, SendBatch};
use moonring_wire::rtp::extension::abs_send_time;
use moonring_wire::rtp::header::{NewHeader, pad, write_header};
use moonring_wire::rtp::rtx::OSN_LEN;
use moonring_wire::transport::srtp::SrtpOut;

/// What the loop needs of the moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: Instant,
    /// Time since the shard started: what `abs-send-time` counts.
    pub since_start: Duration,
}

/// Forwards what waits in `room` into `out`. False when `out` is full and there is more: flush, and call again.
pub fn fan_out(
    moment: Moment,
    room: &mut Room,
    clients: &mut SlotMap<ClientKey, Client>,
    tracks: &mut SlotMap<TrackKey, Track>,
    out: &mut SendBatch,
    drops: &mut Drops,
) -> bool {
    touch(room, clients, tracks);
    while let Some(key) = room.touched.last().copied() {
        if let Some(client) = clients.get_mut(key)
            && !send_waiting(moment, client, tracks, out, drops)
        {
            return false;
        }
        room.touched.pop();
    }
    true
}

/// Turns "these tracks have packets" into "these clients have forwards to look at".
fn touch(room: &mut Room, clients: &mut SlotMap<ClientKey, Client>, tracks: &mut SlotMap<TrackKey, Track>) {
    // Taken from the back below: sound first.
    room.dirty.sort_by_key(|key| tracks.get(*key).is_some_and(|track| !track.is_video()));
    for key in room.dirty.drain(..) {
        let Some(track) = tracks.get_mut(key) else { continue };
        track.dirty = false;
        for layer in &mut track.layers {
            layer.history.even_out(layer.evened);
            layer.evened = layer.history.end();
        }
        for (subscriber, place) in &track.subscribers {
            let Some(client) = clients.get_mut(*subscriber) else { continue };
            if client.todo.is_empty() {
                room.touched.push(*subscriber);
            }
            if !client.todo.contains(place) {
                client.todo.push(*place);
            }
        }
    }
}

/// Everything that waits for one client. False when `out` is full.
fn send_waiting(
    moment: Moment,
    client: &mut Client,
    tracks: &mut SlotMap<TrackKey, Track>,
    out: &mut SendBatch,
    drops: &mut Drops,
) -> bool {
    let path = client.transport.as_ref().and_then(|t| Some((t.selected()?, t.srtp_out()?)));
    let Some((to, srtp)) = path else {
        client.todo.clear();
        return true;
    };
    let (mut packets, mut bytes) = (0u64, 0u64);
    while let Some(place) = client.todo.last().copied() {
        let forward = client.forwards[usize::from(place)].as_mut();
        if let Some((forward, track)) = forward.and_then(|f| tracks.get_mut(f.track).map(|t| (f, t))) {
            while forward.is_behind(track) {
                if !out.has_room(1) {
                    count(client, packets, bytes);
                    return false;
                }
                let Some((history, packet, outgoing)) = forward.next(moment.now, track) else { break };
                let header = header(packet, forward.pt, outgoing.index, &outgoing, forward.ssrc);
                let (index, codec) = (outgoing.index, forward.codec);
                let sealed = Sealed { header, index, codec, history, packet, outgoing, resend_of: None };
                bytes += seal(moment, &sealed, &client.extensions, srtp, to, out);
                packets += 1;
            }
            drops.add(DropReason::Overload, std::mem::take(&mut forward.skipped));
            if forward.waits_for_key_frame() {
                track.layers[usize::from(forward.target())].want_key_frame(moment.now);
            }
        }
        client.todo.pop();
    }
    count(client, packets, bytes);
    true
}

fn count(client: &Client, packets: u64, bytes: u64) {
    let traffic = &client.facts.traffic;
    traffic.packets_out.set(traffic.packets_out.get() + packets);
    traffic.bytes_out.set(traffic.bytes_out.get() + bytes);
}

/// One packet about to leave.
struct Sealed<'a> {
    header: NewHeader,
    /// The SRTP index in the stream of `header.ssrc`.
    index: u64,
    codec: CodecName,
    history: &'a History,
    packet: &'a Packet,
    outgoing: Outgoing,
    /// The sequence number a retransmission carries in front of its payload (RFC 4588 section 4).
    resend_of: Option<u16>,
}

/// Writes and encrypts one packet; its bytes, 0 when it cannot leave.
fn seal(
    moment: Moment,
    sealed: &Sealed<'_>,
    ids: &ExtensionIds,
    srtp: &SrtpOut,
    to: SocketAddr,
    out: &mut SendBatch,
) -> u64 {
    let Some(mut slot) = out.slot(to, MAX_DATAGRAM) else { return 0 };
    let buf = slot.bytes();
    let header_len = write_with_extensions(moment, sealed, ids, buf);
    let mut at = header_len;
    if let Some(sequence) = sealed.resend_of {
        buf[at..at + OSN_LEN].copy_from_slice(&sequence.to_be_bytes());
        at += OSN_LEN;
    }
    let payload = sealed.history.payload(sealed.packet);
    if at + payload.len() + usize::from(sealed.packet.padding) + srtp.rtp_overhead() > buf.len() {
        return 0;
    }
    buf[at..at + payload.len()].copy_from_slice(payload);
    sealed.outgoing.pictures.apply(sealed.codec, &mut buf[at..at + payload.len()]);
    let end = at + payload.len() + usize::from(sealed.packet.padding);
    if sealed.packet.padding > 0 {
        pad(&mut buf[..end], sealed.packet.padding);
    }
    let len = srtp.protect_rtp(buf, header_len, end, sealed.index);
    slot.commit(len);
    len as u64
}

/// Writes the header with the extensions that the client knows; its length.
fn write_with_extensions(moment: Moment, sealed: &Sealed<'_>, ids: &ExtensionIds, buf: &mut [u8]) -> usize {
    let kept = &sealed.packet.kept;
    let sent_at = abs_send_time(moment.since_start);
    let (level, orientation) = (kept.audio_level.map(|b| [b]), kept.orientation.map(|b| [b]));
    let descriptor = sealed.history.descriptor(sealed.packet);
    let values: [(Extension, Option<&[u8]>); 5] = [
        (Extension::AbsSendTime, Some(&sent_at)),
        (Extension::AudioLevel, level.as_ref().map(|v| &v[..])),
        (Extension::VideoOrientation, orientation.as_ref().map(|v| &v[..])),
        (Extension::PlayoutDelay, kept.playout_delay.as_ref().map(|v| &v[..])),
        (Extension::DependencyDescriptor, (!descriptor.is_empty()).then_some(descriptor)),
    ];
    let mut elements: [(u8, &[u8]); 5] = [(0, &[]); 5];
    let mut count = 0;
    for (extension, value) in values {
        if let (Some(id), Some(value)) = (ids.get(extension), value) {
            elements[count] = (id, value);
            count += 1;
        }
    }
    write_header(buf, &sealed.header, &elements[..count])
}

/// Sends the packet that went out with `sequence` once more, as a retransmission. False when it is no longer here,
/// the client takes none, or `out` is full. Without RTX nothing is resent: the same SRTP index would have to seal
/// the same bytes, and the send time in the header is not the same.
#[allow(clippy::too_many_arguments, reason = "the parts of a client and a track that it needs")]
pub fn resend(
    moment: Moment,
    forward: &mut Forward,
    track: &Track,
    ids: &ExtensionIds,
    srtp: &SrtpOut,
    to: SocketAddr,
    sequence: u16,
    out: &mut SendBatch,
) -> bool {
    let Some((history, packet, outgoing)) = forward.find_sent(track, sequence) else { return false };
    let Some(rtx) = &mut forward.rtx else { return false };
    let index = rtx.next_index;
    let header = header(packet, rtx.pt, index, &outgoing, rtx.ssrc);
    let codec = forward.codec;
    let sealed = Sealed { header, index, codec, history, packet, outgoing, resend_of: Some(sequence) };
    let sent = seal(moment, &sealed, ids, srtp, to, out) > 0;
    if sent {
        rtx.next_index += 1;
    }
    sent
}

fn header(packet: &Packet, payload_type: Pt, index: u64, outgoing: &Outgoing, ssrc: Ssrc) -> NewHeader {
    NewHeader { marker: packet.marker, payload_type, sequence: index as u16, timestamp: outgoing.timestamp, ssrc }
}
