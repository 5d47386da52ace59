//! What nothing is sent of whatever the path carries: it takes no part in the choice of layers.

use slotmap::SlotMap;

use crate::room::client::Outbound;
use crate::room::forward::Forward;
use crate::room::track::Track;
use moonring_wire::id::TrackKey;
use moonring_wire::media::PauseReason;

/// Why nothing is sent of a track, whatever its receiver's path carries.
pub(super) fn unsendable(forward: &Forward, track: &Track) -> Option<PauseReason> {
    match forward.allotted.view {
        Some((0, 0)) => Some(PauseReason::Hidden),
        _ if track.kept_layers == 0 => Some(PauseReason::Overload),
        _ => None,
    }
}

/// Pauses what is not sent whatever the path carries, and takes no part in what it carries; the places of what was sent, or
/// paused for another reason, before.
pub(super) fn put_away(outbound: &mut Outbound, tracks: &SlotMap<TrackKey, Track>) -> Vec<u16> {
    let mut changed = Vec::new();
    for (place, forward) in outbound.forwards.iter_mut().enumerate() {
        let Some(forward) = forward else { continue };
        let Some(track) = tracks.get(forward.track).filter(|track| track.is_video()) else { continue };
        let Some(reason) = unsendable(forward, track) else { continue };
        forward.allotted.room = None;
        if forward.allotted.paused.replace(reason) != Some(reason) {
            changed.push(place as u16);
        }
    }
    changed
}
