//! The time of a shard that the scripts of all its rooms share, and the order in which the rooms get it.
//!
//! Three bounds keep media ahead of scripts. A room has its own share ([`super::bucket::CpuBucket`]). The sum of all rooms has
//! [`PolicySettings::shard_share`] of the shard. And without a break for media, hooks run for [`PolicySettings::slice`]
//! only: a slice begins with each `PolicyEngine::handle_timeout`, which the event loop calls once per tick, so the hooks
//! that timers cause and those of the commands at the beginning of the next tick are one slice.
//!
//! A hook whose room finds both free, and no other room in line, runs at once. Else the room stands in line, ordered by
//! the CPU time that it has used (start-time fair queueing): a room that has used little goes before one that has used
//! much, and one that was idle does not save its idleness up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::bucket::CpuBucket;
use super::output::PolicyKey;
use super::settings::{PolicySettings, SHARD_BURST};

/// A slice begins at the latest when this many lengths of it have passed since the one before: commands get their turn
/// also while no deadline makes the event loop call `handle_timeout`.
const SLICE_PERIODS: u32 = 4;

/// A place in the line: CPU time used, and a number that keeps the order of rooms that have used the same.
pub(crate) type Turn = (Duration, u64);

/// See the module.
pub(crate) struct Turns {
    share: Option<CpuBucket>,
    shard_share: f64,
    slice: Duration,
    slice_began: Option<Instant>,
    slice_spent: Duration,
    line: BTreeMap<Turn, PolicyKey>,
    /// The place of the room that ran last.
    reached: Duration,
    next: u64,
    /// When the first room in line can run.
    resume_at: Option<Instant>,
}

impl Turns {
    pub(crate) fn new(settings: &PolicySettings) -> Self {
        Self {
            share: None,
            shard_share: settings.shard_share,
            slice: settings.slice,
            slice_began: None,
            slice_spent: Duration::ZERO,
            line: BTreeMap::new(),
            reached: Duration::ZERO,
            next: 0,
            resume_at: None,
        }
    }

    /// Media has had its turn.
    pub(crate) fn begin_slice(&mut self, now: Instant) {
        (self.slice_began, self.slice_spent) = (Some(now), Duration::ZERO);
    }

    /// True when a hook may run without standing in line.
    pub(crate) fn may_run_at_once(&mut self, now: Instant) -> bool {
        self.line.is_empty() && self.has_time(now)
    }

    /// Puts a room in line. `used` is the CPU time at which its last turn ended.
    pub(crate) fn enqueue(&mut self, now: Instant, room: PolicyKey, used: Duration) -> Turn {
        let turn = (used.max(self.reached), self.next);
        self.next += 1;
        self.line.insert(turn, room);
        if self.resume_at.is_none() {
            self.resume_at = Some(self.share(now).ready_at(now));
        }
        turn
    }

    pub(crate) fn remove(&mut self, turn: Turn) {
        self.line.remove(&turn);
    }

    /// The next room that may run, with its place; `None` when there is no room or no time.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Duration, PolicyKey)> {
        self.resume_at = None;
        if self.line.is_empty() {
            return None;
        }
        if !self.has_time(now) {
            self.resume_at = Some(self.share(now).ready_at(now));
            return None;
        }
        let ((used, _), room) = self.line.pop_first()?;
        self.reached = used;
        Some((used, room))
    }

    /// Charges CPU time to the shard's share and to the slice.
    pub(crate) fn pay(&mut self, cpu: Duration) {
        self.slice_spent += cpu;
        if let Some(share) = &mut self.share {
            share.pay(cpu);
        }
    }

    /// When the next room in line wants to run.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.resume_at.filter(|_| !self.line.is_empty())
    }

    /// True when the slice and the shard's share have time left.
    pub(crate) fn has_time(&mut self, now: Instant) -> bool {
        let is_stale = |began: Instant| now.saturating_duration_since(began) >= self.slice * SLICE_PERIODS;
        if self.slice_began.is_none_or(is_stale) {
            self.begin_slice(now);
        }
        self.slice_spent < self.slice && self.share(now).ready_at(now) <= now
    }

    fn share(&mut self, now: Instant) -> &mut CpuBucket {
        self.share.get_or_insert_with(|| CpuBucket::new(self.shard_share, SHARD_BURST, now))
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn turns(shard_share: f64) -> (Turns, [PolicyKey; 3], Instant) {
        let mut rooms = SlotMap::with_key();
        let keys = [(); 3].map(|()| rooms.insert(()));
        let settings = PolicySettings { shard_share, slice: MS, ..PolicySettings::default() };
        (Turns::new(&settings), keys, Instant::now())
    }

    #[test]
    fn the_room_that_has_used_least_goes_first_and_idleness_is_not_saved_up() {
        let (mut turns, [a, b, c], now) = turns(0.0);
        turns.enqueue(now, a, 30 * MS);
        turns.enqueue(now, b, 20 * MS);
        assert_eq!(turns.pop(now), Some((20 * MS, b)));
        turns.enqueue(now, c, Duration::ZERO);
        turns.enqueue(now, b, 21 * MS);
        assert_eq!(turns.pop(now), Some((20 * MS, c)), "c begins where the line stands");
        assert_eq!(turns.pop(now), Some((21 * MS, b)));
        assert_eq!(turns.pop(now), Some((30 * MS, a)));
        assert_eq!((turns.pop(now), turns.due()), (None, None));
    }

    #[test]
    fn a_spent_slice_ends_with_the_next_tick() {
        let (mut turns, [a, ..], now) = turns(0.0);
        turns.begin_slice(now);
        assert!(turns.may_run_at_once(now));
        turns.pay(MS);
        assert!(!turns.may_run_at_once(now));
        turns.enqueue(now, a, Duration::ZERO);
        assert_eq!((turns.pop(now), turns.due()), (None, Some(now)), "due at once: after media");
        turns.begin_slice(now);
        assert!(!turns.may_run_at_once(now), "a is in line");
        assert_eq!(turns.pop(now), Some((Duration::ZERO, a)));
    }

    #[test]
    fn a_slice_begins_by_itself_when_time_has_passed() {
        let (mut turns, _, now) = turns(0.0);
        turns.begin_slice(now);
        turns.pay(MS);
        assert!(!turns.has_time(now + 3 * MS));
        assert!(turns.has_time(now + 4 * MS));
    }

    #[test]
    fn the_shard_waits_for_its_share() {
        let (mut turns, [a, ..], now) = turns(0.25);
        assert!(turns.has_time(now));
        turns.pay(SHARD_BURST + MS);
        turns.enqueue(now, a, Duration::ZERO);
        turns.begin_slice(now);
        assert_eq!(turns.pop(now), None);
        let due = turns.due().unwrap();
        assert_eq!((due - now).as_millis(), 4, "1 ms at 25 %");
        turns.begin_slice(due);
        assert_eq!(turns.pop(due), Some((Duration::ZERO, a)));
    }
}
