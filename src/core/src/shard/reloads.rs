//! Rooms whose script has changed get its new version, a few per tick, so that media does not wait for them.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Shard, Timer};
use crate::command::PolicyOrder;
use crate::report::{MAX_FAILED_ROOMS, ReloadProgress};
use moonring_policy::{PolicyKey, ReloadError, Script, ScriptLibrary};
use moonring_wire::id::{RoomId, RoomKey};

/// Time of a tick for reloads. No further one is begun that would end later, taking as long as the one before; what is
/// left to a millisecond is for one that takes longer.
const SLICE: Duration = Duration::from_micros(600);
/// Most reloads in one tick.
pub(super) const MAX_RELOADS: usize = 16;
/// Rooms looked at in one tick; most of them run what they should.
const MAX_COMPARED: usize = 256;
/// Distance of two slices: reloads take half of a shard's time at most.
const PAUSE: Duration = Duration::from_millis(1);
/// Failures that are logged with all words after one change of scripts; the others are counted, and each room keeps its own.
const MAX_LOGGED: u32 = 8;

/// Of the words of a failure, so many bytes are told to operators; the log and the room have all of them.
const MAX_TOLD_BYTES: usize = 512;

const _: () = assert!(MAX_COMPARED > MAX_RELOADS, "rooms that need nothing cost less than those that do");

/// Rooms that are to be looked at, and how it went.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    queue: VecDeque<RoomKey>,
    /// True while the timer is set.
    scheduled: bool,
    /// An operator has ordered them: what failed before is tried again.
    is_ordered: bool,
    /// Reloads since the last change of scripts.
    begun: usize,
    /// Those of them that have ended well.
    done: usize,
    /// Those of them that failed.
    failed: u32,
    /// The first of these.
    failures: Vec<(RoomId, String)>,
    /// The longest slice since the start.
    longest: Duration,
}

impl Reloads {
    /// Rooms that wait to be looked at.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// What has become of them, after so many orders.
    pub(super) fn progress(&self, orders: u64) -> ReloadProgress {
        let (reloaded, failed) = (self.done, self.failed as usize);
        let under_way = self.begun.saturating_sub(reloaded + failed);
        let (waiting, failures) = (self.queue.len() + under_way, self.failures.clone());
        ReloadProgress { orders, waiting, reloaded, failed, failures }
    }

    /// The longest that a tick was held by reloads.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }
}

impl Shard {
    /// New rooms use these scripts from now on; rooms that run older versions get the new ones in the coming ticks.
    pub(super) fn change_scripts(&mut self, now: Instant, library: ScriptLibrary) {
        if self.policy.scripts.canary() != library.canary() {
            self.policy.engine.set_canary(library.canary());
        }
        let Reloads { longest, scheduled, .. } = self.policy.reloads;
        // An order that has not reached all rooms yet still holds.
        let is_under_way = self.policy.reloads.is_ordered && !self.policy.reloads.queue.is_empty();
        let is_ordered = is_under_way || self.policy.scripts.orders() != library.orders();
        self.policy.scripts = library;
        let queue = self.world.rooms.keys().collect();
        self.policy.reloads = Reloads { queue, scheduled, is_ordered, longest, ..Reloads::default() };
        if !scheduled {
            self.schedule_reloads(now);
        }
    }

    pub(super) fn schedule_reloads(&mut self, at: Instant) {
        self.policy.reloads.scheduled = true;
        self.set_timer(at, Timer::Reloads);
    }

    /// One slice.
    pub(super) fn reloads_timer(&mut self, now: Instant) {
        let (mut spent, mut reloads) = (Duration::ZERO, 0);
        for _ in 0..MAX_COMPARED {
            let Some(room) = self.policy.reloads.queue.pop_front() else { break };
            let Some((policy, script)) = self.script_for(room) else { continue };
            self.policy.reloads.begun += 1;
            let took = self.policy.engine.reload(now, policy, script);
            (spent, reloads) = (spent + took, reloads + 1);
            if reloads == MAX_RELOADS || spent + took > SLICE {
                break;
            }
        }
        self.policy.reloads.longest = self.policy.reloads.longest.max(spent);
        self.policy.reloads.scheduled = false;
        if !self.policy.reloads.queue.is_empty() {
            return self.schedule_reloads(now + PAUSE);
        }
        let Reloads { begun, longest, .. } = self.policy.reloads;
        if begun > 0 {
            tracing::info!(rooms = begun, longest_slice = ?longest, "rooms have been given their scripts' new versions");
        }
    }

    /// The script that a room should run, if it does not run it, or not any more, and may be given it.
    fn script_for(&mut self, key: RoomKey) -> Option<(PolicyKey, Arc<Script>)> {
        let room = self.world.rooms.get(key)?;
        let policy = room.policy()?;
        self.policy.engine.set_side(policy, self.policy.scripts.side(&room.id));
        let script = self.policy.scripts.resolve(&room.id).ok()?;
        let is_ordered = self.policy.reloads.is_ordered;
        self.policy.engine.is_due(policy, &script, is_ordered).then_some((policy, script))
    }

    /// Does what an operator wants of a room's policy.
    pub(super) fn policy_order(&mut self, now: Instant, room: &RoomId, order: PolicyOrder) {
        let Some(policy) = self.index.rooms.get(room).and_then(|key| self.world.rooms.get(*key)?.policy()) else {
            return;
        };
        match order {
            PolicyOrder::Resume => {
                self.policy.engine.resume_script(now, policy);
            }
            PolicyOrder::ReloadWithoutState => match self.policy.scripts.resolve(room) {
                Ok(script) => {
                    self.policy.engine.reload_without_state(now, policy, script);
                }
                Err(error) => tracing::error!(%room, "not reloaded: {error}"),
            },
        }
    }

    /// A reload has ended, well or not; the engine has counted it, and keeps its outcome.
    pub(super) fn policy_reloaded(&mut self, policy: PolicyKey, result: &Result<u64, ReloadError>) {
        let Some(room) = self.policy.rooms.get(policy).and_then(|key| self.world.rooms.get(*key)) else { return };
        let tried = self.policy.engine.last_tried(policy);
        let (room, script) = (&room.id, tried.map_or("", |script| script.name()));
        match result {
            Ok(_) => {
                self.policy.reloads.done += 1;
                tracing::debug!(%room, script, "reloaded");
            }
            Err(error) => {
                self.policy.reloads.failed += 1;
                if self.policy.reloads.failures.len() < MAX_FAILED_ROOMS {
                    let mut words = error.to_string();
                    words.truncate(words.floor_char_boundary(MAX_TOLD_BYTES));
                    self.policy.reloads.failures.push((room.clone(), words));
                }
                let version = tried.map_or(0, |script| script.version());
                let version = format_args!("{version:016x}");
                if self.policy.reloads.failed <= MAX_LOGGED {
                    tracing::error!(%room, script, %version, "not reloaded, the old version runs on: {error}");
                } else {
                    tracing::debug!(%room, script, %version, "not reloaded, the old version runs on: {error}");
                }
            }
        }
    }
}
