//! The loop that forwarding is: for each client with something waiting, for each of its forwards, for each packet:
//! new header, then the shared plaintext encrypted straight into the place it leaves from. Client by client, so that
//! one client's packets lie back to back and leave as one send.

use std::time::{Duration, Instant};

use slotmap::SlotMap;

use super::client::{Client, Outbound};
use super::congestion::Congestion;
use super::form::{Form, Redundancy};
use super::forward::{Forward, Outgoing, OutgoingStream};
use super::history::{History, MAX_DESCRIPTOR, Packet};
use super::kept_headers::Keeping;
use super::track::Track;
use super::{Room, World, relay, sound};
use crate::bandwidth::{MAX_QUEUE_TIME, ProbeId};
use moonring_wire::drops::{DropReason, Drops};
use moonring_wire::id::{ClientKey, Pt, RoomKey, Ssrc, TrackKey};
use moonring_wire::media::{CodecName, Extension, ExtensionIds};
use moonring_wire::packet::{AddressPair, MAX_DATAGRAM, SendBatch};
use moonring_wire::rtp::extension::{abs_send_time, transport_sequence};
use moonring_wire::rtp::header::{NewHeader, pad, write_header};
use moonring_wire::rtp::red;
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
    /// Nothing is kept back for later, as there is none here.
    pub is_last: bool,
    /// There is so little time that sends are saved at the expense of bytes.
    pub is_pressed: bool,
}

/// Forwards what waits in `room` into `out`. False when `out` is full and there is more: flush, and call again.
pub fn fan_out(moment: Moment, key: RoomKey, world: &mut World, out: &mut SendBatch, drops: &mut Drops) -> bool {
    let World { rooms, clients, tracks, links } = world;
    let Some(room) = rooms.get_mut(key) else { return true };
    touch(moment, room, clients, tracks);
    while let Some(key) = room.hopping.last().copied() {
        if let Some(track) = tracks.get_mut(key)
            && !relay::send_waiting(key, track, links, out, drops)
        {
            return false;
        }
        room.hopping.pop();
    }
    if !links.flush(out) {
        return false;
    }
    while let Some(key) = room.touched.last().copied() {
        if let Some(client) = clients.get_mut(key) {
            match send_waiting(moment, (client, &mut room.asked), tracks, out, drops) {
                Progress::Full => return false,
                Progress::Paced(until) | Progress::Held(until) => room.waiting.push((key, until)),
                Progress::Done => {}
            }
            client.outbound.is_touched = false;
        }
        room.touched.pop();
    }
    true
}

/// Turns "these tracks have packets" into "these clients have forwards to look at".
fn touch(
    moment: Moment,
    room: &mut Room,
    clients: &mut SlotMap<ClientKey, Client>,
    tracks: &mut SlotMap<TrackKey, Track>,
) {
    // Taken from the back below: sound first.
    sound::gather(&mut room.dirty, tracks, moment.is_pressed);
    for key in room.dirty.drain(..) {
        let Some(track) = tracks.get_mut(key) else { continue };
        track.dirty = false;
        let is_video = track.is_video();
        for layer in &mut track.layers {
            if is_video {
                layer.history.even_out(layer.evened);
            }
            layer.evened = layer.history.end();
        }
        if !track.hops.is_empty() {
            room.hopping.push(key);
        }
        for (subscriber, place) in &track.subscribers {
            let Some(client) = clients.get_mut(*subscriber) else { continue };
            if !std::mem::replace(&mut client.outbound.is_touched, true) {
                room.touched.push(*subscriber);
            }
            if !client.outbound.todo.contains(place) {
                client.outbound.todo.push(*place);
            }
        }
    }
}

/// How far [`send_waiting`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Everything has left.
    Done,
    /// The batch is full.
    Full,
    /// The client's pacer holds back the rest until then.
    Paced(Instant),
    /// Only what waits for what is behind it has not, until then at most.
    Held(Instant),
}

/// Everything that waits for one client. `asked` gets the publishers of whom key frames are wanted by that.
fn send_waiting(
    moment: Moment,
    (client, asked): (&mut Client, &mut Vec<ClientKey>),
    tracks: &mut SlotMap<TrackKey, Track>,
    out: &mut SendBatch,
    drops: &mut Drops,
) -> Progress {
    let Outbound { forwards, todo, congestion, .. } = &mut client.outbound;
    let Some(to) = Destination::of(client.transport.as_ref(), &client.negotiated.extensions) else {
        todo.clear();
        return Progress::Done;
    };
    let mut sender = Sender { moment, to, congestion: congestion.as_deref_mut(), packets: 0, bytes: 0 };
    let mut progress = Progress::Done;
    // Forwards of which a packet is held come first in the list, and are looked at once.
    let (mut held, mut held_until) = (0, None);
    while let Some(place) = todo[held..].last().copied() {
        let forward = forwards[usize::from(place)].as_mut();
        if let Some((forward, track)) = forward.and_then(|f| tracks.get_mut(f.track).map(|t| (f, t))) {
            progress = sender.send_forward(forward, track, out);
            drops.add(DropReason::Overload, std::mem::take(&mut forward.sent.skipped));
            let may_ask = forward.allotted.paused.is_none() && !forward.awaits_return(sender.congestion.as_deref());
            if may_ask && forward.ask_for_key_frame(moment.now, track) {
                asked.push(track.owner);
            }
        }
        match progress {
            Progress::Done => drop(todo.pop()),
            Progress::Held(until) => {
                let last = todo.len() - 1;
                todo.swap(held, last);
                (held, held_until) = (held + 1, held_until.into_iter().chain([until]).min());
                progress = Progress::Done;
            }
            Progress::Full | Progress::Paced(_) => break,
        }
    }
    if let (Progress::Done, Some(until)) = (progress, held_until) {
        progress = Progress::Held(until);
    }
    if matches!(progress, Progress::Paced(_)) {
        // Another track is first in line when the pacer lets the next packet pass.
        todo.rotate_right(1);
    }
    let (packets, bytes) = (sender.packets, sender.bytes);
    count(client, packets, bytes);
    progress
}

/// Sends to one client, and counts.
pub(super) struct Sender<'a> {
    pub(super) moment: Moment,
    pub(super) to: Destination<'a>,
    pub(super) congestion: Option<&'a mut Congestion>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Sender<'_> {
    /// Everything of one forward that waits.
    fn send_forward(&mut self, forward: &mut Forward, track: &Track, out: &mut SendBatch) -> Progress {
        if forward.allotted.paused.is_some() {
            forward.skip_to_end(track);
            return Progress::Done;
        }
        // Sound does not wait, and counts.
        let is_paced = track.is_video() && !self.moment.is_last;
        if is_paced {
            self.leave_out_stale(forward, track);
        }
        while forward.is_behind(track) {
            if !out.has_room(1) {
                return Progress::Full;
            }
            if let Some(path) = self.congestion.as_mut().filter(|_| is_paced)
                && !path.may_send(self.moment.now)
            {
                return Progress::Paced(path.ready_at());
            }
            let moment = (self.moment.now, !self.moment.is_last);
            let Some((history, packet, outgoing)) = forward.next(moment, track) else {
                return forward.held_until(track).map_or(Progress::Done, Progress::Held);
            };
            let stream = forward.stream;
            let pt = if let Redundancy::Kept { red, .. } = outgoing.redundancy { red } else { stream.pt };
            let header = header(pt, outgoing.index, &outgoing, stream.ssrc);
            let codec = forward.codec;
            let packet =
                OutgoingPacket { header, index: outgoing.index, codec, history, packet, outgoing, resend_of: None };
            let keeping = if outgoing.is_filler { None } else { forward.keeping() };
            self.send(&packet, &stream, (None, keeping), out);
        }
        Progress::Done
    }

    /// Pictures that have waited for longer than anybody wants to see them go, up to the next key frame.
    fn leave_out_stale(&mut self, forward: &mut Forward, track: &Track) {
        let has_waited = || forward.has_waited(self.moment.now, track);
        if self.congestion.is_some() && has_waited().is_some_and(|waited| waited > MAX_QUEUE_TIME) {
            tracing::debug!(track = %track.info.id, mid = %forward.mid, layer = forward.target(), "has waited too long");
            forward.restart(track);
        }
    }

    /// Seals one packet into `out`, as part of a probe or not, and notes its header where that is kept; false when it
    /// cannot leave.
    pub(super) fn send(
        &mut self,
        packet: &OutgoingPacket<'_>,
        stream: &OutgoingStream,
        (probe, keeping): (Option<ProbeId>, Option<Keeping<'_>>),
        out: &mut SendBatch,
    ) -> bool {
        let path = self.congestion.as_deref_mut().filter(|_| stream.is_numbered(self.to.ids));
        let number = path.map(|path| path.next_sequence());
        let len = seal(self.moment, packet, (number, keeping), self.to, out);
        if len == 0 {
            return false;
        }
        if let Some(path) = self.congestion.as_deref_mut() {
            path.sent(self.moment.now, len, number.is_some(), probe);
            if packet.resend_of.is_none() {
                path.repairs.earn(len as u64);
            }
        }
        self.packets += 1;
        self.bytes += len as u64;
        true
    }
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
    pub address: AddressPair,
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
pub(super) struct OutgoingPacket<'a> {
    pub(super) header: NewHeader,
    /// The SRTP index in the stream of `header.ssrc`.
    pub(super) index: u64,
    pub(super) codec: CodecName,
    pub(super) history: &'a History,
    pub(super) packet: &'a Packet,
    pub(super) outgoing: Outgoing,
    /// The sequence number a retransmission carries in front of its payload (RFC 4588 section 4).
    pub(super) resend_of: Option<u16>,
}

/// What follows the header of a packet.
pub(super) struct Body<'a> {
    pub(super) payload: &'a [u8],
    pub(super) form: Form,
}

impl Body<'_> {
    /// Writes it into the packet `buf` from `at` on; its end. `None` when `overhead` bytes more do not fit.
    pub(super) fn write(&self, buf: &mut [u8], at: usize, overhead: usize) -> Option<usize> {
        let Form { padding, codec, pictures, redundancy } = self.form;
        // What has no payload of its own was not kept.
        let payload = match redundancy {
            Redundancy::Removed => red::primary(self.payload).unwrap_or_default(),
            _ => self.payload,
        };
        let payload_end = at + payload.len();
        let end = payload_end + usize::from(padding);
        if end + overhead > buf.len() {
            return None;
        }
        buf[at..payload_end].copy_from_slice(payload);
        pictures.apply(codec, &mut buf[at..payload_end]);
        if let Redundancy::Kept { inner, .. } = redundancy {
            red::renumber(&mut buf[at..payload_end], inner);
        }
        if padding > 0 {
            pad(&mut buf[..end], padding);
        }
        Some(end)
    }
}

/// Writes and encrypts one packet; its bytes, 0 when it cannot leave.
fn seal(
    moment: Moment,
    sealed: &OutgoingPacket<'_>,
    (number, keeping): (Option<u16>, Option<Keeping<'_>>),
    to: Destination<'_>,
    out: &mut SendBatch,
) -> usize {
    let Destination { address, srtp, ids } = to;
    let Some(mut slot) = out.slot(address, MAX_DATAGRAM) else { return 0 };
    let buf = slot.bytes();
    let header_len = write_with_extensions(moment, sealed, number, ids, buf);
    let mut at = header_len;
    if let Some(sequence) = sealed.resend_of {
        buf[at..at + OSN_LEN].copy_from_slice(&sequence.to_be_bytes());
        at += OSN_LEN;
    }
    let (payload, padding) = match sealed.outgoing.is_filler {
        true => (&[][..], 1),
        false => (sealed.history.payload(sealed.packet), sealed.packet.padding),
    };
    let Outgoing { pictures, redundancy, .. } = sealed.outgoing;
    let form = Form { padding, codec: sealed.codec, pictures, redundancy };
    let body = Body { payload, form };
    let Some(end) = body.write(buf, at, srtp.rtp_overhead()) else { return 0 };
    if let Some(keeping) = keeping {
        keeping.note(&buf[..header_len], sealed.index, form);
    }
    let len = srtp.protect_rtp(buf, header_len, end, sealed.index);
    slot.commit(len);
    len
}

/// Writes the header with the extensions that the client knows; its length.
fn write_with_extensions(
    moment: Moment,
    sealed: &OutgoingPacket<'_>,
    number: Option<u16>,
    ids: &ExtensionIds,
    buf: &mut [u8],
) -> usize {
    let kept = &sealed.packet.kept;
    let sent_at = abs_send_time(moment.since_start);
    let number = number.map(transport_sequence);
    let (level, orientation) = (kept.audio_level.map(|b| [b]), kept.orientation.map(|b| [b]));
    let mut copy;
    let descriptor = match sealed.history.descriptor(sealed.packet) {
        of if of.is_empty() || sealed.outgoing.is_filler => &[][..],
        of => {
            copy = [0; MAX_DESCRIPTOR];
            copy[..of.len()].copy_from_slice(of);
            sealed.outgoing.pictures.apply_to_descriptor(&mut copy);
            &copy[..of.len()]
        }
    };
    let values: [(Extension, Option<&[u8]>); 6] = [
        (Extension::TransportSequence, number.as_ref().map(|v| &v[..])),
        (Extension::AbsSendTime, Some(&sent_at)),
        (Extension::AudioLevel, level.as_ref().map(|v| &v[..])),
        (Extension::VideoOrientation, orientation.as_ref().map(|v| &v[..])),
        (Extension::PlayoutDelay, kept.playout_delay.as_ref().map(|v| &v[..])),
        (Extension::DependencyDescriptor, (!descriptor.is_empty()).then_some(descriptor)),
    ];
    let mut elements: [(u8, &[u8]); 6] = [(0, &[]); 6];
    let mut count = 0;
    for (extension, value) in values {
        if let (Some(id), Some(value)) = (ids.get(extension), value) {
            elements[count] = (id, value);
            count += 1;
        }
    }
    write_header(buf, &sealed.header, &elements[..count])
}

pub(super) fn header(payload_type: Pt, index: u64, outgoing: &Outgoing, ssrc: Ssrc) -> NewHeader {
    NewHeader { marker: outgoing.marker, payload_type, sequence: index as u16, timestamp: outgoing.timestamp, ssrc }
}
