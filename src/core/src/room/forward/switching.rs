//! Where a forward begins, and goes on in another layer: at a key frame, with time stamps that go on.

use std::time::{Duration, Instant};

use super::Forward;
use super::numbering::{CatchUp, Numbering};
use crate::room::history::{History, Packet};
use crate::room::track::{KEY_FRAME_INTERVAL, Track};
use moonring_wire::media::Kind;

/// Who has sent nothing yet may begin with an older key frame, when it and all since are no more bytes than this: a joiner
/// catches up in a moment, and many who join one after the other do not have the encoder begin anew each second.
const CAUGHT_UP: (Duration, usize) = (Duration::from_secs(1), 32_000);
/// A pause behind a key frame that is longer than another one's by this is seen.
const LONGER: Duration = Duration::from_millis(150);
/// The present layer goes on for so long at most behind a key frame of the next: what follows leaves at once then.
const LONGEST_HOLD: Duration = Duration::from_millis(800);

impl Forward {
    /// Begins with the last key frame, or goes on in another layer with it, or asks for one.
    pub fn begin_or_ask(&mut self, now: Instant, track: &mut Track) {
        self.begin_with_last_key_frame(now, track);
        self.ask_for_key_frame(now, track);
    }

    /// Lets a forward that has sent nothing yet, or is to switch, begin with the last key frame, when everything since is
    /// still here and it is so young that no other would be asked for: a late joiner sees a picture at once, and who
    /// climbs costs nobody another key frame. From an older one it would start behind the others, unless that is little.
    fn begin_with_last_key_frame(&mut self, now: Instant, track: &Track) {
        let has_begun = self.has_begun();
        let is_paused = self.layer().is_none() && has_begun;
        if !self.waits_for_key_frame() || is_paused {
            return;
        }
        let history = &track.layers[usize::from(self.position.target)].history;
        let is_young = |n: &u64| {
            let age = history.get(*n).map(|packet| now.saturating_duration_since(packet.arrival));
            let is_little = || !has_begun && history.bytes_since(*n) <= CAUGHT_UP.1;
            age.is_some_and(|age| age < KEY_FRAME_INTERVAL || (age < CAUGHT_UP.0 && is_little()))
        };
        match history.key_frame().filter(is_young) {
            Some(at) => self.position.target_cursor = at,
            None if !has_begun => self.position.target_cursor = history.end(),
            // What has not been looked at yet is what the pacer holds back: a key frame among that is as good as any.
            None => {}
        }
    }

    /// Takes the target layer's packets up to its first key frame, and switches there, at once or when its encoder goes on.
    pub(super) fn look_for_switch(&mut self, now: Instant, track: &Track) {
        if self.layer() == Some(self.position.target) {
            return;
        }
        let history = &track.layers[usize::from(self.position.target)].history;
        self.position.target_cursor = self.position.target_cursor.max(history.oldest());
        while let Some(packet) = history.get(self.position.target_cursor) {
            let starts = self.codec.kind() == Kind::Audio || (packet.info.key_frame && packet.info.frame_start);
            if starts && packet.payload_len() > 0 {
                if !self.is_held(now, track, packet) {
                    self.switch(now, track, packet, history);
                }
                return;
            }
            self.position.target_cursor += 1;
        }
    }

    /// Whether the present layer goes on for a moment though `packet` begins a key frame of the target. An encoder that holds its
    /// rate makes no pictures for up to a second behind a large key frame, and so does that of each layer when one is asked
    /// (Chromium's). While the target's does, the present layer's pictures are better than none: if some come, or are about to
    /// by what it did the last time.
    fn is_held(&self, now: Instant, track: &Track, packet: &Packet) -> bool {
        let Some(layer) = self.layer().filter(|layer| *layer < self.position.target) else { return false };
        let [current, target] = [layer, self.position.target].map(|layer| &track.layers[usize::from(layer)].history);
        let age = now.saturating_duration_since(packet.arrival);
        let may_wait = target.is_pausing() && age < LONGEST_HOLD.min(target.keeps() * 4 / 5);
        may_wait
            && (!current.is_pausing() || age < patience(current, target))
            && self.timestamp_of(track, packet).is_some()
    }

    fn switch(&mut self, now: Instant, track: &Track, packet: &Packet, history: &History) {
        let (timestamp, delay) = match self.last {
            None => (packet.timestamp, None),
            Some((last, _)) => self.timestamp_after(now, track, packet, last),
        };
        let pictures = self.last_picture.shift_for(self.codec, history.payload(packet), packet.links);
        self.numberings.begin(Numbering {
            layer: self.position.target,
            first: packet.index,
            index_offset: self.indexes.next().wrapping_sub(packet.index),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            pictures,
            catch_up: delay.map(|delay| CatchUp { from: packet.timestamp, delay }),
        });
        self.position.cursor = self.position.target_cursor;
    }

    /// The time stamp of the first packet after a switch, and by how much it leaves later than that: by the publisher's sender
    /// reports where both layers have one, else by the time that passed.
    fn timestamp_after(&self, now: Instant, track: &Track, packet: &Packet, last: u32) -> (u32, Option<u32>) {
        let rate = self.codec.clock_rate();
        // Never far behind or ahead: a report that lies is worth less than the clock.
        let Some(timestamp) = self.timestamp_of(track, packet) else { return (self.timestamp_by_time(now), None) };
        let (ahead, behind) = (timestamp.wrapping_sub(last), last.wrapping_sub(timestamp));
        if ahead > 0 && ahead < rate * 10 {
            (timestamp, None)
        } else if behind < rate {
            (timestamp, Some(behind + 1))
        } else {
            (self.timestamp_by_time(now), None)
        }
    }

    /// The time stamp of a packet of the target in the present layer's time; `None` without the publisher's sender reports of both.
    fn timestamp_of(&self, track: &Track, packet: &Packet) -> Option<u32> {
        let current = self.numberings.current()?;
        let clock = |layer: u8| track.layers[usize::from(layer)].clock;
        let shift = clock(current.layer)?.shift_to(&clock(self.position.target)?, self.codec.clock_rate());
        Some(packet.timestamp.wrapping_sub(shift).wrapping_add(current.timestamp_offset))
    }

    /// The time stamp of now, by the time that has passed since the last packet left.
    fn timestamp_by_time(&self, now: Instant) -> u32 {
        let Some((last, at)) = self.last else { return 0 };
        let elapsed = now.saturating_duration_since(at).max(Duration::from_millis(1));
        last.wrapping_add((elapsed.as_secs_f64() * f64::from(self.codec.clock_rate())) as u32)
    }
}

/// How long pictures of the present layer are waited for that go on while the target's encoder pauses.
fn patience(current: &History, target: &History) -> Duration {
    let [current, target] = [current, target].map(|history| history.last_pause().unwrap_or_default());
    if current > target + LONGER { Duration::ZERO } else { current + LONGER }
}
