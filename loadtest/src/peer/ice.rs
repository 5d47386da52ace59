//! A full ICE agent that controls, against a lite one (RFC 8445): it checks the server's candidates in turn, nominates
//! at once, and then renews consent (RFC 7675).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moonring_wire::drops::DropReason;
use moonring_wire::negotiate::IceCredentials;
use moonring_wire::packet::SendBatch;
use moonring_wire::transport::stun::{BindingRequest, MAX_RESPONSE, StunKey, parse};
use rand::Rng;

use super::section::AnswerError;
use super::stun::{self, Key, MAX_REQUEST, Request, Transaction};

/// The wait before the second check; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_millis(1_600);
/// RFC 7675 section 5.1: every 5 s, times 0.8 to 1.2.
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);
/// RFC 8445 section 5.1.2.1 with the type preference of a peer-reflexive candidate.
const PRIORITY: u32 = 110 << 24 | 0xFFFF << 8 | 255;
/// Candidates of one answer that are tried.
const MAX_CANDIDATES: usize = 16;
/// Checks whose responses are waited for.
const MAX_PENDING: usize = 8;
const UFRAG_LEN: usize = 8;
const PWD_LEN: usize = 24;
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IceOutcome {
    Nothing,
    /// The server's address is known, or another than before.
    Selected,
    /// No check was answered for too long.
    Gone,
}

/// The agent.
pub(super) struct Ice {
    local: IceCredentials,
    tie_breaker: u64,
    timeout: Duration,
    remote: Option<Remote>,
    candidates: Vec<SocketAddr>,
    next_candidate: usize,
    pending: Vec<(Transaction, SocketAddr)>,
    selected: Option<SocketAddr>,
    /// With the credentials of now.
    nominated: bool,
    retry: Duration,
    next_check: Option<Instant>,
    heard: Option<Instant>,
}

struct Remote {
    credentials: IceCredentials,
    username: String,
    key: Key,
}

impl Ice {
    pub(super) fn new(rng: &mut impl Rng, timeout: Duration) -> Self {
        Self {
            local: credentials(rng),
            tie_breaker: rng.random(),
            timeout,
            remote: None,
            candidates: Vec::new(),
            next_candidate: 0,
            pending: Vec::new(),
            selected: None,
            nominated: false,
            retry: FIRST_RETRY,
            next_check: None,
            heard: None,
        }
    }

    pub(super) fn local(&self) -> &IceCredentials {
        &self.local
    }

    pub(super) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    pub(super) fn restart(&mut self, rng: &mut impl Rng) {
        self.local = credentials(rng);
        self.remote = None;
    }

    /// Takes the server's side; nothing happens when it is as before.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        remote: IceCredentials,
        candidates: &[SocketAddr],
    ) -> Result<(), AnswerError> {
        if self.remote.as_ref().is_some_and(|known| known.credentials == remote) {
            return Ok(());
        }
        if candidates.is_empty() && self.candidates.is_empty() {
            return Err(AnswerError::NoCandidates);
        }
        let username = format!("{}:{}", remote.ufrag, self.local.ufrag);
        if username.len() > 513 {
            return Err(AnswerError::Malformed("ice-ufrag is too long".into()));
        }
        if !candidates.is_empty() {
            self.candidates = candidates.iter().copied().take(MAX_CANDIDATES).collect();
        }
        self.remote = Some(Remote { key: Key::new(&remote.pwd), credentials: remote, username });
        self.pending.clear();
        self.nominated = false;
        self.retry = FIRST_RETRY;
        self.next_check = Some(now);
        self.heard = Some(now);
        Ok(())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_check
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng, out: &mut SendBatch) -> IceOutcome {
        let (Some(remote), Some(heard)) = (&self.remote, self.heard) else { return IceOutcome::Nothing };
        if self.next_check.is_none_or(|at| at > now) {
            return IceOutcome::Nothing;
        }
        if now.saturating_duration_since(heard) >= self.timeout {
            self.next_check = None;
            return IceOutcome::Gone;
        }
        let to = match self.selected.filter(|_| self.nominated) {
            Some(to) => to,
            None => {
                let to = self.candidates[self.next_candidate % self.candidates.len()];
                self.next_candidate += 1;
                to
            }
        };
        let request = Request {
            transaction: rng.random(),
            username: &remote.username,
            priority: PRIORITY,
            tie_breaker: self.tie_breaker,
        };
        let mut bytes = [0; MAX_REQUEST];
        let len = request.write(&remote.key, &mut bytes);
        // What does not fit is lost, as on any network.
        let _ = out.push(to, &bytes[..len]);
        if self.pending.len() == MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push((request.transaction, to));
        // Several candidates are tried quickly, one is waited for.
        let first_round = !self.nominated && self.next_candidate < self.candidates.len();
        let wait = if first_round { Duration::from_millis(20) } else { self.retry };
        self.next_check = Some(now + wait);
        if !first_round {
            self.retry = (self.retry * 2).min(LAST_RETRY);
        }
        IceOutcome::Nothing
    }

    /// Takes a check of the server's, or the response to one of its own.
    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        bytes: &[u8],
        out: &mut SendBatch,
    ) -> Result<IceOutcome, DropReason> {
        match parse(bytes) {
            Ok(request) => self.answer(&request, out).map(|()| IceOutcome::Nothing),
            Err(_) => self.handle_response(now, bytes),
        }
    }

    /// Answers a check of the server's, as a full agent does (RFC 8445 section 7.3).
    fn answer(&self, request: &BindingRequest<'_>, out: &mut SendBatch) -> Result<(), DropReason> {
        let key = StunKey::new(&self.local.pwd);
        if request.local_ufrag() != self.local.ufrag.as_bytes() {
            return Err(DropReason::StunUnknownUser);
        }
        // Until one is selected with these credentials: the candidate that it asked last, as the server may ask before it answers.
        let pending = self.pending.last().map(|(_, to)| *to);
        let asked = if self.nominated { self.selected } else { pending.or(self.selected) };
        let to = asked.filter(|_| request.verify(&key)).ok_or(DropReason::StunBadIntegrity)?;
        let mut response = [0; MAX_RESPONSE];
        let len = request.respond(&key, to, &mut response);
        let _ = out.push(to, &response[..len]);
        Ok(())
    }

    fn handle_response(&mut self, now: Instant, bytes: &[u8]) -> Result<IceOutcome, DropReason> {
        let remote = self.remote.as_ref().ok_or(DropReason::StunUnknownUser)?;
        let transaction = stun::verify_success(bytes, &remote.key).ok_or(DropReason::StunBadIntegrity)?;
        let at = self.pending.iter().position(|(known, _)| *known == transaction).ok_or(DropReason::StunMalformed)?;
        let (_, from) = self.pending[at];
        self.pending.clear();
        self.heard = Some(now);
        self.retry = FIRST_RETRY;
        // Spread by the transaction, which is random: thousands of peers don't ask together.
        self.next_check = Some(now + CONSENT_INTERVAL.mul_f64(0.8 + 0.4 * f64::from(transaction[0]) / 255.0));
        if std::mem::replace(&mut self.nominated, true) {
            return Ok(IceOutcome::Nothing);
        }
        self.selected = Some(from);
        Ok(IceOutcome::Selected)
    }
}

fn credentials(rng: &mut impl Rng) -> IceCredentials {
    let mut text = |len| (0..len).map(|_| char::from(ICE_CHARS[rng.random_range(0..ICE_CHARS.len())])).collect();
    IceCredentials { ufrag: text(UFRAG_LEN), pwd: text(PWD_LEN) }
}
