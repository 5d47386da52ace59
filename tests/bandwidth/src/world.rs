//! Runs a scene.

use std::time::Instant;

use moonring_core::bandwidth::sharing::Flows;

use crate::controller::{Controller, Google, Ours};
use crate::link::{Capacity, Link, Path};
use crate::metrics::{Outcome, quantile};
use crate::random::Random;
use crate::reno::Reno;
use crate::scene::{Measure, Scene, path};
use crate::sender::Flow;
use crate::source::{Kind, Source, allocated};

const STEP_US: i64 = 1000;
const SECOND: i64 = 1_000_000;
/// What a link carries of what it could.
const WELL_USED: f64 = 0.93;

/// Which estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Ours.
    Ours,
    /// goog_cc.
    Google,
}

impl Which {
    fn make(self, start: Instant, now: i64) -> Box<dyn Controller> {
        match self {
            Self::Ours => Box::new(Ours::new(start, now)),
            Self::Google => Box::new(Google::new(now)),
        }
    }
}

struct World {
    link: Link,
    flows: Vec<Flow>,
    /// Of a home.
    met: Option<Flows<usize>>,
    reno: Option<Reno>,
    random: Random,
    now: i64,
    trace: bool,
}

impl World {
    fn new(scene: &Scene, which: Which, seed: u64, trace: bool) -> Self {
        let (count, apart) = match scene.measure {
            Measure::Shares { flows, apart_us } => (flows, apart_us),
            _ => (1, 0),
        };
        let start = Instant::now();
        // Nobody starts in the very same millisecond.
        let starts = (0..count).map(|n| (n, n as i64 * (apart + 7_000)));
        let flows = starts.map(|(n, at)| {
            let source = Source::new(scene.kind, at, n as i64);
            let own = scene.own.get(n).map(|mbps| Link::new(own_path(*mbps)));
            let mut flow = Flow::new(which.make(start, at), source, &scene.path, at);
            flow.own = own;
            flow
        });
        let (flows, met) = (flows.collect(), scene.is_home.then(Flows::default));
        let reno = (scene.measure == Measure::Reno).then(|| Reno::new(10 * SECOND, 40 * SECOND));
        Self { link: Link::new(scene.path), flows, met, reno, random: Random::new(seed), now: 0, trace }
    }

    /// Runs until `until` and shows each step to `look`.
    fn run(&mut self, until: i64, mut look: impl FnMut(i64, &mut Self)) {
        while self.now < until {
            let now = self.now;
            let count = self.flows.len();
            let first = (self.random.bits() % count as u64) as usize;
            for n in 0..count {
                let n = (first + n) % count;
                let is_told = self.flows[n].tick(now, &mut self.link, &mut self.random);
                if let Some(met) = self.met.as_mut().filter(|_| is_told) {
                    let flow = &mut self.flows[n];
                    flow.controller.meet(now, n, flow.source.least(), met);
                }
            }
            if let Some(reno) = &mut self.reno {
                reno.tick(now, &mut self.link, &mut self.random);
            }
            if self.trace && now % (SECOND / 4) == 0 {
                let targets: Vec<_> = self
                    .flows
                    .iter()
                    .map(|f| [f.controller.target(), f.controller.budget()].map(|bps| (bps / 1e3) as u64))
                    .collect();
                let capacity = self.link.path.capacity.at(now) / 1e3;
                let queue = self.link.queue_us(now) / 1000;
                println!("{:6.2} s  capacity {capacity:6}  targets {targets:?}  queue {queue} ms", now as f64 / 1e6);
            }
            look(now, self);
            self.now += STEP_US;
        }
    }

    fn delivered(&self) -> u64 {
        self.flows.iter().map(|flow| flow.delivered).sum()
    }

    fn forget_delays(&mut self) {
        self.flows.iter_mut().for_each(|flow| flow.delays.clear());
    }

    fn queue_p95(&mut self) -> Option<f64> {
        let delays = self.flows.iter().flat_map(|flow| &flow.delays);
        let mut delays: Vec<f64> = delays.map(|delay| f64::from(*delay) / 1e3).collect();
        quantile(&mut delays, 0.95)
    }

    fn totals(&self, outcome: &mut Outcome) {
        let sent: u64 = self.flows.iter().map(|flow| flow.sent).sum();
        let lost: u64 = self.flows.iter().map(|flow| flow.lost).sum();
        let padding: u64 = self.flows.iter().map(|flow| flow.padding).sum();
        outcome.lost = lost as f64 / sent.max(1) as f64;
        outcome.padding = padding as f64 / (padding + self.delivered()).max(1) as f64;
    }
}

/// A link of `mbps` Mbit/s that adds nothing to the time.
fn own_path(mbps: f64) -> Path {
    Path { capacity: Capacity::Constant(mbps * 1e6), ..path(0.0, 0, 0.0) }
}

/// Runs a scene with an estimator.
pub fn run(scene: &Scene, which: Which, seed: u64, trace: bool) -> Outcome {
    let mut world = World::new(scene, which, seed, trace);
    let mut outcome = match scene.measure {
        Measure::Single => single(&mut world, scene),
        Measure::Wave => wave(&mut world),
        Measure::Shares { flows, apart_us } => shares(&mut world, flows, apart_us),
        Measure::Reno => against_reno(&mut world),
    };
    world.totals(&mut outcome);
    outcome
}

/// What can be delivered through `capacity` at best: layers come in steps, and have a gap above them.
fn attainable(kind: Kind, capacity: f64) -> f64 {
    match kind {
        Kind::Continuous => capacity.min(25e6),
        Kind::Sfu => allocated(capacity * 0.9),
    }
}

fn single(world: &mut World, scene: &Scene) -> Outcome {
    let mut outcome = Outcome::default();
    let wanted = world.flows[0].source.wanted();
    let capacity = scene.path.capacity.at(0);
    let low = scene.path.capacity.at(40 * SECOND);
    let best = capacity.min(wanted);
    let (mut mean, mut before, mut drop_queue) = (0.0, 0, 0);
    world.run(80 * SECOND, |now, world| {
        let target = world.flows[0].controller.target();
        if (4_500_000..5_500_000).contains(&now) {
            // The mean over a second: a single instant may be that of a drained probe.
            mean += target * STEP_US as f64 / 1e6;
        }
        match now {
            10_000_000 => {
                before = world.delivered();
                world.forget_delays();
            }
            30_000_000 => {
                let bits = (world.delivered() - before) as f64 * 8.0;
                outcome.used = Some(bits / 20.0 / attainable(scene.kind, capacity));
                outcome.queue_p95 = world.queue_p95();
                world.forget_delays();
            }
            _ => {}
        }
        let second = now as f64 / 1e6;
        if (30 * SECOND..50 * SECOND).contains(&now) {
            drop_queue = drop_queue.max(world.link.queue_us(now));
            if outcome.drop_seen.is_none() && target <= 1.1 * low {
                outcome.drop_seen = Some(second - 30.0);
            }
        }
        if now > 50 * SECOND && outcome.recovery.is_none() && target >= 0.85 * best {
            outcome.recovery = Some(second - 50.0);
        }
    });
    let (short, above) = (1.0 - mean / best, mean / capacity - 1.0);
    outcome.error = Some(short.max(above).max(0.0));
    outcome.drop_queue = Some(drop_queue as f64 / 1e3);
    outcome.recovery = outcome.recovery.or(Some(f64::INFINITY));
    outcome
}

fn wave(world: &mut World) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut before, mut capacity) = (0, 0.0);
    world.run(70 * SECOND, |now, world| {
        if now == 10 * SECOND {
            before = world.delivered();
            world.forget_delays();
        }
        if now >= 10 * SECOND {
            capacity += world.link.path.capacity.at(now) * STEP_US as f64 / 1e6;
        }
    });
    outcome.used = Some((world.delivered() - before) as f64 * 8.0 / capacity);
    outcome.queue_p95 = world.queue_p95();
    outcome
}

fn shares(world: &mut World, flows: usize, apart_us: i64) -> Outcome {
    let mut outcome = Outcome::default();
    let from = (flows as i64 - 1) * apart_us + 20 * SECOND;
    let mut before = Vec::new();
    world.run(from + 20 * SECOND, |now, world| {
        if now == from {
            before = world.flows.iter().map(|flow| flow.delivered).collect();
            world.forget_delays();
        }
    });
    let Capacity::Constant(capacity) = world.link.path.capacity else { return outcome };
    let got = world.flows.iter().zip(&before).map(|(flow, before)| (flow.delivered - before) as f64 * 8.0 / 20.0);
    let got: Vec<f64> = got.collect();
    let total = got.iter().sum::<f64>();
    let own = |n: usize| world.flows[n].own.as_ref().map_or(capacity, |own| own.path.capacity.at(0));
    let limits: Vec<f64> = (0..flows).map(own).collect();
    outcome.used = Some(total / limits.iter().sum::<f64>().min(capacity));
    // Nobody can have more than a link of his own carries when it is well used.
    let fair = fair_shares(total, limits.iter().map(|bps| bps * WELL_USED).collect());
    outcome.unfair = got.iter().zip(&fair).map(|(got, fair)| (got / fair - 1.0).abs()).max_by(f64::total_cmp);
    outcome.queue_p95 = world.queue_p95();
    outcome
}

/// The shares of `total` that are as equal as limits allow.
fn fair_shares(total: f64, mut limits: Vec<f64>) -> Vec<f64> {
    let mut ordered = limits.clone();
    ordered.sort_by(f64::total_cmp);
    let (mut level, mut left) = (0.0, total);
    for (n, limit) in ordered.iter().enumerate() {
        level = left / (ordered.len() - n) as f64;
        if level <= *limit {
            break;
        }
        left -= limit;
    }
    limits.iter_mut().for_each(|limit| *limit = limit.min(level));
    limits
}

fn against_reno(world: &mut World) -> Outcome {
    let mut outcome = Outcome::default();
    let mut before = (0, 0);
    world.run(40 * SECOND, |now, world| {
        if now == 20 * SECOND {
            before = (world.delivered(), world.reno.as_ref().map_or(0, |reno| reno.delivered));
            world.forget_delays();
        }
    });
    let ours = (world.delivered() - before.0) as f64;
    let theirs = (world.reno.as_ref().map_or(0, |reno| reno.delivered) - before.1) as f64;
    outcome.used = Some((ours + theirs) * 8.0 / 20.0 / world.link.path.capacity.at(0));
    // Below its half only: a delay-based flow is not expected to get more.
    outcome.unfair = Some((1.0 - 2.0 * ours / (ours + theirs)).max(0.0));
    outcome
}
