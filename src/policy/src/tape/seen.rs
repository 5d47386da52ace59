//! What a tape has told of clients, so that it tells only of what has changed.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Map, Value};

use super::line::{ClientLine, SeenLine};
use super::on_clock;
use crate::hook::{ClientFacts, PathFigures};
use moonring_wire::id::ClientId;
use moonring_wire::media::TrackInfo;

/// Clients that are remembered; when there are more, everything is told anew.
const MAX_TOLD: usize = 4096;

type Told = (Vec<TrackInfo>, [u64; 4], Option<PathFigures>);

/// See the module.
#[derive(Default)]
pub(super) struct Seen {
    told: HashMap<ClientId, Told>,
}

impl Seen {
    /// Everything about a client.
    pub(super) fn whole(&mut self, start: Instant, client: &ClientFacts) -> ClientLine {
        let (tracks, traffic, path) = (client.tracks.borrow().clone(), traffic_of(client), client.traffic.path.get());
        self.told.insert(client.id.clone(), (tracks.clone(), traffic, path));
        ClientLine {
            client: client.id.clone(),
            connection: client.connection.clone(),
            metadata: (*client.metadata).clone(),
            identity: client.identity.get().cloned(),
            attributes: object_of(&client.attributes.borrow()),
            rights: client.rights.get(),
            hidden: client.is_hidden.get(),
            since: on_clock(start, client.since),
            left: client.left.get().map(|at| on_clock(start, at)),
            tracks,
            traffic,
            path,
        }
    }

    /// What has changed about a client.
    pub(super) fn change(&mut self, client: &Rc<ClientFacts>) -> Option<SeenLine> {
        let traffic = traffic_of(client);
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        let (told_tracks, told_traffic, told_path) = self.told.entry(client.id.clone()).or_default();
        let tracks = client.tracks.borrow();
        let tracks = (*tracks != *told_tracks).then(|| tracks.clone());
        let is_new = std::mem::replace(told_traffic, traffic) != traffic;
        if let Some(tracks) = &tracks {
            told_tracks.clone_from(tracks);
        }
        let traffic = is_new.then_some(traffic);
        let path = client.traffic.path.get();
        let path = if std::mem::replace(told_path, path) == path { None } else { path };
        let has_changed = tracks.is_some() || is_new || path.is_some();
        has_changed.then(|| SeenLine { client: client.id.clone(), tracks, traffic, path })
    }
}

/// The fields of an object; none of anything else.
pub(super) fn object_of(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn traffic_of(client: &ClientFacts) -> [u64; 4] {
    let traffic = &client.traffic;
    [&traffic.packets_in, &traffic.bytes_in, &traffic.packets_out, &traffic.bytes_out].map(std::cell::Cell::get)
}
