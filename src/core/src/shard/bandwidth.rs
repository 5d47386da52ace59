//! What paths carry and who gets what of it: feedback in, layers chosen, publishers told what is wanted.

use std::time::{Duration, Instant};

use super::Shard;
use crate::command::{Event, News};
use crate::room::allocation;
use crate::room::cap::Room;
use crate::room::client::Client;
use crate::room::forward::Forward;
use crate::room::layering::{Insight, MAX_SPATIAL};
use crate::room::track::Track;
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomKey, TrackId, TrackKey};
use moonring_wire::transport::Transport;
use slotmap::SlotMap;

/// Least time between two choices of layers that feedback causes.
const CHOICE_INTERVAL: Duration = Duration::from_millis(100);
/// The same that an estimate of the receiver's own causes: it comes once a second, and at once when it falls.
const REMB_INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks at what all receivers of a track of another shard have room for.
const ROOM_INTERVAL: Duration = Duration::from_millis(100);
/// Reports to a publisher after which it is told of a layer that nobody wants any more: one to two seconds.
const LINGER: u8 = 2;

impl Shard {
    /// Transport-wide feedback told of something: the client's layers follow, at most every [`CHOICE_INTERVAL`].
    pub(super) fn feedback_came(&mut self, now: Instant, key: ClientKey) {
        let Client { outbound, transport, .. } = &mut self.world.clients[key];
        if let (Some(path), Some(to)) = (&mut outbound.congestion, transport.as_ref().and_then(Transport::selected)) {
            path.meet(now, &mut self.world.flows, (key, to.remote.ip()));
        }
        if outbound.chosen.is_none_or(|at| now.saturating_duration_since(at) >= CHOICE_INTERVAL) {
            self.choose_layers(now, key);
        }
        self.schedule(key);
    }

    /// The client has sent estimates of its own.
    pub(super) fn remb_came(&mut self, now: Instant, key: ClientKey) {
        let outbound = &self.world.clients[key].outbound;
        let counts = outbound.congestion.as_deref().is_some_and(|path| path.told_rtt().is_none());
        if counts && outbound.chosen.is_none_or(|at| now.saturating_duration_since(at) >= REMB_INTERVAL) {
            self.choose_layers(now, key);
            self.schedule(key);
        }
    }

    /// Chooses the layers of all that a client receives, and tells it what is paused by it.
    pub(super) fn choose_layers(&mut self, now: Instant, key: ClientKey) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        client.outbound.chosen = Some(now);
        let speakers = self.world.rooms.get(client.room).map(|room| &room.speakers);
        let changed = allocation::choose(now, client, &mut self.world.tracks, speakers);
        for place in changed {
            let Some(forward) = &client.outbound.forwards[usize::from(place)] else { continue };
            let Some(track) = self.world.tracks.get(forward.track) else { continue };
            let (client, track) = (client.id.clone(), track.info.id.clone());
            self.work.events.push(match forward.allotted.paused {
                Some(reason) => Event::TrackPaused { client, track, reason },
                None => Event::TrackResumed { client, track },
            });
        }
        self.tell_rooms(now, key);
        self.begin_forwards(now, key);
    }

    /// Tells other shards what the paths of their tracks' receivers have room for, when that has changed: their publishers are
    /// held to it where they send a single encoding.
    fn tell_rooms(&mut self, now: Instant, key: ClientKey) {
        if !self.world.links.are_there() {
            return;
        }
        let Some(client) = self.world.clients.get(key) else { return };
        for key in client.outbound.forwards.iter().flatten().map(|forward| forward.track) {
            let Some(track) = self.world.tracks.get_mut(key).filter(|t| t.is_video() && t.layers.len() == 1) else {
                continue;
            };
            let Some(far) = track.far.as_deref_mut() else { continue };
            // Each of thousands who receive it would go through all of them.
            if far.room_seen.is_some_and(|at| now.saturating_duration_since(at) < ROOM_INTERVAL) {
                continue;
            }
            far.room_seen = Some(now);
            let Some(word) = best_room(&self.world.clients, track).map(Room::to_word) else { continue };
            let far = track.far.as_deref_mut();
            if far.is_some_and(|far| std::mem::replace(&mut far.room, word) != word) {
                self.work.wants.push(key);
            }
        }
    }

    /// Takes the size at which a client shows a track: layers above it are of no use, and 0 x 0 pauses it.
    pub(super) fn set_view(&mut self, now: Instant, id: &ClientId, track: &TrackId, size: (u32, u32)) {
        let key = self.index.clients.get(id).copied();
        let place = key.and_then(|k| self.world.clients[k].forward_of(*self.index.tracks.get(track)?));
        // A view of a track that has just ended crosses the news of it.
        let (Some(key), Some(place)) = (key, place) else { return };
        self.limit_forward(now, (key, place), |forward, track| {
            forward.allotted.view = Some(size);
            forward.limits.view = Some(track.useful_layer(size.1));
        });
    }

    /// Changes what a client may have of a track, or has use for: its layers follow, and the publisher is told.
    pub(super) fn limit_forward(
        &mut self,
        now: Instant,
        (key, place): (ClientKey, u16),
        change: impl FnOnce(&mut Forward, &Track),
    ) {
        let client = self.world.clients.get_mut(key);
        let forward = client.and_then(|client| client.outbound.forwards[usize::from(place)].as_mut());
        let Some(forward) = forward else { return };
        let track_key = forward.track;
        let Some(track) = self.world.tracks.get(track_key) else { return };
        change(forward, track);
        forward.allotted.changed = None;
        self.choose_layers(now, key);
        self.tell_wanted_layers(track_key);
    }

    /// More layers inside the encodings of a track have been seen, or other ones: of more everybody is told, and its receivers'
    /// layers are chosen anew where that may change them.
    pub(super) fn layers_seen(&mut self, now: Instant, key: TrackKey, insight: Insight) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        // Of a far track its own shard tells.
        let is_far = track.far.is_some();
        let is_news = track.note_layers();
        let (info, room, owner, subscribers) = (track.info.clone(), track.room, track.owner, track.subscribers.clone());
        if is_news && !is_far {
            self.update_facts(owner);
            self.tell_room(room, None, News::TrackChanged(info));
        }
        for (client, place) in subscribers {
            let Some(track) = self.world.tracks.get(key) else { return };
            let forward = self.world.clients.get_mut(client);
            let forward = forward.and_then(|c| c.outbound.forwards[usize::from(place)].as_mut());
            let Some(forward) = forward else { continue };
            let view = forward.allotted.view.map(|(_, height)| track.useful_layer(height));
            if std::mem::replace(&mut forward.limits.view, view) != view || insight == Insight::More {
                self.choose_layers(now, client);
            }
        }
        self.tell_wanted_layers(key);
    }

    /// Holds the single encodings of a publisher to what the best of their receivers' paths has room for; of one with spatial layers
    /// inside there is a smaller picture for each of them.
    pub(super) fn hold_publisher(&mut self, now: Instant, key: ClientKey) {
        let Some(client) = self.world.clients.get(key) else { return };
        for track in &client.inbound.published {
            let Some(track) = self.world.tracks.get_mut(*track).filter(|t| t.is_video()) else { continue };
            let [only] = &track.layers[..] else { continue };
            let rate_bps = if only.is_active(now) { only.bitrate_bps } else { 0 };
            let best = best_room(&self.world.clients, track);
            let best = best.filter(|_| track.told_layers() == 1);
            track.cap.update(now, rate_bps, best);
        }
    }

    /// What the best path of a track's receivers on this shard has room for of it.
    pub(super) fn best_room(&self, track: &Track) -> Option<Room> {
        best_room(&self.world.clients, track)
    }

    /// What another shard says of its receivers' paths.
    pub(super) fn room_told(&mut self, place: PlaceId, key: TrackKey, word: u32) {
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let Some(hop) = track.hops.iter_mut().find(|hop| hop.link == place) else { return };
        let is_news = std::mem::replace(&mut hop.room, Room::from_word(word)) != Room::from_word(word);
        if is_news && track.far.is_some() {
            self.work.wants.push(key);
        }
    }

    /// Sets the timers of the clients of which something waits for later, or is wanted.
    pub(super) fn wake_later(&mut self, now: Instant, room: RoomKey) {
        let Some(room) = self.world.rooms.get_mut(room) else { return };
        let asked = std::mem::take(&mut room.asked);
        for (key, until) in std::mem::take(&mut room.waiting) {
            let Some(client) = self.world.clients.get_mut(key) else { continue };
            client.deadlines.pace = Some(until.max(now));
            self.schedule(key);
        }
        asked.into_iter().for_each(|publisher| self.schedule(publisher));
    }

    /// Has what waits for a client looked at again.
    pub(super) fn touch(&mut self, key: ClientKey) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        if client.outbound.todo.is_empty() || std::mem::replace(&mut client.outbound.is_touched, true) {
            return;
        }
        let Some(room) = self.world.rooms.get_mut(client.room) else { return };
        if room.dirty.is_empty() && room.touched.is_empty() {
            self.work.dirty_rooms.push_back(client.room);
        }
        room.touched.push(key);
    }

    /// Tells the publisher of a track which of its layers anybody wants, when that has changed. What nobody wants any more is
    /// told by [`Self::release_layers`].
    pub(super) fn tell_wanted_layers(&mut self, key: TrackKey) {
        self.tell_layers(key, false);
    }

    /// Tells a publisher of the layers that nobody has wanted for a while: an encoder that is switched off and on again takes a
    /// moment and a key frame for it, and who receives may be about to come back from another shard.
    pub(super) fn release_layers(&mut self, key: ClientKey) {
        let Some(client) = self.world.clients.get(key) else { return };
        let mut due = Vec::new();
        for key in &client.inbound.published {
            let unwanted = |track: &&mut Track| track.is_video() && track.unwanted_for > 0;
            let Some(track) = self.world.tracks.get_mut(*key).filter(unwanted) else { continue };
            track.unwanted_for += 1;
            if track.unwanted_for > LINGER {
                due.push(*key);
            }
        }
        due.into_iter().for_each(|key| self.tell_layers(key, true));
    }

    fn tell_layers(&mut self, key: TrackKey, may_release: bool) {
        let Some(track) = self.world.tracks.get(key).filter(|t| t.is_video() || t.far.is_some()) else { return };
        if track.far.is_some() {
            return self.want_far_track(key);
        }
        let told = track.told_layers();
        let wanted = self.layers_wanted_of(track);
        // What there is no time for counts encodings.
        let kept =
            0..if track.layers.len() > 1 { told.min(track.kept_layers) } else { told * track.kept_layers.min(1) };
        // Who has just begun to publish is told at once: it begins with a key frame when somebody comes.
        let is_sent = |layer: &u8| track.wanted_layers.as_ref().is_some_and(|layers| layers.contains(layer));
        let lingers = |layer: &u8| !may_release && is_sent(layer);
        let layers: Vec<u8> = kept.clone().filter(|n| wanted[usize::from(*n)] || lingers(n)).collect();
        let is_released = layers.iter().all(|n| wanted[usize::from(*n)]);
        let is_news = track.wanted_layers.as_ref() != Some(&layers);
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        track.unwanted_for = if is_released { 0 } else { track.unwanted_for.max(1) };
        if is_news {
            track.wanted_layers = Some(layers.clone());
            let (owner, track) = (track.owner, track.info.id.clone());
            if let Some(owner) = self.world.clients.get(owner) {
                self.work.events.push(Event::WantedLayers { client: owner.id.clone(), track, layers });
            }
        }
    }

    /// The layers of a track of this shard's that somebody has use for.
    fn layers_wanted_of(&self, track: &Track) -> [bool; MAX_SPATIAL] {
        let told = track.told_layers();
        let mut wanted = [false; MAX_SPATIAL];
        for (client, place) in &track.subscribers {
            let forward =
                self.world.clients.get(*client).and_then(|c| c.outbound.forwards[usize::from(*place)].as_ref());
            let Some(limits) = forward.filter(|f| f.allotted.view != Some((0, 0))).map(|f| f.limits) else { continue };
            let limit = limits.highest().min(told - 1);
            wanted.iter_mut().take(usize::from(limit) + 1).for_each(|layer| *layer = true);
            // Nobody wants more: an audience of thousands is not gone through for each who comes.
            if limit == told - 1 {
                break;
            }
        }
        for hop in &track.hops {
            (0..usize::from(told)).filter(|n| hop.useful >> n & 1 == 1).for_each(|n| wanted[n] = true);
        }
        wanted
    }
}

fn best_room(clients: &SlotMap<ClientKey, Client>, track: &Track) -> Option<Room> {
    let rooms = track.subscribers.iter().filter_map(|(client, place)| {
        let forward = clients.get(*client)?.outbound.forwards.get(usize::from(*place))?.as_ref()?;
        forward.allotted.room
    });
    rooms.chain(track.hops.iter().filter_map(|hop| hop.room)).reduce(Room::best)
}
