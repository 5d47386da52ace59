//! The way from the senders to the receivers: a drop-tail queue in front of a bottleneck, then delay and loss.

use crate::random::Random;

/// Capacity over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// Always the same.
    Constant(f64),
    /// `high`, but `low` from 30 to 50 s.
    Dip {
        /// Before and after.
        high: f64,
        /// In between.
        low: f64,
    },
    /// `high` for `period` us, then half of it for as long, and so on.
    Wave {
        /// In the first half.
        high: f64,
        /// Microseconds of each half.
        period: i64,
    },
}

impl Capacity {
    /// Bit/s at `now`.
    pub fn at(self, now: i64) -> f64 {
        match self {
            Self::Constant(bps) => bps,
            Self::Dip { high, low } => {
                if (30_000_000..50_000_000).contains(&now) {
                    low
                } else {
                    high
                }
            }
            Self::Wave { high, period } => {
                if now / period % 2 == 1 {
                    high / 2.0
                } else {
                    high
                }
            }
        }
    }
}

/// How packets are lost on a way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Each with this probability.
    Random(f64),
    /// Bursts (Gilbert): one begins with probability `begin` at each packet and goes on with probability `stay`.
    Bursts {
        /// Chance that a burst begins.
        begin: f64,
        /// Chance that it goes on.
        stay: f64,
    },
}

/// What a path is like.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Bottleneck towards the receivers.
    pub capacity: Capacity,
    /// The queue holds this much time, and at least 15,000 bytes (unless `small_queue`).
    pub queue_us: i64,
    /// No floor of 15,000 bytes.
    pub small_queue: bool,
    /// There and back.
    pub rtt_us: i64,
    /// Loss behind the bottleneck.
    pub loss: Loss,
    /// Loss of feedback.
    pub feedback_loss: f64,
    /// The most by which a packet is delayed, evenly distributed.
    pub jitter_us: i64,
    /// Whether jitter may change the order.
    pub reorders: bool,
    /// Bytes that pass the bottleneck at any rate after a pause: a token bucket.
    pub bucket: usize,
    /// How much faster than ours the receiver's clock runs, in millionths.
    pub drift_ppm: i64,
    /// The receiver sends feedback this often; 0: as libwebrtc does.
    pub feedback_us: i64,
}

/// The bottleneck's state.
#[derive(Debug)]
pub struct Link {
    /// What it is like.
    pub path: Path,
    free_at: i64,
    in_burst: bool,
    /// Packets dropped by the full queue.
    pub dropped: u64,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It will arrive then, if no order is kept.
    Arrives(i64),
    /// Lost behind the bottleneck.
    Lost,
    /// The queue was full.
    Dropped,
}

impl Link {
    /// An idle link.
    pub fn new(path: Path) -> Self {
        Self { path, free_at: 0, in_burst: false, dropped: 0 }
    }

    /// How long a packet that comes now waits.
    pub fn queue_us(&self, now: i64) -> i64 {
        (self.free_at - self.bucket_us(now) - now).max(0)
    }

    /// A full bucket is time ahead: what it holds need not wait.
    fn bucket_us(&self, now: i64) -> i64 {
        (self.path.bucket as f64 * 8e6 / self.path.capacity.at(now)) as i64
    }

    /// Sends `bytes` through.
    pub fn send(&mut self, now: i64, bytes: usize, random: &mut Random) -> Fate {
        let bps = self.path.capacity.at(now);
        let floor = if self.path.small_queue { 0 } else { (15_000.0 * 8e6 / bps) as i64 };
        if self.queue_us(now) > self.path.queue_us.max(floor) {
            self.dropped += 1;
            return Fate::Dropped;
        }
        self.free_at = self.free_at.max(now) + (bytes as f64 * 8e6 / bps) as i64;
        let lost = match self.path.loss {
            Loss::Random(p) => random.chance(p),
            Loss::Bursts { begin, stay } => {
                self.in_burst = random.chance(if self.in_burst { stay } else { begin });
                self.in_burst
            }
        };
        if lost {
            return Fate::Lost;
        }
        let jitter = (random.unit() * self.path.jitter_us as f64) as i64;
        let out = (self.free_at - self.bucket_us(now)).max(now);
        Fate::Arrives(out + self.path.rtt_us / 2 + jitter)
    }
}
