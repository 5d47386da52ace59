//! `moonring clients`: who is in a room, with the ids that `kick` and `mute` ask for.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;

use super::operator::{Admin, client, read, url, way};
use moonring_wire::id::{ClientId, RoomId};

#[derive(Debug, Deserialize)]
struct Page {
    clients: Vec<Value>,
    next: Option<ClientId>,
}

/// As far as people are shown it.
#[derive(Debug, Deserialize)]
struct Line {
    client: String,
    identity: String,
    ip: String,
    via: String,
    transport: Option<String>,
    node: Option<String>,
    shard: Option<usize>,
    joined: bool,
    connected: Option<bool>,
    here: bool,
    publishes: Vec<Published>,
    receives: Vec<Received>,
}

#[derive(Debug, Deserialize)]
struct Published {
    track: String,
    source: String,
    codec: String,
    muted: bool,
    bps: Vec<u64>,
}

#[derive(Debug, Deserialize)]
struct Received {
    track: String,
    client: String,
    layer: Option<u8>,
    paused: Option<String>,
}

/// The clients of a room of the server whose admin pages are at `admin`: lines for people, or one JSON object per line.
pub(crate) async fn clients(admin: impl Into<Admin>, room: &str, json: bool) -> anyhow::Result<String> {
    let admin = admin.into();
    let room = RoomId::parse(room).map_err(|error| anyhow::anyhow!("the room id {error}"))?;
    let asker = client(&admin)?;
    let (mut text, mut count, mut next) = (String::new(), 0, None);
    loop {
        // Ids have no character that means something in a URL.
        let after = next.map_or(String::new(), |after: ClientId| format!("?after={after}"));
        let sent = asker.get(url(&admin, &format!("rooms/{room}/clients{after}"))).send().await;
        let page: Page = read(&admin, sent).await?;
        count += page.clients.len();
        for line in page.clients {
            if json {
                writeln!(text, "{line}")?;
            } else {
                text.push_str(&shown(&serde_json::from_value(line)?));
            }
        }
        match page.next {
            Some(after) => next = Some(after),
            None => break,
        }
    }
    if !json {
        writeln!(text, "{count} clients")?;
    }
    Ok(text)
}

fn shown(line: &Line) -> String {
    let state = match (line.joined, line.here, line.connected) {
        (false, ..) => "is joining",
        // Its shard knows more.
        (_, false, _) => "has joined",
        (.., None) => "has not offered any media",
        (.., Some(false)) => "connects",
        (.., Some(true)) => "is connected",
    };
    let name = if line.identity == line.client { String::new() } else { format!(" ({})", line.identity) };
    let way = way(&line.via, line.transport.as_deref());
    let mut text = format!("{}{name}, {}, {way}, {}, {state}\n", line.client, line.ip, place(line));
    for Published { track, source, codec, muted, bps } in &line.publishes {
        let rates: Vec<_> = bps.iter().map(|bps| (bps / 1000).to_string()).collect();
        let muted = if *muted { ", muted" } else { "" };
        let _ = writeln!(text, "  publishes {track}: {source}, {codec}, {} kbit/s{muted}", rates.join(" + "));
    }
    for Received { track, client, layer, paused } in &line.receives {
        let how = match (paused, layer) {
            (Some(why), _) => format!("paused ({why})"),
            (None, Some(layer)) => format!("layer {layer}"),
            (None, None) => "not begun".to_owned(),
        };
        let _ = writeln!(text, "  receives {track} of {client}: {how}");
    }
    text
}

/// Where a client is, as the operators' page says it.
fn place(line: &Line) -> String {
    match (&line.node, line.shard) {
        (Some(node), Some(shard)) => format!("{node}/{shard}"),
        (Some(node), None) => node.clone(),
        (None, Some(shard)) => format!("shard {shard}"),
        (None, None) => "elsewhere".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(changes: Value) -> Line {
        let mut line = json!({
            "client": "q7Zr", "identity": "q7Zr", "ip": "192.0.2.7", "via": "websocket", "transport": null, "node": null,
            "shard": 0, "joined": true, "connected": true, "here": true, "publishes": [], "receives": [],
        });
        for (name, value) in changes.as_object().unwrap() {
            line[name] = value.clone();
        }
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn a_client_is_shown_with_what_kick_and_mute_ask_for() {
        let line = line(json!({
            "identity": "ada", "transport": "udp",
            "publishes": [{ "track": "t1", "kind": "video", "source": "camera", "codec": "VP8", "muted": true, "bps": [150_000, 480_000] }],
            "receives": [
                { "track": "t2", "client": "k9", "kind": "video", "layer": 1, "paused": null },
                { "track": "t3", "client": "k9", "kind": "video", "layer": null, "paused": "bandwidth" },
            ],
        }));
        assert_eq!(
            shown(&line),
            "q7Zr (ada), 192.0.2.7, websocket/udp, shard 0, is connected\n  publishes t1: camera, VP8, 150 + 480 kbit/s, muted\n  \
             receives t2 of k9: layer 1\n  receives t3 of k9: paused (bandwidth)\n"
        );
    }

    #[test]
    fn it_is_shown_how_a_client_has_come_and_where_it_is_as_far_as_that_is_known() {
        let far = json!({ "via": "whip", "node": "n2", "shard": null, "here": false, "connected": null });
        for (changes, expected) in [
            (json!({ "via": "whep", "transport": "tcp", "node": "n1", "shard": 1 }), "whep/tcp, n1/1, is connected"),
            (json!({ "connected": null }), "websocket, shard 0, has not offered any media"),
            (json!({ "shard": 1, "here": false, "connected": null }), "websocket, shard 1, has joined"),
            (json!({ "shard": null, "here": false, "connected": null }), "websocket, elsewhere, has joined"),
            (far, "whip, n2, has joined"),
        ] {
            assert_eq!(shown(&line(changes)), format!("q7Zr, 192.0.2.7, {expected}\n"));
        }
    }
}
