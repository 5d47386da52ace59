//! What a rate was lately, for decisions that must not rest on a moment in which it happened to be low.

use std::time::Duration;

/// What has been measured counts half as much after this long.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// The most of a rate lately: what it was, `age` later, or what it is now, whichever is more. Of any unit.
pub(super) fn most_lately(most: u64, age: Duration, now: u64) -> u64 {
    let faded = most as f64 * 0.5_f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64());
    now.max(faded as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_remembered_for_a_while_unless_it_rises() {
        for (most, age_s, now, expected) in [
            (1_000, 0, 200, 1_000),
            (1_000, 10, 200, 500),
            (1_000, 30, 200, 200),
            (1_000, 1, 2_000, 2_000),
            (0, 5, 7, 7),
        ] {
            assert_eq!(most_lately(most, Duration::from_secs(age_s), now), expected, "{most} {age_s} {now}");
        }
    }
}
