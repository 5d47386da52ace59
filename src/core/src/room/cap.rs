//! A cap for the publisher of a single encoding that fits the path of none of its receivers.
//!
//! Of simulcast a receiver takes a smaller encoding, and of spatial layers a lower one. Of a single encoding with temporal
//! layers inside it gets fewer pictures, and of one without them none, although its publisher could make all of them
//! smaller: an encoder that is told what the best of the paths carries does what it would do if it was connected to that
//! receiver directly. The cap follows the path, and ends when there is room for as much as was sent before it.

use std::time::{Duration, Instant};

use super::fading::most_lately;

/// How long no receiver has had all of the encoding before its publisher is held.
const PATIENCE: Duration = Duration::from_secs(1);
/// Never held to less, in bit/s: a picture of less is none.
const LEAST_BPS: u64 = 80_000;
/// The cap ends when there is room for this many times what was sent before it: encoders vary.
pub const RELEASE: f64 = 1.15;
/// The bit that says that a receiver gets all.
const WHOLE: u32 = 1 << 31;
/// A publisher that has to be held again within this long after the end of its cap is let go only with more room than then.
const RELAPSE: Duration = Duration::from_secs(30);

/// What a receiver's path has room for of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bit/s.
    pub bps: u64,
    /// It gets all that it wants of the track.
    pub is_whole: bool,
}

impl Room {
    /// A path that nothing is known against.
    pub const UNLIMITED: Self = Self { bps: u64::MAX, is_whole: true };

    /// As other shards are told of it: kbit/s, and [`WHOLE`].
    pub fn to_word(self) -> u32 {
        let kbps = u32::try_from(self.bps / 1_000).unwrap_or(u32::MAX).clamp(1, !WHOLE);
        if self.is_whole { kbps | WHOLE } else { kbps }
    }

    /// What another shard has told; `None`: nothing is known there.
    pub fn from_word(word: u32) -> Option<Self> {
        let bps = match word & !WHOLE {
            0 => return None,
            kbps if kbps == !WHOLE => u64::MAX,
            kbps => u64::from(kbps) * 1_000,
        };
        Some(Self { bps, is_whole: word & WHOLE != 0 })
    }

    /// The better of two: of those who get less than all the cap goes by the one with the most room.
    pub fn best(self, other: Self) -> Self {
        Self { bps: self.bps.max(other.bps), is_whole: self.is_whole || other.is_whole }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    bps: u64,
    /// What the encoding took before.
    before_bps: u64,
}

/// What the publisher of a track is held to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cap {
    held: Option<Held>,
    short_since: Option<Instant>,
    /// The most that came of the encoding lately, in bit/s, and when that was reckoned: at the moment of a hold it may happen to send little.
    most: Option<(Instant, u64)>,
    /// When the last cap ended, and with room for how much, in bit/s.
    ended: Option<(Instant, u64)>,
}

impl Cap {
    /// The most the publisher may send of the track, in bit/s; `None`: as much as it likes.
    pub fn bps(&self) -> Option<u64> {
        self.held.map(|held| held.bps)
    }

    /// What the encoding would take, in bit/s, if it was not held.
    pub fn before_bps(&self) -> Option<u64> {
        self.held.map(|held| held.before_bps)
    }

    /// Takes in what the best of the receivers' paths has room for, while `rate_bps` come of the encoding. `None`: there is
    /// no receiver.
    pub fn update(&mut self, now: Instant, rate_bps: u64, best: Option<Room>) {
        let Some(room) = best else { return *self = Self::default() };
        let Some(held) = &mut self.held else {
            let most_bps = self.most_lately(now, rate_bps);
            if room.is_whole || rate_bps == 0 {
                self.short_since = None;
                return;
            }
            let since = *self.short_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= PATIENCE {
                let relapse = self.ended.filter(|(ended, _)| now.saturating_duration_since(*ended) < RELAPSE);
                let before_bps = relapse.map_or(most_bps, |(_, bps)| most_bps.max(bps));
                self.held = Some(Held { bps: room.bps.clamp(LEAST_BPS, rate_bps.max(LEAST_BPS)), before_bps });
            }
            return;
        };
        if room.bps as f64 >= held.before_bps as f64 * RELEASE {
            *self = Self { ended: Some((now, room.bps)), ..Self::default() };
        } else {
            held.bps = room.bps.max(LEAST_BPS);
        }
    }

    /// Takes in what comes of the encoding; returns the most of it that counts.
    fn most_lately(&mut self, now: Instant, rate_bps: u64) -> u64 {
        let (since, before) = self.most.unwrap_or((now, 0));
        let most = most_lately(before, now.saturating_duration_since(since), rate_bps);
        self.most = Some((now, most));
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn short(bps: u64) -> Option<Room> {
        Some(Room { bps, is_whole: false })
    }

    const fn whole(bps: u64) -> Option<Room> {
        Some(Room { bps, is_whole: true })
    }

    #[test]
    fn a_publisher_is_held_to_the_room_of_the_best_path_until_there_is_room_for_all() {
        let t0 = Instant::now();
        let mut cap = Cap::default();
        for (ms, rate, best, expected) in [
            (0, 1_000_000, whole(1_100_000), None),
            (1_000, 1_000_000, short(500_000), None),
            (1_500, 1_000_000, whole(1_100_000), None),
            (2_000, 1_000_000, short(500_000), None),
            (3_000, 1_000_000, short(500_000), Some(500_000)),
            (4_000, 700_000, short(480_000), Some(480_000)),
            (5_000, 480_000, whole(530_000), Some(530_000)),
            (6_000, 530_000, short(10_000), Some(LEAST_BPS)),
            (7_000, 530_000, whole(1_140_000), Some(1_140_000)),
            (8_000, 900_000, whole(1_150_000), None),
            (9_000, 900_000, short(500_000), None),
        ] {
            cap.update(t0 + Duration::from_millis(ms), rate, best);
            assert_eq!(cap.bps(), expected, "{ms}");
        }
    }

    #[test]
    fn a_publisher_that_happens_to_send_little_when_it_is_held_is_not_let_go_for_as_little() {
        let t0 = Instant::now();
        let mut cap = Cap::default();
        for (ms, rate, best, expected) in [
            (0, 1_000_000, short(450_000), None),
            (1_000, 400_000, short(450_000), Some(400_000)),
            (2_000, 400_000, whole(575_000), Some(575_000)),
            (3_000, 500_000, whole(1_000_000), Some(1_000_000)),
            (4_000, 900_000, whole(1_100_000), None),
        ] {
            cap.update(t0 + Duration::from_millis(ms), rate, best);
            assert_eq!(cap.bps(), expected, "{ms}");
        }
    }

    #[test]
    fn a_publisher_that_was_let_go_too_early_is_let_go_next_with_more_room() {
        let t0 = Instant::now();
        let mut cap = Cap::default();
        for (ms, rate, best, expected) in [
            (0, 400_000, short(300_000), None),
            (1_000, 400_000, short(300_000), Some(300_000)),
            (2_000, 300_000, whole(500_000), None),
            (3_000, 420_000, short(300_000), None),
            (4_000, 420_000, short(300_000), Some(300_000)),
            (5_000, 300_000, whole(574_000), Some(574_000)),
            (6_000, 300_000, whole(576_000), None),
            (60_000, 400_000, short(300_000), None),
            (61_000, 400_000, short(300_000), Some(300_000)),
            (62_000, 300_000, whole(461_000), None),
        ] {
            cap.update(t0 + Duration::from_millis(ms), rate, best);
            assert_eq!(cap.bps(), expected, "{ms}");
        }
    }

    #[test]
    fn who_receives_without_a_limit_or_not_at_all_holds_nobody() {
        let t0 = Instant::now();
        for best in [None, Some(Room { bps: 300_000, is_whole: false }.best(Room::UNLIMITED))] {
            let mut cap = Cap::default();
            for second in 0..3 {
                cap.update(t0 + Duration::from_secs(second), 1_000_000, short(400_000));
            }
            assert_eq!((cap.bps(), cap.before_bps()), (Some(400_000), Some(1_000_000)));
            cap.update(t0 + Duration::from_secs(3), 400_000, best);
            assert_eq!(cap.bps(), None);
        }
    }
}
