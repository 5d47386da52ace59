//! DTLS 1.3, and 1.2 without a cookie, by `dimpl`: for clients with an ECDSA certificate.

use std::time::Instant;

use dimpl::{Error, Output, SecurityError};

use super::alert::{BAD_CERTIFICATE, HANDSHAKE_FAILURE};
use super::certificate::Certificate;
use super::stack::{NO_CERTIFICATE, NO_COMMON_PROFILE, OTHER_CERTIFICATE, Stack, StackEvent};
use crate::drops::DropReason;
use crate::negotiate::Fingerprint;
use crate::transport::srtp::{SrtpKeys, SrtpProfile};

/// This server's side of an association.
pub(super) struct DimplStack {
    /// `None` when it has come to its end.
    inner: Option<dimpl::Dtls>,
    is_1_3: bool,
    expected: Fingerprint,
    peer: Peer,
    /// To be told once the handshake is complete.
    keys: Option<SrtpKeys>,
    /// `dimpl` has come to the end of its handshake.
    complete: bool,
    /// The keys have been told.
    connected: bool,
    ending: Option<StackEvent>,
    next_timeout: Option<Instant>,
}

/// What is known of the peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Unknown,
    Expected,
    Other,
}

impl DimplStack {
    /// Waits for the ClientHello.
    pub(super) fn server(now: Instant, certificate: &Certificate, expected: Fingerprint, is_1_3: bool) -> Self {
        let (config, own) = certificate.for_dimpl();
        let new = if is_1_3 { dimpl::Dtls::new_13 } else { dimpl::Dtls::new_12 };
        let mut inner = new(config, own, now);
        inner.set_active(false);
        Self {
            inner: Some(inner),
            is_1_3,
            expected,
            peer: Peer::Unknown,
            keys: None,
            complete: false,
            connected: false,
            ending: None,
            next_timeout: None,
        }
    }

    fn take_keys(&mut self, material: &[u8], profile: dimpl::SrtpProfile) {
        let profile = match profile {
            dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
            dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
            dimpl::SrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::Aes128CmHmacSha1_80,
            _ => return,
        };
        self.keys = SrtpKeys::from_keying_material(profile, material, false);
    }

    /// RFC 8827 section 6.5: no keys without the expected certificate. Called at the end of the handshake, and before
    /// `dimpl` has told the keys.
    fn judge(&mut self, scratch: &mut [u8], sink: &mut dyn FnMut(&[u8])) {
        match self.peer {
            Peer::Expected => self.complete = true,
            Peer::Unknown => self.refuse(NO_CERTIFICATE, HANDSHAKE_FAILURE, scratch, sink),
            Peer::Other => self.refuse(OTHER_CERTIFICATE, BAD_CERTIFICATE, scratch, sink),
        }
    }

    fn refuse(&mut self, reason: &str, alert: u8, scratch: &mut [u8], sink: &mut dyn FnMut(&[u8])) {
        if !self.is_1_3 {
            return self.fail(reason, Some(alert));
        }
        // A client of DTLS 1.3 is connected by now and reads no alerts in the clear; `dimpl` encrypts only this one.
        if let Some(inner) = self.inner.as_mut()
            && inner.close().is_ok()
        {
            loop {
                match inner.poll_output(scratch) {
                    Output::Packet(datagram) => sink(datagram),
                    Output::Timeout(_) | Output::BufferTooSmall { .. } => break,
                    _ => {}
                }
            }
        }
        self.fail(reason, None);
    }

    /// An error of the library: always the end of it, but not of the keys that its handshake has given.
    fn end(&mut self, error: &Error) {
        match (self.connected, error) {
            // The caller gives up soon, too, and says why.
            (false, Error::Timeout(_)) => {
                self.inner = None;
                self.next_timeout = None;
            }
            (false, _) => self.fail(&format!("DTLS handshake: {error}"), Some(HANDSHAKE_FAILURE)),
            // After the handshake only authenticated alerts come through.
            (true, Error::SecurityError(SecurityError::FatalAlert { .. }) | Error::ConnectionClosed) => {
                self.over(StackEvent::Closed);
            }
            (true, _) => {
                self.inner = None;
                self.next_timeout = None;
            }
        }
    }

    fn fail(&mut self, reason: &str, alert: Option<u8>) {
        self.over(StackEvent::failed(reason, alert));
    }

    fn over(&mut self, event: StackEvent) {
        self.inner = None;
        self.keys = None;
        self.complete = false;
        self.next_timeout = None;
        self.ending.get_or_insert(event);
    }

    fn next_event(&mut self) -> Option<StackEvent> {
        if self.complete && !self.connected {
            match self.keys.take() {
                Some(keys) => {
                    self.connected = true;
                    return Some(StackEvent::Connected(keys));
                }
                None => self.fail(NO_COMMON_PROFILE, Some(HANDSHAKE_FAILURE)),
            }
        }
        self.ending.take()
    }
}

impl Stack for DimplStack {
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
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

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(Err(error)) = self.inner.as_mut().map(|inner| inner.handle_timeout(now)) {
            self.end(&error);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    fn poll(&mut self, scratch: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> Option<StackEvent> {
        while let Some(inner) = self.inner.as_mut() {
            let mut ended = false;
            match inner.poll_output(scratch) {
                Output::Packet(datagram) => sink(datagram),
                Output::PeerCert(der) if self.expected.matches(der) => self.peer = Peer::Expected,
                Output::PeerCert(_) => self.peer = Peer::Other,
                Output::KeyingMaterial(material, profile) => self.take_keys(&material, profile),
                Output::Connected => ended = true,
                Output::CloseNotify => self.over(StackEvent::Closed),
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    break;
                }
                Output::BufferTooSmall { .. } => self.fail("a DTLS record is too long", Some(HANDSHAKE_FAILURE)),
                // This server offers no data channels.
                Output::ApplicationData(_) => {}
                _ => {}
            }
            if ended {
                self.judge(scratch, sink);
            }
        }
        self.next_event()
    }

    fn close(&mut self, _now: Instant) {
        if self.connected
            && let Some(inner) = self.inner.as_mut()
        {
            // An error means that there is nothing left to close.
            let _ = inner.close();
        }
    }
}

impl std::fmt::Debug for DimplStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DimplStack({:?}, connected: {})", self.inner, self.connected)
    }
}
