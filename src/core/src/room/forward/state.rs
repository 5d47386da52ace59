//! A forward that goes on at another place, for a client that moves there: with the same SSRC, behind the same numbers.
//!
//! Both places have histories of the track with the publisher's own indexes, which the numberings speak of. Where a history
//! stands is told as such an index; what was sent already is known by the indexes that were used, so that looking back a
//! little loses nothing and doubles nothing. What left without RTX cannot be sent again there, as the headers stay behind:
//! a packet that is not the same byte for byte must not leave under its index.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::given_up::GivenUp;
use super::numbering::Numberings;
use super::{Allotted, Forward, LayerLimits, OutgoingStream, Position, Reported, SentCounts};
use crate::room::formats::Format;
use crate::room::history::History;
use crate::room::indexes::SentIndexes;
use crate::room::layering::Point;
use crate::room::pictures::LastPicture;
use crate::room::track::Track;
use moonring_wire::id::{Mid, TrackId, TrackKey};
use moonring_wire::media::{CodecName, Kind, PauseReason};

/// Packets before the last one sent that are looked at again: some may have come to the other place only.
const LOOK_BACK: u64 = 256;
/// A packet that another place has not sent for so long is not sent by itself any more.
const LATE: Duration = Duration::from_millis(200);
/// No index of a stream is beyond this: half of what SRTP has.
const MAX_INDEX: u64 = 1 << 47;

/// What goes on of a forward.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForwardState {
    /// What is forwarded.
    pub track: TrackId,
    /// The client's media section.
    pub mid: Mid,
    /// What the client knows it by.
    pub stream: OutgoingStream,
    /// Which place it has among the client's.
    pub place: u16,
    limits: LayerLimits,
    sent: SentCounts,
    codec: CodecName,
    paused: Option<PauseReason>,
    view: Option<(u32, u32)>,
    follows: bool,
    formats: Vec<Format>,
    point: Point,
    target: u8,
    /// The publisher's index from which on packets of the target are looked at for a beginning.
    target_from: u64,
    /// Of the last packet that was looked at.
    seen: Option<u64>,
    /// How often the publisher has begun the current layer anew.
    restarts: Option<u8>,
    numberings: Numberings,
    indexes: SentIndexes,
    /// The last time stamp, and how long ago it left, in microseconds.
    last: Option<(u32, u64)>,
    last_picture: LastPicture,
}

impl Forward {
    /// What goes on elsewhere; `place` is its place among the client's.
    pub fn state(&self, now: Instant, place: u16, track: &Track) -> ForwardState {
        let age = |at: Instant| u64::try_from(now.saturating_duration_since(at).as_micros()).unwrap_or(u64::MAX);
        let history = |layer: u8| track.layers.get(usize::from(layer)).map(|layer| &layer.history);
        let index = |history: &History, n: u64| history.get(n).map(|packet| packet.index);
        let target = history(self.position.target);
        let from = target.and_then(|history| {
            let behind = || index(history, history.end().checked_sub(1)?).map(|index| index + 1);
            index(history, self.position.target_cursor).or_else(behind)
        });
        let seen = self.layer().and_then(history).zip(self.position.cursor.checked_sub(1));
        ForwardState {
            track: track.info.id.clone(),
            mid: self.mid.clone(),
            stream: self.stream,
            place,
            limits: self.limits,
            sent: self.sent,
            codec: self.codec,
            paused: self.allotted.paused,
            view: self.allotted.view,
            follows: self.follows,
            formats: self.formats.clone(),
            point: self.point,
            target: self.position.target,
            target_from: from.unwrap_or_default(),
            seen: seen.and_then(|(history, last)| index(history, last)),
            restarts: self.layer().and_then(|layer| track.restarts(layer)),
            numberings: self.numberings.clone(),
            indexes: self.indexes.clone(),
            last: self.last.map(|(timestamp, at)| (timestamp, age(at))),
            last_picture: self.last_picture,
        }
    }

    /// Goes on with `track` where another place has stopped. `None`: the state is of no track like this.
    pub fn resume(now: Instant, (key, track): (TrackKey, &mut Track), state: ForwardState) -> Option<Self> {
        let layers = track.layers.len();
        let is_sound = |next: u64| next <= MAX_INDEX;
        let rtx_index = state.stream.rtx.map_or(0, |rtx| rtx.next_index);
        if state.codec.kind() != track.info.codec.kind() || !is_sound(state.indexes.next()) || !is_sound(rtx_index) {
            return None;
        }
        let at = |age: u64| now.checked_sub(Duration::from_micros(age)).unwrap_or(now);
        let target = state.target.min(track.top_layer());
        let mut forward = Self {
            track: key,
            mid: state.mid,
            stream: state.stream,
            limits: state.limits,
            sent: state.sent,
            codec: state.codec,
            allotted: Allotted { paused: state.paused, view: state.view, ..Allotted::default() },
            follows: state.follows,
            reported: Reported::default(),
            is_asked: false,
            formats: state.formats,
            kept: None,
            position: Position::new(target, 0),
            point: state.point,
            numberings: state.numberings,
            indexes: state.indexes,
            last: state.last.map(|(timestamp, age)| (timestamp, at(age))),
            last_picture: state.last_picture,
            last_key_frame: None,
            given_up: GivenUp::default(),
        };
        forward.numberings.keep_sound(layers);
        forward.stand(now, track, (state.seen, state.target_from, state.restarts));
        if let Some(seen) = state.seen {
            forward.ask_for_the_rest(now, track, seen);
        }
        Some(forward)
    }

    /// Finds its place in the histories of the track here.
    fn stand(
        &mut self,
        now: Instant,
        track: &mut Track,
        (seen, target_from, restarts): (Option<u64>, u64, Option<u8>),
    ) {
        // A publisher that has begun anew, as only one of the places knows, has other indexes.
        if let Some(layer) = self.layer()
            && !track.agrees_on_restarts(layer, restarts)
        {
            self.numberings.pause();
            self.numberings.forget_layer(layer);
        }
        if let Some(current) = self.numberings.current().copied() {
            let history = &track.layers[usize::from(current.layer)].history;
            let from = seen.map_or(current.first, |seen| seen.saturating_sub(LOOK_BACK)).max(current.first);
            // What has left is not looked at again, and what is late is left to be asked for: the rest would be taken for late.
            let is_waiting = |n: &u64| {
                history.get(*n).is_some_and(|packet| {
                    let is_late = now.saturating_duration_since(packet.arrival) >= LATE;
                    !(self.numberings.is_done(packet, &self.indexes) || is_late && Some(packet.index) < seen)
                })
            };
            let first = history.arrival_from(from);
            self.position.cursor = (first..history.end()).find(is_waiting).unwrap_or(history.end());
        }
        let target = &track.layers[usize::from(self.position.target)].history;
        self.position.target_cursor = match self.codec.kind() {
            // Sound that is paused or has not begun goes on with what comes next.
            Kind::Audio if self.layer().is_none() => target.end(),
            _ => target.arrival_from(target_from),
        };
    }

    /// What the client has not got, and did not come here either, as nobody here received it then, is asked for: where the
    /// track comes from, or came from until its publisher moved here.
    fn ask_for_the_rest(&self, now: Instant, track: &mut Track, seen: u64) {
        let Some(current) = self.numberings.current() else { return };
        let Track { layers, far, former, .. } = track;
        let n = usize::from(current.layer);
        let layer = &mut layers[n];
        let from = seen.saturating_sub(LOOK_BACK).max(current.first);
        let highest = layer.missing.highest().max(seen);
        // Which of those before were left out on purpose, nobody can tell where there are layers inside.
        let has_left = |index: u64| index <= seen && self.numberings.has_left(index, &self.indexes);
        let is_here = |index: u64| layer.history.find(index).is_some();
        let lacking: Vec<_> = (from..=highest).filter(|index| !has_left(*index) && !is_here(*index)).collect();
        let missing = match (far, former) {
            (Some(_), _) => &mut layer.missing,
            (None, Some(former)) => {
                former.missing.resize_with(former.missing.len().max(n + 1), || None);
                former.missing[n].get_or_insert_with(|| layer.missing.emptied())
            }
            (None, None) => return,
        };
        missing.reach(highest);
        missing.miss(lacking, now);
    }
}
