//! Several flows to one address.

use super::{Measure, Scene, bad, odd, path, scene, shares};
use crate::link::{Capacity, Path};
use crate::source::Kind;

/// The bottlenecks of [`shares`], where all flows go to one address.
pub fn homes() -> Vec<Scene> {
    shares().into_iter().map(|scene| Scene { is_home: true, ..scene }).collect()
}

/// The same for the SFU's source; or of flows to different addresses, to compare with.
pub fn sfu_homes(is_home: bool) -> Vec<Scene> {
    shares().into_iter().map(|scene| Scene { kind: Kind::Sfu, is_home, ..scene }).collect()
}

/// Bottlenecks with jitter, loss, token buckets and little feedback, shared by two and four flows.
pub fn homes_on_bad_paths(is_home: bool) -> Vec<Scene> {
    let mut all = Vec::new();
    for flows in [2, 4] {
        let measure = Measure::Shares { flows, apart_us: 1_000_000 };
        for Scene { name, path, kind, .. } in bad().into_iter().chain(odd()) {
            let capacity = Capacity::Constant(path.capacity.at(0));
            let name = format!("{flows} {name}");
            let path = Path { capacity, ..path };
            all.push(Scene { name, path, kind, measure, own: Vec::new(), is_home });
        }
    }
    all
}

/// Flows to one address that have links of their own: behind a bottleneck that they share, or behind none, as strangers behind a
/// relay.
pub fn own_links(is_home: bool) -> Vec<Scene> {
    let mut all = Vec::new();
    for kind in [Kind::Continuous, Kind::Sfu] {
        for flows in [2, 4] {
            for (mbps, rtt) in [(1.0, 50), (2.0, 10), (4.0, 100), (8.0, 50)] {
                for (shared, parts) in [
                    (1.0, [0.1, 1.0, 1.0, 1.0]),
                    (1.0, [0.2, 0.15, 1.0, 1.0]),
                    (1.0, [0.1, 0.6, 0.6, 0.6]),
                    (100.0, [1.0, 1.0, 1.0, 1.0]),
                    (100.0, [1.0, 0.3, 3.0, 1.0]),
                    (100.0, [1.0, 2.0, 0.2, 0.5]),
                ] {
                    let own: Vec<f64> = parts.iter().take(flows).map(|part| mbps * part).collect();
                    let capacity = Capacity::Constant(mbps * shared * 1e6);
                    let measure = Measure::Shares { flows, apart_us: 1_000_000 };
                    let name = format!("own {own:?} of");
                    let path = Path { capacity, ..path(0.0, rtt, 0.0) };
                    all.push(Scene { own, is_home, ..scene(&name, path, kind, measure) });
                }
            }
        }
    }
    all
}
