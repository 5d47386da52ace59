//! What a shard does when there is more than it has time for: it chooses which layers and videos it leaves out, tells
//! their receivers, and drops their packets before it spends time on them. See [`crate::room::load`].

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Shard;
use super::streams::restart_now;
use crate::room::load::Backlog;
use crate::room::track::Track;
use moonring_wire::id::{ClientKey, Ssrc, TrackKey};
use moonring_wire::media::Source;

/// Of what is left out, one packet in so many is decrypted all the same: SRTP's rollover counter has to stay in step
/// (RFC 3711 section 3.3.1), and whether the layer is still sent has to be known.
const STILL_TAKEN: u16 = 64;
/// Videos that were cut short go on over so long if all were, a few at a time: their key frames, several times as
/// large as other pictures, would fill the queue again if they came together.
const MEND_FOR: Duration = Duration::from_millis(600);
/// Between two times of a few.
const MEND_INTERVAL: Duration = Duration::from_millis(20);

/// Tracks whose video is dropped in the receive queue ([`Track::is_cut`]).
#[derive(Default)]
pub(super) struct Cuts {
    /// The part of all that was cut since the queue became long; none is cut where it is 0.
    part: f64,
    /// Those that are to go on, once the queue is short again.
    waiting: Vec<TrackKey>,
    /// How many at a time, and when the next ones.
    at_once: usize,
    next_at: Option<Instant>,
}

/// A layer of a track, as something that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    /// Lower ones are left out first: layers above the lowest, then what nobody speaks in, then the rest, screens last.
    rank: (u8, u8),
    track: TrackKey,
    layer: u8,
    cost: u64,
}

impl Shard {
    /// Takes in a tick that ended at `now`. `busy`: what has been used of the core's time since the last one that told of any.
    pub fn note_tick(&mut self, now: Instant, busy: Duration, backlog: Backlog) {
        self.report.busy += busy;
        if self.work.load.tick(now, busy, backlog) {
            self.shed(now);
        }
        match self.work.load.cut() {
            part if part > 0.0 => self.cut_some(part),
            _ if self.work.cuts.part > 0.0 && backlog == Backlog::Little => self.mend_some_cuts(now),
            _ => {}
        }
    }

    /// How long after the beginning of a tick the next one is to begin, unless datagrams wait already.
    pub fn coalescing(&self) -> Duration {
        self.work.load.coalescing()
    }

    /// True for media that there is no time for: video that is cut short, and what the shard has chosen to leave out. Looks
    /// at nothing that is not authenticated but to drop the packet that says so.
    pub(super) fn is_left_out(&self, key: ClientKey, ssrc: Ssrc, sequence: u16) -> bool {
        if (self.work.cuts.part == 0.0 && self.work.load.kept() >= 1.0) || sequence.is_multiple_of(STILL_TAKEN) {
            return false;
        }
        let Some(incoming) = self.world.clients[key].inbound.streams.get(&ssrc) else { return false };
        let Some(track) = self.world.tracks.get(incoming.track).filter(|t| t.is_video()) else { return false };
        track.is_cut || incoming.layer >= track.kept_layers
    }

    /// The queue is long: `part` of the videos is cut short, those first that would be left out first.
    fn cut_some(&mut self, part: f64) {
        let cuts = &mut self.work.cuts;
        if cuts.next_at.is_some() {
            // It is long again: all anew.
            *cuts = Cuts::default();
        }
        if part <= cuts.part {
            return;
        }
        let of_the_whole = (part - cuts.part) / (1.0 - cuts.part);
        cuts.part = part;
        // What comes from another shard does not wait in this queue.
        let is_whole =
            |track: &Track| track.is_video() && track.far.is_none() && track.kept_layers > 0 && !track.is_cut;
        let whole = self.world.tracks.iter().filter(|(_, track)| is_whole(track));
        let mut whole: Vec<_> = whole.map(|(key, track)| (self.importance(track), key)).collect();
        whole.sort_unstable();
        whole.truncate((whole.len() as f64 * of_the_whole).ceil() as usize);
        whole.into_iter().for_each(|(_, key)| self.world.tracks[key].is_cut = true);
    }

    /// Tracks of which video was dropped in the receive queue go on with their next key frame: nobody is to ask for what
    /// was dropped.
    fn mend_some_cuts(&mut self, now: Instant) {
        let cuts = &mut self.work.cuts;
        if cuts.next_at.is_some_and(|at| now < at) {
            return;
        }
        if cuts.next_at.is_none() {
            let videos = || self.world.tracks.iter().filter(|(_, track)| track.is_video());
            cuts.waiting.extend(videos().filter(|(_, track)| track.is_cut).map(|(key, _)| key));
            let times = MEND_FOR.as_millis() / MEND_INTERVAL.as_millis();
            cuts.at_once = videos().count().div_ceil(times as usize);
        }
        cuts.next_at = Some(now + MEND_INTERVAL);
        let some = cuts.waiting.split_off(cuts.waiting.len().saturating_sub(cuts.at_once));
        if cuts.waiting.is_empty() {
            *cuts = Cuts::default();
        }
        some.into_iter().for_each(|key| self.mend_cut(now, key));
    }

    fn mend_cut(&mut self, now: Instant, key: TrackKey) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        track.is_cut = false;
        for layer in &mut track.layers {
            layer.forget_missing();
            layer.stats.pass_over();
            layer.history.forget_key_frame();
        }
        let owner = track.owner;
        for (client, place) in track.subscribers.clone() {
            let track = &mut self.world.tracks[key];
            let forward = self.world.clients.get_mut(client);
            let forward = forward.and_then(|c| c.outbound.forwards[usize::from(place)].as_mut());
            if let Some(forward) = forward.filter(|f| f.allotted.paused.is_none()) {
                restart_now(now, forward, track);
            }
        }
        self.schedule(owner);
    }

    /// Decides anew which layers of which tracks there is time for, and has everybody's layers chosen who is concerned.
    fn shed(&mut self, now: Instant) {
        let videos = self.world.tracks.iter().filter(|(_, t)| t.is_video());
        // What has come while it was left out is taken for one like the others: for nothing, it would all be let in at once.
        let known = videos.clone().flat_map(|(_, t)| &t.layers).map(|layer| layer.bitrate_bps).filter(|bps| *bps > 0);
        let (sum, count) = known.fold((0, 0), |(sum, count), bps| (sum + bps, count + 1));
        let usual_bps = (sum / count.max(1)).max(1);
        let mut units: Vec<_> = videos.flat_map(|(key, t)| self.units(usual_bps, key, t)).collect();
        units.sort_by_key(|unit| (unit.rank, unit.track, Reverse(unit.layer)));
        let all: u64 = units.iter().map(|unit| unit.cost).sum();
        let mut excess = (all as f64 * (1.0 - self.work.load.kept())) as u64;
        let mut kept: HashMap<TrackKey, u8> = HashMap::new();
        for unit in units {
            let is_out = excess > 0;
            excess = excess.saturating_sub(unit.cost);
            if !is_out {
                let layers = kept.entry(unit.track).or_default();
                *layers = (*layers).max(unit.layer + 1);
            }
        }
        self.keep_layers(now, &kept);
    }

    fn keep_layers(&mut self, now: Instant, kept: &HashMap<TrackKey, u8>) {
        let mut concerned: Vec<ClientKey> = Vec::new();
        let mut tracks = Vec::new();
        for (key, track) in self.world.tracks.iter_mut().filter(|(_, t)| t.is_video()) {
            let layers = kept.get(&key).copied().unwrap_or(0);
            let before = std::mem::replace(&mut track.kept_layers, layers);
            if before == layers {
                continue;
            }
            track.layers.iter_mut().for_each(|layer| layer.forget_missing());
            // Nor are those that are let in again reported to their publisher as lost so far.
            track.layers.iter_mut().skip(before.into()).for_each(|layer| layer.stats.pass_over());
            concerned.extend(track.subscribers.iter().map(|(client, _)| *client));
            tracks.push(key);
        }
        concerned.sort_unstable();
        concerned.dedup();
        for client in concerned {
            self.choose_layers(now, client);
        }
        for track in tracks {
            self.tell_wanted_layers(track);
        }
    }

    /// Videos in which nobody speaks count least, screens most.
    fn importance(&self, track: &Track) -> u8 {
        let is_speaking =
            || self.world.rooms.get(track.room).is_some_and(|room| room.speakers.is_speaking(track.owner));
        match track.info.source {
            Source::Screen => 2,
            _ => u8::from(is_speaking()),
        }
    }

    fn units(&self, usual_bps: u64, key: TrackKey, track: &Track) -> impl Iterator<Item = Unit> {
        let importance = self.importance(track);
        // Each packet is received once and sent to every subscriber.
        let copies = 1 + (track.subscribers.len() + track.hops.len()) as u64;
        track.layers.iter().zip(0..).map(move |(layer, n)| {
            let rank = if n > 0 { (0, u8::MAX - n) } else { (1, importance) };
            let bps = if layer.bitrate_bps > 0 { layer.bitrate_bps } else { usual_bps };
            Unit { rank, track: key, layer: n, cost: bps * copies }
        })
    }
}
