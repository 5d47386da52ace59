//! Where a forward begins, and goes on in another layer: at a key frame, with time stamps that go on.
//!
//! Packets overtake each other on the way here. What has overtaken the first packet of a key frame came before it, and is
//! looked at once that has left: without it the receiver has to ask for it or, where it can't, for another key frame.

use std::time::{Duration, Instant};

use super::Forward;
use super::catching_up::CatchingUp;
use super::numbering::Numbering;
use crate::room::history::{History, Packet};
use crate::room::selection::waits_until;
use crate::room::track::{KEY_FRAME_INTERVAL, Track};
use moonring_wire::media::{CodecName, Kind};
use moonring_wire::rtp::codec::h264;

/// Who has sent nothing yet may begin with an older key frame, when it and all since are no more bytes than this: a joiner
/// catches up in a moment, and many who join one after the other do not have the encoder begin anew each second.
const CAUGHT_UP: (Duration, usize) = (Duration::from_secs(1), 32_000);

/// So may who goes over to another layer, when the path carries that in so much time: a new one costs everybody a moment of
/// picture, and comes no sooner.
const CARRIED_IN: Duration = Duration::from_millis(500);

/// Packets that may be in front of a picture's first slice: parameter sets, and what else is told of it.
const MAX_PARAMETERS: u64 = 16;

/// Where a forward is in the layers' histories.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// The layer to switch to at its next key frame.
    pub(super) target: u8,
    /// Arrival number of the next packet to look at, in the current layer or, before the first key frame, the target.
    pub(super) cursor: u64,
    /// The same, in the target while it is another than the current layer.
    pub(super) target_cursor: u64,
    /// Arrival number of the packet that was given last.
    pub(super) given: u64,
    beginning: Beginning,
}

/// The first packet behind a switch, by its arrival number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// It is the next one to leave.
    Next(u64),
    /// It has left, and what has overtaken it is looked at.
    Left(u64),
    /// That is over.
    Over,
}

impl Position {
    pub(super) fn new(target: u8, target_cursor: u64) -> Self {
        Self { target, cursor: 0, target_cursor, given: 0, beginning: Beginning::Over }
    }

    /// Notes that `packet`, the one before the cursor, was given. Behind the first one, what has overtaken it is next.
    #[inline]
    pub(super) fn gave(&mut self, packet: &Packet, history: &History) {
        self.given = self.cursor - 1;
        if self.beginning == Beginning::Next(self.given) {
            self.look_for_overtaken(packet, history);
        }
    }

    fn look_for_overtaken(&mut self, packet: &Packet, history: &History) {
        let overtaken = history.first_to_overtake(self.given, packet);
        self.beginning = overtaken.map_or(Beginning::Over, |_| Beginning::Left(self.given));
        self.cursor = overtaken.unwrap_or(self.cursor);
    }

    /// The packet after the cursor is looked at, unless it has left before what has overtaken it.
    pub(super) fn pass_beginning(&mut self) {
        if self.beginning == Beginning::Left(self.cursor) {
            self.beginning = Beginning::Over;
            self.cursor += 1;
        }
    }
}

impl Forward {
    /// Begins with the last key frame, or goes on in another layer with it, or asks for one. `path_bps`: what the path is known to
    /// carry, in bit/s.
    pub fn begin_or_ask(&mut self, (now, path_bps): (Instant, Option<u64>), track: &mut Track) {
        self.begin_with_last_key_frame((now, path_bps), track);
        let _ = self.ask_for_key_frame(now, track);
    }

    /// Lets a forward that has sent nothing yet, or is to switch, begin with the last key frame, when everything since is
    /// still here and it is so young that no other would be asked for: a late joiner sees a picture at once, and who
    /// climbs costs nobody another key frame. From an older one it would start behind the others, unless that is little; for who
    /// climbs, little over its path.
    fn begin_with_last_key_frame(&mut self, (now, path_bps): (Instant, Option<u64>), track: &Track) {
        let has_begun = self.has_begun();
        let is_paused = self.layer().is_none() && has_begun;
        if !self.waits_for_key_frame() || is_paused {
            return;
        }
        let history = &track.layers[usize::from(self.position.target)].history;
        let carried = path_bps.map_or(0, |bps| (bps as f64 / 8.0 * CARRIED_IN.as_secs_f64()) as usize);
        let is_young = |n: &u64| {
            let age = history.get(*n).map(|packet| now.saturating_duration_since(packet.arrival));
            let is_little = || history.bytes_since(*n) <= if has_begun { carried } else { CAUGHT_UP.1 };
            age.is_some_and(|age| age < KEY_FRAME_INTERVAL || (age < CAUGHT_UP.0 && is_little()))
        };
        match history.key_frame().filter(is_young) {
            Some(at) => self.position.target_cursor = at,
            None if !has_begun => self.position.target_cursor = history.end(),
            // What has not been looked at yet is what the pacer holds back: a key frame among that is as good as any.
            None => {}
        }
    }

    /// Takes the target layer's packets up to its first key frame, and switches there, unless that waits for a packet of it that
    /// was overtaken, if it may.
    pub(super) fn look_for_switch(&mut self, (now, may_wait): (Instant, bool), track: &Track) {
        let history = &track.layers[usize::from(self.position.target)].history;
        self.position.target_cursor = self.position.target_cursor.max(history.oldest());
        while let Some(packet) = history.get(self.position.target_cursor) {
            let starts = self.codec.kind() == Kind::Audio || packet.info.begins_key_frame();
            if starts && packet.payload_len() > 0 {
                let at = self.position.target_cursor;
                let first = if self.codec == CodecName::H264 { first_of_picture(at, history) } else { Some(at) };
                // What was lost before it may have been of another picture.
                if let Some(first) = first.or_else(|| (!may_wait || now >= waits_until(packet)).then_some(at)) {
                    self.switch(now, track, first, history);
                }
                return;
            }
            self.position.target_cursor += 1;
        }
    }

    fn switch(&mut self, now: Instant, track: &Track, at: u64, history: &History) {
        let Some(packet) = history.get(at) else { return };
        let (timestamp, catching_up) = match self.last {
            None => (packet.timestamp, CatchingUp::default()),
            Some((timestamp, at)) => self.timestamp_after(now, track, packet, (timestamp, at)),
        };
        let pictures = self.last_picture.shift_for(self.codec, history.payload(packet), packet.links);
        self.numberings.begin(Numbering {
            layer: self.position.target,
            first: packet.index,
            index_offset: self.indexes.next().wrapping_sub(packet.index),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            catching_up,
            pictures,
        });
        (self.position.cursor, self.position.beginning) = (at, Beginning::Next(at));
    }

    /// The time stamp that the first packet after a switch or a pause gets. A stream that goes on has the publisher's own, so that what
    /// receivers were told of its time holds; from one layer to another the publisher's sender reports lead, where both have one.
    /// Else it is the time that passed. What is older than the last packet, which left with time stamp `last` at `at`, catches up.
    fn timestamp_after(
        &self,
        now: Instant,
        track: &Track,
        packet: &Packet,
        (last, at): (u32, Instant),
    ) -> (u32, CatchingUp) {
        let new = &track.layers[usize::from(self.position.target)];
        let rate = self.codec.clock_rate();
        let aligned = self.numberings.latest().and_then(|old| {
            let shift = if old.layer == self.position.target {
                0
            } else {
                track.layers.get(usize::from(old.layer))?.clock?.shift_to(new.clock.as_ref()?, rate)
            };
            Some(packet.timestamp.wrapping_sub(shift).wrapping_add(old.timestamp_offset))
        });
        let elapsed = now.saturating_duration_since(at).max(Duration::from_millis(1));
        let passed = (elapsed.as_secs_f64() * f64::from(rate)) as u64;
        let by_time = last.wrapping_add(passed as u32);
        // Never far off: a report that lies, and a clock that stood, are worth less than this one.
        let Some(time) = aligned.filter(|time| is_near(*time, by_time, rate)) else {
            return (by_time, CatchingUp::default());
        };
        // Which is behind the other, the time that passed tells: behind a pause of hours time stamps have gone round half way.
        let ahead = i64::from(time.wrapping_sub(by_time) as i32);
        let is_older = i64::try_from(passed).is_ok_and(|passed| passed + ahead <= 0);
        let catching_up =
            if is_older { CatchingUp::new(packet.timestamp, time, last, rate) } else { CatchingUp::default() };
        (time, catching_up)
    }
}

/// Whether a publisher's time stamp may be right where by this server's clock it would be `by_time`, with `rate` ticks a second:
/// packets may have waited longer or shorter than those before them, on their way here and here.
fn is_near(timestamp: u32, by_time: u32, rate: u32) -> bool {
    let ahead = i64::from(timestamp.wrapping_sub(by_time) as i32);
    (-i64::from(rate)..10 * i64::from(rate)).contains(&ahead)
}

/// The first packet of the picture of H.264 of which packet `at` says that it is a key frame, by arrival numbers: its parameter
/// sets are in front of its first slice, which may have overtaken them. `None` while it is missing.
fn first_of_picture(at: u64, history: &History) -> Option<u64> {
    let (mut first, mut packet) = (at, history.get(at)?);
    for _ in 0..MAX_PARAMETERS {
        if h264::has_parameters(history.payload(packet)) {
            break;
        }
        let before = history.arrival_of(packet.index.checked_sub(1)?)?;
        let preceding = history.get(before)?;
        if preceding.timestamp != packet.timestamp {
            break;
        }
        (first, packet) = (before, preceding);
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::forward::OutgoingStream;
    use crate::room::history::HistoryLimits;
    use crate::room::selection::tests::track;
    use moonring_wire::id::{Mid, Pt, Ssrc, TrackKey};
    use moonring_wire::rtp::codec::inspect;

    #[test]
    fn a_picture_behind_a_pause_of_hours_has_its_time_and_is_not_one_of_the_past() {
        let stream = OutgoingStream::new(Ssrc(9), Pt(96));
        for hours in [1, 6, 7, 13, 14, 30] {
            let (t0, pause) = (Instant::now(), Duration::from_secs(hours * 3_600));
            let mut track = track(CodecName::Vp8, 1);
            let mut forward = Forward::new((TrackKey::default(), &track), Mid::parse("0").unwrap(), stream, 7);
            let mut picture = |forward: &mut Forward, index: u64, at: Duration| {
                let mut packet = Packet::new(t0 + at);
                (packet.index, packet.timestamp) = (index, (at.as_millis() * 90) as u32);
                (packet.info.key_frame, packet.info.frame_start) = (true, true);
                track.layers[0].history.push(packet, &[], &[0x10, 0]);
                let (_, _, outgoing) = forward.next((t0 + at, true), &track).expect("it leaves");
                if index == 0 {
                    forward.restart(&track);
                }
                (outgoing.index, outgoing.timestamp)
            };
            for (index, at) in [(0, 0), (1, 0), (2, 33), (3, 1_000)] {
                let at = if index == 0 { Duration::ZERO } else { pause + Duration::from_millis(at) };
                let expected = (7 + index, (at.as_millis() * 90) as u32);
                assert_eq!(picture(&mut forward, index, at), expected, "{hours} h");
            }
        }
    }

    #[test]
    fn who_goes_over_begins_with_a_key_frame_of_the_last_second_where_the_path_carries_all_since() {
        let ms = Duration::from_millis;
        for (has_begun, age, packets, path_bps, begins) in [
            (true, 499, 100, None, true),
            (true, 501, 30, None, false),
            // 30 kB in half a second.
            (true, 501, 30, Some(480_000), true),
            (true, 501, 31, Some(480_000), false),
            (true, 501, 100, Some(1_600_000), true),
            (true, 999, 30, Some(480_000), true),
            (true, 1_000, 1, Some(1_600_000), false),
            (false, 999, 32, None, true),
            (false, 999, 33, Some(1_600_000), false),
        ] {
            let (t0, mut track) = (Instant::now(), track(CodecName::Vp8, 2));
            let stream = OutgoingStream::new(Ssrc(9), Pt(96));
            let mut forward = Forward::new((TrackKey::default(), &track), Mid::parse("0").unwrap(), stream, 7);
            track.layers.iter_mut().for_each(|layer| layer.ssrc = Some(Ssrc(1)));
            let push = |track: &mut Track, layer: usize, at: Instant, index: u64| {
                let mut packet = Packet::new(at);
                packet.index = index;
                (packet.info.key_frame, packet.info.frame_start) = (index == 0, index == 0);
                track.layers[layer].history.push(packet, &[], &[0x10; 1_000]);
            };
            if has_begun {
                forward.set_target(&track, 0);
                push(&mut track, 0, t0, 0);
                assert!(forward.next((t0, true), &track).is_some() && forward.has_begun());
            }
            (0..packets).for_each(|index| push(&mut track, 1, t0, index));
            forward.set_target(&track, 1);
            forward.begin_or_ask((t0 + ms(age), path_bps), &mut track);
            let has_asked = track.layers[1].key_frame_deadline().is_some();
            let first = forward.next((t0 + ms(age), true), &track).map(|(_, packet, _)| packet.index);
            let found = (first == Some(0), has_asked);
            assert_eq!(found, (begins, !begins), "{has_begun} {age} ms, {packets} kB, {path_bps:?}");
        }
    }

    #[test]
    fn parameters_in_packets_of_their_own_are_a_beginning_with_what_is_in_front_of_them() {
        let (aud, sei, recovery) = (&[0x09, 0xF0][..], &[0x06, 0x05, 1, 0, 0x80][..], &[0x06, 6, 1, 0xC4, 0x80][..]);
        let (sps, pps, idr): (&[u8], &[u8], &[u8]) = (&[0x67, 0x42, 0xE0], &[0x68, 0xCE], &[0x65, 0x88]);
        let stream = OutgoingStream::new(Ssrc(9), Pt(96));
        for (picture, first) in [
            (&[aud, sps, pps, idr][..], 1),
            (&[sei, sps, pps, idr], 1),
            (&[aud, sei, sps, pps, idr], 2),
            (&[aud, recovery, sps, pps, idr], 0),
            (&[aud, sps, pps, sei, idr], 1),
            (&[aud, pps, idr], 0),
        ] {
            // As they are, and with the first one overtaken by all others.
            for is_overtaken in [false, true] {
                let (t0, mut track) = (Instant::now(), track(CodecName::H264, 1));
                let mut forward = Forward::new((TrackKey::default(), &track), Mid::parse("0").unwrap(), stream, 7);
                let before: [&[u8]; 1] = [&[0x41, 0x9A]];
                let mut packets: Vec<_> = before.iter().chain(picture).zip(0_u64..).collect();
                if is_overtaken {
                    packets[1..].rotate_left(1);
                }
                for (payload, index) in packets {
                    let mut packet = Packet::new(t0);
                    packet.index = index;
                    packet.timestamp = if index == 0 { 0 } else { 3_000 };
                    packet.info = inspect(CodecName::H264, payload, None);
                    track.layers[0].history.push(packet, &[], payload);
                }
                let mut left = Vec::new();
                while let Some((_, packet, outgoing)) = forward.next((t0, true), &track) {
                    left.push((packet.index, outgoing.index));
                }
                left.sort_unstable();
                let expected: Vec<_> = (1 + first..=picture.len() as u64).zip(7..).collect();
                assert_eq!(left, expected, "{picture:?}, overtaken: {is_overtaken}");
            }
        }
    }

    #[test]
    fn a_picture_begins_with_its_parameters_and_is_not_looked_through_for_them_without_end() {
        let t0 = Instant::now();
        let slices = |count: u64| (0..count).map(|n| (100 + n, 10, [0x65, 0x88]));
        let with = |index: u64, timestamp: u32, payload: [u8; 2]| slices(3).chain([(index, timestamp, payload)]);
        for (packets, at, expected) in [
            (with(99, 10, [0x67, 0x42]).collect::<Vec<_>>(), 0, Some(3)),
            (with(99, 10, [0x68, 0xCE]).collect(), 0, None),
            (with(99, 7, [0x41, 0x9A]).collect(), 0, Some(0)),
            (with(98, 10, [0x67, 0x42]).collect(), 0, None),
            (slices(400).collect(), 399, Some(399 - MAX_PARAMETERS)),
        ] {
            let mut history = History::new(HistoryLimits { age: Duration::from_secs(1), bytes: 1 << 20 });
            for (index, timestamp, payload) in &packets {
                let mut packet = Packet::new(t0);
                (packet.index, packet.timestamp) = (*index, *timestamp);
                history.push(packet, &[], payload);
            }
            assert_eq!(first_of_picture(at, &history), expected, "{:?}", packets.last());
        }
    }
}
