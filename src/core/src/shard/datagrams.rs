//! A datagram's way in: which client, then STUN, DTLS, RTP or RTCP.

use std::net::SocketAddr;
use std::time::Instant;

use super::Shard;
use super::header_extensions::{HeaderExtensions, Names};
use crate::command::Event;
use crate::room::client::{Incoming, MAX_SSRCS};
use crate::room::fanout::{self, Destination};
use crate::room::history::Packet;
use crate::room::track::SenderClock;
use crate::room::{layers, reports};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, Ssrc, TrackKey};
use moonring_wire::packet::SendBatch;
use moonring_wire::rtp::codec;
use moonring_wire::rtp::extension::AudioLevel;
use moonring_wire::rtp::header::Header;
use moonring_wire::rtp::protocol::{Protocol, classify};
use moonring_wire::rtp::rtcp::{self, RtcpMessage};
use moonring_wire::rtp::rtx;
use moonring_wire::transport::{TransportEvent, stun};

/// Packets resent for one RTCP packet: a burst loss of a key frame, but no amplification.
const MAX_RESENT: usize = 200;

/// One message of a compound packet that is acted on, without its borrow of the packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Clock { ssrc: Ssrc, ntp: u64, timestamp: u32 },
    KeyFrame(Ssrc),
    Resend(Ssrc, u16),
    Estimate(u64),
}

impl Shard {
    /// Everything that a datagram causes; the reason when it is dropped.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &mut [u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        match classify(bytes)? {
            Protocol::Stun => self.receive_stun(now, from, bytes, out),
            Protocol::Dtls => self.receive_dtls(now, from, bytes, out),
            Protocol::Rtp => self.receive_rtp(now, self.client_at(from)?, bytes),
            Protocol::Rtcp => self.receive_rtcp(now, self.client_at(from)?, bytes, out),
        }
    }

    /// The client whose address ICE has validated.
    fn client_at(&self, from: SocketAddr) -> Result<ClientKey, DropReason> {
        self.index.addresses.get(&from).copied().ok_or(DropReason::UnknownAddress)
    }

    fn receive_stun(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let request = stun::parse(bytes)?;
        let ufrag = std::str::from_utf8(request.local_ufrag()).map_err(|_| DropReason::StunUnknownUser)?;
        let key = *self.index.ufrags.get(ufrag).ok_or(DropReason::StunUnknownUser)?;
        let client = self.world.clients.get_mut(key).ok_or(DropReason::StunUnknownUser)?;
        let transport = client.transport.as_mut().ok_or(DropReason::StunUnknownUser)?;
        transport.handle_stun(now, from, &request, out)?;
        if client.reach.addresses.iter().copied().eq(transport.ice().validated()) {
            return Ok(());
        }
        let validated: Vec<_> = transport.ice().validated().collect();
        for gone in client.reach.addresses.drain(..).filter(|a| !validated.contains(a)) {
            if self.index.addresses.get(&gone) == Some(&key) {
                self.index.addresses.remove(&gone);
            }
        }
        for address in &validated {
            self.index.addresses.insert(*address, key);
        }
        client.reach.addresses = validated;
        self.schedule(key);
        Ok(())
    }

    fn receive_dtls(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let key = self.client_at(from)?;
        let transport = self.world.clients[key].transport.as_mut().ok_or(DropReason::UnknownAddress)?;
        let event = transport.handle_dtls(now, from, bytes, &mut self.work.dtls_scratch, out)?;
        if let Some(event) = event {
            self.transport_event(now, key, event);
            // What the policy says to an end is due now, not with the next command or timer.
            self.drain_policy(now, out);
        }
        self.schedule(key);
        Ok(())
    }

    pub(super) fn transport_event(&mut self, now: Instant, key: ClientKey, event: TransportEvent) {
        match event {
            TransportEvent::Connected => {
                let client = &mut self.world.clients[key];
                client.deadlines.connect_by = None;
                client.deadlines.report = now;
                self.work.events.push_back(Event::Connected { client: client.id.clone() });
                self.begin_forwards(now, key);
                self.schedule(key);
            }
            TransportEvent::Closed(reason) | TransportEvent::Failed(reason) => self.transport_failed(now, key, &reason),
        }
    }

    /// A client that can receive, and has not of some forwards, begins with their last key frames; for those that are
    /// no longer here the publishers are asked.
    pub(super) fn begin_forwards(&mut self, now: Instant, key: ClientKey) {
        let client = &mut self.world.clients[key];
        if client.transport.as_ref().is_none_or(|t| t.srtp_out().is_none()) {
            return;
        }
        let mut waiting = Vec::new();
        for forward in client.outbound.forwards.iter_mut().flatten().filter(|f| f.waits_for_key_frame()) {
            let Some(track) = self.world.tracks.get_mut(forward.track) else { continue };
            forward.begin_with_last_key_frame(now, track);
            if !forward.is_behind(track) {
                track.layers[usize::from(forward.target())].want_key_frame(now);
            }
            waiting.push((forward.track, track.owner));
        }
        for (track, owner) in waiting {
            self.mark_dirty(track);
            self.schedule(owner);
        }
    }

    fn receive_rtp(&mut self, now: Instant, key: ClientKey, bytes: &mut [u8]) -> Result<(), DropReason> {
        let mut header = Header::parse(bytes)?;
        let client = &mut self.world.clients[key];
        let transport = client.transport.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let (len, _) = transport.unprotect_rtp(bytes, header.header_len, header.ssrc.0, header.sequence)?;
        let bytes = &mut bytes[..len];
        self.report.counters.packets_in += 1;
        self.report.counters.bytes_in += len as u64;
        let traffic = &client.facts.traffic;
        traffic.packets_in.set(traffic.packets_in.get() + 1);
        traffic.bytes_in.set(traffic.bytes_in.get() + len as u64);
        let elements = HeaderExtensions::read(&header, bytes, &client.negotiated.extensions);
        if let Some(sequence) = elements.transport_sequence {
            let waits = client.deadlines.feedback.is_some();
            reports::note_transport_sequence(now, client, sequence);
            if !waits {
                self.schedule(key);
            }
        }
        let incoming = self.stream_of(key, &header, bytes)?;
        let mut bytes = bytes;
        if incoming.rtx {
            let track = self.world.tracks.get(incoming.track).ok_or(DropReason::RtpUnknownSsrc)?;
            let ssrc = track.layers[usize::from(incoming.layer)].ssrc.ok_or(DropReason::RtpUnknownSsrc)?;
            if track.rtx_pt != Some(header.payload_type) {
                return Err(DropReason::RtpUnknownPayloadType);
            }
            // Without payload it is padding that probes for bandwidth.
            let Some(start) = rtx::restore(bytes, &header, track.pt, ssrc)? else { return Ok(()) };
            bytes = &mut bytes[start..];
            header = Header::parse(bytes)?;
        }
        self.keep(now, key, incoming, &header, bytes, &elements)
    }

    /// Which stream a packet is of: by its SSRC, or, the first time, by its MID and RID, or by its payload type.
    fn stream_of(&mut self, key: ClientKey, header: &Header, bytes: &[u8]) -> Result<Incoming, DropReason> {
        let client = &self.world.clients[key];
        if let Some(incoming) = client.inbound.streams.get(&header.ssrc) {
            return Ok(*incoming);
        }
        if client.inbound.streams.len() >= MAX_SSRCS {
            return Err(DropReason::RtpTooManySsrcs);
        }
        let names = Names::read(header, bytes, &client.negotiated.extensions);
        let mut found = None;
        for track_key in &client.inbound.published {
            let Some(track) = self.world.tracks.get(*track_key) else { continue };
            if names.mid.is_some_and(|mid| mid != track.mid.as_str()) {
                continue;
            }
            let is_rtx = track.rtx_pt == Some(header.payload_type);
            if !is_rtx && track.pt != header.payload_type {
                continue;
            }
            let rid = if is_rtx { names.repaired_rid.or(names.rid) } else { names.rid };
            let is_layer = |layer: &crate::room::track::Layer| match (&layer.rid, rid) {
                (Some(a), Some(b)) => a.as_str() == b,
                (None, _) => {
                    if is_rtx {
                        layer.rtx_ssrc.is_none()
                    } else {
                        layer.ssrc.is_none()
                    }
                }
                (Some(_), None) => false,
            };
            if let Some(layer) = track.layers.iter().position(is_layer) {
                found = Some((*track_key, layer as u8, is_rtx));
                break;
            }
        }
        let (track, layer, is_rtx) = found.ok_or(DropReason::RtpUnknownSsrc)?;
        self.bind_ssrc(key, header.ssrc, track, layer, is_rtx);
        self.schedule(key);
        Ok(Incoming { track, layer, rtx: is_rtx })
    }

    /// From now on `ssrc` of a client is this stream; the stream's former SSRC is forgotten.
    pub(super) fn bind_ssrc(&mut self, key: ClientKey, ssrc: Ssrc, track_key: TrackKey, layer: u8, rtx: bool) {
        let (Some(client), Some(track)) = (self.world.clients.get_mut(key), self.world.tracks.get_mut(track_key))
        else {
            return;
        };
        let place = &mut track.layers[usize::from(layer)];
        let slot = if rtx { &mut place.rtx_ssrc } else { &mut place.ssrc };
        if let Some(former) = slot.replace(ssrc)
            && former != ssrc
        {
            client.inbound.streams.remove(&former);
            if let Some(transport) = &mut client.transport {
                transport.forget_ssrc(former.0);
            }
        }
        client.inbound.streams.insert(ssrc, Incoming { track: track_key, layer, rtx });
    }

    /// Keeps a packet for forwarding.
    fn keep(
        &mut self,
        now: Instant,
        key: ClientKey,
        incoming: Incoming,
        header: &Header,
        bytes: &[u8],
        elements: &HeaderExtensions,
    ) -> Result<(), DropReason> {
        let track = self.world.tracks.get_mut(incoming.track).ok_or(DropReason::RtpUnknownSsrc)?;
        if header.payload_type != track.pt {
            return Err(DropReason::RtpUnknownPayloadType);
        }
        let asks_again = track.feedback.nack;
        let layer = &mut track.layers[usize::from(incoming.layer)];
        let index = layer.stats.received(header.sequence, header.timestamp, now);
        let was_missing = layer.missing.missing();
        // What is never asked for would stay due for ever.
        if asks_again {
            layer.missing.received(index, now);
        }
        let lost_some = layer.missing.missing() > was_missing;
        layer.count(now, bytes.len());
        if track.muted_by_client || track.muted_by_policy {
            return Err(DropReason::Muted);
        }
        if layer.history.find(index).is_some() {
            return Err(DropReason::SrtpReplay);
        }
        let payload = &bytes[header.payload_range(bytes)?];
        let descriptor = elements.descriptor(bytes);
        let info = codec::inspect(track.codec.name, payload, (!descriptor.is_empty()).then_some(descriptor));
        if info.key_frame {
            layer.key_frame_came();
        }
        let mut packet = Packet::new(now);
        (packet.index, packet.timestamp, packet.marker) = (index, header.timestamp, header.marker);
        (packet.info, packet.kept) = (info, elements.kept);
        layer.history.push(packet, descriptor, payload);
        let room_key = track.room;
        self.mark_dirty(incoming.track);
        if let Some(level) = elements.kept.audio_level.and_then(|byte| AudioLevel::parse(&[byte])) {
            self.hear(now, room_key, incoming.track, key, level.level);
        }
        if lost_some {
            self.schedule(key);
        }
        Ok(())
    }

    fn hear(&mut self, now: Instant, room: moonring_wire::id::RoomKey, track: TrackKey, client: ClientKey, level: u8) {
        let Some(state) = self.world.rooms.get_mut(room) else { return };
        let was_quiet = state.speakers.deadline().is_none();
        state.speakers.hear(now, track, client, level);
        if was_quiet && let Some(at) = state.speakers.deadline() {
            self.schedule_speakers(room, at);
        }
    }

    fn receive_rtcp(
        &mut self,
        now: Instant,
        key: ClientKey,
        bytes: &mut [u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let transport = self.world.clients[key].transport.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let len = transport.unprotect_rtcp(bytes)?;
        let mut requests = std::mem::take(&mut self.work.requests);
        let parsed = rtcp::parse(&bytes[..len], &mut |message| note_request(message, &mut requests));
        for request in requests.drain(..) {
            self.act_on(now, key, request, out);
        }
        self.work.requests = requests;
        parsed
    }

    fn act_on(&mut self, now: Instant, key: ClientKey, request: Request, out: &mut SendBatch) {
        let moment = self.moment(now);
        let client = &mut self.world.clients[key];
        match request {
            Request::Clock { ssrc, ntp, timestamp } => {
                let incoming = client.inbound.streams.get(&ssrc).filter(|i| !i.rtx);
                if let Some((incoming, track)) = incoming.and_then(|i| Some((i, self.world.tracks.get_mut(i.track)?))) {
                    let layer = &mut track.layers[usize::from(incoming.layer)];
                    layer.clock = Some(SenderClock { ntp, timestamp, at: now });
                    layer.stats.sender_report(ntp, now);
                }
            }
            Request::KeyFrame(ssrc) => {
                let place = client.forward_with(ssrc);
                let forward = place.and_then(|p| client.outbound.forwards[usize::from(p)].as_ref());
                if let Some((forward, track)) = forward.and_then(|f| Some((f, self.world.tracks.get_mut(f.track)?))) {
                    let layer = forward.layer().unwrap_or(forward.target());
                    track.layers[usize::from(layer)].want_key_frame(now);
                    let owner = track.owner;
                    self.schedule(owner);
                }
            }
            Request::Resend(ssrc, sequence) => {
                let Some(place) = client.forward_with(ssrc) else { return };
                let to = Destination::of(client.transport.as_ref(), &client.negotiated.extensions);
                let forward = client.outbound.forwards[usize::from(place)].as_mut();
                if let (Some(to), Some(forward)) = (to, forward)
                    && let Some(track) = self.world.tracks.get(forward.track)
                    && fanout::resend(moment, (forward, track), to, sequence, out)
                {
                    self.report.counters.resent += 1;
                }
            }
            Request::Estimate(bps) => {
                client.outbound.remb_bps = Some(bps);
                layers::choose(now, client, &mut self.world.tracks);
                self.begin_forwards(now, key);
            }
        }
    }
}

/// Takes down what a message asks for; reports, goodbyes and the rest change nothing here.
fn note_request(message: RtcpMessage<'_>, requests: &mut Vec<Request>) {
    match message {
        RtcpMessage::SenderReport { ssrc, ntp, rtp_time, .. } => {
            requests.push(Request::Clock { ssrc, ntp, timestamp: rtp_time });
        }
        RtcpMessage::Pli { media } | RtcpMessage::Fir { media, .. } => requests.push(Request::KeyFrame(media)),
        RtcpMessage::Nack { media, sequences } => {
            let room = MAX_RESENT.saturating_sub(requests.len());
            requests.extend(sequences.take(room).map(|sequence| Request::Resend(media, sequence)));
        }
        RtcpMessage::Remb { bitrate_bps, .. } => requests.push(Request::Estimate(bitrate_bps)),
        RtcpMessage::ReportBlock { .. } | RtcpMessage::TransportFeedback { .. } | RtcpMessage::Bye { .. } => {}
    }
}
