//! Probes: short trains of packets above the target, to see whether more gets through.

use std::num::NonZeroU8;

/// How long a probe lasts: at the start, when a second counts.
const START_US: i64 = 15_000;
/// And later: the time of a frame, because a shorter one fits between the frames of others and sees an empty link.
const DURATION_US: i64 = 33_000;
/// It has no more bytes than have arrived of late in this time: where it does not get through, that is the queue that it leaves.
const QUEUE_US: f64 = 250_000.0;
/// A plan for more than this factor of the target is given up, at the start and later: it was made for another target.
const HIGHEST: (f64, f64) = (8.0, 2.5);
/// How many packets it has at least.
const MIN_PACKETS: u16 = 5;
/// The least bytes: five small packets.
const MIN_BYTES: f64 = 1250.0;
/// Twice the jitter of the path prolongs a probe, by at most so many bits: those of a fast path would fill its queue.
const LONGER_BITS: f64 = 300_000.0;
const MIN_LONGER_US: i64 = 20_000;
const MAX_LONGER_US: i64 = 90_000;
/// Part of a probe that must have arrived.
const ARRIVED: f64 = 0.8;
/// Below this part of the rate it was sent at, a probe arrived at the rate of the bottleneck, and its queue grew.
const CONGESTED: f64 = 0.9;
/// What is used of a rate that was measured so.
const CAUTION: f64 = 0.95;
/// A probe whose delay falls so fast (per second) says nothing.
const ABSURD: f64 = -0.5;
/// The rate of the bottleneck is found by so many iterations.
const ITERATIONS: usize = 3;
/// How often a probe is repeated that did not arrive, or of which nothing was heard.
const REPEATS: u8 = 2;
/// Probes in flight.
const CLUSTERS: usize = 4;
/// After this a probe has failed.
const EXPIRE_US: i64 = 3_000_000;

/// Names a probe; packets sent for it carry the name through [`Estimator::on_sent`](super::Estimator::on_sent).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeId(pub NonZeroU8);

/// A train of packets that the estimator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Goes with each of its packets into `on_sent`.
    pub id: ProbeId,
    /// The rate to send it at, in bit/s.
    pub bps: u64,
    /// It ends when both of these have been sent.
    pub min_bytes: u32,
    /// See `min_bytes`.
    pub min_packets: u16,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The path is unknown: whatever gets through is news.
    Start,
    /// To see whether the path has got better.
    Search,
    /// To see whether a rate that a probe was slowed down to can be had without pushing others aside.
    Verify,
}

/// What came of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeResult {
    pub(super) purpose: Purpose,
    /// The rate asked for.
    pub(super) asked_bps: f64,
    /// What may be used.
    pub(super) bps: f64,
    /// It was slowed down on its way.
    pub(super) congested: bool,
}

/// What a probe's length depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// How much its delay varies.
    pub(super) jitter_us: i64,
    /// What has arrived of late.
    pub(super) carried_bps: f64,
    pub(super) target_bps: f64,
}

/// Some packets of a probe: sums, relative to the first packet of it.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    packets: i32,
    sent: i64,
    delay: i64,
    bytes: u32,
}

/// The averages of a part, in microseconds and bits.
#[derive(Clone, Copy, Debug)]
struct Means {
    sent: f64,
    delay: f64,
    bits: f64,
}

impl Part {
    fn means(self) -> Option<Means> {
        let n = f64::from(self.packets);
        let (sent, delay, bits) = (self.sent as f64 / n, self.delay as f64 / n, f64::from(self.bytes) * 8.0 / n);
        (self.packets > 0).then_some(Means { sent, delay, bits })
    }
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    id: ProbeId,
    plan: Plan,
    min_bytes: u32,
    at: i64,
    /// How long it should take to send.
    duration: i64,
    sent_packets: u16,
    sent_bytes: u32,
    /// Index of its last packet.
    last_index: u64,
    packets: u16,
    bytes: u32,
    first_sent: i64,
    last_sent: i64,
    /// Sent at `last_sent`.
    last_bytes: u32,
    /// The first packet's time and delay, that the sums of the first and the last third are relative to.
    first: Option<(i64, i64)>,
    early: Part,
    late: Part,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    bps: f64,
    purpose: Purpose,
    /// How often it may be repeated.
    repeats: u8,
}

/// Probes planned and in flight.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    clusters: [Option<Cluster>; CLUSTERS],
    planned: [Option<Plan>; 2],
    next_id: NonZeroU8,
    last_at: Option<i64>,
}

impl Prober {
    pub(super) fn new() -> Self {
        Self { clusters: [None; CLUSTERS], planned: [None; 2], next_id: NonZeroU8::MIN, last_at: None }
    }

    /// Plans a probe; one that finds no room is forgotten.
    pub(super) fn plan(&mut self, bps: f64, purpose: Purpose) {
        self.enqueue(Plan { bps, purpose, repeats: REPEATS });
    }

    fn enqueue(&mut self, plan: Plan) {
        if let Some(place) = self.planned.iter_mut().find(|place| place.is_none()) {
            *place = Some(plan);
        }
    }

    /// True when probes are planned or in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.planned.iter().any(Option::is_some) || self.clusters.iter().any(Option::is_some)
    }

    pub(super) fn has_planned(&self) -> bool {
        self.planned[0].is_some()
    }

    /// When the last probe was handed out.
    pub(super) fn last_at(&self) -> Option<i64> {
        self.last_at
    }

    /// Hands out the next planned probe.
    pub(super) fn take(&mut self, now: i64, path: Path) -> Option<Probe> {
        let plan = self.next_plan(path.target_bps)?;
        let is_start = plan.purpose == Purpose::Start;
        let longest = ((LONGER_BITS * 1e6 / plan.bps) as i64).clamp(MIN_LONGER_US, MAX_LONGER_US);
        let duration = (2 * path.jitter_us).clamp(0, longest) + if is_start { START_US } else { DURATION_US };
        let most = if is_start { f64::MAX } else { path.carried_bps / 8e6 * QUEUE_US };
        let min_bytes = (plan.bps / 8e6 * duration as f64).min(most).max(MIN_BYTES);
        let duration = (min_bytes * 8e6 / plan.bps) as i64;
        let (id, min_bytes) = (ProbeId(self.next_id), min_bytes as u32);
        self.next_id = self.next_id.checked_add(1).unwrap_or(NonZeroU8::MIN);
        self.last_at = Some(now);
        let oldest = self.clusters.iter_mut().min_by_key(|cluster| cluster.map_or(i64::MIN, |cluster| cluster.at))?;
        *oldest = Some(Cluster::new(id, plan, min_bytes, now, duration));
        Some(Probe { id, bps: plan.bps as u64, min_bytes, min_packets: MIN_PACKETS })
    }

    /// The next plan that has not been overtaken by what became known since.
    fn next_plan(&mut self, target_bps: f64) -> Option<Plan> {
        loop {
            let plan = self.planned[0].take()?;
            self.planned.rotate_left(1);
            if plan.bps <= target_bps * if plan.purpose == Purpose::Start { HIGHEST.0 } else { HIGHEST.1 } {
                return Some(plan);
            }
        }
    }

    fn find(&mut self, id: ProbeId) -> Option<&mut Cluster> {
        self.clusters.iter_mut().flatten().find(|cluster| cluster.id == id)
    }

    /// Takes in a packet of a probe that is sent.
    pub(super) fn on_sent(&mut self, id: ProbeId, index: u64, bytes: u32) {
        if let Some(cluster) = self.find(id) {
            cluster.sent_packets = cluster.sent_packets.saturating_add(1);
            cluster.sent_bytes = cluster.sent_bytes.saturating_add(bytes);
            cluster.last_index = index;
        }
    }

    /// Takes in a packet of a probe that arrived.
    pub(super) fn on_packet(&mut self, id: ProbeId, sent: i64, arrived: i64, bytes: u32) {
        if let Some(cluster) = self.find(id) {
            cluster.on_packet(sent, arrived, bytes);
        }
    }

    /// A probe that has arrived; call until `None` after each feedback. `told` is the index after the last that any
    /// feedback told of: probes before it that did not arrive are repeated.
    pub(super) fn result(&mut self, now: i64, told: u64) -> Option<ProbeResult> {
        for n in 0..CLUSTERS {
            let Some(cluster) = self.clusters[n] else { continue };
            let missed = cluster.is_sent() && told > cluster.last_index;
            if !cluster.is_complete() && !missed && now - cluster.at < EXPIRE_US {
                continue;
            }
            self.clusters[n] = None;
            if let Some(result) = cluster.is_complete().then(|| cluster.result()).flatten() {
                return Some(result);
            }
            if let Some(repeats) = cluster.plan.repeats.checked_sub(1).filter(|_| missed) {
                self.enqueue(Plan { repeats, ..cluster.plan });
            }
        }
        None
    }

    /// Forgets probes that failed.
    pub(super) fn expire(&mut self, now: i64) {
        for place in &mut self.clusters {
            if place.is_some_and(|cluster| now - cluster.at > EXPIRE_US) {
                *place = None;
            }
        }
    }

    /// Forgets the probes that have not begun.
    pub(super) fn forget_planned(&mut self) {
        self.planned = [None; 2];
    }

    /// Forgets everything: the path is not what it was.
    pub(super) fn cancel(&mut self) {
        (self.planned, self.clusters) = ([None; 2], [None; CLUSTERS]);
    }
}

impl Cluster {
    fn new(id: ProbeId, plan: Plan, min_bytes: u32, at: i64, duration: i64) -> Self {
        Self {
            id,
            plan,
            min_bytes,
            at,
            duration,
            sent_packets: 0,
            sent_bytes: 0,
            last_index: 0,
            packets: 0,
            bytes: 0,
            first_sent: i64::MAX,
            last_sent: i64::MIN,
            last_bytes: 0,
            first: None,
            early: Part::default(),
            late: Part::default(),
        }
    }

    fn on_packet(&mut self, sent: i64, arrived: i64, bytes: u32) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.first_sent = self.first_sent.min(sent);
        if sent > self.last_sent {
            (self.last_sent, self.last_bytes) = (sent, 0);
        }
        if sent == self.last_sent {
            self.last_bytes = self.last_bytes.saturating_add(bytes);
        }
        let (first_sent, first_delay) = *self.first.get_or_insert((sent, arrived - sent));
        let part = match (sent - first_sent) * 3 / self.duration.max(1) {
            0 => &mut self.early,
            1 => return,
            _ => &mut self.late,
        };
        part.packets += 1;
        part.sent += sent - first_sent;
        part.delay += arrived - sent - first_delay;
        part.bytes = part.bytes.saturating_add(bytes);
    }

    fn is_sent(&self) -> bool {
        self.sent_packets >= MIN_PACKETS && self.sent_bytes >= self.min_bytes
    }

    fn is_complete(&self) -> bool {
        f64::from(self.packets) >= f64::from(MIN_PACKETS) * ARRIVED
            && f64::from(self.bytes) >= f64::from(self.min_bytes) * ARRIVED
            && self.late.packets > 0
    }

    /// The rate it was sent at, and how much slower it arrived: its delay grew by as much as the bottleneck is slower.
    /// What was sent last (a run, perhaps) left after the time that is measured.
    fn result(&self) -> Option<ProbeResult> {
        let (early, late) = self.early.means().zip(self.late.means())?;
        let sent = rate(self.bytes - self.last_bytes, self.last_sent - self.first_sent)?;
        let span = (late.sent - early.sent).max(1.0);
        let mut arrived = sent;
        for _ in 0..ITERATIONS {
            // A packet's own length is part of its delay: what is left is the queue's.
            let longer = (late.bits - early.bits) * 1e6 / arrived;
            let growth = (late.delay - early.delay - longer) / span;
            if growth < ABSURD {
                return None;
            }
            arrived = sent / (1.0 + growth.max(0.0));
        }
        let congested = arrived < CONGESTED * sent;
        let bps = if congested { CAUTION * arrived } else { arrived };
        Some(ProbeResult { purpose: self.plan.purpose, asked_bps: self.plan.bps, bps, congested })
    }
}

fn rate(bytes: u32, us: i64) -> Option<f64> {
    (us > 0).then(|| f64::from(bytes) * 8e6 / us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path = Path { jitter_us: 0, carried_bps: 300_000.0, target_bps: 400_000.0 };

    /// The probe that comes of a plan for `bps` where the path is like `path`: its rate and bytes.
    fn taken(purpose: Purpose, bps: f64, path: Path) -> Option<(u64, u32)> {
        let mut prober = Prober::new();
        prober.plan(bps, purpose);
        prober.take(0, path).map(|probe| (probe.bps, probe.min_bytes))
    }

    #[test]
    fn a_probe_takes_the_time_of_a_frame_and_longer_where_the_delay_varies() {
        for (purpose, jitter_us, expected) in [
            (Purpose::Start, 0, (800_000, 1_500)),
            (Purpose::Search, 0, (800_000, 3_300)),
            (Purpose::Search, 10_000, (800_000, 5_300)),
            // 90 ms longer at most, and no more than has arrived in 250 ms.
            (Purpose::Verify, 500_000, (800_000, 9_375)),
        ] {
            assert_eq!(
                taken(purpose, 800_000.0, Path { jitter_us, ..PATH }),
                Some(expected),
                "{purpose:?} {jitter_us}"
            );
        }
    }

    #[test]
    fn a_plan_for_far_more_than_the_target_that_there_is_by_now_is_given_up() {
        for (purpose, bps, is_taken) in [
            (Purpose::Search, 1_000_000.0, true),
            (Purpose::Verify, 1_000_001.0, false),
            (Purpose::Start, 3_200_000.0, true),
            (Purpose::Start, 3_200_001.0, false),
        ] {
            assert_eq!(taken(purpose, bps, PATH).is_some(), is_taken, "{purpose:?} {bps}");
        }
        let mut prober = Prober::new();
        prober.plan(9e9, Purpose::Search);
        prober.plan(800_000.0, Purpose::Verify);
        assert_eq!(prober.take(0, PATH).map(|probe| probe.bps), Some(800_000), "the next one is not");
    }
}
