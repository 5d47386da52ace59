//! Taking events in, and refusing what is beyond a bound before any hook runs.

use std::time::Instant;

use super::Room;
use crate::admission::{Needs, Refusal, needs_of};
use crate::budget::cpu_stopwatch;
use crate::calls;
use crate::engine_context::EngineContext;
use crate::hook::{ClientFacts, HookCall, Undecided};
use crate::output::{PolicyReply, Ticket};
use crate::settings::{MAX_PERSON_BYTES, MAX_PERSON_MESSAGES};
use crate::work::{Lane, Work};

/// The part of the memory that a value needs which must be free beside it: its hook needs some, too.
const SPARE_PART: usize = 4;
/// The error in the place of a reply that the room has no memory for.
const REPLY_TOO_LARGE: &str = "the response does not fit into the memory of the room's script";

impl Room {
    /// Takes an event, and runs what can run.
    pub(crate) fn submit(&mut self, context: &mut EngineContext, now: Instant, ticket: Ticket, call: HookCall) {
        if !self.tapes.is_empty() {
            self.tapes.at(now);
            self.tapes.event(ticket, &call);
        }
        if let HookCall::ClientDisconnect { client, .. } = &call {
            // Before: a recording that is run again has it from the beginning.
            client.left.set(client.left.get().or(Some(now)));
            let had_joined = self.leave(context, &client.clone());
            if !had_joined {
                // Its connect has not been allowed, so the script has never had it as a member.
                self.outcome(context, ticket, calls::left(&call));
                return self.pump(context, now);
            }
        }
        if self.health.is_suspended {
            return self.conclude(context, ticket, &call, calls::failed(&call));
        }
        if matches!(call, HookCall::ActiveSpeakers { .. })
            && let Some(older) = self.mailbox.take_speakers()
        {
            self.give_up(context, older, calls::overtaken);
        }
        match self.admit(context, &call) {
            Ok(needs) => {
                let work = Work::Call { ticket, call, bytes: needs.host };
                if self.is_free(context, now) {
                    return self.step_of(context, now, work);
                }
                let newcomer = work.is_join().then(|| work.network());
                self.mailbox.push(work);
                if let Some(client) = newcomer.and_then(|newcomer| self.waits.join_that_gives_way(newcomer)) {
                    self.crowd_out(context, &client);
                }
                self.pump(context, now);
            }
            Err(refusal) => self.refuse(context, ticket, &call, &refusal),
        }
    }

    /// True when an event need not queue: nothing is before it, and the room may run.
    fn is_free(&mut self, context: &mut EngineContext, now: Instant) -> bool {
        let is_idle = self.mailbox.is_empty() && self.waits.is_empty() && !self.reload.is_pending();
        let is_its_own = self.cpu.turn.is_none() && context.replay.is_none();
        is_idle && is_its_own && self.has_cpu(context, now) && context.turns.may_run_at_once(now)
    }

    /// Gives up a join that waits, so that one of an address with fewer of them can begin.
    fn crowd_out(&mut self, context: &mut EngineContext, client: &ClientFacts) {
        self.count(context, |stats| stats.overflows += 1);
        for hook in self.waits.cancel_of(context, self.key, client) {
            self.give_up(context, hook.work, |call| calls::refused(call, &Refusal::TooManyJoins));
        }
    }

    /// What an event needs, or why it is refused. The script always hears that a member has left, and that the room ends.
    fn admit(&mut self, context: &mut EngineContext, call: &HookCall) -> Result<Needs, Refusal> {
        let settings = &context.settings;
        let (max_events, max_joins, host_bytes) =
            (settings.max_queued_events, settings.max_queued_joins, settings.host_bytes);
        let needs = needs_of(call)?;
        match call {
            HookCall::ClientDisconnect { .. } | HookCall::Close { .. } => return Ok(needs),
            HookCall::ClientConnect { .. } if self.mailbox.joins() >= max_joins => return Err(Refusal::TooManyJoins),
            // Goodbyes are always kept, so that nobody comes in while too many of them wait.
            HookCall::ClientConnect { .. } if self.mailbox.events() >= max_events => {
                return Err(Refusal::TooManyEvents);
            }
            HookCall::ClientConnect { .. } => {}
            _ if self.mailbox.events() >= max_events => return Err(Refusal::TooManyEvents),
            HookCall::Message { client, .. } if self.has_used_its_share(client, needs) => {
                return Err(Refusal::TooManyOfYours);
            }
            _ => {}
        }
        if self.host_bytes() + needs.host > host_bytes {
            return Err(Refusal::TooManyEvents);
        }
        if self.has_memory(context, needs.lua) { Ok(needs) } else { Err(Refusal::NoMemory) }
    }

    /// True when as much of a person's messages waits as may, and this one would have to wait for others of its client; or
    /// when hooks of theirs that wait hold as much already.
    fn has_used_its_share(&self, client: &ClientFacts, needs: Needs) -> bool {
        let share = self.mailbox.share_of(client);
        let is_used = share.messages >= MAX_PERSON_MESSAGES || share.bytes + needs.host > MAX_PERSON_BYTES;
        let lane = Lane::Client(&client.id);
        let most = MAX_PERSON_BYTES.saturating_sub(needs.host);
        // The sum of all is at hand.
        let is_held = self.waits.bytes() > most && self.waits.bytes_of(client) > most;
        is_held || is_used && (self.waits.has_lane(lane) || self.mailbox.has_lane(lane))
    }

    /// True when the state has this much memory free, if need be after a collection.
    fn has_memory(&mut self, context: &mut EngineContext, bytes: usize) -> bool {
        let wanted = bytes + bytes / SPARE_PART;
        let cap = context.settings.memory_bytes;
        if self.state.memory() + wanted <= cap {
            return true;
        }
        let elapsed = cpu_stopwatch();
        self.state.clean_up(0);
        self.pay(context, elapsed());
        self.state.memory() + wanted <= cap
    }

    fn refuse(&mut self, context: &mut EngineContext, ticket: Ticket, call: &HookCall, refusal: &Refusal) {
        let is_overflow = refusal.why_undecided() == Some(Undecided::Crowded);
        self.count(context, |stats| {
            stats.overflows += u64::from(is_overflow);
            stats.refused += u64::from(!is_overflow);
        });
        if is_overflow && self.facts.may_log() {
            tracing::warn!(room = %self.facts.id, hook = call.name(), "too many events wait for the script: one is refused");
        }
        self.conclude(context, ticket, call, calls::refused(call, refusal));
    }

    /// The reply, or an error in its place if the room has no memory for it.
    pub(super) fn fitting(&mut self, context: &mut EngineContext, reply: PolicyReply) -> PolicyReply {
        let bytes = reply.bytes();
        let fits = self.host_bytes() + bytes <= context.settings.host_bytes && self.has_memory(context, bytes);
        if fits { reply } else { reply.refused(REPLY_TOO_LARGE) }
    }
}
