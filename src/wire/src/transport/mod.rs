//! One client's secure path: ICE-lite says where it is, DTLS who it is, SRTP keeps its packets. No I/O, no clock.

use std::time::{Duration, Instant};

use crate::drops::DropReason;
use crate::negotiate::{Fingerprint, IceCredentials};
use crate::packet::{AddressPair, SendBatch};

pub mod candidate;
pub mod dtls;
pub mod framing;
mod handshake;
pub mod ice;
mod silence;
pub mod srtp;
mod state;
pub mod stun;
#[cfg(test)]
mod tests;

use dtls::{Certificate, Dtls, DtlsEvent, DtlsRole, DtlsTerms, DtlsVersions};
use handshake::Handshake;
use ice::{IceEvent, IceLite};
use srtp::{SrtpIn, SrtpKeys, SrtpOut, SrtpProfile};
use stun::BindingRequest;
use stun::check::{Answer, MAX_CHECK, Transaction};

pub use state::{TransportState, UnfitState, WholeTransport};

/// Datagrams that one step of a handshake may send: a flight with its certificate, twice.
const FLIGHT: usize = 8;

/// What the transports of a shard have in common.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// This server's certificate.
    pub certificate: Certificate,
    /// SRTP profiles that are accepted.
    pub profiles: Vec<SrtpProfile>,
    /// DTLS versions that are spoken.
    pub versions: DtlsVersions,
    /// A client that nothing authentic came from for so long is gone (RFC 7675 section 5.1 has 30 s for consent).
    pub idle_timeout: Duration,
    /// SSRCs that one client may send from.
    pub max_ssrcs: usize,
}

impl TransportConfig {
    /// The usual settings.
    pub fn new(certificate: Certificate) -> Self {
        Self {
            certificate,
            profiles: SrtpProfile::ALL.to_vec(),
            versions: DtlsVersions::default(),
            idle_timeout: Duration::from_secs(30),
            max_ssrcs: 64,
        }
    }
}

/// What a STUN request changed.
pub type StunOutcome = IceEvent;

/// What became of a transport. After [`TransportEvent::Closed`] and [`TransportEvent::Failed`] nothing more happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// Packets can be sealed and opened.
    Connected,
    /// The client said goodbye or fell silent.
    Closed(String),
    /// The client could not be connected.
    Failed(String),
}

/// One client's secure path. An `Err` of its functions is a packet dropped, never the end of the client.
#[derive(Debug)]
pub struct Transport {
    ice: IceLite,
    /// Large, and not on the packet path: apart from the clients' table, which keeps its size when they are gone. None where
    /// the handshake was elsewhere: see [`TransportState`].
    dtls: Option<Box<Dtls>>,
    srtp: Option<Srtp>,
    idle_timeout: Duration,
    max_ssrcs: usize,
    /// When silence is looked at next.
    idle_at: Instant,
    /// When authentic media came last: some clients send no further STUN requests once connected.
    heard_media: Instant,
    /// When something came that may have been its goodbye.
    farewell: Option<Instant>,
    handshake: Handshake,
    ended: bool,
}

#[derive(Debug)]
struct Srtp {
    out: SrtpOut,
    incoming: SrtpIn,
    /// What both were made of, to go on elsewhere.
    keys: Box<SrtpKeys>,
}

impl Transport {
    /// Waits for the client's first STUN request. `fingerprint` is that of the client's certificate.
    pub fn new(
        now: Instant,
        config: &TransportConfig,
        local: IceCredentials,
        remote: IceCredentials,
        fingerprint: Fingerprint,
        role: DtlsRole,
    ) -> Self {
        let terms = DtlsTerms { role, versions: config.versions, profiles: config.profiles.clone(), fingerprint };
        let dtls = Dtls::new(now, &config.certificate, terms);
        Self::unconnected(now, config, IceLite::new(now, local, remote), Some(Box::new(dtls)))
    }

    fn unconnected(now: Instant, config: &TransportConfig, ice: IceLite, dtls: Option<Box<Dtls>>) -> Self {
        Self {
            ice,
            dtls,
            srtp: None,
            idle_timeout: config.idle_timeout,
            max_ssrcs: config.max_ssrcs,
            idle_at: now + config.idle_timeout,
            heard_media: now,
            farewell: None,
            handshake: Handshake::default(),
            ended: false,
        }
    }

    /// The ICE side: credentials, restart, addresses.
    pub fn ice(&self) -> &IceLite {
        &self.ice
    }

    /// Takes the credentials of an ICE restart.
    pub fn restart_ice(&mut self, local: IceCredentials, remote: IceCredentials) {
        self.ice.restart(local, remote);
    }

    /// Where packets for the client go.
    pub fn selected(&self) -> Option<AddressPair> {
        self.ice.selected()
    }

    /// Whether packets from there are looked at.
    pub fn is_validated(&self, address: impl Into<AddressPair>) -> bool {
        self.ice.is_validated(address.into())
    }

    /// True while packets can be sealed and opened.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Reads what a packet to the client touches of this: see `read_ahead` in moonring-core.
    pub fn glance_out(&self) -> u64 {
        u64::from(self.srtp.is_some()) ^ u64::from(self.ice.glance())
    }

    /// Reads the key for packets to the client.
    pub fn glance_out_keys(&self) -> u64 {
        self.srtp.as_ref().map_or(0, |srtp| srtp.out.glance())
    }

    /// Reads what a packet from the client touches of this.
    pub fn glance_in(&self) -> u64 {
        u64::from(self.ended)
            ^ self.srtp.as_ref().map_or(0, |srtp| srtp.incoming.ssrcs() as u64)
            ^ u64::from(self.ice.glance())
    }

    /// Reads the key for packets from the client, and what was seen of them.
    pub fn glance_in_keys(&self) -> u64 {
        self.srtp.as_ref().map_or(0, |srtp| srtp.incoming.glance()) ^ self.ice.glance_validated()
    }

    /// Answers a STUN request.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        from: impl Into<AddressPair>,
        request: &BindingRequest<'_>,
        out: &mut SendBatch,
    ) -> Result<StunOutcome, DropReason> {
        let from = from.into();
        if self.ended {
            return Err(DropReason::StunUnknownUser);
        }
        if !out.has_room(1) {
            return Err(DropReason::Overload);
        }
        let mut response = [0; stun::MAX_RESPONSE];
        let (len, outcome) = self.ice.handle_request(now, from, request, &mut response)?;
        out.push(from, &response[..len]);
        Ok(outcome)
    }

    /// Notes a STUN request from an address that another client has: see [`IceLite::claim`].
    pub fn handle_claim(
        &mut self,
        now: Instant,
        from: AddressPair,
        request: &BindingRequest<'_>,
    ) -> Result<(), DropReason> {
        if self.ended {
            return Err(DropReason::StunUnknownUser);
        }
        self.ice.claim(now, from, request)
    }

    /// Asks the client whether it is at an address; false when there is nothing to ask.
    pub fn check(&mut self, now: Instant, to: AddressPair, transaction: Transaction, out: &mut SendBatch) -> bool {
        let mut bytes = [0; MAX_CHECK];
        match self.ice.check(now, to, transaction, &mut bytes) {
            Some(len) => out.has_room(1) && out.push(to, &bytes[..len]),
            None => false,
        }
    }

    /// Takes the answer to a check.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        from: AddressPair,
        answer: &Answer<'_>,
    ) -> Result<StunOutcome, DropReason> {
        if self.ended {
            return Err(DropReason::StunUnexpectedAnswer);
        }
        self.ice.handle_answer(now, from, answer)
    }

    /// Another client has proven to be at this address.
    pub fn forget_address(&mut self, address: AddressPair) {
        self.ice.forget(address);
    }

    /// Takes a DTLS datagram. `scratch` has at least [`dtls::SCRATCH`] bytes.
    pub fn handle_dtls(
        &mut self,
        now: Instant,
        from: impl Into<AddressPair>,
        bytes: &[u8],
        scratch: &mut [u8],
        out: &mut SendBatch,
    ) -> Result<Option<TransportEvent>, DropReason> {
        if self.ended || !self.is_validated(from) {
            return Err(DropReason::UnknownAddress);
        }
        if !out.has_room(FLIGHT) {
            return Err(DropReason::Overload);
        }
        self.handshake.bytes_in += bytes.len();
        let Some(dtls) = self.dtls.as_mut() else {
            self.note_farewell(now);
            return Err(DropReason::Dtls);
        };
        match dtls.handle_packet(now, bytes) {
            Ok(()) => Ok(self.drive_dtls(scratch, out)),
            // The packet that ends a handshake is counted by whoever hears of the end.
            Err(reason) => self.drive_dtls(scratch, out).map(Some).ok_or(reason),
        }
    }

    /// Opens an RTP packet that came `from` the client at `now`, in place; returns its length without tag and its
    /// 48-bit index.
    pub fn unprotect_rtp(
        &mut self,
        (now, from): (Instant, impl Into<AddressPair>),
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        seq: u16,
    ) -> Result<(usize, u64), DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let opened = srtp.incoming.unprotect_rtp(packet, header_len, ssrc, seq)?;
        self.heard_media = now;
        self.ice.heard_media(now, from.into());
        Ok(opened)
    }

    /// Opens a compound RTCP packet that came `from` the client at `now`, in place; returns its length without tag and
    /// index.
    pub fn unprotect_rtcp(
        &mut self,
        (now, from): (Instant, impl Into<AddressPair>),
        packet: &mut [u8],
    ) -> Result<usize, DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let len = srtp.incoming.unprotect_rtcp(packet)?;
        self.heard_media = now;
        self.ice.heard_media(now, from.into());
        Ok(len)
    }

    /// What seals RTP packets for the client, once connected.
    pub fn srtp_out(&self) -> Option<&SrtpOut> {
        self.srtp.as_ref().map(|srtp| &srtp.out)
    }

    /// What seals RTCP packets for the client, once connected.
    pub fn srtp_out_mut(&mut self) -> Option<&mut SrtpOut> {
        self.srtp.as_mut().map(|srtp| &mut srtp.out)
    }

    /// An SSRC of the client is not used for now: see [`SrtpIn::retire`].
    pub fn retire_ssrc(&mut self, ssrc: u32) {
        if let Some(srtp) = self.srtp.as_mut() {
            srtp.incoming.retire(ssrc);
        }
    }

    /// Sends handshake flights again, and notices silence. `scratch` has at least [`dtls::SCRATCH`] bytes.
    pub fn handle_timeout(&mut self, now: Instant, scratch: &mut [u8], out: &mut SendBatch) -> Option<TransportEvent> {
        if self.ended {
            return None;
        }
        if now >= self.idle_at && self.is_silent(now) {
            let seconds = self.idle_timeout.as_secs_f32();
            let words = match self.farewell {
                Some(_) => "the client closed the connection".to_owned(),
                None => format!("nothing came from the client for {seconds} s"),
            };
            return Some(self.end(TransportEvent::Closed(words)));
        }
        let may_send = self.ice.selected().is_some() && out.has_room(FLIGHT);
        let dtls = self.dtls.as_mut().filter(|dtls| may_send && dtls.poll_timeout().is_some_and(|at| at <= now));
        dtls?.handle_timeout(now);
        self.drive_dtls(scratch, out)
    }

    /// When [`Transport::handle_timeout`] is due; `None` after the end.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Without an address there is nobody to send a flight to.
        let flight = self.dtls.as_ref().and_then(|dtls| dtls.poll_timeout()).filter(|_| self.selected().is_some());
        (!self.ended).then(|| flight.map_or(self.idle_at, |at| at.min(self.idle_at)))
    }

    /// Says goodbye (`close_notify`) and ends.
    pub fn close(&mut self, now: Instant, scratch: &mut [u8], out: &mut SendBatch) {
        if self.ended {
            return;
        }
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
            dtls.close(now);
        }
        let _ = self.drive_dtls(scratch, out);
        self.ended = true;
        self.srtp = None;
    }

    /// Sends what DTLS has to send and takes what it has to tell; the last event tells most.
    fn drive_dtls(&mut self, scratch: &mut [u8], out: &mut SendBatch) -> Option<TransportEvent> {
        let to = self.selected();
        let is_handshake = self.srtp.is_none();
        let mut last = None;
        while let Some(event) = self.dtls.as_mut()?.poll(scratch, |datagram| {
            // What does not fit is lost and sent again, as on any network.
            let mut may_send = |to| !is_handshake || self.handshake.may_send(to, datagram.len());
            let _ = to.filter(|to| may_send(*to)).is_some_and(|to| out.push(to, datagram));
        }) {
            last = Some(match event {
                DtlsEvent::Connected(keys) => {
                    let incoming = SrtpIn::new(keys.profile, &keys.remote, self.max_ssrcs);
                    let out = SrtpOut::new(keys.profile, &keys.local);
                    self.srtp = Some(Srtp { out, incoming, keys: Box::new(keys) });
                    self.ice.settle(self.handshake.proven());
                    TransportEvent::Connected
                }
                DtlsEvent::Failed(reason) => self.end(TransportEvent::Failed(reason)),
                DtlsEvent::Closed => self.end(TransportEvent::Closed("the client closed the connection".into())),
            });
        }
        last
    }

    fn end(&mut self, event: TransportEvent) -> TransportEvent {
        self.ended = true;
        self.srtp = None;
        event
    }
}
