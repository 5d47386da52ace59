//! What the log has said of what fails again and again: attempts are made every second.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of the log that say the same.
const EVERY: Duration = Duration::from_secs(60);
/// Different lines that are remembered: several servers of NATS may fail in several ways in turn.
const MOST: usize = 16;

/// The lines of the last minute.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<BTreeMap<String, Instant>>);

impl Said {
    /// Whether these words are to be said: the first time, and once a minute for as long as it goes on.
    pub(super) fn is_due(&self, words: &str, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now.saturating_duration_since(*at) < EVERY);
        let is_due = !said.contains_key(words) && said.len() < MOST;
        if is_due {
            said.insert(words.to_owned(), now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_said_at_once_and_the_same_once_a_minute() {
        let (said, t0) = (Said::default(), Instant::now());
        for (seconds, words, expected) in [
            (0, "no login", true),
            (1, "no login", false),
            (2, "no server", true),
            (3, "no login", false),
            (4, "no server", false),
            (59, "no login", false),
            (60, "no login", true),
            (61, "no login", false),
            (62, "no server", true),
        ] {
            assert_eq!(said.is_due(words, t0 + Duration::from_secs(seconds)), expected, "{seconds} {words}");
        }
        let many = (0..100).filter(|n| said.is_due(&n.to_string(), t0 + Duration::from_secs(200))).count();
        assert_eq!(many, MOST);
    }
}
