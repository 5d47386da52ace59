//! A datagram's way in: which client, then STUN, DTLS, RTP or RTCP.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Shard;
use super::faults::Stage;
use super::header_extensions::HeaderExtensions;
use super::streams;
use crate::command::Event;
use crate::room::client::Outbound;
use crate::room::congestion::{Congestion, Estimate, Told};
use crate::room::forward::{Forward, OutgoingSsrcs};
use crate::room::reports;
use crate::room::track::{KeyFrameNeed, SenderClock};
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, Ssrc};
use moonring_wire::media::Kind;
use moonring_wire::packet::{AddressPair, SendBatch};
use moonring_wire::rtp::header::Header;
use moonring_wire::rtp::protocol::{Protocol, classify};
use moonring_wire::rtp::rtcp::{self, RtcpMessage};
use moonring_wire::rtp::rtx;
use moonring_wire::transport::TransportEvent;

/// Packets resent for one RTCP packet: a burst loss of a key frame, but no amplification.
const MAX_RESENT: usize = 200;

/// One message of a compound packet that is acted on, without its borrow of the packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Clock {
        ssrc: Ssrc,
        ntp: u64,
        timestamp: u32,
    },
    KeyFrame(Ssrc),
    Resend(Ssrc, u16),
    /// A report block: the sender report that it names, and how long that was there, in 1/65,536 s.
    RoundTrip {
        ssrc: Ssrc,
        last_sr: u32,
        delay: u32,
    },
}

impl Request {
    /// Whether two that follow each other are for packets of one stream.
    fn are_of_one_loss(&self, next: &Self) -> bool {
        matches!((self, next), (Self::Resend(one, _), Self::Resend(other, _)) if one == other)
    }

    fn sequence(&self) -> Option<u16> {
        if let Self::Resend(_, sequence) = self { Some(*sequence) } else { None }
    }
}

/// A packet that was authenticated and decrypted.
pub(super) struct Opened<'a> {
    pub(super) header: Header,
    /// Its SRTP index; of one that was sent again that of the stream of such packets.
    pub(super) index: u64,
    pub(super) bytes: &'a [u8],
    pub(super) elements: HeaderExtensions,
}

impl Shard {
    /// Everything that a datagram causes; the reason when it is dropped.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        from: AddressPair,
        bytes: &mut [u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        match classify(bytes)? {
            Protocol::Stun => self.receive_stun(now, from, bytes, out),
            Protocol::Dtls => self.receive_dtls(now, from, bytes, out),
            Protocol::Rtp => match self.client_at(from) {
                Ok(key) => self.receive_rtp_of(now, (key, from), bytes),
                Err(_) => self.stray(from, bytes, out),
            },
            Protocol::Link => self.receive_link(now, from, bytes, out),
            Protocol::Rtcp => match self.client_at(from) {
                Ok(key) => self.receive_rtcp(now, (key, from, None), bytes, out),
                Err(_) => self.stray(from, bytes, out),
            },
        }
    }

    /// A packet of a client's, which is told why if it is dropped again and again.
    pub(super) fn receive_rtp_of(
        &mut self,
        now: Instant,
        (key, from): (ClientKey, AddressPair),
        bytes: &mut [u8],
    ) -> Result<(), DropReason> {
        let kept = self.receive_rtp(now, (key, from), bytes);
        if let Err(reason) = kept {
            self.explain_drop(key, reason);
        }
        kept
    }

    /// The client whose address ICE has validated.
    fn client_at(&self, from: AddressPair) -> Result<ClientKey, DropReason> {
        self.index.addresses.get(&from).copied().ok_or(DropReason::UnknownAddress)
    }

    fn receive_dtls(
        &mut self,
        now: Instant,
        from: AddressPair,
        bytes: &[u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let key = self.client_at(from)?;
        let transport = self.world.clients[key].transport.as_mut().ok_or(DropReason::UnknownAddress)?;
        let handled = transport.handle_dtls(now, from, bytes, &mut self.work.dtls_scratch, out);
        if handled.is_err() {
            self.schedule(key);
        }
        let event = handled?;
        self.stage(Stage::Dtls);
        if let Some(event) = event {
            self.transport_event(now, key, event);
            let ice = self.world.clients.get(key).and_then(|client| client.transport.as_ref()).map(|t| t.ice());
            if let Some(address) = ice.and_then(|ice| ice.unproven_selection()) {
                self.check_address(now, key, address, out);
            }
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
                self.work.events.push(Event::Connected { client: client.id.clone() });
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
        if self.world.links.are_there() {
            let wanted = client.outbound.forwards.iter().flatten().filter(|f| f.allotted.paused.is_none());
            let wanted: Vec<_> = wanted.map(|forward| (forward.track, forward.target())).collect();
            wanted.into_iter().for_each(|(track, layer)| self.want_far_layer(track, layer));
        }
        let Outbound { forwards, congestion, .. } = &mut self.world.clients[key].outbound;
        let (mut waiting, mut asked) = (Vec::new(), Vec::new());
        let path = congestion.as_deref();
        let needs_one =
            |f: &&mut Forward| f.allotted.paused.is_none() && f.waits_for_key_frame() && !f.awaits_return(path);
        for forward in forwards.iter_mut().flatten().filter(needs_one) {
            let Some(track) = self.world.tracks.get_mut(forward.track) else { continue };
            forward.begin_or_ask((now, path.and_then(Congestion::target_bps)), track);
            waiting.push((forward.track, track.owner));
        }
        for forward in forwards.iter().flatten().filter(|f| f.allotted.paused.is_none()) {
            let track = self.world.tracks.get(forward.track);
            asked.extend(track.filter(|track| forward.waits_for_spatial_layer(track)).map(|track| track.owner));
        }
        for (track, owner) in waiting {
            self.mark_dirty(now, track);
            self.schedule(owner);
        }
        asked.into_iter().for_each(|owner| self.schedule(owner));
    }

    fn receive_rtp(
        &mut self,
        now: Instant,
        (key, from): (ClientKey, AddressPair),
        bytes: &mut [u8],
    ) -> Result<(), DropReason> {
        let mut header = Header::parse(bytes)?;
        if self.is_left_out(key, header.ssrc, header.sequence) {
            return Err(DropReason::Shed);
        }
        let client = &mut self.world.clients[key];
        let transport = client.transport.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let (len, index) =
            transport.unprotect_rtp((now, from), bytes, header.header_len, header.ssrc.0, header.sequence)?;
        let bytes = &mut bytes[..len];
        self.report.counters.packets_in += 1;
        self.report.counters.bytes_in += len as u64;
        let traffic = &client.facts.traffic;
        traffic.packets_in.set(traffic.packets_in.get() + 1);
        traffic.bytes_in.set(traffic.bytes_in.get() + len as u64);
        let known = client.inbound.streams.get(&header.ssrc).copied();
        let ids = streams::ids_of(known, &client.inbound.published, &self.world.tracks, (&header, bytes));
        let elements = HeaderExtensions::read(&header, bytes, &ids);
        if let Some(sequence) = elements.transport_sequence {
            let waits = client.deadlines.feedback.is_some();
            reports::note_transport_sequence(now, client, sequence);
            if !waits {
                self.schedule(key);
            }
        }
        self.stage(Stage::Rtp);
        let incoming = match self.stream_of(now, (key, known), &header, bytes, &elements) {
            Ok(incoming) => incoming,
            Err(reason) => {
                // It takes none of the places of those that are known.
                if let Some(transport) = &mut self.world.clients[key].transport {
                    transport.retire_ssrc(header.ssrc.0);
                }
                return Err(reason);
            }
        };
        let mut bytes = bytes;
        if incoming.rtx {
            let track = self.world.tracks.get(incoming.track).ok_or(DropReason::RtpUnknownSsrc)?;
            let ssrc = track.layers[usize::from(incoming.layer)].ssrc.ok_or(DropReason::RtpUnknownSsrc)?;
            if !track.formats.is_rtx(header.payload_type) {
                return Err(DropReason::RtpUnknownPayloadType);
            }
            // Without payload it is padding that probes for bandwidth.
            let Some(start) = rtx::restore(bytes, &header, track.pt, ssrc)? else { return Ok(()) };
            bytes = &mut bytes[start..];
            header = Header::parse(bytes)?;
        }
        self.keep(now, (key, incoming), &Opened { header, index, bytes, elements })
    }

    /// Reports and requests. `selected` says of those that another shard has passed on whether they have come from the
    /// address that the client is sent to.
    pub(super) fn receive_rtcp(
        &mut self,
        now: Instant,
        (key, from, selected): (ClientKey, AddressPair, Option<bool>),
        bytes: &mut [u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let client = &mut self.world.clients[key];
        let transport = client.transport.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let len = transport.unprotect_rtcp((now, from), bytes)?;
        // What makes the server or others send counts from the address that is sent to, and from no other.
        let is_selected = selected.unwrap_or(transport.selected() == Some(from));
        let Outbound { forwards, known_by, congestion: path, .. } = &mut client.outbound;
        let (mut told, mut is_estimated) = (Told::Nothing, false);
        let mut requests = std::mem::take(&mut self.work.requests);
        let parsed = rtcp::parse(&bytes[..len], &mut |message| match message {
            RtcpMessage::SenderReport { .. } => note_request(message, &mut requests),
            _ if !is_selected => {}
            RtcpMessage::TransportFeedback { packet } => {
                told = told.max(path.as_deref_mut().map_or(Told::Nothing, |path| path.feedback(now, packet)));
            }
            RtcpMessage::Remb { bitrate_bps, ssrcs, sender } => {
                let estimate = estimate_of((sender, bitrate_bps), ssrcs, (forwards, known_by));
                if let Some(path) = path.as_deref_mut() {
                    path.remb(now, estimate);
                    is_estimated = true;
                }
            }
            message => note_request(message, &mut requests),
        });
        self.stage(Stage::Rtcp);
        if told != Told::Nothing {
            self.feedback_came(now, key);
        }
        if is_estimated {
            self.remb_came(now, key);
        }
        if told == Told::Outage {
            self.begin_after_outage(now, key);
        }
        for group in requests.chunk_by(Request::are_of_one_loss) {
            match group {
                [Request::Resend(ssrc, _), ..] => {
                    self.resend(now, (key, *ssrc), group.iter().filter_map(Request::sequence), out);
                }
                others => others.iter().for_each(|request| self.act_on(now, key, *request)),
            }
        }
        requests.clear();
        self.work.requests = requests;
        parsed
    }

    fn act_on(&mut self, now: Instant, key: ClientKey, request: Request) {
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
                if let Some(place) = client.forward_with(ssrc) {
                    self.need_key_frame(now, (key, place), KeyFrameNeed::Asked);
                }
            }
            // Those of one loss are looked at together.
            Request::Resend(..) => {}
            Request::RoundTrip { ssrc, last_sr, delay } => {
                let forward = client.forward_with(ssrc).and_then(|p| client.outbound.forwards[usize::from(p)].as_ref());
                let rtt = forward.and_then(|forward| forward.reported.round_trip(now, (last_sr, delay)));
                if let (Some(rtt), Some(path)) = (rtt, client.outbound.congestion.as_deref_mut()) {
                    path.round_trip(rtt);
                }
            }
        }
    }
}

/// What a REMB of these streams tells of what `forwards` send: one that names none of them is of all.
fn estimate_of(
    (sender, bps): (Ssrc, u64),
    ssrcs: impl Iterator<Item = Ssrc>,
    (forwards, known_by): (&[Option<Forward>], &OutgoingSsrcs),
) -> Estimate {
    let mut ssrcs = ssrcs.peekable();
    let is_of_all = ssrcs.peek().is_none();
    let listed: BTreeSet<u16> = ssrcs.filter_map(|ssrc| known_by.place_of(ssrc)).collect();
    let named = listed.iter().filter_map(|place| forwards.get(usize::from(*place))?.as_ref());
    let streams = named.map(|forward| forward.stream.ssrc).collect();
    // Some estimate what their pictures may take and leave sound out (aiortc).
    let is_sound = |f: &Option<Forward>| f.as_ref().is_some_and(|f| f.codec.kind() == Kind::Audio);
    let mut sound = (0..).zip(forwards).filter(|(_, forward)| is_sound(forward));
    let covers_sound = is_of_all || sound.all(|(place, _)| listed.contains(&place));
    Estimate { sender, bps, streams, covers_sound }
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
        RtcpMessage::ReportBlock { block, .. } if block.last_sr != 0 => {
            requests.push(Request::RoundTrip {
                ssrc: block.about,
                last_sr: block.last_sr,
                delay: block.delay_since_last_sr,
            });
        }
        RtcpMessage::ReportBlock { .. }
        | RtcpMessage::Remb { .. }
        | RtcpMessage::TransportFeedback { .. }
        | RtcpMessage::Bye { .. } => {}
    }
}
