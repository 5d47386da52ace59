//! One of the choices to make, and what its steps take.

use std::time::Instant;

use super::priority::Priority;
use crate::room::forward::Forward;
use crate::room::rungs::{Rung, Size, rungs};
use crate::room::track::Track;

/// What the key frame of a larger picture is reckoned at: this part of its rate, or of this many bit/s if that is less. On a narrow
/// link a key frame takes long, and a raise that fails takes two.
const KEY_FRAME_PART: u64 = 4;
const KEY_FRAME_OF_BPS: u64 = 300_000;
/// What did not stay is tried again where there is so many times the room.
const AFTER_VAIN: f64 = 1.25;
/// What a higher step is reckoned at that packets come of, but of which it is not known yet how much: more than any path
/// that is known carries.
pub(super) const UNMEASURED_BPS: u64 = 1 << 40;
/// What a path is taken to carry at the start, in bit/s.
const START_BPS: u64 = 300_000;

/// The steps of a track as who receives it has them: what has just become larger takes no more than before its key frame.
pub(super) fn rungs_of(now: Instant, forward: &Forward, track: &Track) -> Vec<Rung> {
    let mut rungs = rungs(now, track);
    if let Some(most_bps) = forward.allotted.most_bps(now) {
        let sent = rungs.iter_mut().filter(|rung| rung.layer == forward.target());
        sent.for_each(|rung| rung.bps = rung.bps.min(most_bps));
    }
    rungs
}

/// One choice to make: a video track of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) place: usize,
    /// The steps of its quality; what follows counts them.
    pub(super) rungs: Vec<Rung>,
    /// The step to begin with: all pictures of the lowest layer.
    pub(super) base: u8,
    /// The highest step that is allowed and of use.
    pub(super) limit: u8,
    /// Higher ones are served first.
    pub(super) priority: Priority,
    /// The step that is sent now, `None` while it is paused.
    pub(super) current: Option<u8>,
    /// The step to wait for while nothing is sent.
    pub(super) awaited: u8,
    /// What it would take, in bit/s, if its publisher was not held.
    pub(super) before_bps: Option<u64>,
    /// What its steps of which it is not known may turn out to take, in bit/s: what they did last, 0 while that is not known either.
    pub(super) expected_bps: Option<u64>,
    /// Pictures of this size did not stay when they were tried last, and none that are as large.
    pub(super) in_vain: Option<Size>,
}

impl Choice {
    pub(super) fn rate(&self, rung: u8) -> u64 {
        self.rungs.get(usize::from(rung)).map_or(0, |rung| rung.bps)
    }

    /// What a step takes, in bit/s, to who would raise to it.
    pub(super) fn raised_rate(&self, rung: u8) -> u64 {
        let is_unmeasured = self.rungs.get(usize::from(rung)).is_some_and(Rung::is_unmeasured);
        if is_unmeasured && self.active(0) < Some(rung) { UNMEASURED_BPS } else { self.rate(rung) }
    }

    /// The same with a margin: the most that it took lately and, of pictures of another size, the key frame that they begin with.
    pub(super) fn price(&self, rung: u8) -> u64 {
        let at = |rung: u8| self.rungs.get(usize::from(rung));
        match (self.current, at(rung)) {
            (Some(current), Some(higher)) if rung > current && higher.is_known() => {
                let is_other = at(current).is_some_and(|current| current.size() != higher.size());
                let bps =
                    higher.most_bps + if is_other { higher.most_bps.min(KEY_FRAME_OF_BPS) / KEY_FRAME_PART } else { 0 };
                if self.was_in_vain(higher) { (bps as f64 * AFTER_VAIN) as u64 } else { bps }
            }
            _ => self.raised_rate(rung),
        }
    }

    fn was_in_vain(&self, rung: &Rung) -> bool {
        self.in_vain.is_some_and(|size| rung.size() >= size)
    }

    /// What a path is to be measured for, in bit/s, that a step may be raised to over it.
    pub(super) fn sought_rate(&self, rung: u8) -> u64 {
        let is_in_vain = self.rungs.get(usize::from(rung)).is_some_and(|rung| self.was_in_vain(rung));
        if is_in_vain && self.rate(rung) > 0 { self.price(rung) } else { self.rate(rung) }
    }

    /// True when packets come of a step of which it is not known yet what it takes.
    pub(super) fn is_coming(&self) -> bool {
        self.rungs.iter().take(usize::from(self.limit) + 1).any(Rung::is_unmeasured)
    }

    /// The lowest step from `from` on, up to the limit, that packets come of.
    pub(super) fn active(&self, from: u8) -> Option<u8> {
        (from..=self.limit).find(|rung| self.rate(*rung) > 0)
    }

    /// The highest step, up to the limit, that packets come of.
    pub(super) fn highest(&self) -> Option<u8> {
        (0..=self.limit).rev().find(|rung| self.rate(*rung) > 0)
    }

    /// The highest step that is not more than what is sent now, or than what it begins with while it is paused. All of them,
    /// of what has fallen silent.
    pub(super) fn sent(&self) -> u8 {
        match self.current {
            Some(current) if self.rate(current) > 0 => self.limit.min(current),
            Some(_) => self.limit,
            None => self.start().map_or(self.limit, |start| self.limit.min(start)),
        }
    }

    /// The step to begin with: all pictures of the lowest layer, or fewer, where that is more than a path of which nothing is
    /// known is taken to carry.
    pub(super) fn start(&self) -> Option<u8> {
        let lowest = self.active(0)?;
        let fits = |rung: &u8| self.rate(*rung) > 0 && self.rate(*rung) <= START_BPS;
        (lowest..=self.base).rev().find(fits).or(Some(lowest))
    }
}
