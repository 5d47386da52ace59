//! Which tracks are served first.

use moonring_wire::media::Source;

/// Pixels of a picture of which a client has not said how large it shows it.
const ASSUMED_AREA: u32 = 320 * 180;
/// So many times as large as it is shown a shared screen, and the picture of who speaks, count.
const SCREEN_WEIGHT: u32 = 4;
const SPEAKER_WEIGHT: u32 = 2;

/// What is served first: what the policy says, and then what is likely to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    pub(super) policy: u8,
    pub(super) weight: u32,
}

/// How much a picture counts that a client shows at the size `view` (width, height): a shared screen is what a meeting is about,
/// and who speaks is looked at more than who listens.
pub(super) fn weight(view: Option<(u32, u32)>, source: Source, speaks: bool) -> u32 {
    let area = view.map_or(ASSUMED_AREA, |(width, height)| width.saturating_mul(height));
    let as_screen = if source == Source::Screen { SCREEN_WEIGHT } else { 1 };
    let as_speaker = if speaks { SPEAKER_WEIGHT } else { 1 };
    area.saturating_mul(as_screen * as_speaker)
}
