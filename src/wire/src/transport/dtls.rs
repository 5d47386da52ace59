//! The handshake that gives SRTP its keys (RFC 5764), by `dimpl`; the peer is who its fingerprint says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, DtlsCertificate, Error, Output, SecurityError};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::srtp::{SrtpKeys, SrtpProfile};
use crate::drops::DropReason;
use crate::negotiate::Fingerprint;

mod record;

/// Least scratch memory for [`Dtls::poll`]: `dimpl` panics when the peer's certificate does not fit.
pub const SCRATCH: usize = 64 * 1024;
/// Bytes taken from a client before its handshake is complete: several times a real one, and less than [`SCRATCH`],
/// so that no certificate is larger than that.
const MAX_HANDSHAKE_BYTES: usize = 60 * 1024;
const _: () = assert!(MAX_HANDSHAKE_BYTES < SCRATCH);
/// Datagrams taken from a client before its handshake is complete: each may cost a public-key operation.
const MAX_HANDSHAKE_DATAGRAMS: usize = 128;
/// Largest datagram sent: fits the smallest MTU of IPv6 (RFC 8200 section 5) with IP and UDP headers.
const MTU: usize = 1_200;
/// First wait before a flight is sent again. RFC 6347 section 4.2.4.1 has 1 s and allows less where time matters.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Times a flight is sent again: 16 s with the wait doubling.
const RETRIES: usize = 6;
/// Bound on the whole handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No key pair, or no signature.
    #[error("cannot generate a DTLS certificate: {0}")]
    Generation(dimpl::certificate::CertificateError),
    /// The library refuses its configuration.
    #[error("cannot configure DTLS: {0:?}")]
    Config(Error),
}

/// This server's certificate and what all its handshakes have in common. Cheap to clone, shared by all shards.
#[derive(Clone)]
pub struct Certificate(Arc<CertificateInner>);

struct CertificateInner {
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
    config: Arc<Config>,
}

impl Certificate {
    /// Makes an ECDSA P-256 key and a certificate for it (RFC 8827 section 6.5). Takes its randomness and date from
    /// the system, so it is called outside of the core.
    pub fn generate() -> Result<Self, CertificateError> {
        let certificate =
            dimpl::certificate::generate_self_signed_certificate().map_err(CertificateError::Generation)?;
        let config = Config::builder()
            .mtu(MTU)
            .require_client_certificate(true)
            // ICE has proven the client's address already: a cookie would cost a round trip and prove nothing more.
            .use_server_cookie(false)
            .flight_start_rto(FIRST_RETRY)
            .flight_retries(RETRIES)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()
            .map_err(CertificateError::Config)?;
        let fingerprint = fingerprint_of(&certificate.certificate);
        Ok(Self(Arc::new(CertificateInner { certificate, fingerprint, config: Arc::new(config) })))
    }

    /// What the answer's `a=fingerprint` says.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificate").field(&self.0.fingerprint).finish()
    }
}

/// Which side sends the ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// The client does (`a=setup:passive` in the answer).
    Server,
    /// This server does (`a=setup:active`).
    Client,
}

/// Which versions are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtlsVersions {
    /// DTLS 1.2, in which the server chooses the SRTP profile: AES-256-GCM, AES-128-GCM, AES-CM.
    #[default]
    V12,
    /// DTLS 1.3 too. `dimpl` then takes the client's first profile, which is the slow AES-CM with some browsers.
    V12AndV13,
}

/// What is expected of a handshake.
#[derive(Clone, Debug)]
pub struct DtlsTerms {
    /// Which side sends the ClientHello.
    pub role: DtlsRole,
    /// Which versions are spoken.
    pub versions: DtlsVersions,
    /// SRTP profiles that are accepted. Which of them is taken is `dimpl`'s choice: see [`DtlsVersions`].
    pub profiles: Vec<SrtpProfile>,
    /// The client's certificate, as its offer says.
    pub fingerprint: Fingerprint,
}

/// What became of a handshake or of the association.
#[derive(Debug)]
pub enum DtlsEvent {
    /// The peer has proven to own the expected certificate, and these are the keys.
    Connected(SrtpKeys),
    /// There will be no keys.
    Failed(String),
    /// The peer said goodbye.
    Closed,
}

/// One client's DTLS.
pub struct Dtls {
    /// `None` when it has come to its end.
    inner: Option<dimpl::Dtls>,
    terms: DtlsTerms,
    peer_is_expected: bool,
    /// To be told once the handshake is complete.
    keys: Option<SrtpKeys>,
    has_keys: bool,
    connected: bool,
    /// To be told at the next [`Dtls::poll`].
    ending: Option<DtlsEvent>,
    handshake_bytes: usize,
    handshake_datagrams: usize,
    next_timeout: Option<Instant>,
}

impl Dtls {
    /// Begins; as a client it has a ClientHello to send at the first [`Dtls::handle_timeout`].
    pub fn new(now: Instant, certificate: &Certificate, terms: DtlsTerms) -> Self {
        let own = certificate.0.certificate.clone();
        let config = certificate.0.config.clone();
        let mut inner = match terms.versions {
            DtlsVersions::V12 => dimpl::Dtls::new_12(config, own, now),
            DtlsVersions::V12AndV13 => dimpl::Dtls::new_auto(config, own, now),
        };
        inner.set_active(terms.role == DtlsRole::Client);
        Self {
            inner: Some(inner),
            next_timeout: (terms.role == DtlsRole::Client).then_some(now),
            terms,
            peer_is_expected: false,
            keys: None,
            has_keys: false,
            connected: false,
            ending: None,
            handshake_bytes: 0,
            handshake_datagrams: 0,
        }
    }

    /// True from the end of the handshake to the end of the association.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takes a datagram. [`Dtls::poll`] follows.
    pub fn handle_packet(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        record::check(datagram, self.connected)?;
        if !self.connected {
            self.handshake_bytes += datagram.len();
            self.handshake_datagrams += 1;
            if self.handshake_bytes > MAX_HANDSHAKE_BYTES || self.handshake_datagrams > MAX_HANDSHAKE_DATAGRAMS {
                return Err(DropReason::DtlsTooMany);
            }
        }
        let inner = self.inner.as_mut().ok_or(DropReason::Dtls)?;
        match inner.handle_timeout(now).and_then(|()| inner.handle_packet(datagram)) {
            Ok(()) => Ok(()),
            // Refused before anything was changed by it.
            Err(Error::ReceiveQueueFull) => Err(DropReason::DtlsTooMany),
            Err(error) => {
                self.end(&error);
                Err(DropReason::Dtls)
            }
        }
    }

    /// Sends again what was not answered. [`Dtls::poll`] follows.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(Err(error)) = self.inner.as_mut().map(|inner| inner.handle_timeout(now)) {
            self.end(&error);
        }
    }

    /// When [`Dtls::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    /// Hands what is to be sent to `sink`, and returns what happened; to be called until that is `None`.
    /// `scratch` has at least [`SCRATCH`] bytes and keeps nothing.
    pub fn poll(&mut self, scratch: &mut [u8], mut sink: impl FnMut(&[u8])) -> Option<DtlsEvent> {
        assert!(scratch.len() >= SCRATCH, "a DTLS scratch buffer of {} bytes", scratch.len());
        while let Some(inner) = self.inner.as_mut() {
            match inner.poll_output(scratch) {
                Output::Packet(datagram) => sink(datagram),
                Output::PeerCert(der) => self.check_peer(fingerprint_of(der)),
                Output::KeyingMaterial(material, profile) => self.take_keys(&material, profile),
                Output::Connected => self.connect(),
                Output::CloseNotify => self.close_with(DtlsEvent::Closed),
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    return self.next_event();
                }
                Output::BufferTooSmall { .. } => self.close_with(DtlsEvent::Failed("a DTLS record is too long".into())),
                // This server offers no data channels.
                Output::ApplicationData(_) => {}
                _ => {}
            }
        }
        self.next_timeout = None;
        self.next_event()
    }

    /// Says goodbye when there is somebody to say it to; [`Dtls::poll`] gives the bytes.
    pub fn close(&mut self) {
        if self.connected
            && let Some(inner) = self.inner.as_mut()
        {
            // An error means that there is nothing left to close.
            let _ = inner.close();
        }
    }

    /// What to tell: the keys once both they and the end of the handshake are there, or the end.
    fn next_event(&mut self) -> Option<DtlsEvent> {
        if self.connected
            && let Some(keys) = self.keys.take()
        {
            return Some(DtlsEvent::Connected(keys));
        }
        if self.connected && !self.has_keys {
            self.close_with(DtlsEvent::Failed("the client offers no SRTP profile".into()));
        }
        self.ending.take()
    }

    fn check_peer(&mut self, fingerprint: Fingerprint) {
        self.peer_is_expected = fingerprint.0.ct_eq(&self.terms.fingerprint.0).into();
        if !self.peer_is_expected {
            self.close_with(DtlsEvent::Failed("the client's certificate is not the one of its offer".into()));
        }
    }

    fn take_keys(&mut self, material: &[u8], profile: dimpl::SrtpProfile) {
        let profile = match profile {
            dimpl::SrtpProfile::AEAD_AES_256_GCM => Some(SrtpProfile::AeadAes256Gcm),
            dimpl::SrtpProfile::AEAD_AES_128_GCM => Some(SrtpProfile::AeadAes128Gcm),
            dimpl::SrtpProfile::AES128_CM_SHA1_80 => Some(SrtpProfile::Aes128CmHmacSha1_80),
            _ => None,
        };
        let accepted = profile.filter(|profile| self.terms.profiles.contains(profile));
        let we_are_client = self.terms.role == DtlsRole::Client;
        match accepted.and_then(|profile| SrtpKeys::from_keying_material(profile, material, we_are_client)) {
            Some(keys) => (self.keys, self.has_keys) = (Some(keys), true),
            None => self.close_with(DtlsEvent::Failed(format!("the SRTP profile {profile:?} is not accepted"))),
        }
    }

    fn connect(&mut self) {
        // RFC 8827 section 6.5: no keys without the expected certificate.
        if self.peer_is_expected {
            self.connected = true;
        } else {
            self.close_with(DtlsEvent::Failed("the client has shown no certificate".into()));
        }
    }

    /// An error of the library: always the end of it, but not of what its handshake has given.
    fn end(&mut self, error: &Error) {
        match (self.connected, error) {
            (false, _) => self.close_with(DtlsEvent::Failed(format!("DTLS handshake: {error}"))),
            // After the handshake only authenticated alerts come through.
            (true, Error::SecurityError(SecurityError::FatalAlert { .. }) | Error::ConnectionClosed) => {
                self.close_with(DtlsEvent::Closed);
            }
            (true, _) => {
                self.inner = None;
                self.next_timeout = None;
            }
        }
    }

    fn close_with(&mut self, event: DtlsEvent) {
        self.inner = None;
        self.keys = None;
        self.connected = false;
        self.next_timeout = None;
        self.ending.get_or_insert(event);
    }
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dtls({:?}, connected: {})", self.inner, self.connected)
    }
}

fn fingerprint_of(der: &[u8]) -> Fingerprint {
    Fingerprint(Sha256::digest(der).into())
}
