//! The steps of a track's quality, as they are measured: its encodings, and in each its spatial and temporal layers.

use std::time::Instant;

use super::layering::{Layering, Point};
use super::track::{Layer, Track};

/// Of a higher layer so many temporal layers may be left out: half of its pictures are worth more than all of the next lower
/// one's, a quarter is not.
const MAX_LEFT_OUT: u8 = 1;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The encoding.
    pub layer: u8,
    /// What of it.
    pub point: Point,
    /// The layer that clients are told it is: the encoding or, where there is only one, its spatial layer.
    pub told: u8,
    /// What it takes, in bit/s; 0 for an encoding that is silent or muted.
    pub bps: u64,
    /// The most that it took lately.
    pub most_bps: u64,
}

/// How large pictures are: the encoding, and the spatial layer inside it.
pub type Size = (u8, u8);

/// What a step is noted with of which packets come, but which has not been measured yet, in bit/s.
pub const UNMEASURED_BPS: u64 = 1;

impl Rung {
    /// How large its pictures are.
    pub fn size(&self) -> Size {
        (self.layer, self.point.spatial)
    }

    /// True when packets come of it, and how much that is.
    pub fn is_known(&self) -> bool {
        self.bps > UNMEASURED_BPS
    }

    /// True when packets come of it, and it is not known yet how much.
    pub fn is_unmeasured(&self) -> bool {
        self.bps == UNMEASURED_BPS
    }
}

/// The steps of a track from the lowest to the highest; at least one for each encoding.
pub fn rungs(now: Instant, track: &Track) -> Vec<Rung> {
    let mut rungs = Vec::with_capacity(track.layers.len());
    for (n, layer) in track.layers.iter().enumerate() {
        let is_active = track.kept_layers > 0 && !track.is_muted() && track.is_sent(now, n as u8);
        let layering = layer.layering.as_deref().filter(|layering| is_active && layering.bps(Point::ALL) > 0);
        match layering {
            Some(layering) => add_inner(layering, (n as u8, track.layers.len() > 1), &mut rungs),
            None => rungs.push(whole(layer, n as u8, is_active)),
        }
    }
    rungs
}

fn whole(layer: &Layer, n: u8, is_active: bool) -> Rung {
    let of = |bps: u64| if is_active { bps.max(UNMEASURED_BPS) } else { 0 };
    let (bps, most_bps) = (of(layer.bitrate_bps), of(layer.most_bps));
    Rung { layer: n, point: Point::ALL, told: n, bps, most_bps }
}

/// The steps inside an encoding. Of one of several the spatial layers are not separate ones.
fn add_inner(layering: &Layering, (layer, is_one_of_several): (u8, bool), rungs: &mut Vec<Rung>) {
    let (spatial_layers, temporal_layers) = layering.layers();
    let first = if is_one_of_several { spatial_layers - 1 } else { 0 };
    for spatial in first..spatial_layers {
        let is_lowest = rungs.is_empty();
        let told = if is_one_of_several { layer } else { spatial };
        let lowest = if is_lowest { 0 } else { temporal_layers.saturating_sub(1 + MAX_LEFT_OUT) };
        for temporal in lowest..temporal_layers {
            let is_whole = temporal + 1 == temporal_layers;
            let bps = layering.bps(Point { spatial, temporal }).max(UNMEASURED_BPS);
            // Fewer pictures that take as much are of no use.
            if !is_whole && rungs.last().is_some_and(|last| bps <= last.bps) {
                continue;
            }
            // What is not known yet comes along.
            let open = |n: u8, is_top: bool| if is_top { u8::MAX } else { n };
            let point =
                Point { spatial: open(spatial, spatial + 1 == spatial_layers), temporal: open(temporal, is_whole) };
            let most_bps = layering.most_bps(Point { spatial, temporal }).max(bps);
            rungs.push(Rung { layer, point, told, bps, most_bps });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::room::history::Packet;

    /// Layers of these rates in bit/s, by spatial and temporal layer.
    fn layering(rates: &[&[usize]]) -> Layering {
        let t0 = Instant::now();
        let mut layering = Layering::new(t0);
        for ms in (0..=1_000).step_by(100) {
            for (spatial, row) in rates.iter().enumerate() {
                for (temporal, bps) in row.iter().enumerate() {
                    let mut packet = Packet::new(t0);
                    (packet.info.spatial, packet.info.temporal) = (Some(spatial as u8), Some(temporal as u8));
                    layering.count(t0 + Duration::from_millis(ms), &packet, bps / 80);
                }
            }
        }
        layering
    }

    fn steps(rungs: &[Rung]) -> Vec<(u8, u8, u8)> {
        rungs.iter().map(|rung| (rung.told, rung.point.spatial, rung.point.temporal)).collect()
    }

    #[test]
    fn a_layered_encoding_has_a_step_for_each_layer_and_half_a_step_between() {
        let any = u8::MAX;
        let three = layering(&[&[40_000, 20_000, 40_000], &[200_000, 100_000, 200_000], &[800_000, 400_000, 800_000]]);
        let mut rungs = Vec::new();
        add_inner(&three, (0, false), &mut rungs);
        assert_eq!(
            steps(&rungs),
            [(0, 0, 0), (0, 0, 1), (0, 0, any), (1, 1, 1), (1, 1, any), (2, any, 1), (2, any, any)]
        );
        assert!(rungs.windows(2).all(|pair| pair[0].bps < pair[1].bps), "{rungs:?}");

        // Simulcast: the second encoding's half takes less than the first as a whole.
        let (low, high) = (layering(&[&[60_000, 60_000]]), layering(&[&[70_000, 300_000]]));
        let mut rungs = Vec::new();
        add_inner(&low, (0, true), &mut rungs);
        add_inner(&high, (1, true), &mut rungs);
        assert_eq!(steps(&rungs), [(0, any, 0), (0, any, any), (1, any, any)]);
    }
}
