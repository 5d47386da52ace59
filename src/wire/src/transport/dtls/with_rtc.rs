//! DTLS 1.2 by `rtc-dtls`: takes RSA certificates, and is the side that sends the ClientHello where the client wants that.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as RtcProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

use super::certificate::Certificate;
use super::hello;
use super::record::{self, ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE, Record};
use super::stack::{NO_CERTIFICATE, NO_COMMON_PROFILE, OTHER_CERTIFICATE, Stack, StackEvent};
use super::{FIRST_RETRY, MTU, RETRIES};
use crate::drops::DropReason;
use crate::negotiate::Fingerprint;
use crate::transport::srtp::{SrtpKeys, SrtpProfile};

/// The library knows its peers by address; here each has an instance to itself.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
/// Handshake records taken after the handshake: for the peer that missed the last flight and repeats its own.
const LATE_HANDSHAKE_RECORDS: usize = 64;

/// One side of an association.
pub(super) struct RtcStack {
    endpoint: Endpoint,
    is_client: bool,
    expected: Fingerprint,
    outbox: VecDeque<BytesMut>,
    connected: bool,
    over: bool,
    event: Option<StackEvent>,
    late_records: usize,
    /// Hashes of the handshake records in the clear that the library has got; as few as a handshake may have records.
    given: Vec<u64>,
    retries: usize,
    /// The datagrams of the last flight, to be sent again as they were.
    flight: Vec<BytesMut>,
    /// The wait before the next retry. The library's own are all equal.
    wait: Duration,
    retry_at: Option<Instant>,
}

impl RtcStack {
    /// Waits for the ClientHello, and chooses `profile` of those that it has.
    pub(super) fn server(certificate: &Certificate, expected: Fingerprint, profile: SrtpProfile) -> Self {
        Self::new(certificate, expected, &[profile], false).0
    }

    /// Sends a ClientHello.
    pub(super) fn client(
        now: Instant,
        certificate: &Certificate,
        expected: Fingerprint,
        profiles: &[SrtpProfile],
    ) -> Self {
        let (mut stack, config) = Self::new(certificate, expected, profiles, true);
        if let Some(Err(error)) = config.map(|config| stack.endpoint.connect(now, PEER, config, None)) {
            stack.fail(&error);
        }
        stack.collect();
        stack.flight = stack.outbox.iter().cloned().collect();
        stack.retry_at = Some(now);
        stack
    }

    /// The datagram that asks the client for its cookie, and the cookie, when that is what is to be sent. It is not sent
    /// again by itself.
    pub(super) fn take_request(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let [request] = self.outbox.make_contiguous() else { return None };
        let cookie = hello::requested_cookie(request)?;
        let request = request.to_vec();
        self.outbox.clear();
        (self.flight, self.retry_at) = (Vec::new(), None);
        Some((request, cookie))
    }

    fn new(
        certificate: &Certificate,
        expected: Fingerprint,
        profiles: &[SrtpProfile],
        is_client: bool,
    ) -> (Self, Option<Arc<HandshakeConfig>>) {
        let (config, error) = match config(certificate, expected, profiles, is_client) {
            Ok(config) => (Some(Arc::new(config)), None),
            Err(error) => (None, Some(error)),
        };
        let server_config = config.clone().filter(|_| !is_client);
        let mut stack = Self {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, server_config),
            is_client,
            expected,
            outbox: VecDeque::new(),
            connected: false,
            over: false,
            event: None,
            late_records: 0,
            given: Vec::new(),
            retries: 0,
            flight: Vec::new(),
            wait: FIRST_RETRY,
            retry_at: None,
        };
        if let Some(error) = error {
            stack.fail(&error);
        }
        (stack, config)
    }

    /// Keeps from the library what it would end the association for, or keep without bound, although anybody can
    /// send it.
    fn admits(&mut self, record: &Record<'_>) -> bool {
        match (record.kind, record.epoch) {
            (_, 2..) => false,
            // The library trusts one of epoch 1 without looking at its tag.
            (CHANGE_CIPHER_SPEC, 0) => !self.connected && record.fragment == [1],
            (HANDSHAKE, 0) => {
                let whole = |parts: &[record::Fragment<'_>]| parts.iter().all(|p| p.bytes.len() == p.length);
                let admits = |parts: Vec<_>| !parts.is_empty() && (parts.len() == 1 || whole(&parts));
                !self.connected && record::fragments(record.fragment).is_some_and(admits) && self.is_new(record)
            }
            (HANDSHAKE, 1) if self.connected => {
                self.late_records += 1;
                self.late_records <= LATE_HANDSHAKE_RECORDS
            }
            (HANDSHAKE | ALERT, 1) => !record.fragment.is_empty(),
            // Application data among them: this server offers no data channels.
            _ => false,
        }
    }

    /// False for what the library has got already. A repeated message would stop its timer for good, and with that the only
    /// way to send a flight again under new record numbers.
    fn is_new(&mut self, record: &Record<'_>) -> bool {
        let mut hasher = DefaultHasher::new();
        record.fragment.hash(&mut hasher);
        let hash = hasher.finish();
        let is_new = !self.given.contains(&hash);
        self.given.extend(is_new.then_some(hash));
        is_new
    }

    /// Takes what the library has to send.
    fn collect(&mut self) {
        while let Some(message) = self.endpoint.poll_transmit() {
            self.outbox.push_back(message.message);
        }
    }

    fn events(&mut self, now: Instant, events: Vec<EndpointEvent>) {
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.connect(now),
                EndpointEvent::PeerClosed => self.end(StackEvent::Closed),
                _ => {}
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        match self.keys() {
            Ok(keys) => {
                self.connected = true;
                (self.flight, self.retry_at) = (Vec::new(), None);
                self.event = Some(StackEvent::Connected(keys));
            }
            Err(reason) => {
                // The peer reads no alerts in the clear any more.
                self.endpoint.stop(now, PEER);
                self.collect();
                self.end(StackEvent::failed(reason, None));
            }
        }
    }

    fn keys(&self) -> Result<SrtpKeys, String> {
        let state = self.endpoint.get_connection_state(PEER).ok_or(NO_CERTIFICATE)?;
        // RFC 8827 section 6.5: no keys without the expected certificate. The library has asked before; this is for
        // the paths on which it would not.
        let der = state.peer_certificates.first().ok_or(NO_CERTIFICATE)?;
        if !self.expected.matches(der) {
            return Err(OTHER_CERTIFICATE.into());
        }
        let profile = ours(state.srtp_protection_profile()).ok_or(NO_COMMON_PROFILE)?;
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], profile.keying_material_len());
        let material = material.map_err(|error| error.to_string())?;
        SrtpKeys::from_keying_material(profile, material.as_ref(), self.is_client)
            .ok_or_else(|| NO_COMMON_PROFILE.into())
    }

    /// The library's errors end a handshake. Afterwards only a fatal alert with a valid tag does.
    fn fail(&mut self, error: &Error) {
        match (self.connected, error) {
            (false, _) => self.end(StackEvent::failed(words(error), None)),
            (true, Error::ErrAlertFatalOrClose) => self.end(StackEvent::Closed),
            (true, _) => {}
        }
    }

    fn end(&mut self, event: StackEvent) {
        self.over = true;
        self.retry_at = None;
        self.event.get_or_insert(event);
    }
}

impl Stack for RtcStack {
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        if self.over {
            return Err(DropReason::Dtls);
        }
        let mut admitted = BytesMut::with_capacity(datagram.len());
        for record in record::records(datagram) {
            if self.admits(&record) {
                admitted.extend_from_slice(record.bytes);
            }
        }
        if admitted.is_empty() {
            return Err(DropReason::Dtls);
        }
        let outcome = self.endpoint.read(now, PEER, None, admitted);
        self.collect();
        if !self.connected && !self.outbox.is_empty() {
            self.flight = self.outbox.iter().cloned().collect();
            (self.retries, self.wait, self.retry_at) = (0, FIRST_RETRY, Some(now + FIRST_RETRY));
        }
        match outcome {
            Ok(events) => self.events(now, events),
            Err(error) => self.fail(&error),
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.retry_at.is_none_or(|at| at > now) {
            return;
        }
        if self.outbox.is_empty() {
            self.retries += 1;
            self.wait *= 2;
            // The library gives the records new numbers: a peer that has them already, and whose answer was lost, would
            // take the old ones for a replay and not answer again (RFC 6347 section 4.1.2.6).
            if let Err(error) = self.endpoint.handle_timeout(PEER, now) {
                return self.fail(&error);
            }
            self.collect();
            // A repeated message of the peer stops the library's timer for good. The peer misses something then.
            if self.outbox.is_empty() {
                self.outbox.extend(self.flight.iter().cloned());
            }
        }
        self.retry_at = (self.retries < RETRIES).then(|| now + self.wait);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    fn poll(&mut self, _scratch: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> Option<StackEvent> {
        for datagram in self.outbox.drain(..) {
            sink(&datagram);
        }
        self.event.take()
    }

    fn close(&mut self, now: Instant) {
        if self.connected && !self.over {
            self.endpoint.stop(now, PEER);
            self.collect();
        }
        self.over = true;
    }
}

impl std::fmt::Debug for RtcStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RtcStack(is_client: {}, connected: {}, over: {})", self.is_client, self.connected, self.over)
    }
}

fn config(
    certificate: &Certificate,
    expected: Fingerprint,
    profiles: &[SrtpProfile],
    is_client: bool,
) -> Result<HandshakeConfig, Error> {
    let (provider, own) = certificate.for_rtc();
    // RFC 8827 section 6.5 makes the first one mandatory. What a server can use goes with its certificate.
    let mut suites = vec![
        CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
        CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    ];
    if is_client {
        suites.push(CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256);
        suites.push(CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256);
    }
    let check = move |chain: &[Vec<u8>], _: &[_]| match chain.first() {
        Some(der) if expected.matches(der) => Ok(()),
        Some(_) => Err(Error::Other(OTHER_CERTIFICATE.into())),
        None => Err(Error::ErrClientCertificateRequired),
    };
    ConfigBuilder::default()
        .with_crypto_provider(provider)
        .with_certificates(vec![own])
        .with_cipher_suites(suites)
        .with_srtp_protection_profiles(profiles.iter().copied().map(theirs).collect())
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        // Binds the keys to the whole handshake: the library does not compare the client's Finished with it.
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        // There is no authority to ask: the fingerprint says whose certificate it is.
        .with_insecure_skip_verify(true)
        .with_verify_peer_certificate(Some(Arc::new(check)))
        // Sent as server name, which the library does not leave out.
        .with_server_name("moonring".into())
        // Shorter than every wait of this side, which decides when a flight is sent again.
        .with_flight_interval(Duration::from_millis(1))
        .with_mtu(MTU - RECORD_OVERHEAD)
        .build(is_client, None)
}

/// The library cuts handshake messages, without the headers of handshake (12) and record (13), to this MTU.
const RECORD_OVERHEAD: usize = 25;

fn theirs(profile: SrtpProfile) -> RtcProfile {
    match profile {
        SrtpProfile::AeadAes256Gcm => RtcProfile::Srtp_Aead_Aes_256_Gcm,
        SrtpProfile::AeadAes128Gcm => RtcProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => RtcProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    }
}

fn ours(profile: RtcProfile) -> Option<SrtpProfile> {
    SrtpProfile::ALL.into_iter().find(|known| theirs(*known) == profile)
}

/// The reason for whoever reads the log.
fn words(error: &Error) -> String {
    match error {
        Error::Other(reason) if reason == OTHER_CERTIFICATE => reason.clone(),
        Error::ErrClientCertificateRequired => NO_CERTIFICATE.into(),
        Error::ErrServerNoMatchingSrtpProfile
        | Error::ErrClientNoMatchingSrtpProfile
        | Error::ErrRequestedButNoSrtpExtension => NO_COMMON_PROFILE.into(),
        Error::ErrCipherSuiteNoIntersection => {
            "no common cipher suite: RFC 8827 has TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 for all".into()
        }
        Error::ErrServerRequiredButNoClientEms | Error::ErrClientRequiredButNoServerEms => {
            "the client does not know the extended master secret (RFC 7627)".into()
        }
        Error::ErrKeySignatureMismatch => "the client has not proven to own its certificate".into(),
        Error::ErrUnsupportedProtocolVersion => "the client does not speak DTLS 1.2".into(),
        Error::ErrAlertFatalOrClose => "the client ended the DTLS handshake with an alert".into(),
        other => format!("DTLS handshake: {other}"),
    }
}
