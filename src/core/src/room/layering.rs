//! The spatial and temporal layers inside one encoding, as its packets tell of them: the dependency descriptor of any codec,
//! VP9's own header, temporal layers of VP8's, and H.264's pictures that nobody refers to.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::fading::most_lately;
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
/// Least time between two key frames that are asked for because of an upper spatial layer.
const UPPER_INTERVAL: Duration = Duration::from_secs(5);
/// A layer of which nothing came in so many intervals is not sent any more.
const SILENT_INTERVALS: u8 = 4;

/// A spatial and a temporal layer, and with them all below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The most that it was lately.
    most_bps: u64,
    /// Intervals since something came; [`SILENT_INTERVALS`] at the beginning.
    silent: u8,
}

/// What packets have brought to light of the layers inside an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insight {
    /// There are more than were known.
    More,
    /// They are described otherwise than before, as an encoder may do with each picture.
    Other,
}

/// What is known of an encoding's layers, as far as another place needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayeringState {
    /// The last dependency descriptor with a structure; empty without one.
    brought_by: Vec<u8>,
    sent: (u8, u8),
    seen: (u8, u8),
}

impl LayeringState {
    /// Nothing but a structure is known.
    pub fn brought_by(descriptor: &[u8]) -> Self {
        Self { brought_by: descriptor.to_vec(), sent: (1, 1), seen: (1, 1) }
    }
}

/// What is known of an encoding's layers.
#[derive(Debug)]
pub struct Layering {
    structure: Option<Box<Structure>>,
    /// The descriptor that has brought it.
    brought_by: Vec<u8>,
    /// The spatial and temporal layers that the publisher says it sends, and the frame that said so.
    active: Option<((u8, u8), u16)>,
    cells: [[Cell; MAX_TEMPORAL]; MAX_SPATIAL],
    since: Instant,
    /// When a key frame was asked for because of an upper spatial layer.
    upper_asked: Option<Instant>,
    /// There is another structure than when it was asked last.
    has_changed: bool,
    /// The spatial and temporal layers that are sent.
    sent: (u8, u8),
    /// The most spatial and temporal layers that were seen.
    seen: (u8, u8),
}

impl Layering {
    /// Nothing is known.
    pub fn new(now: Instant) -> Self {
        let cell = Cell { silent: SILENT_INTERVALS, ..Cell::default() };
        Self {
            structure: None,
            brought_by: Vec::new(),
            active: None,
            cells: [[cell; MAX_TEMPORAL]; MAX_SPATIAL],
            since: now,
            upper_asked: None,
            has_changed: false,
            sent: (1, 1),
            seen: (1, 1),
        }
    }

    /// The last dependency descriptor with a structure; empty without one.
    pub fn brought_by(&self) -> &[u8] {
        &self.brought_by
    }

    /// What another place has to know to read the packets that follow.
    pub fn state(&self) -> LayeringState {
        LayeringState { brought_by: self.brought_by.clone(), sent: self.sent, seen: self.seen }
    }

    /// Takes in what another place knows, where this one knows nothing.
    pub fn learn(&mut self, state: &LayeringState) {
        let within = |(spatial, temporal): (u8, u8)| {
            (spatial.clamp(1, MAX_SPATIAL as u8), temporal.clamp(1, MAX_TEMPORAL as u8))
        };
        let more = |a: (u8, u8), b: (u8, u8)| (a.0.max(b.0), a.1.max(b.1));
        if self.structure.is_none() {
            self.structure = Structure::parse(&state.brought_by).map(Box::new);
            self.brought_by.clone_from(&state.brought_by);
        }
        (self.sent, self.seen) = (more(self.sent, within(state.sent)), more(self.seen, within(state.seen)));
    }

    /// Adds to a packet what its dependency descriptor says; one that cannot be read says nothing.
    pub fn describe(&mut self, descriptor: &[u8], packet: &mut Packet) {
        let Some(frame) = Frame::parse(descriptor, self.structure.as_deref()) else { return };
        packet.info.complete(&frame);
        packet.links = frame.links;
        let number = frame.links.number;
        if frame.structure.is_some() {
            self.has_changed |= self.structure != frame.structure;
            (self.structure, self.active) = (frame.structure, None);
            self.brought_by.clear();
            self.brought_by.extend_from_slice(descriptor);
        }
        // A frame that comes late says what was before.
        let is_newer = self.active.is_none_or(|(_, said)| number.wrapping_sub(said) as i16 >= 0);
        if let Some((targets, structure)) = frame.active_targets.zip(self.structure.as_deref()).filter(|_| is_newer) {
            self.active = Some((structure.layers(targets), number));
        }
    }

    /// Counts a packet of `bytes` bytes; what that has brought to light.
    pub fn count(&mut self, now: Instant, packet: &Packet, bytes: usize) -> Option<Insight> {
        let (spatial, temporal) = packet.layers();
        if let Some(cell) = self.cells.get_mut(spatial).and_then(|row| row.get_mut(temporal)) {
            cell.bytes += bytes as u64;
        }
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < INTERVAL {
            return None;
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
            cell.most_bps = most_lately(cell.most_bps, elapsed, cell.bps);
        }
        let (spatial, temporal) = self.measured();
        self.sent = (spatial, temporal);
        let seen = (self.seen.0.max(spatial), self.seen.1.max(temporal));
        let is_other = std::mem::take(&mut self.has_changed);
        let has_grown = std::mem::replace(&mut self.seen, seen) != seen;
        if has_grown { Some(Insight::More) } else { is_other.then_some(Insight::Other) }
    }

    /// Whether a key frame may be asked for that brings an upper spatial layer. An encoder that has no bits for the layer leaves it
    /// out of the key frame, too, and one key frame after the other leaves it none for anything else.
    pub fn may_ask_for_upper(&mut self, now: Instant) -> bool {
        let may = self.upper_asked.is_none_or(|at| now.saturating_duration_since(at) >= UPPER_INTERVAL);
        if may {
            self.upper_asked = Some(now);
        }
        may
    }

    /// How many spatial and temporal layers are sent, at least one of each.
    pub fn layers(&self) -> (u8, u8) {
        let (spatial, temporal) = self.active();
        (self.sent.0.min(spatial), self.sent.1.min(temporal))
    }

    /// The most spatial and temporal layers that come, as far as the publisher says.
    fn active(&self) -> (u8, u8) {
        self.active.map_or((u8::MAX, u8::MAX), |(layers, _)| layers)
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
        self.cells(point).map(|cell| cell.bps).sum()
    }

    /// The most that it took lately.
    pub fn most_bps(&self, point: Point) -> u64 {
        self.cells(point).map(|cell| cell.most_bps).sum()
    }

    fn cells(&self, point: Point) -> impl Iterator<Item = &Cell> {
        let (spatial, temporal) = self.active();
        let rows = self.cells.iter().take(usize::from(spatial.min(point.spatial.saturating_add(1))));
        rows.flat_map(move |row| row.iter().take(usize::from(temporal.min(point.temporal.saturating_add(1)))))
    }

    /// The lowest spatial layer whose pictures are at least `height` pixels high, or the highest; `None` where nobody says
    /// how high they are.
    pub fn spatial_for(&self, height: u32) -> Option<u8> {
        let structure = self.structure.as_deref()?;
        let heights = (0..MAX_SPATIAL as u8).map_while(|spatial| Some((spatial, structure.height(spatial)?)));
        let enough = heights.clone().find(|(_, of)| *of >= height);
        // Where the publisher has left out the upper ones, because nobody wanted them, they are wanted again.
        enough.or(heights.last()).map(|(spatial, of)| if of < height { spatial.max(self.seen.0 - 1) } else { spatial })
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
            if layering.count(t0 + Duration::from_millis(ms), &packet, bytes) == Some(Insight::More) {
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

    /// Bytes of fields given as (value, bits).
    fn pack(fields: &[(u64, usize)]) -> Vec<u8> {
        let bits: Vec<u8> =
            fields.iter().flat_map(|(value, count)| (0..*count).rev().map(move |n| (value >> n & 1) as u8)).collect();
        bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (n, bit)| sum | bit << (7 - n))).collect()
    }

    /// Frame `number` with a structure of two spatial layers of 180 and 360 lines and one temporal layer, or without one, and
    /// with what it says of the two decode targets.
    fn descriptor(number: u64, has_structure: bool, active: Option<u64>) -> Vec<u8> {
        let flags = u64::from(has_structure) << 4 | u64::from(active.is_some()) << 3;
        let mut fields = vec![(0b11, 2), (0, 6), (number, 16), (flags, 5)];
        if has_structure {
            // Template ids from 0, two targets; the templates' layers, their indications, no differences, no chains.
            fields.extend([(0, 6), (1, 5), (2, 2), (3, 2), (0b1010, 4), (0b0010, 4), (0, 1), (0, 1), (0, 1), (1, 1)]);
            fields.extend([(319, 16), (179, 16), (639, 16), (359, 16)]);
        }
        fields.extend(active.map(|active| (active, 2)));
        pack(&fields)
    }

    #[test]
    fn layers_that_the_publisher_says_it_leaves_out_count_no_more_at_once() {
        let t0 = Instant::now();
        let mut layering = Layering::new(t0);
        for ms in (0..3_000).step_by(100) {
            for spatial in 0..2 {
                let mut packet = Packet::new(t0);
                layering.describe(&descriptor(ms / 100, ms == 0 && spatial == 0, None), &mut packet);
                (packet.info.spatial, packet.info.temporal) = (Some(spatial), Some(0));
                layering.count(t0 + Duration::from_millis(ms), &packet, 1_000);
            }
        }
        let whole = layering.bps(Point::ALL);
        // The first target is S0, in the highest of the two bits that stand for both; what is late tells of what was before.
        for (number, has_structure, active, layers, height) in [
            (100, false, None, 2, 1),
            (101, false, Some(0b01), 1, 1),
            (99, false, Some(0b11), 1, 1),
            (102, false, Some(0b11), 2, 1),
            (103, false, Some(0b01), 1, 1),
            (104, true, None, 2, 1),
        ] {
            layering.describe(&descriptor(number, has_structure, active), &mut Packet::new(t0));
            assert_eq!(layering.layers(), (layers, 1), "{number}");
            let bps = layering.bps(Point::ALL);
            assert!((whole * u64::from(layers) / 2).abs_diff(bps) < 5_000, "{number}: {bps} of {whole}");
            assert_eq!(layering.spatial_for(300), Some(height));
        }
    }
}
