//! Receivers that leave the choice to the server (WHEP): they are given a track that packets come of, and when it ends
//! or falls silent the next one of its kind takes its section. The SSRC is the server's own, so that a player notices
//! nothing but a key frame.

use std::time::{Duration, Instant};

use super::{PendingHook, Shard};
use crate::command::LeaveCause;
use crate::room::formats;
use crate::room::track::Track;
use moonring_policy::hook::{HookCall, Verdict};
use moonring_wire::id::{ClientKey, RoomKey, TrackKey};
use moonring_wire::media::Kind;
use moonring_wire::packet::SendBatch;

/// A track of which nothing has come for this long is given up for one of which something comes.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a receiver that has lost all its tracks waits for the next one.
const GRACE: Duration = Duration::from_secs(20);
/// How often it is looked whether there is one.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

impl Shard {
    /// The track of `kind` that a newcomer is best served with: one that packets come of before one that is silent, the
    /// newest first. `taken` are not considered; tracks of `preferred` go before others.
    pub(super) fn best_track(
        &self,
        now: Instant,
        room: RoomKey,
        (kind, preferred): (Kind, Option<ClientKey>),
        taken: impl Fn(TrackKey, &Track) -> bool,
    ) -> Option<TrackKey> {
        let tracks = self.world.rooms.get(room)?.tracks.iter().enumerate();
        let known = tracks.filter_map(|(age, key)| Some((age, *key, self.world.tracks.get(*key)?)));
        let free = known.filter(|(_, key, track)| track.info.kind == kind && !taken(*key, track));
        // The newest is the last: a sound and a picture of one publisher go together.
        free.max_by_key(|(age, _, track)| (is_live(now, track), Some(track.owner) == preferred, *age))
            .map(|(_, key, _)| key)
    }

    /// Notes that the server has chosen a track for a client.
    pub(super) fn set_follows(&mut self, key: ClientKey, track: TrackKey, follows: bool) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        let place = client.forward_of(track);
        if let Some(forward) = place.and_then(|place| client.outbound.forwards[usize::from(place)].as_mut()) {
            forward.follows = follows;
        }
    }

    /// Looks whether what the server chose for a client has ended or fallen silent while something else is live. False
    /// when the client was ended, as nothing has come for it any more.
    pub(super) fn follow_live(&mut self, now: Instant, key: ClientKey, out: &mut SendBatch) -> bool {
        let Some(client) = self.world.clients.get(key) else { return false };
        let followers: Vec<_> = client
            .outbound
            .forwards
            .iter()
            .enumerate()
            .filter_map(|(place, forward)| {
                let forward = forward.as_ref().filter(|f| f.follows && !f.is_asked)?;
                let current = self.world.tracks.get(forward.track);
                current.is_none_or(|track| !is_live(now, track)).then_some((
                    place as u16,
                    forward.codec.kind(),
                    current.is_some(),
                ))
            })
            .collect();
        let lost_all =
            client.outbound.forwards.iter().flatten().all(|f| f.follows && !self.world.tracks.contains_key(f.track));
        let since = client.outbound.lost_at;
        if !lost_all || client.outbound.forwards.iter().flatten().next().is_none() {
            self.world.clients[key].outbound.lost_at = None;
        } else if since.is_some_and(|at| now.saturating_duration_since(at) >= GRACE) {
            let words = format!("nothing has been published for {} s", GRACE.as_secs());
            self.close_transport(now, key, out);
            self.remove_client(now, key, LeaveCause::TransportFailed(words.clone()), &words);
            return false;
        } else {
            let client = &mut self.world.clients[key];
            client.outbound.lost_at.get_or_insert(now);
            client.deadlines.report = client.deadlines.report.min(now + INTERVAL);
        }
        for (place, kind, has_track) in followers {
            self.ask_to_follow(now, key, place, (kind, has_track));
        }
        true
    }

    fn ask_to_follow(&mut self, now: Instant, key: ClientKey, place: u16, (kind, has_track): (Kind, bool)) {
        if self.no_right_to_subscribe(key).is_some() {
            return;
        }
        let client = &self.world.clients[key];
        let Some(forward) = &client.outbound.forwards[usize::from(place)] else { return };
        // What the viewer's decoder was set up for: of H.264 the profile and the packetization mode too.
        let any_profile = self.settings.h264_any_profile;
        let cannot = |k: TrackKey, track: &Track| {
            track.owner == key
                || client.forward_of(k).is_some()
                || formats::format_for(&forward.formats, &track.codec, any_profile).is_none()
        };
        let Some(next) = self.best_track(now, client.room, (kind, None), cannot) else { return };
        // A silent track is not left for another silent one.
        if has_track && !is_live(now, &self.world.tracks[next]) {
            return;
        }
        let call =
            HookCall::SubscribeRequest { client: client.facts.clone(), track: self.world.tracks[next].info.clone() };
        let room = client.room;
        if let Some(forward) = &mut self.world.clients[key].outbound.forwards[usize::from(place)] {
            forward.is_asked = true;
        }
        self.ask(now, room, PendingHook::Follow(key, place, next), call);
    }

    /// The policy has decided whether a receiver may go on with another track.
    pub(super) fn follow_decided(
        &mut self,
        now: Instant,
        (key, place): (ClientKey, u16),
        next: TrackKey,
        verdict: &Verdict,
    ) {
        let has_right = self.no_right_to_subscribe(key).is_none();
        let Some(client) = self.world.clients.get_mut(key) else { return };
        let terms = self.world.tracks.get(next).map(|track| client.outbound.terms_of(&track.info.id));
        let Some(forward) = client.outbound.forwards.get_mut(usize::from(place)).and_then(Option::as_mut) else {
            return;
        };
        forward.is_asked = false;
        let former = forward.track;
        let Some(track) = self.world.tracks.get_mut(next).filter(|_| has_right && *verdict == Verdict::Allow) else {
            return;
        };
        // Its codec may have changed while the policy was asked.
        let any_profile = self.settings.h264_any_profile;
        let Some(format) = formats::format_for(&forward.formats, &track.codec, any_profile) else { return };
        forward.move_to(next, track, format);
        forward.limits.policy = terms.unwrap_or_default();
        track.subscribers.push((key, place));
        if let Some(former) = self.world.tracks.get_mut(former) {
            former.subscribers.retain(|s| *s != (key, place));
        }
        self.choose_layers(now, key);
        self.begin_forwards(now, key);
        self.tell_wanted_layers(next);
    }
}

/// Whether packets come of a track; of one that is muted none are expected.
fn is_live(now: Instant, track: &Track) -> bool {
    track.layers.iter().any(|layer| layer.silence(now).is_some_and(|time| time < SILENCE))
}
