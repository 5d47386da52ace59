//! A WebRTC client without I/O: time, randomness and the output buffer come in as arguments.
//!
//! It offers, takes the answer, finds the server by ICE (full agent, controlling), shakes hands by DTLS, and then
//! sends and receives SRTP. One peer is one client of the server.
//!
//! ```text
//! let mut peer = Peer::new(config, seed);
//! let mid = peer.publish(CodecName::Vp8);
//! let offer = peer.offer();                       // or offer_text::render(&offer)
//! peer.accept_answer(now, &answer)?;              // or the result of answer_text::parse(text)
//! loop: poll_timeout, handle_timeout, handle_datagram, poll_event, send
//! ```

pub mod answer_text;
mod config;
mod control;
mod ice;
pub mod offer_text;
mod outbox;
mod receive;
mod section;
mod send;
pub mod stun;
#[cfg(test)]
mod tests;
mod told;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moonring_wire::drops::DropReason;
use moonring_wire::id::Mid;
use moonring_wire::media::CodecName;
use moonring_wire::negotiate::{Answer, Offer};
use moonring_wire::rtp::extension::parse_transport_sequence;
use moonring_wire::rtp::header::Header;
use moonring_wire::rtp::protocol::{Protocol, classify};
use moonring_wire::rtp::rtx;
use moonring_wire::rtp::twcc::ArrivalRecorder;
use moonring_wire::transport::dtls::{Dtls, DtlsEvent, DtlsTerms};
use moonring_wire::transport::srtp::{SrtpIn, SrtpOut, SrtpProfile};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::media::Packet;
use ice::{Ice, IceOutcome};
use section::{Section, Sections};

pub use config::PeerConfig;
pub use outbox::Outbox;
pub use receive::{Stream, StreamCounts};
pub use section::AnswerError;
pub use send::TrackCounts;
pub use told::{Handled, PeerCounts, PeerEvent, RtpReceived};

/// Streams that one peer receives, first sent and retransmissions together.
const MAX_SSRCS: usize = 1_024;
/// Events kept for [`Peer::poll_event`]; older ones are worth more than newer ones.
const MAX_EVENTS: usize = 64;

/// How often the server is told of arrivals; libwebrtc's interval is between 50 and 250 ms.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);

/// One client. An `Err` of its functions is a datagram dropped, never the end.
pub struct Peer {
    config: Arc<PeerConfig>,
    rng: SmallRng,
    sections: Sections,
    ice: Ice,
    dtls: Option<Dtls>,
    srtp: Option<Srtp>,
    streams: Vec<Stream>,
    unopened: u32,
    next_report: Option<Instant>,
    next_nack: Option<Instant>,
    /// When packets with transport-wide numbers came, and when to tell the server.
    arrivals: Option<ArrivalRecorder>,
    next_feedback: Option<Instant>,
    events: VecDeque<PeerEvent>,
    counts: PeerCounts,
    ended: bool,
}

struct Srtp {
    out: SrtpOut,
    incoming: SrtpIn,
}

impl Peer {
    /// A peer that has nothing to send or receive yet. The same seed makes the same SSRCs and passwords.
    pub fn new(config: Arc<PeerConfig>, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        Self {
            sections: Sections::new(&mut rng),
            ice: Ice::new(&mut rng, config.consent_timeout),
            rng,
            config,
            dtls: None,
            srtp: None,
            streams: Vec::new(),
            unopened: 0,
            next_report: None,
            next_nack: None,
            arrivals: None,
            next_feedback: None,
            events: VecDeque::new(),
            counts: PeerCounts::default(),
            ended: false,
        }
    }

    /// Adds a sending section to the next offer.
    pub fn publish(&mut self, codec: CodecName) -> Mid {
        self.publish_layers(codec, 1)
    }

    /// The same with so many simulcast layers, which the offer has as the SSRCs of an `a=ssrc-group:SIM`.
    pub fn publish_layers(&mut self, codec: CodecName, layers: u8) -> Mid {
        self.sections.publish((codec, layers), self.config.resend_packets, &mut self.rng)
    }

    /// Adds a receiving section for a codec to the next offer.
    pub fn receive(&mut self, codec: CodecName) -> Mid {
        self.sections.receive(codec)
    }

    /// Makes a section inactive in the next offer.
    pub fn stop(&mut self, mid: &Mid) {
        self.sections.stop(mid);
    }

    /// New ICE credentials in the next offer.
    pub fn restart_ice(&mut self) {
        self.ice.restart(&mut self.rng);
    }

    /// What this peer wants, as things are.
    pub fn offer(&self) -> Offer {
        let ice = self.ice.local().clone();
        self.sections.offer(ice, self.config.certificate.fingerprint(), self.config.transport_feedback)
    }

    /// Takes the answer to the last offer and begins to connect, or to send and receive what is new.
    pub fn accept_answer(&mut self, now: Instant, answer: &Answer) -> Result<(), AnswerError> {
        self.sections.accept(answer)?;
        self.ice.connect(now, answer.ice.clone(), &answer.candidates)?;
        if self.dtls.is_none() {
            let role = section::dtls_role(answer.setup)?;
            let config = &self.config;
            let (versions, profiles) = (config.versions, config.profiles.clone());
            let terms = DtlsTerms { role, versions, profiles, fingerprint: answer.fingerprint };
            self.dtls = Some(Dtls::new(now, &config.certificate, terms));
        }
        Ok(())
    }

    /// Takes a datagram from the server.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &mut [u8], out: &mut Outbox) -> Result<Handled, DropReason> {
        let handled = match classify(bytes) {
            Ok(Protocol::Rtp) => self.handle_rtp(now, bytes).map(Handled::Rtp),
            Ok(Protocol::Rtcp) => self.handle_rtcp(now, bytes, out).map(|()| Handled::Control),
            Ok(Protocol::Stun) => self.handle_stun(now, bytes, out).map(|()| Handled::Control),
            Ok(Protocol::Dtls) => self.handle_dtls(now, bytes, out).map(|()| Handled::Control),
            Ok(Protocol::Link) => Err(DropReason::LinkUnknown),
            Err(reason) => Err(reason),
        };
        self.counts.dropped += u64::from(handled.is_err());
        handled
    }

    /// Sends a packet in the section `mid`, as one of its layer. False when it cannot: not connected, not accepted,
    /// without that layer, `out` full.
    pub fn send(&mut self, now: Instant, mid: &Mid, packet: &Packet, out: &mut Outbox) -> bool {
        let (Some(srtp), Some(to)) = (&self.srtp, self.ice.selected()) else { return false };
        let clock = self.config.clock;
        let track = self.sections.get_mut(mid).and_then(|section| section.layer(packet.layer));
        let Some(track) = track else { return false };
        track.send(clock, now, packet, &srtp.out, to, &mut out.batch)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.ended {
            return;
        }
        match self.ice.handle_timeout(now, &mut self.rng, &mut out.batch) {
            IceOutcome::Gone if self.srtp.is_some() => {
                return self.end(PeerEvent::Closed("the server answers no checks any more".into()));
            }
            IceOutcome::Gone => return self.end(PeerEvent::Failed("the server answers no connectivity checks".into())),
            IceOutcome::Nothing | IceOutcome::Selected => {}
        }
        let dtls_due = |dtls: &Dtls| dtls.poll_timeout().is_some_and(|at| at <= now);
        if self.ice.selected().is_some()
            && let Some(dtls) = self.dtls.as_mut().filter(|dtls| dtls_due(dtls))
        {
            dtls.handle_timeout(now);
            self.drive_dtls(now, out);
        }
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = Some(now + self.config.report_interval);
            self.send_reports(now, out);
        }
        if self.next_nack.is_some_and(|at| at <= now) {
            self.next_nack = self.send_nacks(now, out);
        }
        if self.next_feedback.take_if(|at| *at <= now).is_some() {
            self.send_transport_feedback(out);
        }
    }

    /// When [`Peer::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let flight = self.dtls.as_ref().and_then(Dtls::poll_timeout).filter(|_| self.ice.selected().is_some());
        [self.ice.poll_timeout(), flight, self.next_report, self.next_nack, self.next_feedback]
            .into_iter()
            .flatten()
            .min()
    }

    /// What happened since it was last asked.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// Says goodbye and ends.
    pub fn close(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(dtls) = self.dtls.as_mut().filter(|_| !self.ended) {
            dtls.handle_timeout(now);
            dtls.close(now);
            self.drive_dtls(now, out);
        }
        self.ended = true;
        self.srtp = None;
    }

    /// True while media can flow.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// The negotiated SRTP profile.
    pub fn profile(&self) -> Option<SrtpProfile> {
        self.srtp.as_ref().map(|srtp| srtp.out.profile())
    }

    /// The server's address, once it answered a check.
    pub fn server(&self) -> Option<SocketAddr> {
        self.ice.selected()
    }

    /// What is received.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The longest time without a packet of a stream, between two of it, since the last call.
    pub fn take_longest_gap(&mut self) -> Duration {
        self.streams.iter_mut().map(Stream::take_longest_gap).max().unwrap_or_default()
    }

    /// What went through.
    pub fn counts(&self) -> PeerCounts {
        self.counts
    }

    /// What was sent in the section `mid`.
    pub fn track_counts(&self, mid: &Mid) -> Option<TrackCounts> {
        self.sections.get(mid).and_then(Section::track_counts)
    }

    /// What was sent in all sections.
    pub fn sent(&self) -> TrackCounts {
        self.sections.iter().filter_map(Section::track_counts).sum()
    }

    fn handle_stun(&mut self, now: Instant, bytes: &[u8], out: &mut Outbox) -> Result<(), DropReason> {
        let IceOutcome::Selected = self.ice.handle_message(now, bytes, &mut out.batch)? else { return Ok(()) };
        // The ClientHello need not wait for the next timer.
        if let Some(dtls) = self.dtls.as_mut()
            && !dtls.is_connected()
        {
            dtls.handle_timeout(now);
            self.drive_dtls(now, out);
        }
        Ok(())
    }

    fn handle_dtls(&mut self, now: Instant, bytes: &[u8], out: &mut Outbox) -> Result<(), DropReason> {
        let dtls = self.dtls.as_mut().ok_or(DropReason::Dtls)?;
        let handled = dtls.handle_packet(now, bytes);
        self.drive_dtls(now, out);
        handled
    }

    fn drive_dtls(&mut self, now: Instant, out: &mut Outbox) {
        let to = self.ice.selected();
        let Outbox { batch, scratch } = out;
        while let Some(event) = self.dtls.as_mut().and_then(|dtls| {
            dtls.poll(scratch, |datagram| {
                // What does not fit is lost and sent again, as on any network.
                let _ = to.is_some_and(|to| batch.push(to, datagram));
            })
        }) {
            match event {
                DtlsEvent::Connected(keys) => {
                    let incoming = SrtpIn::new(keys.profile, &keys.remote, MAX_SSRCS);
                    self.srtp = Some(Srtp { out: SrtpOut::new(keys.profile, &keys.local), incoming });
                    // Spread, so that thousands of peers that joined together don't report together.
                    self.next_report = Some(now + self.config.report_interval.mul_f64(self.rng.random_range(0.5..1.5)));
                    self.tell(PeerEvent::Connected);
                }
                DtlsEvent::Failed(reason) => self.end(PeerEvent::Failed(reason)),
                DtlsEvent::Closed => self.end(PeerEvent::Closed("the server closed the connection".into())),
            }
        }
    }

    fn handle_rtp(&mut self, now: Instant, bytes: &mut [u8]) -> Result<RtpReceived, DropReason> {
        let header = Header::parse(bytes)?;
        if self.srtp.is_some() {
            self.note_arrival(now, &header, bytes);
        }
        let srtp = self.srtp.as_mut().ok_or(DropReason::SrtpNotReady)?;
        self.unopened += 1;
        if self.unopened < self.config.open_one_in
            && let Some(stream) = self.streams.iter_mut().find(|s| s.ssrc() == header.ssrc && s.may_stay_closed())
        {
            let received = stream.count_closed(&header, now);
            self.count(bytes.len());
            return Ok(received);
        }
        let (len, _) = srtp.incoming.unprotect_rtp(bytes, header.header_len, header.ssrc.0, header.sequence)?;
        self.unopened = 0;
        self.count(bytes.len());
        let bytes = &mut bytes[..len];
        let payload = header.payload_range(bytes)?;
        // Nothing is kept of a stream before one of its packets was authentic.
        let stream = receive::find_or_add(&mut self.streams, &self.sections, &header, MAX_SSRCS)?;
        if stream.is_repair(&header) {
            let start = payload.start + rtx::OSN_LEN;
            return Ok(match rtx::unwrap(&bytes[payload.clone()]) {
                Some((sequence, _)) => stream.count_repair(&header, sequence, bytes, start..payload.end),
                None => stream.count_padding(&header),
            });
        }
        let (received, is_first_key) = stream.count(&header, bytes, payload, now);
        let next_nack = stream.next_nack().filter(|_| self.config.nack);
        if is_first_key {
            self.tell(PeerEvent::FirstKeyFrame(header.ssrc));
        }
        if let Some(at) = next_nack {
            self.next_nack = Some(self.next_nack.map_or(at, |known| known.min(at)));
        }
        Ok(received)
    }

    /// The header is not encrypted, so that the number is known of packets that stay closed, too.
    fn note_arrival(&mut self, now: Instant, header: &Header, bytes: &[u8]) {
        if !self.config.transport_feedback {
            return;
        }
        let number = header.extensions(bytes).find(|(id, _)| *id == section::TRANSPORT_SEQUENCE_ID);
        if let Some(sequence) = number.and_then(|(_, value)| parse_transport_sequence(value)) {
            self.arrivals.get_or_insert_default().record(sequence, now);
            self.next_feedback.get_or_insert(now + FEEDBACK_INTERVAL);
        }
    }

    fn count(&mut self, bytes: usize) {
        self.counts.packets_in += 1;
        self.counts.bytes_in += bytes as u64;
    }

    fn tell(&mut self, event: PeerEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }

    fn end(&mut self, event: PeerEvent) {
        if !self.ended {
            self.ended = true;
            self.srtp = None;
            self.events.push_back(event);
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer(connected: {}, {} streams)", self.is_connected(), self.streams.len())
    }
}
