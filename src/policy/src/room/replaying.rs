//! A room whose steps are chosen by a replay ([`crate::tools::replay`]): nothing runs by itself.

use std::collections::HashMap;
use std::time::Instant;

use super::Room;
use crate::engine_context::EngineContext;
use crate::output::{PolicyRequestId, Ticket};
use crate::tape::line::Of;
use crate::work::Work;

impl Room {
    /// The steps that could run now, in the order in which they would.
    pub(crate) fn runnable(&self) -> Vec<Of> {
        let ready = self.waits.ready().map(|id| Of::Wait(id.0));
        let started = self.mailbox.startables(&self.waits).map(|work| match work {
            Work::Call { ticket, .. } => Of::Ticket(ticket.0),
            Work::Timer(handle) => Of::Timer(*handle),
        });
        ready.chain(started).collect()
    }

    /// Runs a step. False when it cannot run now.
    pub(crate) fn run_chosen(&mut self, context: &mut EngineContext, now: Instant, of: Of) -> bool {
        if !self.runnable().contains(&of) {
            return false;
        }
        self.set_moment(context, now);
        match of {
            Of::Wait(id) => {
                let Some(ready) = self.waits.take_ready_one(PolicyRequestId(id)) else { return false };
                self.go_on(context, now, ready);
            }
            Of::Ticket(wanted) => {
                let is_meant = |work: &Work| matches!(work, Work::Call { ticket, .. } if *ticket == Ticket(wanted));
                let Some(work) = self.mailbox.take_chosen(is_meant) else { return false };
                self.run(context, now, work);
            }
            Of::Timer(wanted) => {
                let is_meant = |work: &Work| matches!(work, Work::Timer(handle) if *handle == wanted);
                let Some(work) = self.mailbox.take_chosen(is_meant) else { return false };
                self.run(context, now, work);
            }
        }
        true
    }

    /// Lets timers with names be due when the recording says.
    pub(crate) fn replay_timers(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        timers: &HashMap<String, Instant>,
    ) {
        self.timers.inherit(context, now, self.key, timers);
    }

    /// What a replay knows of signatures that were left out.
    pub(crate) fn replay_signatures(&self, signatures: &[(String, bool)]) {
        self.facts.reads.replay(signatures);
    }

    /// Lets random numbers begin anew.
    pub(crate) fn replay_seeds(&self, seeds: &crate::tape::line::Seeds) {
        super::taping::reseed(&self.facts, seeds);
        self.state.reseed(seeds.math);
    }
}
