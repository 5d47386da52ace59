//! A client that is sent nothing, as nothing fits, and so tells nothing: some picture is better than none.

use std::time::{Duration, Instant};

use super::{CONTENT, LIFE, TRIAL};

/// The longest wait before a picture is tried.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// What is tried, relative to the least that any picture takes: rates vary.
const MARGIN: f64 = 1.1;

/// When something was heard, and what is tried without.
#[derive(Debug)]
pub(super) struct Silence {
    /// When an estimate came last, or something was tried.
    heard: Instant,
    /// How long it lasts before something is.
    wait: Duration,
    /// When that was, and what it takes, in bit/s.
    tried: Option<(Instant, u64)>,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, wait: LIFE, tried: None }
    }

    /// Nothing is sent from now on: the wait is longer where the last trial is not long ago.
    pub(super) fn begin(&mut self, now: Instant) {
        let again = self.tried.is_some_and(|(at, _)| now.saturating_duration_since(at) < CONTENT);
        self.wait = if again { (self.wait * 2).min(LONGEST_WAIT) } else { LIFE };
    }

    /// An estimate has come. One that `has_fallen` says that what was tried does not fit.
    pub(super) fn end(&mut self, now: Instant, has_fallen: bool) {
        self.heard = now;
        if has_fallen {
            self.tried = self.tried.map(|(at, _)| (at, 0));
        }
    }

    /// What is to be tried now, in bit/s, of a client to which any picture takes `least_bps`; `None` while it waits.
    pub(super) fn tries(&mut self, now: Instant, least_bps: u64) -> Option<u64> {
        if now.saturating_duration_since(self.heard) < self.wait {
            return None;
        }
        let bps = (least_bps as f64 * MARGIN) as u64;
        (self.tried, self.heard) = (Some((now, bps)), now);
        Some(bps)
    }

    /// What is being tried and not refuted, in bit/s.
    pub(super) fn tried_bps(&self) -> u64 {
        let tried = self.tried.filter(|(at, _)| self.heard.saturating_duration_since(*at) < TRIAL);
        tried.map_or(0, |(_, bps)| bps)
    }
}
