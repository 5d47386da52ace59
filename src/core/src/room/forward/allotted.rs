//! What the allocation keeps with a forward.

use std::time::{Duration, Instant};

use crate::room::cap::Room;
use crate::room::rungs::{Rung, Size};
use moonring_wire::media::PauseReason;

/// What the allocation has decided on a forward.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allotted {
    /// Nothing is sent: it does not fit, or the client does not show it.
    pub paused: Option<PauseReason>,
    /// When its layer was last changed, unless somebody has changed its limits since.
    pub changed: Option<Instant>,
    /// Since when not even its lowest layer fits.
    pub tight: Option<Instant>,
    /// Since when the layer that is sent has not fit.
    pub squeezed: Option<Instant>,
    /// The size at which the client shows it, in pixels; `None` until it says.
    pub view: Option<(u32, u32)>,
    /// What the path has room for of a single encoding; `None` while that is not known.
    pub room: Option<Room>,
    /// What of it the path has shown in a rehearsal to carry, in bit/s, and when.
    pub shown: Option<(Instant, u64)>,
    /// When its pictures became larger last, and what these took then, in bit/s, if that was known.
    pub raised: Option<(Instant, Option<u64>)>,
    /// When pictures of this size did not stay, and the size.
    pub in_vain: Option<(Instant, Size)>,
}

/// Pictures that became larger stay so for longer than this, or it was in vain.
const STAYS: Duration = Duration::from_secs(8);
/// For so long the key frame that larger pictures begin with counts towards what they take.
const BEGINS: Duration = Duration::from_secs(2);
/// How long what was in vain is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

impl Allotted {
    /// Notes that pictures get another size, as the path carries more, or not so much.
    pub fn note_size(&mut self, now: Instant, (before, to): (Size, Option<&Rung>)) {
        let size = to.map(Rung::size);
        if size > Some(before) {
            self.raised = Some((now, to.filter(|rung| rung.is_known()).map(|rung| rung.bps)));
        } else if size < Some(before)
            && let Some((at, _)) = self.raised.take()
            && now.saturating_duration_since(at) < STAYS
        {
            self.in_vain = Some((now, before));
        }
    }

    /// The most that what is sent takes, in bit/s, as far as that is known: larger pictures that have just begun do not take what
    /// their key frame makes of them.
    pub fn most_bps(&self, now: Instant) -> Option<u64> {
        self.raised.filter(|(at, _)| now.saturating_duration_since(*at) < BEGINS).and_then(|(_, bps)| bps)
    }

    /// Forgets what has become of sizes: that was on another path.
    pub fn forget_sizes(&mut self) {
        (self.raised, self.in_vain) = (None, None);
    }

    /// The size that pictures have had of late in vain.
    pub fn size_in_vain(&self, now: Instant) -> Option<Size> {
        let (at, size) = self.in_vain?;
        (now.saturating_duration_since(at) < REMEMBERED).then_some(size)
    }

    /// Whether its layer has not changed for so long, or its limits have changed since.
    pub fn has_rested(&self, now: Instant, interval: Duration) -> bool {
        self.changed.is_none_or(|at| now.saturating_duration_since(at) >= interval)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test needs some instant to start from.
mod tests {
    use super::*;
    use crate::room::layering::Point;
    use crate::room::rungs::UNMEASURED_BPS;

    /// A step of this size.
    fn rung((layer, spatial): Size) -> Rung {
        let point = Point { spatial, temporal: 0 };
        Rung { layer, point, told: layer, bps: 1_000_000, most_bps: 1_200_000 }
    }

    #[test]
    fn larger_pictures_take_what_they_took_before_their_key_frame_for_two_seconds() {
        let t0 = Instant::now();
        let ms = |ms| t0 + Duration::from_millis(ms);
        let mut allotted = Allotted::default();
        allotted.note_size(t0, ((1, 0), Some(&rung((0, 0)))));
        assert_eq!(allotted.most_bps(t0), None, "they have become smaller");
        allotted.note_size(t0, ((0, 0), Some(&rung((1, 0)))));
        assert_eq!([0, 1_999, 2_000].map(|at| allotted.most_bps(ms(at))), [Some(1_000_000), Some(1_000_000), None]);
        allotted.note_size(t0, ((0, 0), Some(&Rung { bps: UNMEASURED_BPS, ..rung((1, 0)) })));
        assert_eq!(allotted.most_bps(t0), None, "what they take is not known");
    }

    #[test]
    fn a_size_that_is_gone_within_eight_seconds_was_in_vain_for_a_minute() {
        let (small, large) = ((0, 0), (1, 0));
        for (changes, at, expected) in [
            (&[(0, small, Some(large)), (7_900, large, Some(small))][..], 8_000, Some(large)),
            (&[(0, small, Some(large)), (7_900, large, None)], 8_000, Some(large)),
            (&[(0, small, Some(large)), (7_900, large, Some(small))], 67_900, None),
            (&[(0, small, Some(large)), (8_000, large, Some(small))], 8_000, None),
            (&[(0, large, Some(small)), (100, small, Some(small)), (200, small, None)], 300, None),
            // One step down after another: the first was in vain.
            (&[(0, small, Some((2, 0))), (500, (2, 0), Some(large)), (600, large, Some(small))], 700, Some((2, 0))),
        ] {
            let t0 = Instant::now();
            let ms = |ms| t0 + Duration::from_millis(ms);
            let mut allotted = Allotted::default();
            for (at, before, size) in changes {
                allotted.note_size(ms(*at), (*before, size.map(rung).as_ref()));
            }
            assert_eq!(allotted.size_in_vain(ms(at)), expected, "{changes:?}");
        }
    }
}
