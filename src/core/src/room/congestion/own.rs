//! What a receiver estimates itself (REMB) that gives no transport-wide feedback.
//!
//! An estimate is of the streams that it lists (draft-alvestrand-rmcat-remb, section 2.2): who estimates each stream for itself
//! (aiortc) sends one for each, under the name of each, and the path carries all of them together. No such estimate goes
//! beyond one and a half times what comes, so that who is sent less than it wants would never be told of more. While
//! something is left out for want of room, padding fills up what is sent to what is told; where there is nothing to pad
//! with, or that is not counted, more is sent for a moment. Both end where the estimates do not follow, and what fails rests
//! for longer each time.

use std::time::{Duration, Instant};

use moonring_wire::id::Ssrc;

/// How long an estimate counts: while pictures come, clients send one a second or more often.
const LIFE: Duration = Duration::from_secs(5);
/// Estimates of different streams that are kept.
const MAX_ESTIMATES: usize = 64;
/// What is sent is filled up to this part of what is told.
const FILLED: f64 = 0.95;
/// What is around a payload: IP, UDP, RTP with its extensions, and SRTP, in bytes.
const HEADERS: usize = 64;
/// Between two slices of padding.
const SLICE: Duration = Duration::from_millis(20);
/// Less padding than this waits for more: about a packet.
const LEAST_BYTES: f64 = 300.0;
/// How much padding may have been saved up, and how much of what is sent may be ahead of it, in seconds.
const SAVED_S: f64 = 0.04;
const AHEAD_S: f64 = 1.0;
/// What is tried where nothing can pad, relative to what is told, and for how long.
const TRIED: f64 = 1.6;
const TRIAL: Duration = Duration::from_secs(6);
/// Only who is told of so much more than is sent is tried: such estimates grow no further by themselves.
const TOLD_MORE: f64 = 1.35;
/// Who is sent so much more than before is in the middle of a trial.
const SENT_MORE: f64 = 1.25;
/// A trial after which so much more is told than before has found room, and there may be more.
const FOUND: f64 = 1.2;
/// An estimate that follows what comes is at most so many times what is sent.
const BY_ITSELF: f64 = 1.7;
/// A search that estimates have fallen in, to this part of the best, has found a queue.
const FALLEN: f64 = 0.9;
/// What has failed is more than this part of it carries.
const BELOW: f64 = 0.95;
/// Estimates that have not grown by this factor for so long do not count padding.
const GROWN: f64 = 1.02;
const PATIENCE: Duration = Duration::from_secs(4);
/// The rest after a search that found nothing: the first, and at most.
const REST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(160));
/// The longest time in which nothing is sent to a client of which nothing is heard: some picture is better than none.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Who has had all that it wants for so long begins with the first rest again.
const CONTENT: Duration = Duration::from_secs(30);
/// An estimate that has risen by this factor since it fell last, to less than this part of what it was, is of a path without a queue.
const RISEN: f64 = 1.15;
const LOWER: f64 = 0.98;
/// What is tried after nothing was sent, relative to the least that any picture takes: rates vary.
const MARGIN: f64 = 1.1;
/// How long what is sent is measured.
const WINDOW: Duration = Duration::from_millis(500);

/// One estimate of a receiver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Who says so: a receiver may have several estimators.
    pub sender: Ssrc,
    /// Bit/s.
    pub bps: u64,
    /// The streams of media that it is of; none: of all that is sent.
    pub streams: Vec<Ssrc>,
    /// It is of sound and pictures together, not of pictures alone.
    pub covers_sound: bool,
}

/// What a client is sent of the pictures that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// All.
    Whole,
    /// Less than it wants, as that does not fit.
    Less,
    /// Nothing, as it does not fit: who receives nothing estimates nothing.
    Nothing,
}

/// Looks for more room than is told of.
#[derive(Clone, Copy, Debug)]
enum Search {
    None,
    Running {
        /// When it began.
        began: Instant,
        /// What was told when more began to be sent, or is now, and what was sent when it began, in bit/s.
        from: u64,
        sent_bps: f64,
        /// The estimate that the next growth is measured from, with its time.
        mark: (u64, Instant),
    },
    /// More than this many bit/s is not believed: what estimates have fallen with has failed.
    Resting {
        until: Instant,
        ceiling_bps: u64,
    },
}

/// The estimates that count, and the search for more.
#[derive(Debug)]
pub(super) struct OwnEstimates {
    told: Vec<(Instant, Estimate)>,
    covers_sound: bool,
    search: Search,
    rest: Duration,
    served: Served,
    /// Since when all is sent, or when it was last, after something had been left out.
    content_since: Option<Instant>,
    /// When something was last sent without an estimate, as nothing was for a while, and what that takes, in bit/s.
    tried: Option<(Instant, u64)>,
    /// How long nothing is sent before.
    wait: Duration,
    /// The last estimate, and the lowest since they fell last.
    last: u64,
    low: u64,
    /// When an estimate came last.
    heard: Instant,
    /// The highest estimate since the search began, or since nothing has been left out.
    best: u64,
    can_pad: bool,
    /// Padding has changed no estimate: some count no retransmissions. It is not tried again.
    is_padding_unheard: bool,
    /// What all that is wanted takes, in bit/s: padding goes no further.
    wanted_bps: u64,
    /// What is sent that nothing is told of, in bit/s.
    sound_bps: u64,
    /// Bytes that may be padded at `polled`.
    room: f64,
    polled: Instant,
    sent: SentOf,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
struct SentOf {
    since: Instant,
    bytes: u64,
    /// Bit/s over the last window.
    bps: f64,
}

impl OwnEstimates {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            told: Vec::new(),
            covers_sound: true,
            search: Search::None,
            rest: REST.0,
            served: Served::Whole,
            content_since: None,
            tried: None,
            wait: LIFE,
            last: 0,
            low: 0,
            heard: now,
            best: 0,
            can_pad: false,
            is_padding_unheard: false,
            wanted_bps: 0,
            sound_bps: 0,
            room: 0.0,
            polled: now,
            sent: SentOf { since: now, bytes: 0, bps: 0.0 },
        }
    }

    /// Takes in an estimate. It takes the place of what the same estimator has told of one of its streams.
    pub(super) fn take_in(&mut self, now: Instant, estimate: Estimate) {
        let is_of_all = |of: &Estimate| of.streams.is_empty();
        let stays = |of: &Estimate| {
            let is_of_others = !of.streams.iter().any(|stream| estimate.streams.contains(stream));
            !is_of_all(&estimate) && !is_of_all(of) && (of.sender != estimate.sender || is_of_others)
        };
        let before = self.told.len();
        self.told.retain(|(_, of)| stays(of));
        if self.told.len() == before {
            // One of another stream: more is told of, and nothing has risen.
            self.low = u64::MAX;
        }
        if self.told.len() < MAX_ESTIMATES {
            self.told.push((now, estimate));
        }
        self.covers_sound = self.told.iter().any(|(_, estimate)| estimate.covers_sound);
        self.heard = now;
        self.judge(now);
    }

    /// Forgets what is old. False when a client that is sent pictures has said nothing of them for a while: it estimates no more.
    /// Who is sent none has nothing to say: what takes `least_bps` is tried then.
    pub(super) fn expire(&mut self, now: Instant, least_bps: u64) -> bool {
        self.told.retain(|(at, _)| now.saturating_duration_since(*at) < LIFE);
        if !self.told.is_empty() || self.served != Served::Nothing {
            return !self.told.is_empty();
        }
        if now.saturating_duration_since(self.heard) >= self.wait {
            let bps = (least_bps as f64 * MARGIN) as u64;
            (self.tried, self.heard, self.search) = (Some((now, bps)), now, Search::None);
            (self.last, self.low) = (0, u64::MAX);
            self.told
                .push((now, Estimate { sender: Ssrc(0), bps, streams: Vec::new(), covers_sound: self.covers_sound }));
        }
        true
    }

    /// What may be sent, in bit/s.
    pub(super) fn bps(&self) -> u64 {
        let told = self.told_bps();
        let believed = match self.search {
            Search::Running { from, .. } if !self.pads() => told.max((from as f64 * TRIED) as u64),
            // Who is told of more than any estimate grows to by itself has another path.
            Search::Resting { ceiling_bps, .. } if told as f64 <= BY_ITSELF * self.sent.bps => told.min(ceiling_bps),
            _ => told,
        };
        believed.max(self.carried_bps())
    }

    /// What is evidently carried, though less is told of: such estimates rise slowly, and fall at once where there is a queue.
    fn carried_bps(&self) -> u64 {
        let is_rising = self.low > 0 && self.told_bps() as f64 >= RISEN * self.low as f64;
        let sent = if is_rising { self.sent.bps as u64 } else { 0 };
        let tried = self.tried.filter(|(at, _)| self.heard.saturating_duration_since(*at) < TRIAL);
        sent.max(tried.map_or(0, |(_, bps)| bps))
    }

    /// True where sound is part of what is told of.
    pub(super) fn covers_sound(&self) -> bool {
        self.covers_sound
    }

    /// Notes a datagram that leaves, of which receivers count the payload.
    #[inline]
    pub(super) fn sent(&mut self, bytes: usize) {
        let bytes = bytes.saturating_sub(HEADERS);
        self.room -= bytes as f64;
        self.sent.bytes += bytes as u64;
    }

    /// Whether there is anything to pad with.
    pub(super) fn set_padded(&mut self, can_pad: bool) {
        self.can_pad = can_pad;
    }

    /// What all that is wanted takes, and what of it is sound, in bit/s.
    pub(super) fn set_wanted(&mut self, wanted_bps: u64, sound_bps: u64) {
        (self.wanted_bps, self.sound_bps) = (wanted_bps, sound_bps);
    }

    /// What is sent of what is wanted.
    pub(super) fn set_served(&mut self, now: Instant, served: Served) {
        let before = std::mem::replace(&mut self.served, served);
        let is_new = |of: Option<Instant>| of.is_some_and(|at| now.saturating_duration_since(at) < CONTENT);
        match (before, served) {
            (before, served) if before == served => {}
            (_, Served::Whole) => (self.content_since, self.best) = (Some(now), self.told_bps()),
            (_, Served::Nothing) => {
                let again = is_new(self.tried.map(|(at, _)| at));
                self.wait = if again { (self.wait * 2).min(LONGEST_WAIT) } else { LIFE };
            }
            (Served::Whole, _) if !is_new(self.content_since) => self.rest = REST.0,
            (Served::Whole, _) if self.has_fallen() => self.search = self.give_up(now),
            _ => {}
        }
    }

    /// Lets time pass: how many bytes of padding are to leave now.
    pub(super) fn poll(&mut self, now: Instant) -> usize {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.polled, now)).as_secs_f64();
        self.measure(now);
        self.follow(now);
        let bps = FILLED * self.told_bps().min(self.wanted_bps) as f64 + self.untold_bps();
        self.room = (self.room + bps / 8.0 * passed).clamp(-bps / 8.0 * AHEAD_S, bps / 8.0 * SAVED_S);
        let is_due = self.pads() && self.is_running() && self.room >= LEAST_BYTES;
        if is_due { self.room as usize } else { 0 }
    }

    /// When [`Self::poll`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.search {
            _ if !self.is_short() && !self.is_running() => None,
            Search::Resting { until, .. } => Some(until.max(self.polled + SLICE)),
            Search::None | Search::Running { .. } => Some(self.polled + SLICE),
        }
    }

    fn told_bps(&self) -> u64 {
        self.told.iter().fold(0, |sum: u64, (_, estimate)| sum.saturating_add(estimate.bps))
    }

    /// What is sent that nothing is told of: sound, where estimates leave it out.
    fn untold_bps(&self) -> f64 {
        if self.covers_sound { 0.0 } else { self.sound_bps as f64 }
    }

    /// True while there is something to measure more with.
    fn is_short(&self) -> bool {
        self.served == Served::Less
    }

    fn pads(&self) -> bool {
        self.can_pad && !self.is_padding_unheard
    }

    fn is_running(&self) -> bool {
        matches!(self.search, Search::Running { .. })
    }

    fn has_fallen(&self) -> bool {
        (self.told_bps() as f64) < self.best as f64 * FALLEN
    }

    fn measure(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.sent.since);
        if passed >= WINDOW {
            let bps = self.sent.bytes as f64 * 8.0 / passed.as_secs_f64() - self.untold_bps();
            self.sent = SentOf { since: now, bytes: 0, bps: bps.max(0.0) };
        }
    }

    /// Begins a search, and ends one that is needed no more or finds nothing.
    fn follow(&mut self, now: Instant) {
        let told = self.told_bps();
        self.search = match self.search {
            Search::None if self.is_short() && (self.pads() || told as f64 >= TOLD_MORE * self.sent.bps) => {
                self.best = told;
                Search::Running { began: now, from: told, sent_bps: self.sent.bps, mark: (told, now) }
            }
            Search::Running { .. } if !self.is_short() => Search::None,
            Search::Running { mark: (_, grew), .. } if self.pads() && now >= grew + PATIENCE => {
                self.is_padding_unheard = true;
                Search::None
            }
            Search::Running { began, from, .. } if !self.pads() && now >= began + TRIAL => {
                // What was tried has come, and is told of: there may be more.
                if told as f64 > from as f64 * FOUND { Search::None } else { self.give_up(now) }
            }
            Search::Resting { until, .. } if now >= until => Search::None,
            search => search,
        };
    }

    /// What a new estimate says of a search.
    fn judge(&mut self, now: Instant) {
        self.measure(now);
        let told = self.told_bps();
        self.best = self.best.max(told);
        if (told as f64) < self.last as f64 * LOWER {
            self.low = told;
            self.tried = self.tried.map(|(at, _)| (at, 0));
        }
        self.last = told;
        self.low = self.low.min(told);
        let Search::Running { mark, from, sent_bps, .. } = &mut self.search else { return };
        if self.sent.bps < *sent_bps * SENT_MORE {
            *from = told.max(*from);
        }
        if told as f64 > mark.0 as f64 * GROWN {
            *mark = (told, now);
        }
        if self.has_fallen() {
            self.search = self.give_up(now);
        }
    }

    fn give_up(&mut self, now: Instant) -> Search {
        let until = now + self.rest;
        let ceiling_bps = if self.has_fallen() { (self.sent.bps * BELOW) as u64 } else { u64::MAX };
        self.rest = (self.rest * 2).min(REST.1);
        Search::Resting { until, ceiling_bps }
    }
}

#[cfg(test)]
mod tests;
