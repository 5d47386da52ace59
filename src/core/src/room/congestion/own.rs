//! What a receiver estimates itself (REMB) that gives no transport-wide feedback.
//!
//! An estimate is of the streams that it lists (draft-alvestrand-rmcat-remb, section 2.2): who estimates each stream for itself
//! (aiortc) sends one for each, under the name of each, and the path carries all of them together ([`listed`]). No such
//! estimate goes beyond one and a half times what comes, so that who is sent less than it wants would never be told of
//! more. While something is left out for want of room, padding fills up what is sent to what is told ([`padding`]); where
//! there is nothing to pad with, or that is not counted, more is sent for a moment. Both end where the estimates do not
//! follow, and what fails rests for longer each time ([`search`]). Who is sent nothing has nothing to tell ([`silence`]).

use std::time::{Duration, Instant};

use moonring_wire::id::Ssrc;
use serde::{Deserialize, Serialize};

mod listed;
mod padding;
mod search;
mod silence;
mod state;

use listed::Listed;
use padding::Padding;
use search::{Measured, Search};
use silence::Silence;
pub(super) use state::OwnState;

/// How long an estimate counts: while pictures come, clients send one a second or more often.
const LIFE: Duration = Duration::from_secs(5);
/// How long more than is told is sent where nothing can pad.
const TRIAL: Duration = Duration::from_secs(6);
/// Who has had all that it wants for so long begins with the first rest again.
const CONTENT: Duration = Duration::from_secs(30);
/// What is around a payload: IP, UDP, RTP with its extensions, and SRTP, in bytes.
const HEADERS: usize = 64;
/// How long what is sent is measured.
const WINDOW: Duration = Duration::from_millis(500);

/// One estimate of a receiver's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The estimates that count, and the search for more.
#[derive(Debug)]
pub(super) struct OwnEstimates {
    listed: Listed,
    search: Search,
    padding: Padding,
    silence: Silence,
    served: Served,
    sent: Sent,
    /// What sound takes, in bit/s.
    sound_bps: u64,
}

/// What is sent, of which receivers count the payload.
#[derive(Clone, Copy, Debug)]
struct Sent {
    since: Instant,
    bytes: u64,
    /// What is told of, in bit/s over the last window.
    bps: f64,
}

impl OwnEstimates {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            listed: Listed::default(),
            search: Search::default(),
            padding: Padding::new(now),
            silence: Silence::new(now),
            served: Served::Whole,
            sent: Sent { since: now, bytes: 0, bps: 0.0 },
            sound_bps: 0,
        }
    }

    /// Takes in an estimate.
    pub(super) fn take_in(&mut self, now: Instant, estimate: Estimate) {
        let has_fallen = self.listed.take_in(now, estimate);
        self.silence.end(now, has_fallen);
        self.measure(now);
        let measured = self.measured();
        self.search.judge(now, measured);
    }

    /// Forgets what is old. False when a client that is sent pictures has said nothing of them for a while: it estimates no more.
    /// Who is sent none has nothing to say: what takes `least_bps` is tried then.
    pub(super) fn expire(&mut self, now: Instant, least_bps: u64) -> bool {
        self.listed.expire(now);
        if !self.listed.is_empty() || self.served != Served::Nothing {
            return !self.listed.is_empty();
        }
        if let Some(bps) = self.silence.tries(now, least_bps) {
            self.search.stop();
            self.listed.begin_with(now, bps);
        }
        true
    }

    /// What may be sent, in bit/s.
    pub(super) fn bps(&self) -> u64 {
        self.search.believed_bps(self.measured()).max(self.carried_bps())
    }

    /// What is evidently carried, though less is told of: such estimates rise slowly, and fall at once where there is a queue.
    fn carried_bps(&self) -> u64 {
        let sent = if self.listed.is_rising() { self.sent.bps as u64 } else { 0 };
        sent.max(self.silence.tried_bps())
    }

    /// True where sound is part of what is told of.
    pub(super) fn covers_sound(&self) -> bool {
        self.listed.covers_sound()
    }

    /// Notes a datagram that leaves.
    #[inline]
    pub(super) fn sent(&mut self, bytes: usize) {
        let bytes = bytes.saturating_sub(HEADERS);
        self.padding.sent(bytes);
        self.sent.bytes += bytes as u64;
    }

    /// Whether there is anything to pad with.
    pub(super) fn set_padded(&mut self, can_pad: bool) {
        self.padding.set_possible(can_pad);
    }

    /// What all that is wanted takes, and what of it is sound, in bit/s.
    pub(super) fn set_wanted(&mut self, wanted_bps: u64, sound_bps: u64) {
        self.padding.set_wanted(wanted_bps);
        self.sound_bps = sound_bps;
    }

    /// What is sent of what is wanted.
    pub(super) fn set_served(&mut self, now: Instant, served: Served) {
        let before = std::mem::replace(&mut self.served, served);
        let measured = self.measured();
        match (before, served) {
            (before, served) if before == served => {}
            (_, Served::Whole) => self.search.note_content(now, measured),
            (_, Served::Nothing) => self.silence.begin(now),
            (Served::Whole, Served::Less) => self.search.note_want(now, measured),
            (_, Served::Less) => {}
        }
    }

    /// Lets time pass: how many bytes of padding are to leave now.
    pub(super) fn poll(&mut self, now: Instant) -> usize {
        self.measure(now);
        if self.search.follow(now, self.measured(), self.is_short()) {
            self.padding.give_up();
        }
        self.padding.refill(now, self.listed.bps(), self.untold_bps());
        if self.search.is_running() { self.padding.due() } else { 0 }
    }

    /// When [`Self::poll`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let slice = self.padding.next_slice();
        let rest = self.search.rests_until().map_or(slice, |until| until.max(slice));
        (self.is_short() || self.search.is_running()).then_some(rest)
    }

    /// What is sent that nothing is told of: sound, where estimates leave it out.
    fn untold_bps(&self) -> f64 {
        if self.covers_sound() { 0.0 } else { self.sound_bps as f64 }
    }

    /// True while there is something to measure more with.
    fn is_short(&self) -> bool {
        self.served == Served::Less
    }

    fn measure(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.sent.since);
        if passed >= WINDOW {
            let bps = self.sent.bytes as f64 * 8.0 / passed.as_secs_f64() - self.untold_bps();
            self.sent = Sent { since: now, bytes: 0, bps: bps.max(0.0) };
        }
    }

    fn measured(&self) -> Measured {
        Measured { told_bps: self.listed.bps(), sent_bps: self.sent.bps, is_padded: self.padding.is_heard() }
    }
}

#[cfg(test)]
mod tests;
