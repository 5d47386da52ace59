//! Sound is served first: what it takes is no other's.

use std::cmp::Reverse;
use std::time::Instant;

use slotmap::SlotMap;

use crate::room::client::Outbound;
use crate::room::track::Track;
use moonring_wire::id::TrackKey;

/// What the sound that is heard takes of the path, in bit/s: that of `most` at once, or of all.
pub(super) fn sound_bps(
    now: Instant,
    outbound: &Outbound,
    tracks: &SlotMap<TrackKey, Track>,
    most: Option<usize>,
) -> u64 {
    let tracks = outbound.forwards.iter().flatten().filter_map(|f| tracks.get(f.track)).filter(|t| !t.is_video());
    let kept = tracks.flat_map(|t| &t.layers).filter(|layer| layer.is_kept(now));
    let mut rates: Vec<u64> = kept.map(|layer| layer.bitrate_bps).collect();
    rates.sort_unstable_by_key(|bps| Reverse(*bps));
    rates.iter().take(most.unwrap_or(usize::MAX)).sum()
}
