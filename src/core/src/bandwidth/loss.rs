//! Loss, and how much of it is the path's own: radio links lose some of the packets at any rate, a full queue or a
//! policer loses what is sent beyond its rate.

/// The window is this many buckets of this length.
const BUCKETS: usize = 8;
const BUCKET_US: i64 = 150_000;
/// Packets that a fraction is computed from.
const MIN_PACKETS: u32 = 20;
/// Loss beyond the path's own that is taken for congestion.
const TOLERATED: f64 = 0.06;
/// Loss beyond the path's own that is looked into.
const NOTICED: f64 = 0.03;
/// What chance adds to it among few packets: so many standard deviations, of a path that loses at least this part.
const CERTAINTY: f64 = 1.5;
const LEAST_INHERENT: f64 = 0.02;
/// The path's own loss is not taken for more than this.
const MAX_INHERENT: f64 = 0.25;
/// How long after a cut its effect is measured: the window has to be fresh.
const TEST_US: i64 = BUCKETS as i64 * BUCKET_US;
/// How much of what is still lost after a cut is learnt to be the path's own.
const LEARN_UP: f64 = 0.6;
/// How fast it is forgotten when less is lost, per evaluation.
const LEARN_DOWN: f64 = 0.3;
/// How long nothing is learnt after a queue was taken for somebody else's.
const STRICT_US: i64 = 30_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    lost: u32,
    total: u32,
}

/// Counts losses over about a second.
#[derive(Clone, Debug, Default)]
pub(super) struct LossObserver {
    buckets: [Counts; BUCKETS],
    bucket_number: i64,
    inherent: f64,
    evaluated_at: i64,
    /// When the rate was cut, until the effect of that is known.
    cut_at: Option<i64>,
    /// Until then the window holds what was lost in a queue of our own.
    skip_until: i64,
    /// Nothing is taken for the path's own loss until then.
    strict_until: i64,
}

impl LossObserver {
    /// Takes in one report; `recovered` are packets that were reported lost before and have arrived after all.
    pub(super) fn on_report(&mut self, now: i64, received: u32, lost: u32, recovered: u32) {
        let number = now.div_euclid(BUCKET_US);
        let passed = (number - self.bucket_number).clamp(0, BUCKETS as i64) as usize;
        self.buckets.rotate_right(passed);
        self.buckets[..passed].fill(Counts::default());
        self.bucket_number = self.bucket_number.max(number);
        self.buckets[0].total += received - recovered.min(received) + lost;
        self.buckets[0].lost += lost;
        let mut recovered = recovered;
        for bucket in &mut self.buckets {
            let back = recovered.min(bucket.lost);
            bucket.lost -= back;
            recovered -= back;
        }
    }

    /// The part of the packets that was lost, over the last second or so.
    pub(super) fn fraction(&self) -> f64 {
        let sum = self.sum();
        if sum.total == 0 { 0.0 } else { f64::from(sum.lost) / f64::from(sum.total) }
    }

    /// At most once in `interval_us`: the part that is lost, when it is too much. What is still
    /// lost when the cut has had its effect (after `rtt_us`) is the path's own.
    pub(super) fn evaluate(&mut self, now: i64, interval_us: i64, rtt_us: i64) -> Option<f64> {
        if self.sum().total < MIN_PACKETS || now - self.evaluated_at < interval_us {
            return None;
        }
        self.evaluated_at = now;
        let excess = self.fraction() - self.inherent;
        if excess < 0.0 {
            self.inherent += LEARN_DOWN * excess;
        }
        if let Some(cut_at) = self.cut_at {
            if now - cut_at < TEST_US + rtt_us {
                return None;
            }
            self.cut_at = None;
            if now > self.strict_until {
                self.inherent = (self.inherent + LEARN_UP * excess.max(0.0)).min(MAX_INHERENT);
                return None;
            }
        }
        let sum = self.sum();
        let (lost, total) = (f64::from(sum.lost), f64::from(sum.total));
        let chance = CERTAINTY * (total * self.inherent.max(LEAST_INHERENT)).sqrt();
        if now < self.skip_until || lost <= total * (self.inherent + NOTICED) + chance {
            return None;
        }
        self.cut_at = Some(now);
        Some(if excess > TOLERATED { self.fraction() } else { excess })
    }

    /// A queue of our own is being drained: what it lost was answered already.
    pub(super) fn skip(&mut self, now: i64) {
        self.skip_until = now + TEST_US;
    }

    /// Somebody else fills the queue until packets drop: what is lost in it is congestion, for a while.
    pub(super) fn be_strict(&mut self, now: i64) {
        (self.inherent, self.strict_until) = (0.0, now + STRICT_US);
    }

    fn sum(&self) -> Counts {
        self.buckets.iter().fold(Counts::default(), |sum, bucket| Counts {
            lost: sum.lost + bucket.lost,
            total: sum.total + bucket.total,
        })
    }
}
