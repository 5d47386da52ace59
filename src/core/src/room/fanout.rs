//! The loop that forwarding is: for each client with something waiting, for each of its forwards, for each packet:
//! new header, then the shared plaintext encrypted straight into the place it leaves from. Client by client, so that
//! one client's packets lie back to back and leave as one send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slotmap::SlotMap;

use super::client::Client;
use super::forward::{Forward, Outgoing};
use super::history::{History, Packet};
use super::track::Track;
use super::{Room, World};
use moonring_wire::drops::{DropReason, Drops};
use moonring_wire::id::{ClientKey, Pt, RoomKey, Ssrc, TrackKey};
use moonring_wire::media::{CodecName, Extension, ExtensionIds};
use moonring_wire::packet::{MAX_DATAGRAM, SendBatch};
use moonring_wire::rtp::extension::abs_send_time;
use moonring_wire::rtp::header::{NewHeader, pad, write_header};
use moonring_wire::rtp::rtx::OSN_LEN;
use moonring_wire::transport::Transport;
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
pub fn fan_out(moment: Moment, key: RoomKey, world: &mut World, out: &mut SendBatch, drops: &mut Drops) -> bool {
    let World { rooms, clients, tracks } = world;
    let Some(room) = rooms.get_mut(key) else { return true };
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
            if client.outbound.todo.is_empty() {
                room.touched.push(*subscriber);
            }
            if !client.outbound.todo.contains(place) {
                client.outbound.todo.push(*place);
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
    let Some(to) = Destination::of(client.transport.as_ref(), &client.negotiated.extensions) else {
        client.outbound.todo.clear();
        return true;
    };
    let (mut packets, mut bytes) = (0u64, 0u64);
    while let Some(place) = client.outbound.todo.last().copied() {
        let forward = client.outbound.forwards[usize::from(place)].as_mut();
        if let Some((forward, track)) = forward.and_then(|f| tracks.get_mut(f.track).map(|t| (f, t))) {
            while forward.is_behind(track) {
                if !out.has_room(1) {
                    count(client, packets, bytes);
                    return false;
                }
                let Some((history, packet, outgoing)) = forward.next(moment.now, track) else { break };
                let header = header(packet, forward.stream.pt, outgoing.index, &outgoing, forward.stream.ssrc);
                let (index, codec) = (outgoing.index, forward.codec);
                let sealed = OutgoingPacket { header, index, codec, history, packet, outgoing, resend_of: None };
                bytes += seal(moment, &sealed, to, out);
                packets += 1;
            }
            drops.add(DropReason::Overload, std::mem::take(&mut forward.sent.skipped));
            if forward.waits_for_key_frame() {
                track.layers[usize::from(forward.target())].want_key_frame(moment.now);
            }
        }
        client.outbound.todo.pop();
    }
    count(client, packets, bytes);
    true
}

fn count(client: &Client, packets: u64, bytes: u64) {
    let traffic = &client.facts.traffic;
    traffic.packets_out.set(traffic.packets_out.get() + packets);
    traffic.bytes_out.set(traffic.bytes_out.get() + bytes);
}

/// Where a client's packets go, and what makes them its own.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// Its selected address.
    pub address: SocketAddr,
    /// Its keys.
    pub srtp: &'a SrtpOut,
    /// Its ids of header extensions.
    pub ids: &'a ExtensionIds,
}

impl<'a> Destination<'a> {
    /// Where packets for a client go; `None` before its transport is up.
    pub fn of(transport: Option<&'a Transport>, ids: &'a ExtensionIds) -> Option<Self> {
        let transport = transport?;
        Some(Self { address: transport.selected()?, srtp: transport.srtp_out()?, ids })
    }
}

/// One packet about to leave.
struct OutgoingPacket<'a> {
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
fn seal(moment: Moment, sealed: &OutgoingPacket<'_>, to: Destination<'_>, out: &mut SendBatch) -> u64 {
    let Destination { address, srtp, ids } = to;
    let Some(mut slot) = out.slot(address, MAX_DATAGRAM) else { return 0 };
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
fn write_with_extensions(moment: Moment, sealed: &OutgoingPacket<'_>, ids: &ExtensionIds, buf: &mut [u8]) -> usize {
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
pub fn resend(
    moment: Moment,
    (forward, track): (&mut Forward, &Track),
    to: Destination<'_>,
    sequence: u16,
    out: &mut SendBatch,
) -> bool {
    let Some((history, packet, outgoing)) = forward.find_sent(track, sequence) else { return false };
    let Some(rtx) = &mut forward.stream.rtx else { return false };
    let index = rtx.next_index;
    let header = header(packet, rtx.pt, index, &outgoing, rtx.ssrc);
    let codec = forward.codec;
    let sealed = OutgoingPacket { header, index, codec, history, packet, outgoing, resend_of: Some(sequence) };
    let sent = seal(moment, &sealed, to, out) > 0;
    if sent {
        rtx.next_index += 1;
    }
    sent
}

fn header(packet: &Packet, payload_type: Pt, index: u64, outgoing: &Outgoing, ssrc: Ssrc) -> NewHeader {
    NewHeader { marker: packet.marker, payload_type, sequence: index as u16, timestamp: outgoing.timestamp, ssrc }
}
