//! Checkpoints of a room ([`crate::carried`]): every so many seconds, as its script says, what `on_unload` returns.

use std::time::{Duration, Instant};

use super::Room;
use crate::budget::cpu_stopwatch;
use crate::carried::Checkpoint;
use crate::engine_context::{Deadline, EngineContext};
use crate::failure::NO_CHECKPOINT;
use crate::output::PolicyOutput;
use crate::settings::{CHECKPOINT, CHECKPOINT_RETRY, CHECKPOINT_S, MAX_CHECKPOINT_BYTES};
use crate::timer_queue::TimerId;

/// The checkpoints of one room.
#[derive(Default)]
pub(super) struct Checkpoints {
    /// Set while the room has any.
    pub(super) next: Option<TimerId>,
    /// When the next one is made even if there is no CPU time for it.
    latest: Option<Instant>,
    /// This version cannot make them, and its author was told.
    is_told: bool,
}

impl Room {
    /// A version begins: it says whether there are checkpoints.
    pub(super) fn begin_checkpoints(&mut self, context: &mut EngineContext, now: Instant) {
        if let Some(next) = self.checkpoints.next.take() {
            context.deadlines.remove(next);
        }
        self.checkpoints.is_told = false;
        self.plan_checkpoint(context, now);
    }

    fn plan_checkpoint(&mut self, context: &mut EngineContext, now: Instant) {
        let every = if context.replay.is_none() { self.checkpoint_interval() } else { None };
        self.checkpoints.latest = every.map(|every| now + 2 * every);
        self.checkpoints.next = every.map(|every| context.deadlines.add(now + every, Deadline::Checkpoint(self.key)));
    }

    /// How often its script wants one, if it does.
    fn checkpoint_interval(&mut self) -> Option<Duration> {
        // Of one that another text names nobody would look for it.
        if !self.script().keeps_checkpoints() {
            return None;
        }
        let seconds = self.declared_seconds(CHECKPOINT)?;
        let (least, most) = CHECKPOINT_S;
        if (least..=most).contains(&seconds) {
            return Some(Duration::from_secs_f64(seconds));
        }
        self.has_no_checkpoints(&format!("{CHECKPOINT} is not a number of {least} to {most}, in seconds"));
        None
    }

    /// A checkpoint is due. While its share of the shard, or that of all scripts, is used up it waits, for one interval.
    pub(crate) fn checkpoint_due(&mut self, context: &mut EngineContext, now: Instant) {
        self.checkpoints.next = None;
        // Nothing of a suspended script runs, and one that is about to go on elsewhere is handed over.
        if self.health.is_suspended || self.health.is_held {
            return self.plan_checkpoint(context, now);
        }
        let ready = self.cpu.share.ready_at(now);
        let may_run = ready <= now && context.turns.may_run_at_once(now);
        if !may_run && self.checkpoints.latest.is_some_and(|latest| now < latest) {
            let again = ready.max(now + CHECKPOINT_RETRY);
            self.checkpoints.next = Some(context.deadlines.add(again, Deadline::Checkpoint(self.key)));
            return;
        }
        self.make_checkpoint(context, now);
        self.plan_checkpoint(context, now);
    }

    fn make_checkpoint(&mut self, context: &mut EngineContext, now: Instant) {
        let elapsed = cpu_stopwatch();
        let carried = self.hand_over(context, now);
        let unix = context.unix(now);
        let made = carried.map(|carried| Checkpoint::new(carried, &self.facts.metadata, unix));
        // No step of the room has read this.
        self.facts.reads.take();
        self.pay(context, elapsed());
        match made {
            Ok(checkpoint) if checkpoint.bytes() <= MAX_CHECKPOINT_BYTES => {
                let checkpoint = Box::new(checkpoint);
                context.outputs.push_back(PolicyOutput::Checkpoint { key: self.key, checkpoint });
            }
            Ok(checkpoint) => {
                let bytes = checkpoint.bytes();
                let words =
                    format!("its state takes {bytes} bytes, of {MAX_CHECKPOINT_BYTES} that a checkpoint may have");
                self.has_no_checkpoints(&words);
            }
            Err(error) => self.has_no_checkpoints(&error.of_unload()),
        }
    }

    fn has_no_checkpoints(&mut self, why: &str) {
        if !std::mem::replace(&mut self.checkpoints.is_told, true) {
            let script = self.script().name();
            tracing::warn!(room = %self.facts.id, script, "{NO_CHECKPOINT}{why}");
        }
    }
}
