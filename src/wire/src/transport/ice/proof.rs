//! Whether a client is where its requests seem to come from.

use std::time::{Duration, Instant};

use super::{Answer, IceEvent, IceLite, Login, MAX_CHECK, Transaction, check};
use crate::drops::DropReason;
use crate::packet::AddressPair;
use crate::transport::stun::BindingRequest;

/// Addresses of other clients that one client may claim at a time.
pub(super) const MAX_CLAIMS: usize = 4;
/// Addresses that a client may come from at once without being known to be there; more than any agent gathers, fewer
/// than a sweep of ports needs.
const UNPROVEN: u32 = 24;
/// Seconds for one more.
const UNPROVEN_EVERY_S: f64 = 10.0;
/// Least time between two checks of one address.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// A check that is not answered is sent again after this time (RFC 8445 section 14.3), and then after twice as long.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// So often: after that, with the client's next request.
const AGAIN: u32 = 2;
/// Checks of one address that stay unanswered before it is given up.
const MAX_CHECKS: u32 = 50;

/// Addresses that may still come up without proof.
#[derive(Debug)]
pub(super) struct Budget {
    left: f64,
    at: Instant,
}

/// The check of an address that waits for its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    last: Option<(Transaction, Instant)>,
    count: u32,
    /// How often it was sent since the client's last request from there.
    since_request: u32,
    /// What the client's last request from there was in.
    pub(super) named: Named,
}

/// The credentials of a request around an ICE restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Named {
    /// Both sides' current ones.
    #[default]
    Current,
    /// Those of before.
    Previous,
    /// The client's current ones and this server's of before: the client has restarted and paired its new address with a
    /// candidate that it knew. Chromium keeps to that name, also when it has the answer, and takes no check under another.
    Restarting,
}

/// An address of another client that this one says is its own.
#[derive(Debug)]
pub(super) struct Claim {
    address: AddressPair,
    nominated: bool,
    priority: u32,
    asked: Asked,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: f64::from(UNPROVEN), at: now }
    }

    /// Pays for one address; false when there is nothing left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed / UNPROVEN_EVERY_S).min(f64::from(UNPROVEN));
        self.at = self.at.max(now);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// An address was proven.
    fn refund(&mut self) {
        self.left = (self.left + 1.0).min(f64::from(UNPROVEN));
    }
}

impl Asked {
    fn is_due(&self, now: Instant) -> bool {
        let is_old = self.last.is_none_or(|(_, at)| now.saturating_duration_since(at) >= CHECK_INTERVAL);
        self.count < MAX_CHECKS && is_old
    }

    /// The client has sent a request from there.
    pub(super) fn requested(&mut self, named: Named) {
        (self.named, self.since_request) = (named, 0);
    }

    /// When the check is to be sent again without a request.
    fn again_at(&self) -> Option<Instant> {
        let (_, at) = self.last?;
        let is_due = self.count < MAX_CHECKS && (1..=AGAIN).contains(&self.since_request);
        is_due.then(|| at + AGAIN_AFTER * (1 << (self.since_request - 1)))
    }

    fn is_answered_by(&self, transaction: &Transaction) -> bool {
        self.last.is_some_and(|(asked, _)| asked == *transaction)
    }
}

impl IceLite {
    /// The handshake is over; the client was at `proven` all through it. `None` when its flights went to several places.
    pub fn settle(&mut self, proven: Option<AddressPair>) {
        self.settled = true;
        if let Some(known) = self.validated.iter_mut().find(|known| Some(known.address) == proven) {
            known.proven = true;
            self.budget.refund();
            self.note_proof();
        }
    }

    /// Whether the client has received something at this address.
    pub fn is_proven(&self, address: AddressPair) -> bool {
        self.validated.iter().any(|known| known.address == address && known.proven)
    }

    /// The address that would be sent media if the client were known to be there.
    pub fn unproven_selection(&self) -> Option<AddressPair> {
        self.selected.filter(|_| self.settled && !self.is_selected_proven)
    }

    /// Notes a request from an address that another client has. It changes nothing until the client has answered a check
    /// there: see [`IceLite::needs_check`].
    pub fn claim(&mut self, now: Instant, from: AddressPair, request: &BindingRequest<'_>) -> Result<(), DropReason> {
        self.authenticate(request)?;
        if request.is_controlled() || !request.unknown_attributes().is_empty() {
            return Err(DropReason::StunAddressTaken);
        }
        let (nominated, priority) = (request.use_candidate(), request.priority().unwrap_or(0));
        let named = self.named_by(request);
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.address == from) {
            (claim.nominated, claim.priority) = (claim.nominated || nominated, priority);
            claim.asked.requested(named);
            return Ok(());
        }
        if !self.budget.take(now) {
            return Err(DropReason::StunTooManyAddresses);
        }
        if self.claims.len() == MAX_CLAIMS {
            self.claims.remove(0);
        }
        self.claims.push(Claim { address: from, nominated, priority, asked: Asked { named, ..Asked::default() } });
        Ok(())
    }

    /// Whether the client is to be asked now if it is at this address.
    pub fn needs_check(&self, now: Instant, address: AddressPair) -> bool {
        self.unproven().any(|(of, asked)| of == address && asked.is_due(now))
    }

    /// When the next check is to be sent again that was not answered, and where to.
    pub fn check_again(&self) -> Option<(Instant, AddressPair)> {
        self.unproven().filter_map(|(of, asked)| Some((asked.again_at()?, of))).min_by_key(|(at, _)| *at)
    }

    /// The addresses where the client is not known to be.
    fn unproven(&self) -> impl Iterator<Item = (AddressPair, &Asked)> {
        let unproven = self.validated.iter().filter(|known| self.settled && !known.proven);
        let known = unproven.map(|known| (known.address, &known.asked));
        known.chain(self.claims.iter().map(|claim| (claim.address, &claim.asked)))
    }

    /// Writes the check of an address; its length, or `None` when there is nothing to check.
    pub fn check(
        &mut self,
        now: Instant,
        address: AddressPair,
        transaction: Transaction,
        out: &mut [u8; MAX_CHECK],
    ) -> Option<usize> {
        let known = self.validated.iter_mut().map(|known| (known.address, &mut known.asked));
        let claims = self.claims.iter_mut().map(|claim| (claim.address, &mut claim.asked));
        let mut named = None;
        // What was claimed may have come up as the client's own since.
        for (_, asked) in known.chain(claims).filter(|(of, _)| *of == address) {
            asked.last = Some((transaction, now));
            (asked.count, asked.since_request) = (asked.count + 1, asked.since_request + 1);
            named.get_or_insert(asked.named);
        }
        let named = named?;
        let (ours, theirs) = self.logins(named);
        check::write((&ours.local, &theirs.remote), &theirs.remote_key, &transaction, out)
    }

    /// Whose credentials stand for this server's side and whose for the client's.
    fn logins(&self, named: Named) -> (&Login, &Login) {
        let previous = self.previous.as_ref().unwrap_or(&self.current);
        match named {
            Named::Current => (&self.current, &self.current),
            Named::Previous => (previous, previous),
            Named::Restarting => (previous, &self.current),
        }
    }

    /// How often the client has restarted. Credentials before the current ones are the last ones before.
    pub(super) fn generation_of(&self, named: Named) -> u32 {
        self.generation - u32::from(named == Named::Previous)
    }

    /// What a request that is authenticated is in.
    pub(super) fn named_by(&self, request: &BindingRequest<'_>) -> Named {
        if self.current.is_named_by(request) {
            Named::Current
        } else if request.remote_ufrag() == self.current.remote.ufrag.as_bytes() {
            Named::Restarting
        } else {
            Named::Previous
        }
    }

    /// Takes the answer to a check: the client is at that address.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        from: AddressPair,
        answer: &Answer<'_>,
    ) -> Result<IceEvent, DropReason> {
        let transaction = answer.transaction();
        let is_it = |address: AddressPair, asked: &Asked| address == from && asked.is_answered_by(&transaction);
        let claim = self.claims.iter().position(|claim| is_it(claim.address, &claim.asked));
        let known = self.validated.iter().position(|known| is_it(known.address, &known.asked));
        if claim.is_none() && known.is_none() {
            return Err(DropReason::StunUnexpectedAnswer);
        }
        let asked =
            known.map(|at| self.validated[at].asked).or(claim.map(|at| self.claims[at].asked)).unwrap_or_default();
        if !answer.verify(&self.logins(asked.named).1.remote_key) {
            return Err(DropReason::StunBadIntegrity);
        }
        let generation = self.generation_of(asked.named);
        if let Some(claim) = claim.map(|at| self.claims.remove(at)) {
            self.forget(from);
            self.add(now, from);
            if let Some(known) = self.validated.last_mut() {
                (known.priority, known.nominated) = (claim.priority, claim.nominated.then_some(now));
                known.generation = generation;
            }
        }
        Ok(self.prove(now, from))
    }

    /// The client is no longer at this address: another one has proven to be.
    pub fn forget(&mut self, address: AddressPair) {
        self.validated.retain(|known| known.address != address);
        if self.selected == Some(address) {
            self.select(None);
        }
    }

    fn prove(&mut self, now: Instant, from: AddressPair) -> IceEvent {
        let selected_at = self.validated.iter().find(|known| Some(known.address) == self.selected);
        let selected_at = selected_at.and_then(|known| known.nominated);
        let Some(known) = self.validated.iter_mut().find(|known| known.address == from) else {
            return IceEvent::Nothing;
        };
        if !std::mem::replace(&mut known.proven, true) {
            self.budget.refund();
        }
        (known.heard, known.asked) = (now, Asked::default());
        // What was nominated before it was proven counts now, unless the client has changed its mind since.
        let nominates = known.nominated.is_some_and(|at| selected_at.is_none_or(|selected| at >= selected));
        let (priority, generation) = (known.priority, known.generation);
        if self.selected == Some(from) || self.prefers(now, (nominates, priority), generation) {
            self.select(Some(from));
            return IceEvent::Selected(from);
        }
        IceEvent::Validated(from)
    }
}
