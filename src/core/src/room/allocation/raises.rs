//! Which layers are sent from now on: what the path may be raised to, where it is known or shown to carry that.

use std::time::{Duration, Instant};

use super::choice::UNMEASURED_BPS;
use super::{Choice, Price, RAISE_INTERVAL, allocate, decide};
use crate::room::congestion::Congestion;
use crate::room::forward::Forward;

/// What it is decided from.
pub(super) struct Decision<'a> {
    pub(super) choices: &'a [Choice],
    pub(super) forwards: &'a [Option<Forward>],
    /// The highest steps that may be kept.
    pub(super) kept: &'a [Option<u8>],
    /// Those that the estimate has room to raise to.
    pub(super) raised: &'a [Option<u8>],
    pub(super) price: Price,
    pub(super) climbing: bool,
    pub(super) ramping: bool,
}

impl Decision<'_> {
    /// The steps from `now` on, over a path that carries `sound` bit/s beside them. What is beyond what the path has carried of
    /// late is rehearsed first; what is not to change yet is rehearsed meanwhile, so that it changes as soon as it may.
    pub(super) fn layers(&self, now: Instant, path: &mut Congestion, sound: u64) -> Vec<Option<u8>> {
        let promises_more = path.promises_more(now);
        let after = |pause: Duration| self.at(now + pause, promises_more);
        let current = current_bps(self.choices).map(|bps| bps + sound);
        let mut layers = after(Duration::ZERO);
        if let Some(bps) = self.raised_bps(&layers) {
            if !self.may_raise(now, path, &layers, (bps + sound, current)) {
                put_off(self.choices, &mut layers);
            }
            return layers;
        }
        if !self.is_held_up(now) {
            return layers;
        }
        if let Some(all) = self.raised_bps(&after(RAISE_INTERVAL)) {
            let lead = path.rehearsal_time(now, all + sound, current);
            let next = after(lead);
            if let Some(bps) = self.raised_bps(&next) {
                self.may_raise(now, path, &next, (bps + sound, current));
            }
        }
        layers
    }

    /// Whether `layers`, that take `bps` together, may be sent instead of those that take `current`. What did not stay when it was tried
    /// last is rehearsed for longer.
    fn may_raise(
        &self,
        now: Instant,
        path: &mut Congestion,
        layers: &[Option<u8>],
        (bps, current): (u64, Option<u64>),
    ) -> bool {
        let is_again = |(choice, layer): (&Choice, &Option<u8>)| *layer > choice.current && choice.in_vain.is_some();
        match self.choices.iter().zip(layers).any(is_again) {
            true => path.may_grow_to(now, bps, current),
            false => path.may_raise_to(now, bps, current),
        }
    }

    /// True while a picture has changed so lately that it is not raised: later something else may be decided than now.
    fn is_held_up(&self, now: Instant) -> bool {
        let mut forwards = self.choices.iter().filter_map(|choice| self.forwards[choice.place].as_ref());
        !self.climbing && !forwards.all(|forward| forward.allotted.has_rested(now, RAISE_INTERVAL))
    }

    /// What would be decided at `now`. `promises_more`: the path may carry more than the estimate, which a rehearsal will tell.
    fn at(&self, now: Instant, promises_more: bool) -> Vec<Option<u8>> {
        let layers = self.within(now, self.raised);
        let is_all = promises_more && self.raised_bps(&layers).is_none();
        if is_all { self.within(now, &allocate(UNMEASURED_BPS - 1, self.choices, self.price)) } else { layers }
    }

    fn within(&self, now: Instant, raised: &[Option<u8>]) -> Vec<Option<u8>> {
        let decide = |((choice, keep), raise): ((&Choice, &Option<u8>), &Option<u8>)| {
            let forward = self.forwards[choice.place].as_ref()?;
            decide((now, self.climbing), forward, choice, *keep, *raise).or(choice.start().filter(|_| self.ramping))
        };
        self.choices.iter().zip(self.kept).zip(raised).map(decide).collect()
    }

    /// What all layers take together, in bit/s, if one of them is higher than the one sent now.
    fn raised_bps(&self, layers: &[Option<u8>]) -> Option<u64> {
        // What is paused begins low, which is its own rehearsal.
        let is_raised =
            self.choices.iter().zip(layers).any(|(choice, layer)| *layer > choice.current.or(choice.start()));
        is_raised.then(|| total_bps(self.choices, layers, self.price))
    }
}

/// What steps take together, in bit/s, at what `price` says of each.
pub(super) fn total_bps(choices: &[Choice], steps: &[Option<u8>], price: Price) -> u64 {
    choices.iter().zip(steps).filter_map(|(choice, step)| Some(price(choice, (*step)?))).sum()
}

/// What the layers that are sent now take together, in bit/s; `None` while that of one is not known yet.
pub(super) fn current_bps(choices: &[Choice]) -> Option<u64> {
    let sent = |choice: &Choice| choice.rungs.get(usize::from(choice.current?)).copied();
    choices.iter().filter_map(sent).map(|rung| (!rung.is_unmeasured()).then_some(rung.bps)).sum()
}

/// Leaves what would be raised as it is. What is paused begins with its lowest layer.
fn put_off(choices: &[Choice], layers: &mut [Option<u8>]) {
    for (choice, layer) in choices.iter().zip(layers) {
        let lowest = choice.start();
        let stays = match choice.current {
            Some(current) if choice.rate(current) > 0 => Some(current),
            Some(current) => lowest.or(Some(current)),
            None => lowest,
        };
        *layer = (*layer).min(stays);
    }
}
