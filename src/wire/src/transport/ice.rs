//! ICE-lite (RFC 8445 section 2.5): answers connectivity checks. Addresses are learnt from authenticated requests alone, as
//! pairs: the client's, and the one of ours that it asked.
//!
//! A source address can be forged by a client, too. So once the client is connected, another address is sent media only
//! after a check of the server's own was answered from there; the first one is proven by the DTLS handshake.

use std::time::{Duration, Instant};

use rand::Rng;

use self::proof::{Asked, Budget, Claim};
pub use self::state::IceState;
use super::stun::check::{self, Answer, MAX_CHECK, Transaction};
use super::stun::{BindingRequest, MAX_RESPONSE, StunError, StunKey};
use crate::drops::DropReason;
use crate::negotiate::IceCredentials;
use crate::packet::AddressPair;

mod proof;
mod state;
#[cfg(test)]
pub(super) mod tests;

/// Addresses of one client that are believed at a time.
pub const MAX_VALIDATED: usize = 8;
/// The selected address may be silent for this long before another one that is heard takes its place: clients check
/// a pair in use, or report over it, more often.
const SELECTED_SILENCE: Duration = Duration::from_millis(2_500);
/// The same for an address from before an ICE restart, which clients make when they doubt their path.
pub const DOUBTED_SILENCE: Duration = Duration::from_millis(500);
/// So long after a nomination another one of lower priority is put off: with aggressive nomination (RFC 5245 section
/// 8.1.1.2) a client nominates several pairs in turn and means the best of them.
const NOMINATION_HOLDS: Duration = Duration::from_secs(2);
/// Characters of a ufrag: 96 bits, so that no two clients of a shard share one (RFC 8445 section 5.3 wants 24).
const UFRAG_LEN: usize = 16;
/// Characters of a password: 192 bits (RFC 8445 section 5.3 wants 128).
const PWD_LEN: usize = 32;
/// ice-char (RFC 8839 section 5.1).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Chooses a ufrag and a password. They keep a session from being taken over, so `rng` must be unpredictable outside
/// of tests.
pub fn generate_credentials(rng: &mut impl Rng) -> IceCredentials {
    let mut text = |len| (0..len).map(|_| char::from(ICE_CHARS[rng.random_range(0..ICE_CHARS.len())])).collect();
    IceCredentials { ufrag: text(UFRAG_LEN), pwd: text(PWD_LEN) }
}

/// What a request changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceEvent {
    /// Nothing: consent goes on (RFC 7675).
    Nothing,
    /// One more address is believed.
    Validated(AddressPair),
    /// Packets go to another address from now on (which may have been validated by the same request).
    Selected(AddressPair),
}

/// One client's ICE, seen from this side.
#[derive(Debug)]
pub struct IceLite {
    current: Login,
    /// Before a restart; accepted until the first valid request with the new credentials (RFC 8445 section 9).
    previous: Option<Login>,
    validated: Vec<Validated>,
    selected: Option<AddressPair>,
    /// The client is known to be there: noted, as each packet asks.
    is_selected_proven: bool,
    last_heard: Instant,
    /// Counts the restarts.
    generation: u32,
    /// The handshake is over: from here on an address has to be proven before it is sent anything.
    settled: bool,
    /// Addresses of other clients that this one says are its own.
    claims: Vec<Claim>,
    /// For addresses that are not proven yet.
    budget: Budget,
}

/// The credentials of one ICE generation.
#[derive(Debug)]
struct Login {
    local: IceCredentials,
    remote: IceCredentials,
    key: StunKey,
    /// For checks of the server's own.
    remote_key: StunKey,
}

#[derive(Debug)]
struct Validated {
    address: AddressPair,
    heard: Instant,
    /// When it was nominated last.
    nominated: Option<Instant>,
    /// Of the client's candidate, by its last check (RFC 8445 section 7.1.1).
    priority: u32,
    /// Of the credentials of its last check.
    generation: u32,
    /// The client has received something there.
    proven: bool,
    asked: Asked,
}

impl IceLite {
    /// Waits for the first request from now on.
    pub fn new(now: Instant, local: IceCredentials, remote: IceCredentials) -> Self {
        Self {
            current: Login::new(local, remote),
            previous: None,
            validated: Vec::with_capacity(MAX_VALIDATED),
            selected: None,
            is_selected_proven: false,
            last_heard: now,
            generation: 0,
            settled: false,
            claims: Vec::new(),
            budget: Budget::new(now),
        }
    }

    /// This server's credentials for the client.
    pub fn local(&self) -> &IceCredentials {
        &self.current.local
    }

    /// The client's credentials: an offer with others is an ICE restart.
    pub fn remote(&self) -> &IceCredentials {
        &self.current.remote
    }

    /// The ufrag before a restart, while it is still accepted.
    pub fn previous_ufrag(&self) -> Option<&str> {
        self.previous.as_ref().map(|login| login.local.ufrag.as_str())
    }

    /// Takes new credentials. Media goes on as it is until the client nominates anew.
    pub fn restart(&mut self, local: IceCredentials, remote: IceCredentials) {
        let replaced = std::mem::replace(&mut self.current, Login::new(local, remote));
        // Credentials that were never used give way; those in use stay.
        self.previous.get_or_insert(replaced);
        self.generation += 1;
    }

    /// Where packets for the client go: the address nominated last, until then the first one validated. Once connected,
    /// only one where the client is known to be.
    pub fn selected(&self) -> Option<AddressPair> {
        debug_assert_eq!(self.is_selected_proven, self.selected.is_some_and(|address| self.is_proven(address)));
        self.selected.filter(|_| !self.settled || self.is_selected_proven)
    }

    /// Reads what a packet touches of this.
    pub(super) fn glance(&self) -> bool {
        self.settled ^ self.selected.is_some()
    }

    /// Reads what a packet from the client touches beside.
    pub(super) fn glance_validated(&self) -> u64 {
        // One of them is longer than a cache line.
        self.validated.first().map_or(0, |known| u64::from(known.proven) ^ u64::from(known.address.remote.port()))
    }

    /// For how long nothing authentic has come from the selected address.
    pub fn selected_silence(&self, now: Instant) -> Option<Duration> {
        let selected = self.validated.iter().find(|known| Some(known.address) == self.selected)?;
        Some(now.saturating_duration_since(selected.heard))
    }

    /// Whether an authenticated request came from there.
    pub fn is_validated(&self, address: AddressPair) -> bool {
        self.validated.iter().any(|known| known.address == address)
    }

    /// The validated addresses.
    pub fn validated(&self) -> impl Iterator<Item = AddressPair> {
        self.validated.iter().map(|known| known.address)
    }

    /// Authentic media came from `address`, which is validated.
    pub fn heard_media(&mut self, now: Instant, address: AddressPair) {
        if let Some(known) = self.validated.iter_mut().find(|known| known.address == address) {
            known.heard = now;
        }
    }

    /// When the last valid request came, or when this began.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// True when the client has not renewed its consent for `limit` (RFC 7675 section 5.1).
    pub fn timed_out(&self, now: Instant, limit: Duration) -> bool {
        now.saturating_duration_since(self.last_heard) >= limit
    }

    /// Answers a request into `out` and returns the answer's length. Who is not authenticated gets no answer, so that
    /// this server cannot be used to reflect packets.
    pub fn handle_request(
        &mut self,
        now: Instant,
        from: AddressPair,
        request: &BindingRequest<'_>,
        out: &mut [u8; MAX_RESPONSE],
    ) -> Result<(usize, IceEvent), DropReason> {
        self.authenticate(request)?;
        let key = match &self.previous {
            Some(previous) if previous.is_named_by(request) => &previous.key,
            _ => &self.current.key,
        };
        if !request.unknown_attributes().is_empty() {
            return Ok((request.refuse(key, StunError::UnknownAttribute, out), IceEvent::Nothing));
        }
        // RFC 8445 section 6.1.1: a lite agent is controlled when its peer is full.
        if request.is_controlled() {
            return Ok((request.refuse(key, StunError::RoleConflict, out), IceEvent::Nothing));
        }
        if !self.is_validated(from) && !self.budget.take(now) {
            return Err(DropReason::StunTooManyAddresses);
        }
        let len = request.respond(key, from.remote, out);
        self.last_heard = now;
        Ok((len, self.note(now, from, request)))
    }

    /// Finds the credentials that a request uses, and checks it under them.
    fn authenticate(&mut self, request: &BindingRequest<'_>) -> Result<(), DropReason> {
        if self.current.is_named_by(request) {
            if !request.verify(&self.current.key) {
                return Err(DropReason::StunBadIntegrity);
            }
            self.previous = None;
            return Ok(());
        }
        match &self.previous {
            Some(login) if login.is_named_by(request) => {
                request.verify(&login.key).then_some(()).ok_or(DropReason::StunBadIntegrity)
            }
            _ => Err(DropReason::StunUnknownUser),
        }
    }

    /// Notes an authenticated request.
    fn note(&mut self, now: Instant, from: AddressPair, request: &BindingRequest<'_>) -> IceEvent {
        let (nominates, priority) = (request.use_candidate(), request.priority().unwrap_or(0));
        let named = self.named_by(request);
        let generation = self.generation_of(named);
        let is_new = !self.is_validated(from);
        if is_new {
            self.add(now, from);
        }
        if let Some(known) = self.validated.iter_mut().find(|known| known.address == from) {
            (known.heard, known.priority, known.generation) = (now, priority, generation);
            known.asked.requested(named);
            if nominates {
                known.nominated = Some(now);
            }
        }
        let usable = !self.settled || self.is_proven(from);
        if usable && self.selected != Some(from) && self.prefers(now, (nominates, priority), generation) {
            self.select(Some(from));
            IceEvent::Selected(from)
        } else if is_new {
            IceEvent::Validated(from)
        } else {
            IceEvent::Nothing
        }
    }

    fn select(&mut self, address: Option<AddressPair>) {
        self.selected = address;
        self.note_proof();
    }

    /// Notes whether the client is known to be at the selected address, after a change of either.
    fn note_proof(&mut self) {
        self.is_selected_proven = self.selected.is_some_and(|address| self.is_proven(address));
    }

    /// Whether an address that was just heard takes the place of the selected one.
    fn prefers(&self, now: Instant, (nominates, priority): (bool, u32), generation: u32) -> bool {
        let Some(selected) = self.validated.iter().find(|known| Some(known.address) == self.selected) else {
            return true;
        };
        let elapsed = |at: Instant| now.saturating_duration_since(at);
        let is_doubted = generation > selected.generation;
        let is_fresh = selected.nominated.is_some_and(|at| elapsed(at) < NOMINATION_HOLDS);
        let holds = is_fresh && selected.priority > priority && !is_doubted;
        let patience = if is_doubted { DOUBTED_SILENCE } else { SELECTED_SILENCE };
        (nominates && !holds) || elapsed(selected.heard) >= patience
    }

    /// Believes one more address; the one not heard from for longest goes, but not the selected one.
    fn add(&mut self, now: Instant, address: AddressPair) {
        if self.validated.len() == MAX_VALIDATED {
            let others = self.validated.iter().enumerate().filter(|(_, known)| Some(known.address) != self.selected);
            if let Some((oldest, _)) = others.min_by_key(|(_, known)| known.heard) {
                self.validated.remove(oldest);
            }
        }
        let asked = Asked::default();
        self.validated.push(Validated {
            address,
            heard: now,
            nominated: None,
            priority: 0,
            generation: 0,
            proven: false,
            asked,
        });
    }
}

impl Login {
    fn new(local: IceCredentials, remote: IceCredentials) -> Self {
        let (key, remote_key) = (StunKey::new(&local.pwd), StunKey::new(&remote.pwd));
        Self { local, remote, key, remote_key }
    }

    /// The client's half of the name is not looked at: the password is the proof.
    fn is_named_by(&self, request: &BindingRequest<'_>) -> bool {
        request.local_ufrag() == self.local.ufrag.as_bytes()
    }
}
