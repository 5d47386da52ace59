//! The scenes of the table.

use crate::link::{Capacity, Loss, Path};
use crate::source::Kind;

mod homes;

pub use homes::{homes, homes_on_bad_paths, own_links, sfu_homes};

/// What is measured of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// One flow; the capacity falls to 0.4 at 30 s and returns at 50 s.
    Single,
    /// One flow on a capacity that changes all the time.
    Wave,
    /// Several flows, each started `apart_us` after the one before: their shares.
    Shares {
        /// How many.
        flows: usize,
        /// Microseconds between their starts.
        apart_us: i64,
    },
    /// One flow against Reno from 10 to 40 s.
    Reno,
}

/// A run to be made.
#[derive(Clone, Debug)]
pub struct Scene {
    /// For the table.
    pub name: String,
    /// The way.
    pub path: Path,
    /// What is sent.
    pub kind: Kind,
    /// What is measured.
    pub measure: Measure,
    /// The links behind the bottleneck that flows have for themselves, in Mbit/s; none: no such links.
    pub own: Vec<f64>,
    /// All flows go to one address, and may be told of each other.
    pub is_home: bool,
}

/// A path without anything special, of `mbps` Mbit/s.
pub fn path(mbps: f64, rtt_ms: i64, loss: f64) -> Path {
    Path {
        capacity: Capacity::Dip { high: mbps * 1e6, low: mbps * 0.4e6 },
        queue_us: 300_000,
        small_queue: false,
        rtt_us: rtt_ms * 1000,
        loss: Loss::Random(loss),
        feedback_loss: 0.0,
        jitter_us: 0,
        reorders: false,
        bucket: 0,
        drift_ppm: 0,
        feedback_us: 0,
    }
}

fn scene(name: &str, path: Path, kind: Kind, measure: Measure) -> Scene {
    let bps = path.capacity.at(0) / 1e6;
    let rtt = path.rtt_us / 1000;
    Scene { name: format!("{name:24} {bps:4} Mbit/s {rtt:3} ms"), path, kind, measure, own: Vec::new(), is_home: false }
}

/// The grid of FACTS.md section 7: continuous source.
pub fn grid() -> Vec<Scene> {
    with_grid("continuous", Kind::Continuous, &[0.1, 0.5, 2.0, 8.0, 20.0])
}

/// The same for the SFU's source.
pub fn sfu_grid() -> Vec<Scene> {
    with_grid("sfu", Kind::Sfu, &[0.5, 1.0, 2.0, 6.0, 20.0])
}

fn with_grid(name: &str, kind: Kind, capacities: &[f64]) -> Vec<Scene> {
    let mut all = Vec::new();
    for capacity in capacities {
        for rtt in [10, 100, 300] {
            for loss in [0.0, 0.01, 0.05] {
                let name = format!("{name}, loss {} %", loss * 100.0);
                all.push(scene(&name, path(*capacity, rtt, loss), kind, Measure::Single));
            }
        }
    }
    all
}

/// Jitter, reordering, bursts of loss, a short queue, lost feedback.
pub fn bad() -> Vec<Scene> {
    let mut all = Vec::new();
    for (capacity, rtt) in [(0.5, 50), (2.0, 100), (8.0, 50)] {
        for kind in [Kind::Continuous, Kind::Sfu] {
            let plain = path(capacity, rtt, 0.0);
            let bursts = Loss::Bursts { begin: 0.01, stay: 0.7 };
            let paths = [
                ("jitter 10 ms", Path { jitter_us: 10_000, ..plain }),
                ("jitter 30 ms", Path { jitter_us: 30_000, ..plain }),
                ("jitter 20 ms, reordered", Path { jitter_us: 20_000, reorders: true, ..plain }),
                ("loss in bursts, 3 %", Path { loss: bursts, ..plain }),
                ("queue of 30 ms", Path { queue_us: 30_000, small_queue: true, ..plain }),
                ("feedback lost, 20 %", Path { feedback_loss: 0.2, ..plain }),
                ("feedback lost, 50 %", Path { feedback_loss: 0.5, ..plain }),
                ("everything", Path { jitter_us: 15_000, reorders: true, loss: bursts, feedback_loss: 0.2, ..plain }),
            ];
            let which = if kind == Kind::Sfu { " sfu" } else { "" };
            all.extend(paths.map(|(name, path)| scene(&format!("{name}{which}"), path, kind, Measure::Single)));
        }
    }
    all
}

/// Token buckets, much loss, receivers' clocks that drift, feedback that comes once a second.
pub fn odd() -> Vec<Scene> {
    let mut all = Vec::new();
    for (capacity, rtt) in [(0.5, 50), (2.0, 100), (8.0, 50)] {
        for kind in [Kind::Continuous, Kind::Sfu] {
            let plain = path(capacity, rtt, 0.0);
            let paths = [
                ("bucket of 16 kB", Path { bucket: 16_000, ..plain }),
                ("bucket of 32 kB", Path { bucket: 32_000, ..plain }),
                ("bucket of 64 kB", Path { bucket: 64_000, ..plain }),
                ("loss 8 %", Path { loss: Loss::Random(0.08), ..plain }),
                ("loss 12 %", Path { loss: Loss::Random(0.12), ..plain }),
                ("clock 300 ppm fast", Path { drift_ppm: 300, ..plain }),
                ("clock 300 ppm slow", Path { drift_ppm: -300, ..plain }),
                ("feedback once a second", Path { feedback_us: 1_000_000, ..plain }),
            ];
            let which = if kind == Kind::Sfu { " sfu" } else { "" };
            all.extend(paths.map(|(name, path)| scene(&format!("{name}{which}"), path, kind, Measure::Single)));
        }
    }
    all
}

/// Capacities that change all the time.
pub fn waves() -> Vec<Scene> {
    let mut all = Vec::new();
    for (high, rtt) in [(0.5, 50), (2.0, 100), (8.0, 50)] {
        for seconds in [2, 5, 10] {
            let capacity = Capacity::Wave { high: high * 1e6, period: seconds * 1_000_000 };
            let name = format!("wave, {seconds} s");
            all.push(scene(&name, Path { capacity, ..path(0.0, rtt, 0.0) }, Kind::Continuous, Measure::Wave));
        }
    }
    all
}

/// Several flows through one bottleneck.
pub fn shares() -> Vec<Scene> {
    let mut all = Vec::new();
    for flows in [2, 4] {
        for (mbps, rtt) in [(1.0, 50), (2.0, 10), (2.0, 100), (4.0, 50), (8.0, 20), (8.0, 100), (20.0, 50)] {
            for apart in [0, 3] {
                let measure = Measure::Shares { flows, apart_us: apart * 1_000_000 };
                let capacity = Capacity::Constant(mbps * 1e6);
                let name = format!("{flows} flows, {apart} s apart");
                all.push(scene(&name, Path { capacity, ..path(0.0, rtt, 0.0) }, Kind::Continuous, measure));
            }
        }
    }
    all
}

/// Against a loss-based flow.
pub fn reno() -> Vec<Scene> {
    [(1.0, 50), (2.0, 50), (8.0, 50), (8.0, 100)]
        .into_iter()
        .map(|(mbps, rtt)| {
            let capacity = Capacity::Constant(mbps * 1e6);
            scene("against Reno", Path { capacity, ..path(0.0, rtt, 0.0) }, Kind::Continuous, Measure::Reno)
        })
        .collect()
}
