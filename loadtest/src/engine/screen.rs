//! One stream of pictures as a decoder shows it: in order, without gaps, after a gap from the next key frame on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moonring_wire::id::Ssrc;
use moonring_wire::rtp::sequence::Extender;

/// How long the right layer has to stay to count as reached.
pub(super) const STAYS: Duration = Duration::from_secs(3);
/// Packets kept behind a gap; the oldest are given up then.
const MAX_WAITING: usize = 2_048;
/// libwebrtc asks for a key frame when it could not show anything for so long (`kMaxWaitForFrame`).
const KEY_FRAME_PATIENCE: Duration = Duration::from_secs(3);
/// Chromium's rule: a picture is a freeze when it comes 150 ms later than the mean, or after three times the mean.
const FREEZE_LATER: f64 = 0.15;
const FREEZE_TIMES: f64 = 3.0;
/// Pictures that the mean is taken over, and what it is before the first one, in seconds.
const MEAN_PICTURES: f64 = 30.0;
const FIRST_MEAN: f64 = 0.07;

/// What counts of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) layer: u8,
    pub(super) key_frame_start: bool,
    /// The last packet of its picture.
    pub(super) end: bool,
}

/// See the module's words.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) ssrc: Ssrc,
    pub(super) watch: Watch,
    numbers: Extender,
    /// The packet that is needed to go on; `None` before the first key frame.
    next: Option<u64>,
    waiting: BTreeMap<u64, Piece>,
    mean_s: f64,
    /// When the last picture was shown, and its layer.
    shown: Option<(Instant, u8)>,
    /// Since when there is something to show, or when a key frame was asked for.
    patient_since: Instant,
}

/// What is measured of a screen, in one part of the run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    began: Instant,
    right: Option<u8>,
    /// Since when the right layer is there without a freeze.
    since: Option<Instant>,
    /// Since when it was, the first time that it stayed.
    pub(super) reached: Option<Instant>,
    /// With the right layer and without freezes, from [`Watch::reached`] on.
    pub(super) stayed: Duration,
    pub(super) frozen: Duration,
}

impl Screen {
    pub(super) fn new(ssrc: Ssrc, at: Instant, watch: Watch) -> Self {
        Self {
            ssrc,
            watch,
            numbers: Extender::default(),
            next: None,
            waiting: BTreeMap::new(),
            mean_s: FIRST_MEAN,
            shown: None,
            patient_since: at,
        }
    }

    /// Takes a packet that came for the first time.
    pub(super) fn take(&mut self, at: Instant, sequence: u16, piece: Piece) {
        let index = self.numbers.extend(sequence);
        if self.next.is_some_and(|next| index < next) {
            return;
        }
        self.waiting.insert(index, piece);
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_first();
        }
        self.show(at);
        if let Some(start) = self.complete_key_frame() {
            self.waiting = self.waiting.split_off(&start);
            self.next = Some(start);
            self.show(at);
        }
    }

    /// True when a decoder would ask for a key frame now.
    pub(super) fn take_key_frame_request(&mut self, at: Instant) -> bool {
        let since = self.shown.map_or(self.patient_since, |(shown, _)| shown.max(self.patient_since));
        let asks = !self.waiting.is_empty() && at.saturating_duration_since(since) >= KEY_FRAME_PATIENCE;
        if asks {
            self.patient_since = at;
        }
        asks
    }

    /// What was measured up to `at`.
    pub(super) fn watched(&self, at: Instant) -> Watch {
        let mut watch = self.watch;
        match self.shown {
            Some((shown, layer)) => watch.pass((shown, at), layer, self.is_freeze(at.saturating_duration_since(shown))),
            None => watch.frozen = at.saturating_duration_since(watch.began),
        }
        watch
    }

    /// Shows all that can be shown in order.
    fn show(&mut self, at: Instant) {
        while let Some(next) = self.next
            && let Some(piece) = self.waiting.remove(&next)
        {
            self.next = Some(next + 1);
            if piece.end {
                self.show_picture(at, piece.layer);
            }
        }
    }

    /// The first packet of a key frame behind the gap that is all there.
    fn complete_key_frame(&self) -> Option<u64> {
        let starts = self.waiting.iter().filter(|(_, piece)| piece.key_frame_start).map(|(index, _)| *index);
        let is_complete = |start: &u64| {
            let mut pieces = (*start..).map_while(|index| self.waiting.get(&index));
            pieces.any(|piece| piece.end)
        };
        starts.into_iter().find(is_complete)
    }

    fn show_picture(&mut self, at: Instant, layer: u8) {
        if let Some((shown, layer_before)) = self.shown {
            let gap = at.saturating_duration_since(shown);
            self.watch.pass((shown, at), layer_before, self.is_freeze(gap));
            self.mean_s += (gap.as_secs_f64() - self.mean_s) / MEAN_PICTURES;
        }
        self.shown = Some((at, layer));
        self.watch.show(at, layer);
    }

    fn is_freeze(&self, gap: Duration) -> bool {
        gap.as_secs_f64() >= f64::max(FREEZE_TIMES * self.mean_s, self.mean_s + FREEZE_LATER)
    }
}

impl Watch {
    /// `right`: the layer that is waited for, if any fits.
    pub(super) fn new(began: Instant, right: Option<u8>) -> Self {
        let none = Duration::ZERO;
        Self { began, right, since: None, reached: None, stayed: none, frozen: none }
    }

    fn is_right(&self, layer: u8) -> bool {
        self.right.is_some_and(|right| layer >= right)
    }

    /// A picture of `layer` stood from one moment to another.
    fn pass(&mut self, (from, to): (Instant, Instant), layer: u8, is_freeze: bool) {
        let time = to.saturating_duration_since(from.max(self.began));
        if is_freeze {
            self.frozen += time;
            self.since = None;
        } else if self.reached.is_some() && self.is_right(layer) {
            self.stayed += time;
        }
    }

    fn show(&mut self, at: Instant, layer: u8) {
        if !self.is_right(layer) {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(at);
        if self.reached.is_none() && at.saturating_duration_since(since) >= STAYS {
            (self.reached, self.stayed) = (Some(since), at.saturating_duration_since(since));
        }
    }
}
