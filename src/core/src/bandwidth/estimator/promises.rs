//! What probes and rehearsals promise and the path does not keep: a token bucket on the way (a shaped access line, a policer) lets
//! them pass at any rate. It shows when it is empty: a queue grows soon after more is sent, and what has arrived until then beyond
//! what arrives now is what the bucket held.

use std::time::Instant;

use super::{Estimator, STEADY_US};
use crate::bandwidth::probe::ProbeResult;

/// A link that carries no more bit/s is narrow: much of what arrives in half a second may come out of a token bucket.
pub const NARROW_BPS: u64 = 450_000;
/// What a token bucket on the way, as of a shaped access line, may let pass at any rate, while none has shown.
pub const BUCKET_BYTES: u64 = 8_000;
/// The part of a rate that is not to have come out of one.
const STEADY_PART: f64 = 0.75;
/// For so long short probes are not believed after one that promised what the path did not carry, and a bucket is remembered.
const MISLED_US: i64 = 60_000_000;
/// How long a promise holds.
const PROMISE_US: i64 = 4_000_000;
/// By how much a probe that is not believed raises the target at most. Twice as much each time while no queue grows, although
/// what it is raised to is used: an empty bucket would show.
const DOUBTED_STEP: f64 = 0.08;
const MAX_DOUBTED_STEP: f64 = 0.5;
/// A target that a probe has raised by less than this factor promises little.
const PROMISED: f64 = 1.3;
/// What a probe has promised is broken where less than this part of it arrives when a queue grows, ...
const BROKEN: f64 = 0.7;
/// ... so soon after it: later the path may be another. What was rehearsed is sent a little later, when its key frame comes.
const BROKEN_WITHIN_US: i64 = 3_000_000;
const REHEARSED_BROKEN_WITHIN_US: i64 = 4_000_000;
/// One probe may have met a gap that others left, two within this time did not.
const AGAIN_WITHIN_US: i64 = 30_000_000;
/// Less is no bucket. And with more it is the path that carries less than it did.
const LEAST_BYTES: f64 = 4_000.0;
const MOST_BYTES: f64 = 100_000.0;
/// A bucket that a rehearsal did not empty is larger than what is known by this factor at least.
const LARGER: f64 = 1.5;
/// Probes that follow each other within this time are one.
const CHAIN_US: i64 = 1_000_000;
/// A bucket is taken for larger by this factor than it has shown: it was not full.
const FULLER: f64 = 1.25;

/// Moments that are remembered, and the least time between them: all of [`BROKEN_WITHIN_US`] and more.
const MARKS: usize = 16;
const MARK_US: i64 = 200_000;

const _: () = assert!(MARK_US * (MARKS as i64) > BROKEN_WITHIN_US);

/// A moment, and the bytes that had arrived by then.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: i64,
    arrived: u64,
}

/// A rate in bit/s that is believed.
#[derive(Clone, Copy, Debug)]
struct Promise {
    bps: f64,
    /// More is sent since then.
    since: Mark,
    until: i64,
    is_rehearsed: bool,
}

/// What probes and rehearsals have promised.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promises {
    /// Until then short probes are not believed.
    misled_until: i64,
    /// When the last of those probes got through.
    promised_at: Option<i64>,
    believed: Option<Promise>,
    /// When a rehearsal began, and the first of the last probes.
    rehearsal: Option<Mark>,
    probe: Option<Mark>,
    /// When a probe's promise was broken last.
    broken_at: Option<i64>,
    /// What the next probe that is not believed raises the target by at most, relative to it.
    step: f64,
    /// The last moments at which feedback came, in a ring.
    marks: [Option<Mark>; MARKS],
    newest: usize,
    /// The largest bucket that has shown, in bytes, and until when it is remembered.
    bucket: Option<(f64, i64)>,
}

impl Promises {
    /// Feedback has come, and so much has arrived by now.
    pub(super) fn mark(&mut self, now: i64, arrived: u64) {
        if self.marks[self.newest].is_none_or(|mark| now - mark.at >= MARK_US) {
            self.newest = (self.newest + 1) % MARKS;
            self.marks[self.newest] = Some(Mark { at: now, arrived });
        }
    }

    /// The most that arrived beyond `bps` since any moment from `first` on: who shares the path, or begins to send more later, has not
    /// had all of it before.
    fn burst_since(&self, first: Mark, (now, bps, arrived): (i64, f64, u64)) -> f64 {
        let beyond = |mark: Mark| arrived.saturating_sub(mark.arrived) as f64 - bps / 8e6 * (now - mark.at) as f64;
        let later = self.marks.iter().flatten().filter(|mark| mark.at > first.at);
        later.copied().map(beyond).fold(beyond(first), f64::max)
    }

    /// A probe begins; `arrived` bytes have arrived so far.
    pub(super) fn probe_begins(&mut self, now: i64, arrived: u64) {
        if self.probe.is_none_or(|first| now - first.at > CHAIN_US) {
            self.probe = Some(Mark { at: now, arrived });
        }
    }

    /// A probe has raised the target from one rate to another.
    pub(super) fn probed(&mut self, now: i64, (from, to): (f64, f64)) {
        if let Some(since) = self.probe.filter(|_| to > from * PROMISED) {
            let until = now + BROKEN_WITHIN_US;
            self.believed = Some(Promise { bps: to, since, until, is_rehearsed: false });
        }
    }

    fn rehearsed(&mut self, now: i64, bps: f64) {
        let Some(since) = self.rehearsal.take() else { return };
        self.believed = Some(Promise { bps, since, until: now + REHEARSED_BROKEN_WITHIN_US, is_rehearsed: true });
    }

    /// A queue has grown and `bps` arrive: whether that breaks what was promised last, so that nothing alike is to be believed.
    fn are_broken(&mut self, now: i64, bps: f64, arrived: u64) -> bool {
        self.step = DOUBTED_STEP;
        let Some(promise) = self.believed.take() else { return false };
        let burst = self.burst_since(promise.since, (now, bps, arrived));
        let part = if promise.is_rehearsed { 1.0 } else { BROKEN };
        if now > promise.until || bps > part * promise.bps || burst > MOST_BYTES {
            return false;
        }
        let known = self.bucket_bytes(now) as f64;
        // The rehearsal was long enough for what is known.
        let least = if promise.is_rehearsed { known * LARGER } else { known };
        if burst < LEAST_BYTES && !promise.is_rehearsed {
            return false;
        }
        self.bucket = Some((least.max(burst * FULLER).min(MOST_BYTES), now + MISLED_US));
        let before = if promise.is_rehearsed { None } else { self.broken_at.replace(now) };
        promise.is_rehearsed || before.is_some_and(|at| now - at < AGAIN_WITHIN_US)
    }

    /// What is made of a probe: `is_used` says that about as much as the target is sent.
    pub(super) fn doubt(&mut self, now: i64, result: ProbeResult, (target, is_used): (f64, bool)) -> ProbeResult {
        if now >= self.misled_until {
            return result;
        }
        self.promised_at = (!result.congested && result.bps > target).then_some(now);
        let most = target * (1.0 + self.step);
        if !result.congested && result.bps > most && is_used {
            self.step = (2.0 * self.step).min(MAX_DOUBTED_STEP);
        }
        ProbeResult { bps: result.bps.min(most), ..result }
    }

    fn mislead(&mut self, now: i64) {
        (self.misled_until, self.step, self.promised_at) = (now + MISLED_US, DOUBTED_STEP, None);
    }

    /// Others have been misled on the same way.
    pub(super) fn mislead_until(&mut self, until: i64) {
        if until > self.misled_until {
            self.mislead(until - MISLED_US);
        }
    }

    /// Until when short probes are not believed, if they ever were not.
    pub(super) fn misled_until(&self) -> Option<i64> {
        (self.misled_until > 0).then_some(self.misled_until)
    }

    fn bucket_bytes(&self, now: i64) -> u64 {
        self.bucket.filter(|(_, until)| now < *until).map_or(BUCKET_BYTES, |(bytes, _)| BUCKET_BYTES.max(bytes as u64))
    }
}

impl Estimator {
    /// More was sent for a while than the path carries, because a probe had got through: there is a token bucket on
    /// the way, that lets probes pass at any rate. From now on they are not taken at their word; see
    /// [`Self::promises_more`].
    pub fn probes_mislead(&mut self, now: Instant) {
        self.promises.mislead(self.micros(now));
        self.probes.forget_planned();
    }

    /// True when a probe has got through of late that is not believed: only sending more for a while can tell.
    pub fn promises_more(&self, now: Instant) -> bool {
        let now = self.micros(now);
        self.promises.promised_at.is_some_and(|at| now - at < PROMISE_US)
    }

    /// A rehearsal of more begins.
    pub fn rehearsal_begins(&mut self, now: Instant) {
        self.promises.rehearsal = Some(Mark { at: self.micros(now), arrived: self.arrived });
    }

    /// The path has carried `bps` for a while, without a queue.
    pub fn confirm(&mut self, now: Instant, bps: u64) {
        let now = self.micros(now);
        if bps as f64 > self.rate.target() && self.promises.bucket_bytes(now) <= BUCKET_BYTES {
            self.promises.misled_until = 0;
        }
        self.promises.rehearsed(now, bps as f64);
        self.rate.confirm(bps as f64);
    }

    /// What a token bucket on the way may let pass at any rate, in bytes: as much as one has shown to hold of late.
    pub fn bucket_bytes(&self, now: Instant) -> u64 {
        self.promises.bucket_bytes(self.micros(now))
    }

    /// Whether so many bit/s arrived over the last half a second, and over a narrow link most of it not at once, out of a token
    /// bucket. Not, as far as is known, where the first feedback tells of a burst, which is no rate.
    pub fn has_carried(&self, now: Instant, bps: u64) -> bool {
        let carried = self.throughput.bps(STEADY_US).is_some_and(|arrived| arrived >= bps as f64);
        let bucket = self.bucket_bytes(now);
        let steadily = || self.throughput.bps_beyond(bucket, STEADY_US);
        let is_small = bps > NARROW_BPS && bucket <= BUCKET_BYTES;
        carried && (is_small || steadily().is_some_and(|arrived| arrived >= STEADY_PART * bps as f64))
    }

    /// The target has been lowered because of a queue: what was promised last may have been too much.
    pub(super) fn judge_promises(&mut self, now: i64, recent_bps: Option<f64>) {
        let bps = recent_bps.unwrap_or(self.rate.target());
        if self.promises.are_broken(now, bps, self.arrived) {
            self.promises.mislead(now);
            self.probes.forget_planned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandwidth::probe::Purpose;

    /// When the promise of 1 Mbit/s is made.
    const AT: i64 = 10_000_000;

    fn promised(is_rehearsed: bool) -> Promises {
        let mut promises = Promises::default();
        let since = Mark { at: AT, arrived: 500 };
        if is_rehearsed {
            promises.rehearsal = Some(since);
            promises.rehearsed(AT, 1e6);
        } else {
            promises.probe_begins(since.at, since.arrived);
            promises.probed(AT, (500_000.0, 1e6));
        }
        promises
    }

    #[test]
    fn what_arrives_until_a_queue_grows_beyond_what_arrives_then_is_what_a_bucket_held() {
        // A second at 500 kbit/s are 62,500 bytes.
        for (is_rehearsed, ms, bps, bytes, bucket) in [
            (false, 1_000, 500_000.0, 82_500, 25_000),
            (false, 1_000, 500_000.0, 65_500, 8_000),
            (false, 1_000, 500_000.0, 182_500, 8_000),
            (false, 1_000, 800_000.0, 120_000, 8_000),
            (false, 3_001, 500_000.0, 207_500, 8_000),
            (true, 1_000, 500_000.0, 82_500, 25_000),
            (true, 1_000, 900_000.0, 112_500, 12_000),
            (true, 4_001, 500_000.0, 270_000, 8_000),
        ] {
            let mut promises = promised(is_rehearsed);
            let now = AT + ms * 1_000;
            promises.are_broken(now, bps, bytes + 500);
            assert_eq!(promises.bucket_bytes(now), bucket, "{is_rehearsed} {ms} ms {bps} bit/s {bytes} bytes");
            assert_eq!(promises.bucket_bytes(now + MISLED_US), BUCKET_BYTES, "it is forgotten");
        }
    }

    #[test]
    fn a_bucket_shows_too_where_more_is_sent_a_while_after_the_probe_or_others_have_had_a_part_of_the_path() {
        for (more_at_ms, bucket) in [(None, BUCKET_BYTES), (Some(420), 23_437), (Some(1_200), BUCKET_BYTES)] {
            let mut promises = promised(false);
            // 200 kbit/s at first, then 500 kbit/s and 20,000 bytes that come at once: 18,750 of them in the time since the mark before.
            let mut arrived = 500;
            for ms in (0..1_000).step_by(20) {
                let is_more = more_at_ms.is_some_and(|at| ms >= at);
                arrived += if is_more { 1_250 } else { 500 } + if Some(ms) == more_at_ms { 20_000 } else { 0 };
                promises.mark(AT + ms * 1_000, arrived);
            }
            promises.are_broken(AT + 1_000_000, 500_000.0, arrived);
            assert_eq!(promises.bucket_bytes(AT + 1_000_000), bucket, "{more_at_ms:?}");
        }
    }

    #[test]
    fn a_rehearsal_that_promised_too_much_is_enough_to_doubt_and_so_are_two_probes() {
        assert!(promised(true).are_broken(AT + 1_000_000, 500_000.0, 83_000));
        for (pause, expected) in [(20_000_000, true), (40_000_000, false)] {
            let mut promises = promised(false);
            assert!(!promises.are_broken(AT + 1_000_000, 500_000.0, 83_000), "somebody else may have been in the way");
            let at = AT + pause;
            promises.probe_begins(at, 200_000);
            promises.probed(at, (500_000.0, 1e6));
            assert_eq!(promises.are_broken(at + 1_000_000, 500_000.0, 282_500), expected, "{pause} us later");
        }
    }

    #[test]
    fn a_probe_that_is_doubted_counts_for_more_each_time_that_nothing_comes_of_it() {
        let probe = ProbeResult { purpose: Purpose::Search, asked_bps: 2e6, bps: 2e6, congested: false };
        let mut promises = Promises::default();
        assert_eq!(promises.doubt(AT, probe, (1e6, true)).bps, 2e6);
        promises.mislead(AT);
        for (is_used, expected) in [(true, 1.08e6), (false, 1.16e6), (true, 1.16e6), (true, 1.32e6), (true, 1.5e6)] {
            assert_eq!(promises.doubt(AT, probe, (1e6, is_used)).bps, expected, "{is_used}");
        }
        promises.are_broken(AT, 1e6, 0);
        assert_eq!(promises.doubt(AT, probe, (1e6, true)).bps, 1.08e6, "a queue has grown");
    }
}
