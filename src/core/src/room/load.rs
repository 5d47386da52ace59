//! How much of the video a shard has time for.
//!
//! A packet costs less the more of them leave together, so that a shard that is short of time first lets what comes wait for
//! others (as a network card does with its interrupts): [`Load::coalescing`].
//!
//! When its ticks take all of the time even so, datagrams wait in the socket's
//! receive queue until the kernel drops some of them, whichever they are; so the shard drops what it chooses before that:
//! first what waits of some of the videos, until their next key frames, then, for as long as it takes, the higher layers of
//! tracks and whole videos. Sound, STUN and DTLS are never among it.

use std::time::{Duration, Instant};

/// How long more than a little may wait in the receive queue: then videos are cut short, a part of them at a time.
const STALE: Duration = Duration::from_millis(100);
/// The parts of them that are cut at once: at first, and where the queue is nearly full.
const CUT: (f64, f64) = (0.25, 0.5);
/// What is cut besides, and how often.
const CUT_MORE: (f64, Duration) = (0.25, Duration::from_millis(50));
/// Between two changes of what is kept.
const INTERVAL: Duration = Duration::from_millis(250);
/// The shortest time that tells what is used, which is looked at every 25 ms.
const SHORT_INTERVAL: Duration = Duration::from_millis(100);
/// Videos that are cut short twice within such a time are too many, whatever is used: they are not read half of the time.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest pause from the beginning of a tick to that of the next one: a packet of each speaker's.
const LONGEST: Duration = Duration::from_millis(20);
/// The shortest one, and by how much it becomes shorter.
const STEP: Duration = Duration::from_millis(1);
/// The part of the time below which it does.
const RELAXED: f64 = 0.75;
/// A shard that uses less of its time sleeps between most of its ticks.
const ASLEEP: f64 = 0.5;
/// The part of the time that is to be used: what is free takes up the bursts.
const AIM: (f64, f64) = (0.9, 0.97);
/// What is left out besides when videos are cut short, and when they are again: how far it is beyond what can be done is not known then.
const BEHIND: (f64, f64) = (0.15, 0.25);
/// The smallest and the largest step up.
const UP: (f64, f64) = (0.02, 0.08);
/// What of the time that seems to be free is given back at once: publishers take some tenths of a second to begin again, and
/// begin with key frames.
const CAREFUL: f64 = 0.5;
/// Per cent of a receive buffer: less is next to nothing. The kernel gives back what was taken in quarters of it.
const LITTLE_FILL: u8 = 40;
/// More is too much.
const MUCH_FILL: u8 = 70;
/// For so long nothing is let in again behind a moment in which too much waited: what it dropped, and what is missing until
/// the next key frames, looks like time to spare.
const CAUTION: Duration = Duration::from_millis(700);
/// The smallest part of the video that is kept.
const LEAST_KEPT: f64 = 0.05;

/// What a tick has left in the sockets' receive queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Next to nothing.
    Little,
    /// Datagrams that came some ticks ago.
    Some,
    /// So many that the kernel will soon drop what comes, whatever it is.
    Much,
}

impl Backlog {
    /// `fill`: per cent of the fullest queue.
    pub fn with_fill(fill: u8) -> Self {
        match fill {
            ..LITTLE_FILL => Self::Little,
            LITTLE_FILL..MUCH_FILL => Self::Some,
            MUCH_FILL.. => Self::Much,
        }
    }
}

/// What a shard has time for.
#[derive(Clone, Debug)]
pub struct Load {
    began: Instant,
    busy: Duration,
    /// The part of the time that was used in the last interval; all of it before the first one has ended.
    used: f64,
    behind_since: Option<Instant>,
    /// There has been too much in the queues since then, and never little.
    much_since: Option<Instant>,
    /// The part of the videos that is cut short, as of the last tick.
    cut: f64,
    /// When some were last, and none had been.
    cut_at: Option<Instant>,
    /// That was since `began`, and soon after the time before.
    is_again: bool,
    /// Some were cut short since `began`.
    was_behind: bool,
    kept: f64,
    coalescing: Duration,
    /// Nothing is let in again until then.
    cautious: Option<Instant>,
    /// Until then it catches up with what has waited during a standstill.
    forgiven: Option<Instant>,
}

impl Load {
    /// Everything is kept.
    pub fn new(now: Instant) -> Self {
        let (busy, used, coalescing, kept) = (Duration::ZERO, 1.0, Duration::ZERO, 1.0);
        let (behind_since, much_since, cut_at, cautious, forgiven) = (None, None, None, None, None);
        let (cut, is_again, was_behind) = (0.0, false, false);
        Self {
            began: now,
            busy,
            used,
            behind_since,
            much_since,
            cut,
            cut_at,
            is_again,
            was_behind,
            kept,
            coalescing,
            cautious,
            forgiven,
        }
    }

    /// The shard has stood still, or is about to, and catches up until then: nothing is left out for that.
    pub fn forgive(&mut self, until: Instant) {
        self.forgiven = Some(until);
    }

    /// Takes in a tick that ended at `now`, and the time that was used since the last one that told of any. True when
    /// another part of the video is to be kept from now on; see [`Self::kept`].
    pub fn tick(&mut self, now: Instant, busy: Duration, backlog: Backlog) -> bool {
        if self.forgiven.is_some_and(|until| now < until) {
            let Self { used, kept, coalescing, cautious, forgiven, .. } = *self;
            *self = Self { used, kept, coalescing, cautious, forgiven, ..Self::new(now) };
            return false;
        }
        self.busy += busy;
        self.behind_since = (backlog != Backlog::Little).then(|| self.behind_since.unwrap_or(now));
        self.much_since = match backlog {
            Backlog::Little => None,
            Backlog::Some => self.much_since,
            Backlog::Much => self.much_since.or(Some(now)),
        };
        let cut = self.part_to_cut(now);
        let is_new = cut > 0.0 && self.cut == 0.0;
        self.cut = cut;
        self.was_behind |= cut > 0.0;
        if is_new {
            self.is_again |= self.cut_at.replace(now).is_some_and(|at| now < at + AGAIN);
        }
        let elapsed = now.saturating_duration_since(self.began);
        // What follows is not read, and takes no time: a queue that has become too long tells of the time before.
        if elapsed < if is_new { SHORT_INTERVAL } else { INTERVAL } {
            return false;
        }
        let used = self.busy.as_secs_f64() / elapsed.as_secs_f64();
        (self.began, self.busy, self.used) = (now, Duration::ZERO, used);
        let before = self.kept;
        self.adapt(now, used);
        self.kept != before
    }

    /// Keeps more or less of the video, behind a time of which the part `used` was used.
    fn adapt(&mut self, now: Instant, used: f64) {
        let was_pressed = self.is_pressed();
        let was_behind = std::mem::take(&mut self.was_behind);
        let is_again = std::mem::take(&mut self.is_again);
        self.coalesce(used, was_behind);
        if was_behind {
            self.cautious = Some(now + CAUTION);
        }
        let is_cautious = self.cautious.is_some_and(|until| now < until);
        let before = self.kept;
        let kept = if is_again {
            before * (1.0 - BEHIND.1)
        } else if was_behind && used >= AIM.0 {
            before * (1.0 - BEHIND.0)
        } else if used > AIM.1 && was_pressed {
            before * (1.0 - (used - AIM.1).min(BEHIND.1))
        } else if used < AIM.0 && !is_cautious {
            let all = before * AIM.0 / used.max(f64::EPSILON);
            before + ((all - before) * CAREFUL).clamp(UP.0, UP.1)
        } else {
            // Or it has stood still, and there is time for what has come meanwhile.
            before
        };
        self.kept = kept.clamp(LEAST_KEPT, 1.0);
    }

    /// What is gained by leaving more together is gained before anything is left out, and given back last.
    fn coalesce(&mut self, used: f64, was_behind: bool) {
        if was_behind || used >= AIM.0 {
            self.coalescing = (2 * self.coalescing).clamp(STEP, LONGEST);
        } else if used < RELAXED && self.kept >= 1.0 {
            self.coalescing = self.coalescing.saturating_sub(STEP);
        }
    }

    /// How long after the beginning of a tick the next one begins, at the earliest, when nothing waits.
    pub fn coalescing(&self) -> Duration {
        self.coalescing
    }

    /// Whether that is as long as it may be.
    pub fn is_pressed(&self) -> bool {
        self.coalescing == LONGEST
    }

    /// Whether the shard sleeps between most of its ticks: what they touch is not in the core's caches any more when they begin.
    pub fn is_often_asleep(&self) -> bool {
        self.used < ASLEEP
    }

    /// The part of the video that there is time for, 0 to 1.
    pub fn kept(&self) -> f64 {
        self.kept
    }

    /// The part of the videos that is to be cut short, 0 to 1, so that what waits of them takes no time.
    pub fn cut(&self) -> f64 {
        self.cut
    }

    /// The more, the longer something has waited for too long, or there has been too much of it.
    fn part_to_cut(&self, now: Instant) -> f64 {
        let part = |since: Instant, at_once: f64| {
            let over = now.checked_duration_since(since)?;
            Some(at_once + CUT_MORE.0 * (over.as_nanos() / CUT_MORE.1.as_nanos()) as f64)
        };
        let for_its_age = self.behind_since.and_then(|since| part(since + STALE, CUT.0));
        let for_its_length = self.much_since.and_then(|since| part(since, CUT.1));
        for_its_age.unwrap_or(0.0).max(for_its_length.unwrap_or(0.0)).min(1.0)
    }

    /// True when not all can be done: what was asked for again is not sent.
    pub fn is_short(&self, now: Instant) -> bool {
        self.kept < 1.0 || self.part_to_cut(now) > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn backlog(is_behind: bool) -> Backlog {
        if is_behind { Backlog::Some } else { Backlog::Little }
    }

    /// Ticks of 10 ms for a second, of which `busy` per cent are used, while `is_behind`.
    fn second(load: &mut Load, t0: Instant, second: u64, busy: u64, is_behind: bool) -> f64 {
        for tick in 1..=100 {
            load.tick(t0 + ms(second * 1_000 + tick * 10), ms(busy) / 10, backlog(is_behind));
        }
        load.kept()
    }

    #[test]
    fn a_shard_that_keeps_up_keeps_everything() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        assert_eq!([second(&mut load, t0, 0, 50, false), second(&mut load, t0, 1, 90, false)], [1.0, 1.0]);
        assert!(!load.is_short(t0 + ms(2_000)));
    }

    #[test]
    fn a_shard_that_uses_less_than_half_of_its_time_is_often_asleep() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        assert!(!load.is_often_asleep(), "nothing is known yet");
        for (at, busy, expected) in [(0, 49, true), (1, 51, false), (2, 3, true)] {
            second(&mut load, t0, at, busy, false);
            assert_eq!(load.is_often_asleep(), expected, "{busy} per cent");
        }
        load.forgive(t0 + ms(4_000));
        assert_eq!((second(&mut load, t0, 3, 100, false), load.is_often_asleep()), (1.0, true), "a standstill");
    }

    #[test]
    fn the_longer_datagrams_wait_the_more_videos_are_cut_until_the_queue_is_short() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        for (at, is_behind, expected) in [
            (10, true, 0.0),
            (100, true, 0.0),
            (111, true, 0.25),
            (159, true, 0.25),
            (161, true, 0.5),
            (300, true, 1.0),
            (310, false, 0.0),
        ] {
            load.tick(t0 + ms(at), ms(1), backlog(is_behind));
            assert_eq!(load.cut(), expected, "{at}");
        }
    }

    #[test]
    fn half_of_the_videos_are_cut_at_once_where_the_queue_is_nearly_full() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        for (at, backlog, expected) in [
            (1, Backlog::Some, 0.0),
            (2, Backlog::Much, 0.5),
            (3, Backlog::Some, 0.5),
            (52, Backlog::Some, 0.75),
            (53, Backlog::Little, 0.0),
            (54, Backlog::Some, 0.0),
        ] {
            load.tick(t0 + ms(at), ms(1), backlog);
            assert_eq!(load.cut(), expected, "{at}");
        }
    }

    #[test]
    fn a_queue_that_was_long_for_a_moment_of_a_shard_with_time_to_spare_is_no_overload() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        let before = second(&mut load, t0, 0, 100, true);
        for (busy, expected) in [(50, before), (70, before), (100, before * 0.53)] {
            let kept = second(&mut load.clone(), t0, 1, busy, true);
            assert!((kept - expected).abs() < 0.01, "{busy} %: {before} -> {kept}");
        }
    }

    #[test]
    fn videos_that_are_cut_short_again_and_again_are_too_many_even_where_there_is_time_to_spare() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        // A short receive buffer: it is full as soon as all of them go on.
        let kept = [0, 1, 2].map(|n| {
            load.tick(t0 + ms(n * 1_000 + 700), ms(300), Backlog::Much);
            load.tick(t0 + ms(n * 1_000 + 750), ms(10), Backlog::Little);
            load.kept()
        });
        assert_eq!(kept, [1.0, 0.75, 0.75 * 0.75]);
        load.tick(t0 + ms(5_000), ms(100), Backlog::Much);
        assert!(load.kept() >= kept[2], "once is no overload");
    }

    #[test]
    fn a_shard_that_catches_up_behind_a_standstill_leaves_nothing_out_for_it() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        load.forgive(t0 + ms(1_000));
        for at in 1..100 {
            assert!(!load.tick(t0 + ms(at * 10), ms(10), Backlog::Much) && !load.is_short(t0 + ms(at * 10)));
        }
        assert!(second(&mut load, t0, 1, 100, true) < 1.0, "but only for that time");
    }

    #[test]
    fn a_shard_that_is_short_of_time_lets_datagrams_wait_for_others_before_it_leaves_anything_out() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        let mut quarters = (0..).map(|n| t0 + ms(250 * n));
        let mut after = |busy: u64| {
            load.tick(quarters.next().unwrap(), ms(busy), Backlog::Little);
            (load.coalescing().as_millis(), load.kept())
        };
        assert_eq!(after(0), (0, 1.0));
        let steps: Vec<_> = (0..7).map(|_| after(250)).collect();
        let waits: Vec<_> = steps.iter().map(|(wait, _)| *wait).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 20, 20]);
        assert!(steps[..6].iter().all(|(_, kept)| *kept == 1.0) && steps[6].1 < 1.0, "{steps:?}");
        while after(200).1 < 1.0 {}
        assert_eq!(after(200), (20, 1.0), "that is what it gains");
        assert_eq!([after(180), after(180), after(200)], [(19, 1.0), (18, 1.0), (18, 1.0)]);
    }

    #[test]
    fn less_and_less_is_kept_while_it_is_behind_and_more_again_when_there_is_time() {
        let t0 = Instant::now();
        let mut load = Load::new(t0);
        let behind = second(&mut load, t0, 0, 100, true);
        assert!((0.5..0.6).contains(&behind), "{behind}");
        let mut free = load.clone();
        for quarter in 1..=4 {
            free.tick(t0 + ms(1_000 + quarter * 250), ms(125), Backlog::Little);
            assert_eq!(free.kept() > behind, quarter == 4, "not at once behind a queue that was too long: {quarter}");
        }
        let full = second(&mut load, t0, 1, 100, false);
        assert!(full < behind && full > behind * 0.75, "{full}");
        let full = second(&mut load, t0, 2, 95, false);
        assert_eq!(second(&mut load, t0, 3, 95, false), full, "as it should be");
        let free = second(&mut load, t0, 4, 50, false);
        assert!(free > full + 3.0 * UP.1 && free < full + 4.01 * UP.1, "quickly where much is free: {free}");
        let nearly = second(&mut load, t0, 5, 88, false);
        assert!(nearly > free && nearly < free + 2.0 * UP.1, "slowly where little is: {nearly}");
        for n in 6..13 {
            second(&mut load, t0, n, 50, false);
        }
        assert_eq!(load.kept(), 1.0);
        for n in 13..30 {
            second(&mut load, t0, n, 100, true);
        }
        assert_eq!(load.kept(), LEAST_KEPT);
    }
}
