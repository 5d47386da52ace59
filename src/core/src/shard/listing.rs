//! Who is in a room, for operators: what each client publishes and receives.

use std::time::Instant;

use serde_json::{Value, json};

use super::Shard;
use crate::room::Seat;
use crate::room::client::Client;
use crate::room::forward::Forward;
use crate::room::track::{Layer, Track};
use moonring_policy::hook::Presence;
use moonring_wire::id::{ClientId, RoomId};

/// Clients of one answer: what a tick has time for, as each may receive hundreds of tracks.
const PAGE: usize = 32;

impl Shard {
    /// Answers with the clients of a room behind `after`, in the order of their ids: `{ "clients", "next" }`. Of one that is on
    /// another shard the home knows what it publishes, not what it receives.
    pub(super) fn list_clients(&mut self, now: Instant, id: u64, (room, after): (&RoomId, Option<&ClientId>)) {
        let room = self.index.rooms.get(room).and_then(|key| self.world.rooms.get(*key));
        let answer = room.ok_or_else(|| super::operators::NO_ROOM.to_owned()).map(|room| {
            let all = room.clients.iter().filter_map(|key| self.world.clients.get(*key));
            let is_home = matches!(room.seat, Seat::Home { .. });
            let mut clients: Vec<&Client> = all.filter(|client| after.is_none_or(|after| client.id > *after)).collect();
            clients.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            let next = (clients.len() > PAGE).then(|| clients[PAGE - 1].id.clone());
            clients.truncate(PAGE);
            json!({ "clients": clients.iter().map(|client| self.line_of(now, client, is_home)).collect::<Vec<_>>(), "next": next })
        });
        self.called(id, answer);
    }

    fn line_of(&self, now: Instant, client: &Client, is_home: bool) -> Value {
        let facts = &client.facts;
        let published = client.inbound.published.iter().filter_map(|key| self.world.tracks.get(*key));
        let forwards = client.outbound.forwards.iter().flatten();
        let received = forwards.filter_map(|forward| Some((forward, self.world.tracks.get(forward.track)?)));
        json!({
            "client": client.id,
            "identity": facts.identity(),
            "ip": facts.connection.ip,
            "via": facts.connection.via.as_str(),
            "transport": client.transport_name(),
            // A wing hears of all others from its home, wherever they are.
            "place": client.far.filter(|_| is_home),
            "joined": facts.presence.get() == Presence::Joined,
            "connected": client.transport.as_ref().map(|transport| transport.is_connected()),
            "here": client.far.is_none(),
            "publishes": published.map(|track| published_line(now, track)).collect::<Vec<_>>(),
            "receives": received.map(|(forward, track)| received_line(forward, track)).collect::<Vec<_>>(),
        })
    }
}

fn published_line(now: Instant, track: &Track) -> Value {
    // Of what has stopped, the layer knows how much it was.
    let bps = |layer: &Layer| if layer.is_active(now) { layer.bitrate_bps } else { 0 };
    let info = &track.info;
    json!({
        "track": info.id,
        "kind": info.kind,
        "source": info.source,
        "codec": info.codec,
        "muted": track.is_muted(),
        // From the lowest encoding to the highest.
        "bps": track.layers.iter().map(bps).collect::<Vec<_>>(),
    })
}

fn received_line(forward: &Forward, track: &Track) -> Value {
    json!({
        "track": track.info.id,
        "client": track.info.client,
        "kind": track.info.kind,
        "layer": forward.layer(),
        "paused": forward.allotted.paused,
    })
}
