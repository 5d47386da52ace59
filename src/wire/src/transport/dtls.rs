//! The handshake that gives SRTP its keys (RFC 5764); the peer is who its fingerprint says.
//!
//! Two libraries do it, and the ClientHello decides which one. `rtc-dtls` takes every certificate, RSA ones among them,
//! and costs a round trip for its cookie. `dimpl` speaks DTLS 1.3, and 1.2 without a cookie, but takes ECDSA
//! certificates only: it serves the clients that offer DTLS 1.3, which are browsers.

use std::time::{Duration, Instant};

use super::srtp::{SrtpKeys, SrtpProfile};
use crate::drops::DropReason;
use crate::negotiate::Fingerprint;

mod alert;
mod certificate;
mod hello;
mod record;
mod stack;
mod with_dimpl;
mod with_rtc;

pub use certificate::{Certificate, CertificateError};

use hello::{Choice, HelloCollector, Whole};
use stack::{NO_COMMON_PROFILE, Stack, StackEvent};
use with_dimpl::DimplStack;
use with_rtc::RtcStack;

/// Least scratch memory for [`Dtls::poll`]: holds the largest certificate that can come.
pub const SCRATCH: usize = 64 * 1024;
/// Bytes taken from a client before its handshake is complete: several times a real one, and less than [`SCRATCH`],
/// so that no certificate is larger than that.
const MAX_HANDSHAKE_BYTES: usize = 60 * 1024;
const _: () = assert!(MAX_HANDSHAKE_BYTES < SCRATCH);
/// Datagrams taken from a client before its handshake is complete: each may cost a public-key operation.
const MAX_HANDSHAKE_DATAGRAMS: usize = 128;
/// Records taken from a client before its handshake is complete: putting fragments together takes time that grows with
/// the cube of their number.
const MAX_HANDSHAKE_RECORDS: usize = 256;
/// Handshakes of one client that wait for their cookie: more than one only when somebody else sends in its name.
const MAX_ASKED: usize = 8;
/// Largest datagram sent: fits the smallest MTU of IPv6 (RFC 8200 section 5) with IP and UDP headers.
const MTU: usize = 1_200;
/// First wait before a flight is sent again. RFC 6347 section 4.2.4.1 has 1 s and allows less where time matters.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Times a flight is sent again: 16 s with the wait doubling.
const RETRIES: usize = 6;
/// Bound on the whole handshake, from its first datagram.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// What is left of it when an alert came in the clear. Anybody could have sent that, but a client that goes on with
/// the handshake has not.
const AFTER_ALERT: Duration = Duration::from_secs(5);

/// The side that sends the ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// The client does (`a=setup:passive` in the answer).
    Server,
    /// This server does (`a=setup:active`), with DTLS 1.2.
    Client,
}

/// The versions that this server speaks with those that offer them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtlsVersions {
    /// DTLS 1.2 with everybody.
    V12,
    /// DTLS 1.3 where that does not cost AES-GCM: with DTLS 1.3 the first SRTP profile of the client is taken, which
    /// is the slow AES-CM with Chromium.
    #[default]
    V13IfFast,
    /// DTLS 1.3 with all that offer it.
    V13IfOffered,
}

/// The conditions of a handshake.
#[derive(Clone, Debug)]
pub struct DtlsTerms {
    /// The side that sends the ClientHello.
    pub role: DtlsRole,
    /// The versions that are spoken.
    pub versions: DtlsVersions,
    /// SRTP profiles that are accepted, the preferred one first.
    pub profiles: Vec<SrtpProfile>,
    /// The client's certificate, as its offer says.
    pub fingerprint: Fingerprint,
}

/// What became of a handshake or of the association.
#[derive(Debug)]
pub enum DtlsEvent {
    /// The peer has proven to own the expected certificate, and these are the keys.
    Connected(SrtpKeys),
    /// There will be no keys. The peer has been sent an alert.
    Failed(String),
    /// The peer said goodbye.
    Closed,
}

/// One client's DTLS.
#[derive(Debug)]
pub struct Dtls {
    certificate: Certificate,
    terms: DtlsTerms,
    stage: Stage,
    connected: bool,
    taken: Taken,
    /// When an incomplete handshake has failed; `None` before its first datagram.
    deadline: Option<Instant>,
    /// Handshakes that wait for their cookie, the oldest first.
    asked: Vec<Asked>,
    /// Requests for cookies, to be sent at the next [`Dtls::poll`].
    requests: Vec<Vec<u8>>,
    /// The last alert in the clear, and the deadline before it.
    warned: Option<(u8, Instant)>,
    /// An alert of this side that the library does not send.
    farewell: Option<[u8; 15]>,
    /// To be told at the next [`Dtls::poll`].
    ending: Option<DtlsEvent>,
}

#[derive(Debug)]
enum Stage {
    /// The ClientHello is not there, or not all of it.
    Hello(HelloCollector),
    Begun(Box<dyn Stack>),
    Over,
}

/// A handshake of `rtc-dtls` that wants a cookie before it begins (RFC 6347 section 4.2.1).
///
/// The library makes another cookie for each ClientHello without one. A ClientHello that comes twice, or once more because
/// the request was slow, is the same as before and gets the same request, or the client would show the cookie of another.
#[derive(Debug)]
struct Asked {
    random: [u8; 32],
    cookie: Vec<u8>,
    /// The datagram that asks for it. It is not sent again by itself.
    request: Vec<u8>,
    stack: RtcStack,
}

/// Lets a library have datagrams. What is wrong with them ends the handshake, and is told by [`Stack::poll`].
fn give(now: Instant, stack: &mut dyn Stack, datagrams: &[Vec<u8>]) {
    datagrams.iter().for_each(|datagram| _ = stack.receive(now, datagram));
}

/// What a client has sent before its handshake is complete.
#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    datagrams: usize,
    records: usize,
}

impl Taken {
    fn add(&mut self, bytes: usize, records: usize) -> Result<(), DropReason> {
        self.bytes += bytes;
        self.datagrams += 1;
        self.records += records;
        let fits = self.bytes <= MAX_HANDSHAKE_BYTES
            && self.datagrams <= MAX_HANDSHAKE_DATAGRAMS
            && self.records <= MAX_HANDSHAKE_RECORDS;
        if fits { Ok(()) } else { Err(DropReason::DtlsTooMany) }
    }
}

impl Dtls {
    /// Begins; as a client it has a ClientHello to send at the first [`Dtls::handle_timeout`].
    pub fn new(now: Instant, certificate: &Certificate, terms: DtlsTerms) -> Self {
        let stage = match terms.role {
            DtlsRole::Server => Stage::Hello(HelloCollector::default()),
            DtlsRole::Client => {
                Stage::Begun(Box::new(RtcStack::client(now, certificate, terms.fingerprint, &terms.profiles)))
            }
        };
        Self {
            certificate: certificate.clone(),
            terms,
            stage,
            connected: false,
            taken: Taken::default(),
            deadline: None,
            asked: Vec::new(),
            requests: Vec::new(),
            warned: None,
            farewell: None,
            ending: None,
        }
    }

    /// True from the end of the handshake to the end of the association.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takes a datagram. [`Dtls::poll`] follows.
    pub fn handle_packet(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        let summary = record::check(datagram)?;
        if !self.connected {
            // RFC 6347 section 4.1.2.7 lets invalid records be discarded silently. Anybody who can guess the ports
            // could end a handshake with an alert in the clear.
            if let Some(description) = summary.alert {
                self.warn(now, description);
                return Err(DropReason::Dtls);
            }
            self.taken.add(datagram.len(), summary.records)?;
        }
        match &mut self.stage {
            Stage::Over => return Err(DropReason::Dtls),
            Stage::Begun(stack) => stack.receive(now, datagram)?,
            Stage::Hello(collector) => {
                if let Some(whole) = collector.push(datagram, !self.asked.is_empty())? {
                    self.begin(now, whole)?;
                }
            }
        }
        self.go_on(now);
        Ok(())
    }

    /// Sends again what was not answered, and gives up in time. [`Dtls::poll`] follows.
    pub fn handle_timeout(&mut self, now: Instant) {
        let deadline = *self.deadline.get_or_insert(now + HANDSHAKE_TIMEOUT);
        if let Stage::Begun(stack) = &mut self.stage {
            stack.handle_timeout(now);
        }
        if !self.connected && now >= deadline && self.ending.is_none() {
            self.fail(self.too_late(), Some(alert::HANDSHAKE_FAILURE));
        }
    }

    /// When [`Dtls::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| !self.connected);
        match &self.stage {
            Stage::Hello(_) => deadline,
            Stage::Begun(stack) => stack.poll_timeout().into_iter().chain(deadline).min(),
            Stage::Over => None,
        }
    }

    /// Hands what is to be sent to `sink`, and returns what happened; to be called until that is `None`.
    /// `scratch` has at least [`SCRATCH`] bytes and keeps nothing.
    pub fn poll(&mut self, scratch: &mut [u8], mut sink: impl FnMut(&[u8])) -> Option<DtlsEvent> {
        assert!(scratch.len() >= SCRATCH, "a DTLS scratch buffer of {} bytes", scratch.len());
        if let Stage::Begun(stack) = &mut self.stage {
            match stack.poll(scratch, &mut sink) {
                Some(StackEvent::Connected(keys)) => {
                    self.connected = true;
                    return Some(DtlsEvent::Connected(keys));
                }
                Some(StackEvent::Failed { reason, alert }) => self.fail(reason, alert),
                Some(StackEvent::Closed) => self.end(DtlsEvent::Closed),
                None => {}
            }
        }
        self.requests.drain(..).for_each(|request| sink(&request));
        if let Some(alert) = self.farewell.take() {
            sink(&alert);
        }
        self.ending.take()
    }

    /// Says goodbye when there is somebody to say it to; [`Dtls::poll`] gives the bytes.
    pub fn close(&mut self, now: Instant) {
        if let Stage::Begun(stack) = &mut self.stage {
            stack.close(now);
        }
    }

    /// A ClientHello is complete.
    fn begin(&mut self, now: Instant, whole: Whole) -> Result<(), DropReason> {
        match self.asked.iter().position(|asked| asked.random == whole.hello.random) {
            Some(at) => {
                self.go_on_with(now, at, &whole);
                Ok(())
            }
            None if whole.is_second => Err(DropReason::Dtls),
            None => self.begin_anew(now, &whole),
        }
    }

    /// The handshake begins if the client shows the cookie that it was asked for.
    fn go_on_with(&mut self, now: Instant, at: usize, whole: &Whole) {
        // RFC 6347 section 4.2.1: a wrong cookie is none.
        if !whole.is_second || self.asked[at].cookie != whole.hello.cookie {
            return self.requests.push(self.asked[at].request.clone());
        }
        let mut stack = self.asked.swap_remove(at).stack;
        self.asked.clear();
        give(now, &mut stack, &whole.datagrams);
        self.stage = Stage::Begun(Box::new(stack));
    }

    /// The library that is chosen gets the ClientHello; the handshake begins if it asks for no cookie. While others wait for
    /// theirs it may be somebody else's: then it neither begins a handshake nor ends one.
    fn begin_anew(&mut self, now: Instant, whole: &Whole) -> Result<(), DropReason> {
        let (certificate, fingerprint) = (&self.certificate, self.terms.fingerprint);
        let others_wait = !self.asked.is_empty();
        let stack: Box<dyn Stack> = match hello::choose(&whole.hello, &self.terms) {
            Some(Choice::Rtc(profile)) => {
                let mut stack = RtcStack::server(certificate, fingerprint, profile);
                give(now, &mut stack, &whole.datagrams);
                if let Some((request, cookie)) = stack.take_request() {
                    self.ask(Asked { random: whole.hello.random, cookie, request, stack });
                    return Ok(());
                }
                if others_wait {
                    return Err(DropReason::Dtls);
                }
                Box::new(stack)
            }
            // Before any work is done for it.
            _ if others_wait => return Err(DropReason::Dtls),
            Some(choice) => {
                let is_1_3 = choice == Choice::Dimpl13;
                let mut stack = DimplStack::server(now, certificate, fingerprint, is_1_3);
                give(now, &mut stack, &whole.datagrams);
                Box::new(stack)
            }
            None => {
                self.fail(NO_COMMON_PROFILE.to_owned(), Some(alert::HANDSHAKE_FAILURE));
                return Ok(());
            }
        };
        self.stage = Stage::Begun(stack);
        Ok(())
    }

    fn ask(&mut self, asked: Asked) {
        if self.asked.len() == MAX_ASKED {
            self.asked.remove(0);
        }
        self.requests.push(asked.request.clone());
        self.asked.push(asked);
    }

    /// As for a client that offers DTLS 1.3 with AES-CM first; those of the tests do not.
    #[cfg(test)]
    pub(super) fn begin_with_dimpl12(&mut self, now: Instant) {
        let stack = DimplStack::server(now, &self.certificate, self.terms.fingerprint, false);
        self.stage = Stage::Begun(Box::new(stack));
    }

    /// Something of the handshake came.
    fn go_on(&mut self, now: Instant) {
        match self.warned.take() {
            Some((_, deadline)) => self.deadline = Some(deadline),
            None => _ = self.deadline.get_or_insert(now + HANDSHAKE_TIMEOUT),
        }
    }

    fn warn(&mut self, now: Instant, description: u8) {
        let Some(deadline) = self.deadline else { return };
        let before = self.warned.map_or(deadline, |(_, before)| before);
        self.warned = Some((description, before));
        self.deadline = Some(before.min(now + AFTER_ALERT));
    }

    fn too_late(&self) -> String {
        match self.warned {
            Some((description, _)) => {
                let name = alert::name(description);
                format!("the client broke off the DTLS handshake with the alert {name} ({description})")
            }
            None => format!("the DTLS handshake was not complete within {} s", HANDSHAKE_TIMEOUT.as_secs()),
        }
    }

    fn fail(&mut self, reason: String, alert: Option<u8>) {
        self.farewell = alert.map(alert::fatal);
        self.end(DtlsEvent::Failed(reason));
    }

    fn end(&mut self, event: DtlsEvent) {
        self.stage = Stage::Over;
        self.connected = false;
        self.ending.get_or_insert(event);
    }
}
