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
        self.make_room();
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
        self.make_room();
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

    /// For one more.
    fn make_room(&mut self) {
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::json;

    use super::*;

    #[test]
    fn who_comes_and_is_told_of_once_takes_no_more_room_than_there_is() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        for n in 0..2 * MAX_TOLD {
            let id = ClientId::parse(&format!("c{n}")).unwrap();
            seen.whole(now, &ClientFacts::new(id, IpAddr::from([192, 0, 2, 1]).into(), json!({}).into(), now));
            assert!(seen.told.len() <= MAX_TOLD, "{n}");
        }
    }
}
