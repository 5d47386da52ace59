//! Where clients are: their STUN requests, and the server's own checks of the addresses that those come from.
//!
//! An address belongs to one client at a time. It goes to another one only when that has answered a check there: the
//! source of a request is easily forged, also by a client that has credentials.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;

use super::Shard;
use super::faults::Stage;
use super::streams::restart_now;
use moonring_wire::drops::DropReason;
use moonring_wire::id::ClientKey;
use moonring_wire::packet::{AddressPair, SendBatch};
use moonring_wire::transport::Transport;
use moonring_wire::transport::ice::DOUBTED_SILENCE;
use moonring_wire::transport::stun;
use moonring_wire::transport::stun::check::{self, Transaction};

/// Checks of the server's own that wait for an answer; the oldest ones are forgotten.
const MAX_CHECKS: usize = 8_192;

/// Whom each check asked.
#[derive(Debug, Default)]
pub(super) struct Checks {
    asked: HashMap<Transaction, ClientKey>,
    order: VecDeque<Transaction>,
}

impl Checks {
    fn insert(&mut self, transaction: Transaction, client: ClientKey) {
        if self.order.len() == MAX_CHECKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.asked.remove(&oldest);
        }
        self.order.push_back(transaction);
        self.asked.insert(transaction, client);
    }
}

/// Where a client was sent to, and for how long nothing had come from there.
struct Selection {
    address: Option<AddressPair>,
    silence: Option<Duration>,
}

impl Selection {
    fn of(now: Instant, transport: &Transport) -> Self {
        Self { address: transport.selected(), silence: transport.ice().selected_silence(now) }
    }

    /// Whether the client is sent to another address now, because this one was silent.
    fn is_left_for_silence(&self, transport: &Transport) -> bool {
        transport.selected() != self.address && self.silence.is_some_and(|time| time >= DOUBTED_SILENCE)
    }
}

impl Shard {
    /// Whether a client of this shard has shown, by an authenticated check, to be there.
    pub fn is_known(&self, address: AddressPair) -> bool {
        self.index.addresses.contains_key(&address)
    }

    pub(super) fn receive_stun(
        &mut self,
        now: Instant,
        from: AddressPair,
        bytes: &[u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        if check::is_answer(bytes) {
            return self.check_answered(now, from, bytes);
        }
        let request = stun::parse(bytes)?;
        let ufrag = std::str::from_utf8(request.local_ufrag()).map_err(|_| DropReason::StunUnknownUser)?;
        let Some(key) = self.index.ufrags.get(ufrag).copied() else {
            let id = self.moves.named(ufrag).ok_or(DropReason::StunUnknownUser)?;
            return self.moving_checks(now, (from, id), &request, out);
        };
        let client = self.world.clients.get_mut(key).ok_or(DropReason::StunUnknownUser)?;
        let transport = client.transport.as_mut().ok_or(DropReason::StunUnknownUser)?;
        if self.index.addresses.get(&from).is_some_and(|holder| *holder != key) {
            transport.handle_claim(now, from, &request)?;
            self.check_address(now, key, from, out);
            self.schedule(key);
            return Err(DropReason::StunAddressTaken);
        }
        self.work.current = Some(key);
        let before = Selection::of(now, transport);
        transport.handle_stun(now, from, &request, out)?;
        let has_moved = before.is_left_for_silence(transport);
        self.stage(Stage::Stun);
        if has_moved {
            self.begin_path(now, key);
        }
        self.check_address(now, key, from, out);
        self.note_addresses(key);
        self.schedule(key);
        Ok(())
    }

    /// Asks a client whether it is at an address where it is not known to be.
    pub(super) fn check_address(&mut self, now: Instant, key: ClientKey, address: AddressPair, out: &mut SendBatch) {
        let Some(transport) = self.world.clients.get_mut(key).and_then(|client| client.transport.as_mut()) else {
            return;
        };
        if transport.ice().needs_check(now, address) {
            let transaction = self.rng.random();
            if transport.check(now, address, transaction, out) {
                self.index.checks.insert(transaction, key);
            }
        }
    }

    /// Asks again what a client has not answered: its next request may be seconds away.
    pub(super) fn check_addresses_again(&mut self, now: Instant, key: ClientKey, out: &mut SendBatch) {
        let unanswered = |shard: &Self| shard.world.clients.get(key)?.transport.as_ref()?.check_again(now);
        while let Some(address) = unanswered(self) {
            self.check_address(now, key, address, out);
        }
    }

    fn check_answered(&mut self, now: Instant, from: AddressPair, bytes: &[u8]) -> Result<(), DropReason> {
        let answer = check::read(bytes)?;
        let asked = self.index.checks.asked.get(&answer.transaction());
        let Some(key) = asked.copied() else { return self.moving_answers(now, from, &answer) };
        let client = self.world.clients.get_mut(key).ok_or(DropReason::StunUnexpectedAnswer)?;
        let transport = client.transport.as_mut().ok_or(DropReason::StunUnexpectedAnswer)?;
        let before = Selection::of(now, transport);
        transport.handle_answer(now, from, &answer)?;
        let has_moved = before.is_left_for_silence(transport);
        self.index.checks.asked.remove(&answer.transaction());
        let holder = self.index.addresses.get(&from).copied().filter(|holder| *holder != key);
        if let Some(other) = holder.and_then(|holder| self.world.clients.get_mut(holder)) {
            tracing::debug!(client = %other.id, address = %from, "another client is at this address now");
            other.reach.addresses.retain(|address| *address != from);
            if let Some(transport) = &mut other.transport {
                transport.forget_address(from);
            }
        }
        self.index.addresses.insert(from, key);
        self.note_addresses(key);
        if has_moved {
            self.begin_path(now, key);
        }
        Ok(())
    }

    /// What was sent to an address that fell silent has not arrived: what the path carries is found out anew, and the
    /// pictures go on with key frames, which a client would ask for seconds later.
    fn begin_path(&mut self, now: Instant, key: ClientKey) {
        let outbound = &mut self.world.clients[key].outbound;
        if let Some(path) = &mut outbound.congestion {
            path.restart(now);
        }
        outbound.forwards.iter_mut().flatten().for_each(|forward| forward.allotted.forget_sizes());
        self.choose_layers(now, key);
        let mut owners = Vec::new();
        for forward in self.world.clients[key].outbound.forwards.iter_mut().flatten() {
            let Some(track) = self.world.tracks.get_mut(forward.track).filter(|track| track.is_video()) else {
                continue;
            };
            restart_now(now, forward, track);
            owners.push(track.owner);
        }
        owners.into_iter().for_each(|owner| self.schedule(owner));
    }

    /// Lets the shard know a client by the addresses that its ICE believes. What another client has stays with that.
    pub(super) fn note_addresses(&mut self, key: ClientKey) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        let Some(transport) = &client.transport else { return };
        let mut is_same = client.reach.addresses.iter().copied().eq(transport.ice().validated());
        is_same &= client.reach.addresses.iter().all(|address| self.index.addresses.get(address) == Some(&key));
        if is_same {
            return;
        }
        let validated: Vec<_> = transport.ice().validated().collect();
        for gone in client.reach.addresses.drain(..).filter(|address| !validated.contains(address)) {
            if self.index.addresses.get(&gone) == Some(&key) {
                self.index.addresses.remove(&gone);
            }
        }
        for address in &validated {
            self.index.addresses.entry(*address).or_insert(key);
        }
        client.reach.addresses = validated;
        self.schedule(key);
    }
}
