//! Sound of several speakers to one client: short packets, each of which is a send of its own unless neighbours make one.
//!
//! Packets leave as one send (GSO) when they are equally long but for a shorter last one. So a client's sound leaves the
//! longest packet first, those that are nearly as long padded to its length (RTP padding, before encryption); and where
//! many speak, a room may hold its sound for a moment, so that there is more to leave together ([`SoundHold`]).

use std::time::{Duration, Instant};

use slotmap::SlotMap;

use super::track::Track;
use moonring_wire::id::TrackKey;

/// A packet is padded by at most this share of its length, while there is time for everything.
const MAX_PADDING_SHARE: usize = 4;
/// How long packets are counted to tell whether many speak.
const WINDOW: Duration = Duration::from_millis(100);
/// Packets in a window that many speakers make: four who send one every 20 ms, a little late.
const MANY: u32 = 18;

/// Sorts tracks with packets waiting so that the last one is sent first: pictures, then sound, its longest packet last.
/// Gives the sound packets the padding that makes one send of them; `is_pressed`: bytes matter less than sends.
pub fn gather(waiting: &mut [TrackKey], tracks: &mut SlotMap<TrackKey, Track>, is_pressed: bool) {
    waiting.sort_unstable_by_key(|key| {
        let sound = tracks.get(*key).filter(|track| !track.is_video());
        sound.map(|track| track.layers.first().and_then(|layer| layer.history.longest_from(layer.evened)))
    });
    let share = if is_pressed { 1 } else { MAX_PADDING_SHARE };
    let most = |len: usize| (len / share).min(usize::from(u8::MAX));
    let mut target = 0;
    for key in waiting.iter().rev() {
        let Some(track) = tracks.get_mut(*key).filter(|track| !track.is_video()) else { return };
        for layer in &mut track.layers {
            target = layer.history.pad_to(layer.evened, target, most);
        }
    }
}

/// Decides when a room's sound is held back for a moment.
#[derive(Debug, Default)]
pub struct SoundHold {
    window: Option<Instant>,
    packets: u32,
    many: bool,
    /// The sound that waits leaves then.
    pub until: Option<Instant>,
}

impl SoundHold {
    /// Counts a packet that came at `now`; true while many speak.
    pub fn count(&mut self, now: Instant) -> bool {
        let passed = self.window.map(|start| now.saturating_duration_since(start));
        if passed.is_none_or(|passed| passed >= WINDOW) {
            // After a longer silence the window before is not this one's.
            self.many = self.packets >= MANY && passed.is_some_and(|passed| passed < 2 * WINDOW);
            (self.window, self.packets) = (Some(now), 0);
        }
        self.packets += 1;
        self.many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_speak_when_four_have_been_heard_for_a_window() {
        let start = Instant::now();
        for (speakers, expected) in [(1, false), (3, false), (4, true), (50, true)] {
            let mut hold = SoundHold::default();
            let mut many = false;
            for packet in 0..20 {
                for speaker in 0..speakers {
                    let at = Duration::from_millis(packet * 20) + Duration::from_micros(speaker * 300);
                    many = hold.count(start + at);
                }
            }
            assert_eq!(many, expected, "{speakers} speakers");
            assert!(!hold.count(start + Duration::from_secs(60)), "after a silence");
        }
    }
}
