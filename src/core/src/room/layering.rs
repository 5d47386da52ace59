//! The spatial and temporal layers inside one encoding, as its packets tell of them: the dependency descriptor of any codec,
//! VP9's own header, temporal layers of VP8's, and H.264's pictures that nobody refers to.

use std::time::{Duration, Instant};

use super::history::Packet;
use moonring_wire::rtp::dependency::{Frame, Structure};

/// Spatial and temporal layers that are told apart: VP9 has three bits for each.
pub const MAX_SPATIAL: usize = 8;
/// See [`MAX_SPATIAL`].
pub const MAX_TEMPORAL: usize = 8;
/// Over how long the layers' bit rates are averaged.
const INTERVAL: Duration = Duration::from_millis(500);
/// Weight of the newest measurement.
const WEIGHT: f64 = 0.35;
/// A layer of which nothing came in so many intervals is not sent any more.
const SILENT_INTERVALS: u8 = 4;

/// A spatial and a temporal layer, and with them all below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The highest spatial layer.
    pub spatial: u8,
    /// The highest temporal layer.
    pub temporal: u8,
}

impl Point {
    /// Everything that comes.
    pub const ALL: Self = Self { spatial: u8::MAX, temporal: u8::MAX };
}

/// Height in pixels of the lowest layer, where nobody says: 180, 360, 720.
const LOWEST_LAYER_HEIGHT: u32 = 180;

/// The highest layer that a view of `height` pixels has use for: one that is at least as high as the view.
pub(super) fn useful_layer(height: u32) -> u8 {
    let mut layer = 0;
    while layer < 7 && LOWEST_LAYER_HEIGHT << layer < height {
        layer += 1;
    }
    layer
}

/// The bytes of one layer.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    bytes: u64,
    bps: u64,
    /// Intervals since something came; [`SILENT_INTERVALS`] at the beginning.
    silent: u8,
}

/// What is known of an encoding's layers.
#[derive(Debug)]
pub struct Layering {
    structure: Option<Box<Structure>>,
    cells: [[Cell; MAX_TEMPORAL]; MAX_SPATIAL],
    since: Instant,
    /// The spatial and temporal layers that are sent.
    sent: (u8, u8),
    /// The most spatial and temporal layers that were seen.
    seen: (u8, u8),
}

impl Layering {
    /// Nothing is known.
    pub fn new(now: Instant) -> Self {
        let cell = Cell { silent: SILENT_INTERVALS, ..Cell::default() };
        Self { structure: None, cells: [[cell; MAX_TEMPORAL]; MAX_SPATIAL], since: now, sent: (1, 1), seen: (1, 1) }
    }

    /// Adds to a packet what its dependency descriptor says; one that cannot be read says nothing.
    pub fn describe(&mut self, descriptor: &[u8], packet: &mut Packet) {
        let Some(frame) = Frame::parse(descriptor, self.structure.as_deref()) else { return };
        packet.info.complete(&frame);
        packet.links = frame.links;
        if frame.structure.is_some() {
            self.structure = frame.structure;
        }
    }

    /// Counts a packet of `bytes` bytes; true when the number of layers seen has grown.
    pub fn count(&mut self, now: Instant, packet: &Packet, bytes: usize) -> bool {
        let (spatial, temporal) = packet.layers();
        if let Some(cell) = self.cells.get_mut(spatial).and_then(|row| row.get_mut(temporal)) {
            cell.bytes += bytes as u64;
        }
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < INTERVAL {
            return false;
        }
        self.since = now;
        // Silence is no rate.
        let is_measured = elapsed < INTERVAL * u32::from(SILENT_INTERVALS);
        for cell in self.cells.iter_mut().flatten() {
            let bytes = std::mem::take(&mut cell.bytes);
            cell.silent = if bytes > 0 { 0 } else { cell.silent.saturating_add(1) };
            let rate = bytes as f64 * 8.0 / elapsed.as_secs_f64();
            let before = if cell.bps == 0 { rate } else { cell.bps as f64 };
            if is_measured {
                cell.bps = (before + WEIGHT * (rate - before)) as u64;
            }
            if cell.silent >= SILENT_INTERVALS {
                cell.bps = 0;
            }
        }
        let (spatial, temporal) = self.measured();
        self.sent = (spatial, temporal);
        let seen = (self.seen.0.max(spatial), self.seen.1.max(temporal));
        std::mem::replace(&mut self.seen, seen) != seen
    }

    /// How many spatial and temporal layers are sent, at least one of each.
    pub fn layers(&self) -> (u8, u8) {
        self.sent
    }

    fn measured(&self) -> (u8, u8) {
        let rows = self.cells.iter().zip(1..).filter(|(row, _)| row.iter().any(|cell| cell.bps > 0));
        let temporal =
            |row: &[Cell; MAX_TEMPORAL]| row.iter().rposition(|cell| cell.bps > 0).map_or(1, |t| t as u8 + 1);
        rows.fold((1, 1), |(_, most), (row, spatial)| (spatial, most.max(temporal(row))))
    }

    /// The most spatial and temporal layers that were sent so far.
    pub fn seen(&self) -> (u8, u8) {
        self.seen
    }

    /// What `point` takes, in bit/s; 0 before it is known.
    pub fn bps(&self, point: Point) -> u64 {
        let rows = self.cells.iter().take(usize::from(point.spatial) + 1);
        rows.flat_map(|row| row.iter().take(usize::from(point.temporal) + 1)).map(|cell| cell.bps).sum()
    }

    /// The lowest spatial layer whose pictures are at least `height` pixels high, or the highest; `None` where nobody says
    /// how high they are.
    pub fn spatial_for(&self, height: u32) -> Option<u8> {
        let structure = self.structure.as_deref()?;
        let heights = (0..MAX_SPATIAL as u8).map_while(|spatial| Some((spatial, structure.height(spatial)?)));
        let enough = heights.clone().find(|(_, of)| *of >= height);
        enough.or(heights.last()).map(|(spatial, _)| spatial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_has_use_for_the_lowest_layer_that_fills_it() {
        for (height, layer) in [(0, 0), (90, 0), (180, 0), (181, 1), (360, 1), (400, 2), (720, 2), (2_160, 4)] {
            assert_eq!(useful_layer(height), layer, "{height}");
        }
    }

    #[test]
    fn the_rates_of_layers_are_measured_and_a_silent_one_is_none() {
        let t0 = Instant::now();
        let mut layering = Layering::new(t0);
        let mut grown = Vec::new();
        let mut send = |layering: &mut Layering, ms: u64, temporal: u8, bytes: usize| {
            let mut packet = Packet::new(t0);
            (packet.info.temporal, packet.info.spatial) = (Some(temporal), Some(0));
            if layering.count(t0 + Duration::from_millis(ms), &packet, bytes) {
                grown.push(ms);
            }
        };
        for ms in (0..3_000).step_by(100) {
            // 80 and 40 kbit/s.
            send(&mut layering, ms, 0, 1_000);
            send(&mut layering, ms, 1, 500);
        }
        let point = |temporal| Point { spatial: 0, temporal };
        assert_eq!(layering.layers(), (1, 2));
        let near = |bps: u64, expected: u64| (expected * 9 / 10..=expected * 11 / 10).contains(&bps);
        assert!(near(layering.bps(point(0)), 80_000), "{}", layering.bps(point(0)));
        assert!(near(layering.bps(Point::ALL), 120_000), "{}", layering.bps(Point::ALL));
        for ms in (3_000..6_000).step_by(100) {
            send(&mut layering, ms, 0, 1_000);
        }
        assert_eq!((layering.layers(), layering.seen()), ((1, 1), (1, 2)));
        assert!(near(layering.bps(Point::ALL), 80_000), "{}", layering.bps(Point::ALL));
        assert_eq!(grown, [500]);
    }
}
