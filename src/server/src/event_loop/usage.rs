//! How much of its core's time a shard uses.
//!
//! What its ticks take does not tell: sends leave in the call that it then sleeps in, and a group of processes that has used
//! up its quota stands still wherever it happens to be. The kernel knows both: how long a thread has run, and how long it
//! could have and did not.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Of the thread that opens it: nanoseconds that it ran, nanoseconds that it waited for a core, and how often it ran.
const SCHEDSTAT: &str = "/proc/thread-self/schedstat";
/// Longest text of three numbers.
const MAX_TEXT: usize = 64;
/// Between two looks, each of which takes a system call.
const INTERVAL: Duration = Duration::from_millis(25);

/// What the thread that made it uses.
pub(super) struct Usage {
    file: Option<File>,
    /// What was used at the last look.
    seen: Duration,
    next: Instant,
}

impl Usage {
    /// Of this thread, from now on.
    pub(super) fn of_this_thread(now: Instant) -> Self {
        let file = File::open(SCHEDSTAT);
        if let Err(error) = &file {
            tracing::debug!(%error, "{SCHEDSTAT}: what ticks take counts as the time that the shard uses");
        }
        let mut usage = Self { file: file.ok(), seen: Duration::ZERO, next: now };
        usage.seen = usage.read().unwrap_or_default();
        usage
    }

    /// The time used since it was told last, behind a tick that took `ticked`. It is looked at from time to time only: nothing
    /// between two looks.
    pub(super) fn take(&mut self, now: Instant, ticked: Duration) -> Duration {
        if self.file.is_none() {
            return ticked;
        }
        if now < self.next {
            return Duration::ZERO;
        }
        self.next = now + INTERVAL;
        match self.read() {
            Some(used) => used.saturating_sub(std::mem::replace(&mut self.seen, used)),
            None => {
                self.file = None;
                ticked
            }
        }
    }

    fn read(&self) -> Option<Duration> {
        let mut text = [0; MAX_TEXT];
        let length = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        used(text.get(..length)?)
    }
}

/// What a thread has run and waited for a core.
fn used(text: &[u8]) -> Option<Duration> {
    let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace().map(|number| number.parse::<u64>().ok());
    let (ran, waited) = (numbers.next()??, numbers.next()??);
    Some(Duration::from_nanos(ran.saturating_add(waited)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_ran_and_waited_for_is_read_from_the_kernels_text() {
        for (text, expected) in [
            ("346565027 1508991 57\n", Some(348_074_018)),
            ("1 0 1", Some(1)),
            ("1", None),
            ("", None),
            ("a b c", None),
            ("-1 2 3", None),
        ] {
            assert_eq!(used(text.as_bytes()), expected.map(Duration::from_nanos), "{text:?}");
        }
    }

    #[test]
    fn a_thread_that_works_is_seen_to_and_one_that_sleeps_is_not() {
        let began = Instant::now();
        let mut usage = Usage::of_this_thread(began);
        if usage.file.is_none() {
            return eprintln!("skipped: this kernel has no {SCHEDSTAT}");
        }
        let mut looked_at = began;
        while usage.seen < Duration::from_millis(40) {
            looked_at += INTERVAL;
            usage.take(looked_at, Duration::ZERO);
        }
        let before = Instant::now();
        std::thread::sleep(Duration::from_millis(200));
        let slept = before.elapsed();
        let used = usage.take(looked_at + INTERVAL, Duration::MAX);
        // How late it woke is in both.
        assert!(used + Duration::from_millis(100) < slept, "{used:?} of {slept:?}");
        assert_eq!(
            usage.take(looked_at + INTERVAL, Duration::MAX),
            Duration::ZERO,
            "it is looked at from time to time"
        );
    }
}
