//! Who speaks, and whose sound is forwarded: everybody's, or that of the loudest of a room.

use std::time::Instant;

use super::Shard;
use crate::room::speakers::Heard;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, RoomKey, TrackKey};

impl Shard {
    /// Takes the level (RFC 6464) of a packet of sound. An error: others are louder, and it is not forwarded. Who is heard
    /// again goes on without a gap in the numbers, as nothing is missing that anybody should ask for.
    pub(super) fn hear(&mut self, now: Instant, client: ClientKey, key: TrackKey, level: u8) -> Result<(), DropReason> {
        let track = self.world.tracks.get(key).ok_or(DropReason::RtpUnknownSsrc)?;
        let room_key = track.room;
        let Some(room) = self.world.rooms.get_mut(room_key) else { return Ok(()) };
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
        let track = &self.world.tracks[key];
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

    /// Lets a room's sound leave that was held back.
    pub(super) fn sound_timer(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        if room.sound_hold.until.take_if(|until| *until <= now).is_some() {
            self.work.dirty_rooms.push_back(key);
        }
    }
}
