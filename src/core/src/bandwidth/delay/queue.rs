//! How long the queue is: the least delay of late against the least delay of a while ago. The clocks of sender and
//! receiver need not agree; that they drift apart (some 100 ppm) is less than a millisecond in the time compared.

/// The delay of late is the least in this many buckets of this length: longer than a frame, so that the bursts of one
/// sender and jitter don't count.
const RECENT_BUCKETS: usize = 3;
const RECENT_BUCKET_US: i64 = 50_000;
/// The delay of the empty path is the least in this many buckets of this length.
const BASE_BUCKETS: usize = 3;
const BASE_BUCKET_US: i64 = 10_000_000;

/// The most that one difference counts for as noise.
const MAX_NOISE_US: u64 = 20_000;

/// The least value in a window of time that moves on in steps.
#[derive(Clone, Debug)]
struct WindowedMin<const N: usize> {
    buckets: [i64; N],
    bucket_us: i64,
    /// Number of the newest bucket since the epoch.
    number: i64,
}

impl<const N: usize> WindowedMin<N> {
    fn new(bucket_us: i64) -> Self {
        Self { buckets: [i64::MAX; N], bucket_us, number: i64::MIN }
    }

    /// True when this began a new bucket.
    fn push(&mut self, at: i64, value: i64) -> bool {
        let number = at.div_euclid(self.bucket_us);
        let begins = number > self.number;
        if begins {
            // `number` starts at the least possible: the first value empties all buckets.
            let passed = number.saturating_sub(self.number).min(N as i64) as usize;
            self.buckets.rotate_right(passed);
            self.buckets[..passed].fill(i64::MAX);
            self.number = number;
        }
        // What arrives out of order counts as of now.
        self.buckets[0] = self.buckets[0].min(value);
        begins
    }

    fn min(&self) -> Option<i64> {
        self.buckets.iter().copied().min().filter(|min| *min != i64::MAX)
    }
}

/// The queueing delay of one path.
#[derive(Clone, Debug)]
pub(super) struct QueueDelay {
    recent: WindowedMin<RECENT_BUCKETS>,
    base: WindowedMin<BASE_BUCKETS>,
    /// Mean difference between the least delays of one bucket and the next, in microseconds.
    noise: f64,
}

impl Default for QueueDelay {
    fn default() -> Self {
        Self { recent: WindowedMin::new(RECENT_BUCKET_US), base: WindowedMin::new(BASE_BUCKET_US), noise: 0.0 }
    }
}

impl QueueDelay {
    /// Takes in a packet's arrival and its one-way delay with an unknown, constant offset.
    pub(super) fn on_packet(&mut self, arrived: i64, delay: i64) {
        let [newest, before, ..] = self.recent.buckets;
        if self.recent.push(arrived, delay) && newest != i64::MAX && before != i64::MAX {
            // A queue that fills at once is not noise.
            let difference = newest.abs_diff(before).min(MAX_NOISE_US) as f64;
            self.noise += (difference - self.noise) / 16.0;
        }
        self.base.push(arrived, delay);
    }

    /// Microseconds of queue that no packet of late escaped; 0 when nothing is known.
    pub(super) fn standing(&self) -> i64 {
        let both = self.recent.min().zip(self.base.min());
        both.map_or(0, |(recent, base)| (recent - base).max(0))
    }

    /// How much the delay varies that even the luckiest packets of a bucket see, in microseconds.
    pub(super) fn noise(&self) -> i64 {
        self.noise as i64
    }

    /// Takes the delay of late for that of the empty path.
    pub(super) fn rebase(&mut self) {
        if let Some(recent) = self.recent.min() {
            self.base.buckets.fill(i64::MAX);
            self.base.buckets[0] = recent;
        }
    }
}
