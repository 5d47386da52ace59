//! The loop that forwarding is: for each client with something waiting, for each of its forwards, for each packet:
//! new header, then the shared plaintext encrypted straight into the place it leaves from. Client by client, so that
//! one client's packets lie back to back and leave as one send.

use std::time::Instant;

use slotmap::SlotMap;

use super::client::{Client, Outbound};
use super::congestion::Congestion;
use super::form::Redundancy;
use super::forward::{Forward, OutgoingStream};
use super::kept_headers::Keeping;
use super::read_ahead::{RECEIVERS, ReadAhead};
use super::sealing::{Destination, Moment, OutgoingPacket, header, seal};
use super::track::Track;
use super::{Room, World, relay, sound};
use crate::bandwidth::{MAX_QUEUE_TIME, ProbeId};
use moonring_wire::drops::{DropReason, Drops};
use moonring_wire::id::{ClientKey, RoomKey, TrackKey};
use moonring_wire::packet::SendBatch;

/// Forwards what waits in `room` into `out`. False when `out` is full and there is more: flush, and call again.
pub fn fan_out(moment: Moment, key: RoomKey, world: &mut World, out: &mut SendBatch, drops: &mut Drops) -> bool {
    let World { rooms, clients, tracks, links, .. } = world;
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
    let is_large = moment.reads_ahead && room.touched.len() > RECEIVERS;
    let mut ahead = 0;
    while let Some(key) = room.touched.last().copied() {
        if is_large && ahead == 0 {
            ahead = ReadAhead::touched(clients, &room.touched);
        }
        ahead = ahead.saturating_sub(1);
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
    let Some(to) = Destination::of(client.transport.as_ref()) else {
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
            // Sound has none.
            let may_ask = track.is_video()
                && forward.allotted.paused.is_none()
                && !forward.awaits_return(sender.congestion.as_deref());
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
        let path = self.congestion.as_deref_mut().filter(|_| stream.is_numbered());
        let number = path.map(|path| path.next_sequence());
        let len = seal(&self.moment, packet, (number, keeping), (&self.to, &stream.ids), out);
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
