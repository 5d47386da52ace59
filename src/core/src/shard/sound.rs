//! Who speaks, and whose sound is forwarded: everybody's, or that of the loudest of a room.

use std::time::Instant;

use super::{Shard, Timer};
use crate::room::speakers::Heard;
use crate::room::track::Layer;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, RoomKey, TrackId, TrackKey};
use moonring_wire::rtp::extension::AudioLevel;

impl Shard {
    /// Takes the level (RFC 6464) of a packet of sound. An error: others are louder, and it is not forwarded. Who is heard
    /// again goes on without a gap in the numbers, as nothing is missing that anybody should ask for. What has no level, as
    /// padding, goes the way of the track's other packets.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        client: ClientKey,
        key: TrackKey,
        level: Option<AudioLevel>,
    ) -> Result<(), DropReason> {
        let track = self.world.tracks.get(key).ok_or(DropReason::RtpUnknownSsrc)?;
        let room_key = track.room;
        let Some(room) = self.world.rooms.get_mut(room_key) else { return Ok(()) };
        let Some(AudioLevel { level, .. }) = level else {
            return if room.speakers.is_left_out(key) { Err(DropReason::NotLoudest) } else { Ok(()) };
        };
        let was_quiet = room.speakers.deadline().is_none();
        let heard = room.speakers.hear(now, key, client, level);
        if was_quiet && let Some(at) = room.speakers.deadline() {
            self.schedule_speakers(room_key, at);
        }
        match heard {
            Heard::Yes => Ok(()),
            Heard::No => Err(DropReason::NotLoudest),
            Heard::Again => {
                self.begin_anew(key);
                Ok(())
            }
        }
    }

    /// Everybody who receives a track goes on with its next packet, without a gap in the numbers.
    fn begin_anew(&mut self, key: TrackKey) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        // For other shards, whose histories are not this one.
        track.layers.iter_mut().for_each(Layer::pass_gap);
        for (client, place) in &track.subscribers {
            let client = self.world.clients.get_mut(*client);
            if let Some(forward) = client.and_then(|c| c.outbound.forwards[usize::from(*place)].as_mut()) {
                forward.restart(track);
            }
        }
    }

    /// Lets the `n` loudest of a room be heard from now on; `None`: everybody.
    pub(super) fn set_audio_last_n(&mut self, room: RoomKey, n: Option<usize>) {
        let Some(room) = self.world.rooms.get_mut(room) else { return };
        let tracks = &self.world.tracks;
        let is_unheard =
            |key: &TrackKey| !room.speakers.is_heard(*key) && tracks.get(*key).is_some_and(|t| !t.is_video());
        let unheard: Vec<_> = room.tracks.iter().copied().filter(is_unheard).collect();
        room.speakers.set_last_n(n);
        for key in unheard {
            self.begin_anew(key);
        }
    }

    /// At home: how loud a wing's tracks are.
    pub(super) fn far_loudness(&mut self, now: Instant, key: RoomKey, levels: &[(TrackId, f32)]) {
        for (id, loudness) in levels {
            let Some(track) = self.track_in(key, id) else { continue };
            let owner = self.world.tracks[track].owner;
            let Some(room) = self.world.rooms.get_mut(key) else { return };
            let was_quiet = room.speakers.deadline().is_none();
            room.speakers.hear_far(now, track, owner, *loudness);
            if was_quiet && let Some(at) = room.speakers.deadline() {
                self.schedule_speakers(key, at);
            }
        }
        self.tell_loudest(key);
    }

    /// At a wing: the home has decided whose sound is forwarded.
    pub(super) fn set_loudest(&mut self, key: RoomKey, tracks: Option<Vec<TrackId>>) {
        let keys = tracks.map(|ids| ids.iter().filter_map(|id| self.track_in(key, id)).collect::<Vec<_>>());
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        let was_heard: Vec<_> = room.tracks.iter().map(|track| (*track, room.speakers.is_heard(*track))).collect();
        room.speakers.follow(keys);
        let is_new = |(track, was): &(TrackKey, bool)| !was && room.speakers.is_heard(*track);
        let heard_again: Vec<_> = was_heard.into_iter().filter(is_new).map(|(track, _)| track).collect();
        for track in heard_again {
            if self.world.tracks.get(track).is_some_and(|track| !track.is_video()) {
                self.begin_anew(track);
            }
        }
    }

    /// Marks `track` as having packets to forward: at the end of the tick, or a moment later when it is one of many
    /// who speak.
    pub(super) fn mark_dirty(&mut self, now: Instant, key: TrackKey) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let Some(room) = self.world.rooms.get_mut(track.room) else { return };
        let hold = self.settings.sound_hold;
        let is_held = !hold.is_zero() && !track.is_video() && room.sound_hold.count(now);
        if std::mem::replace(&mut track.dirty, true) {
            return;
        }
        let is_listed = !room.dirty.is_empty() || !room.touched.is_empty() || !room.hopping.is_empty();
        room.dirty.push(key);
        if is_held && !is_listed {
            let until = now + hold;
            room.sound_hold.until = Some(until);
            let room = track.room;
            self.set_timer(until, Timer::Sound(room));
        } else if !is_listed || !is_held && room.sound_hold.until.take().is_some() {
            self.work.dirty_rooms.push_back(track.room);
        }
    }

    /// Lets a room's sound leave that was held back.
    pub(super) fn sound_timer(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        if room.sound_hold.until.take_if(|until| *until <= now).is_some() {
            self.work.dirty_rooms.push_back(key);
        }
    }
}
