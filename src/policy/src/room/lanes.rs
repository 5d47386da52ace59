//! What runs next: events of members and joins have lanes of their own, in the queue and in the processor time.
//!
//! A join is a stranger's: whoever knows a room's name can ask to join it as often as the network carries it. So joins
//! cannot use up what a room's members need, and members cannot keep newcomers out.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::{ClientFacts, CpuBucket, Desk, Due, HookCall, Lane, Room, Work};
use crate::settings::{MAX_WAITING_JOINS, PolicySettings};

/// Work that waits, in its lanes.
pub(super) struct Mailbox {
    members: VecDeque<Work>,
    joins: VecDeque<Work>,
    /// The joins' own share of processor time, as large as the members'.
    joins_cpu: CpuBucket,
}

impl Work {
    pub(super) fn is_join(&self) -> bool {
        matches!(self, Self::Call { call: HookCall::ClientConnect { .. }, .. })
    }
}

impl Mailbox {
    pub(super) fn new(settings: &PolicySettings, now: Instant) -> Self {
        Self { members: VecDeque::new(), joins: VecDeque::new(), joins_cpu: CpuBucket::new(settings, now) }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len() + self.joins.len()
    }

    /// Whether there is no room for another event of this kind.
    pub(super) fn is_full(&self, call: &HookCall, most: usize) -> bool {
        let is_join = matches!(call, HookCall::ClientConnect { .. });
        if is_join { self.joins.len() >= most } else { self.members.len() >= most }
    }

    pub(super) fn push(&mut self, work: Work) {
        if work.is_join() { self.joins.push_back(work) } else { self.members.push_back(work) }
    }

    /// When the next join may run.
    pub(super) fn joins_ready(&mut self, now: Instant) -> Instant {
        self.joins_cpu.ready_at(now)
    }

    /// Events and timers of members, oldest first.
    pub(super) fn members(&self) -> impl Iterator<Item = &Work> {
        self.members.iter()
    }

    /// Takes out everything of one client.
    pub(super) fn take_of(&mut self, client: &ClientFacts) -> Vec<Work> {
        let of_client = |work: &Work| work.client().is_some_and(|other| other.id == client.id);
        let mut taken = Vec::new();
        for queue in [&mut self.joins, &mut self.members] {
            let (gone, kept): (VecDeque<_>, VecDeque<_>) = queue.drain(..).partition(of_client);
            *queue = kept;
            taken.extend(gone);
        }
        taken
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Work> + use<> {
        std::mem::take(&mut self.joins).into_iter().chain(std::mem::take(&mut self.members))
    }
}

impl Room {
    /// Runs what can run.
    pub(crate) fn pump(&mut self, desk: &mut Desk, now: Instant) {
        while self.reload_if_quiet(desk, now) {
            let Some(work) = self.next_work(desk, now) else { return };
            self.run(desk, now, work);
        }
    }

    /// There is CPU time again.
    pub(crate) fn woken(&mut self, desk: &mut Desk, now: Instant) {
        self.wake = None;
        self.pump(desk, now);
    }

    /// The processor time that a piece of work is paid from.
    pub(super) fn cpu_of(&mut self, work: &Work) -> &mut CpuBucket {
        if work.is_join() { &mut self.mailbox.joins_cpu } else { &mut self.bucket }
    }

    /// The next piece of work that may run now; if there is only work that waits for CPU time, the room will be woken.
    fn next_work(&mut self, desk: &mut Desk, now: Instant) -> Option<Work> {
        let mut earliest: Option<Instant> = None;
        if let Some(at) = self.startable(&self.mailbox.members) {
            match self.bucket.ready_at(now) {
                ready if ready <= now => return self.mailbox.members.remove(at),
                ready => earliest = Some(ready),
            }
        }
        if let Some(at) = self.startable(&self.mailbox.joins).filter(|_| self.waiting_joins() < MAX_WAITING_JOINS) {
            match self.mailbox.joins_cpu.ready_at(now) {
                ready if ready <= now => return self.mailbox.joins.remove(at),
                ready => earliest = Some(earliest.map_or(ready, |other| other.min(ready))),
            }
        }
        self.wake_at(desk, earliest?);
        None
    }

    fn wake_at(&mut self, desk: &mut Desk, ready: Instant) {
        if self.wake.is_some_and(|when| when.0 <= ready) {
            return;
        }
        match self.wake.take() {
            Some(later) => desk.agenda.remove(later),
            None => {
                self.stats.throttled += 1;
                desk.stats.throttled += 1;
            }
        }
        self.wake = Some(desk.agenda.add(ready, Due::Pump(self.key)));
    }

    fn waiting_joins(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.work.is_join()).count()
    }

    /// The first piece of work that nothing of its lane is before.
    fn startable(&self, queue: &VecDeque<Work>) -> Option<usize> {
        if self.waiting.is_empty() || queue.is_empty() {
            return (!queue.is_empty()).then_some(0);
        }
        let mut busy: HashSet<Lane> = self.waiting.iter().map(|waiting| waiting.work.lane()).collect();
        queue.iter().position(|work| busy.insert(work.lane()))
    }
}
