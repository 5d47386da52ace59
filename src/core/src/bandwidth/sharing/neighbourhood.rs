//! The flows to one network, and which of them share a bottleneck.

use std::time::Duration;

use super::evidence::{SAMPLES, Trace, Verdict, number_of};
use super::{FlowView, Share};

/// Most flows to one network that are compared: a household, a class.
const MAX_FLOWS: usize = 32;
/// A flow of which nothing was heard for so long claims nothing, ...
const SILENT: Duration = Duration::from_secs(1);
/// ... and after this time it is gone.
const GONE: Duration = Duration::from_secs(6);

/// A flow goes this part of the way to its fair share in a second, ...
const APPROACH: f64 = 1.0;
/// ... but up by no more than this part of its rate, ...
const UPWARDS: f64 = 0.5;
/// ... and not if it has almost that.
const UNFAIR: f64 = 0.1;

/// A flow.
#[derive(Clone, Debug)]
struct Flow<K> {
    key: K,
    heard: Duration,
    view: FlowView,
    trace: Trace,
    /// What was seen of it and each flow before it, by place.
    bonds: [Bond; MAX_FLOWS],
    /// The first flow that it shares a bottleneck with, or itself: a place.
    first: usize,
}

/// What was seen of two flows.
#[derive(Clone, Copy, Debug, Default)]
struct Bond {
    score: i8,
    is_shared: bool,
}

/// The flows to one network.
#[derive(Clone, Debug)]
pub(super) struct Neighbourhood<K> {
    flows: Vec<Flow<K>>,
    /// The sample with which flows are compared next.
    due: u64,
}

impl<K> Default for Neighbourhood<K> {
    fn default() -> Self {
        Self { flows: Vec::new(), due: 0 }
    }
}

impl<K: Copy + Eq> Neighbourhood<K> {
    /// Whether any flow was heard of lately.
    pub(super) fn is_heard_of(&self, at: Duration) -> bool {
        self.flows.iter().any(|flow| flow.is_heard_of(at, GONE))
    }

    /// Takes in what a flow says, and tells it of those that it shares a bottleneck with.
    pub(super) fn hear(&mut self, at: Duration, key: K, view: FlowView) -> Option<Share> {
        let place = self.place_of(at, key, view)?;
        let flow = &mut self.flows[place];
        (flow.heard, flow.view) = (at, view);
        flow.trace.note(at, view.queue);
        if self.flows.len() < 2 {
            return None;
        }
        let number = number_of(at);
        if number >= self.due {
            self.due = number + SAMPLES as u64;
            self.compare(at);
        }
        self.share_of(at, place)
    }

    fn place_of(&mut self, at: Duration, key: K, view: FlowView) -> Option<usize> {
        if let Some(place) = self.flows.iter().position(|flow| flow.key == key) {
            return Some(place);
        }
        let free = self.flows.iter().position(|flow| !flow.is_heard_of(at, GONE));
        let place = free.or_else(|| (self.flows.len() < MAX_FLOWS).then_some(self.flows.len()))?;
        let bonds = [Bond::default(); MAX_FLOWS];
        let flow = Flow { key, heard: at, view, trace: Trace::new(), bonds, first: place };
        self.flows.iter_mut().for_each(|other| other.bonds[place] = Bond::default());
        match self.flows.get_mut(place) {
            Some(gone) => *gone = flow,
            None => self.flows.push(flow),
        }
        self.group();
        Some(place)
    }

    /// Compares each flow with each other one.
    fn compare(&mut self, at: Duration) {
        for place in 1..self.flows.len() {
            let (before, flow) = self.flows.split_at_mut(place);
            let flow = &mut flow[0];
            let is_there = flow.is_heard_of(at, SILENT);
            for (other, bond) in before.iter().zip(&mut flow.bonds) {
                if is_there && other.is_heard_of(at, SILENT) {
                    bond.see(flow.trace.compare(&other.trace));
                }
            }
        }
        self.group();
    }

    /// Finds for each flow the first one that it shares with.
    fn group(&mut self) {
        for place in 0..self.flows.len() {
            let bonds = &self.flows[place].bonds;
            let shares = |other: &usize| self.flows[*other].first == *other && bonds[*other].is_shared;
            self.flows[place].first = (0..place).find(shares).unwrap_or(place);
        }
    }

    fn share_of(&self, at: Duration, place: usize) -> Option<Share> {
        let flow = &self.flows[place];
        let is_one = |other: &&Flow<K>| other.first == flow.first && other.is_heard_of(at, SILENT);
        let sharing = || self.flows.iter().filter(is_one);
        let flows = sharing().count();
        if flows < 2 {
            return None;
        }
        let others = || sharing().filter(|other| other.key != flow.key).map(|other| other.view);
        let sum_bps = sharing().map(|flow| flow.view.claim_bps.min(flow.view.wish_bps)).sum();
        let level = level_of(sum_bps, flows, sharing().map(|flow| flow.view.wish_bps));
        Some(Share {
            flows,
            change_bps: change_of(level, &flow.view, sharing().map(|flow| &flow.view)),
            probed: others().filter_map(|view| view.probed).max(),
            misled_until: others().filter_map(|view| view.misled_until).max(),
        })
    }
}

impl<K> Flow<K> {
    fn is_heard_of(&self, at: Duration, within: Duration) -> bool {
        self.heard + within > at
    }
}

impl Bond {
    /// So many windows that say "the same" make two flows share.
    const SHARED: i8 = 2;
    /// No more are counted.
    const CERTAIN: i8 = 4;
    /// One that says otherwise takes so many of them back. Who shares does so until none is left.
    const AGAINST: i8 = 2;

    fn see(&mut self, verdict: Verdict) {
        self.score = match verdict {
            Verdict::Same => (self.score + 1).min(Self::CERTAIN),
            Verdict::Other => (self.score - Self::AGAINST).max(0),
            Verdict::Unknown => self.score,
        };
        self.is_shared = self.score >= Self::SHARED || (self.is_shared && self.score > 0);
    }
}

/// The most that each of `count` flows may have of `sum_bps`, so that those that wish for less have that, and the others the rest in
/// equal parts.
fn level_of(sum_bps: f64, count: usize, wishes: impl Iterator<Item = f64> + Clone) -> f64 {
    let mut level = sum_bps / count as f64;
    for _ in 0..count {
        let content = wishes.clone().filter(|wish| *wish < level);
        let (taken, content) = content.fold((0.0, 0), |(taken, content), wish| (taken + wish, content + 1));
        let next = (sum_bps - taken) / (count - content).max(1) as f64;
        if content == count || next <= level {
            break;
        }
        level = next;
    }
    level
}

/// How fast the claim of one flow of `all` is to change when each may have `level`.
fn change_of<'a>(level: f64, one: &FlowView, all: impl Iterator<Item = &'a FlowView> + Clone) -> f64 {
    // Some that have something are better than none.
    if all.clone().any(|view| level.min(view.wish_bps) < view.least_bps) {
        return 0.0;
    }
    let total = |part: fn(f64, &FlowView) -> f64| all.clone().map(|view| part(level, view)).sum::<f64>();
    let (missing, spare) = (total(missing), total(spare));
    let moved = missing.min(spare);
    if moved <= 0.0 { 0.0 } else { moved * (self::missing(level, one) / missing - self::spare(level, one) / spare) }
}

/// What a flow takes of what others can spare, in bit/s a second. It goes up slowly: whoever shares nothing after all has no room.
fn missing(level: f64, view: &FlowView) -> f64 {
    let lacks = level.min(view.wish_bps) - view.claim_bps;
    let is_far = view.is_growing && lacks > UNFAIR * view.claim_bps;
    if is_far { (APPROACH * lacks).min(UPWARDS * view.claim_bps) } else { 0.0 }
}

/// What a flow can spare, in bit/s a second.
fn spare(level: f64, view: &FlowView) -> f64 {
    APPROACH * (view.claim_bps.min(view.wish_bps) - level).max(0.0)
}

#[cfg(test)]
mod tests;
