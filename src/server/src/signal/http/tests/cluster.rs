//! Two servers of one cluster, on a bus in memory.

use super::*;
use crate::cluster::memory::{Bus, nodes};
use crate::signal::{operator, operator_nodes};

/// The nodes a and b, which know each other.
async fn pair() -> (Bus, World, World) {
    let (bus, clusters) = nodes(&["a", "b"]);
    let worlds: Vec<_> = clusters.iter().map(|node| start_in(&config(), Some(node.clone()))).collect();
    while !clusters.iter().all(|node| node.nodes().iter().any(|line| line.verdict.label() == "alive")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut worlds = worlds.into_iter();
    (bus, worlds.next().unwrap(), worlds.next().unwrap())
}

async fn first(world: &World, message: Value) -> (Socket, Value) {
    let mut socket = world.socket().await;
    socket.send(message).await;
    let answer = socket.next().await;
    (socket, answer)
}

fn join(room: &str) -> Value {
    json!({"type": "join", "room": room, "token": "yes"})
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_at_another_node_is_told_where_the_room_is_and_so_is_a_ticket() {
    let (_bus, a, b) = pair().await;
    let (here, joined) = first(&a, join("demo")).await;
    assert_eq!(joined["type"], "joined");
    let (mut socket, answer) = first(&b, join("demo")).await;
    assert_eq!(answer, json!({"type": "moved", "url": "ws://a/ws"}));
    assert_eq!(socket.next().await, json!({"closed": 1008}));
    let ticket = joined["ticket"].as_str().unwrap();
    assert!(ticket.starts_with("a."), "{ticket}");
    drop(here);
    let (_, answer) = first(&b, json!({"type": "resume", "ticket": ticket})).await;
    assert_eq!(answer, json!({"type": "moved", "url": "ws://a/ws"}));
    let (_, answer) = first(&a, json!({"type": "resume", "ticket": ticket})).await;
    assert_eq!((&answer["type"], &answer["resumed"]), (&json!("joined"), &json!(true)));
    for stranger in ["c.x.00", "x.00", "nonsense", "", "a.", "a.a.b"] {
        let (_, answer) = first(&a, json!({"type": "resume", "ticket": stranger})).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("ticket")), "{stranger:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whip_and_whep_are_redirected_with_their_path() {
    let (_bus, a, b) = pair().await;
    let (_here, _) = first(&a, join("demo")).await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for (path, expected) in [
        ("/whip/demo", Some("http://a/whip/demo")),
        ("/whep/demo/t1?x=1", Some("http://a/whep/demo/t1?x=1")),
        ("/whip/bad%20room", None),
    ] {
        let sent = client.post(b.url(path)).header("content-type", "application/sdp").body(OFFER).send().await.unwrap();
        let location = sent.headers().get("location").map(|value| value.to_str().unwrap());
        let status = if expected.is_some() { 307 } else { 400 };
        assert_eq!((sent.status().as_u16(), location), (status, expected), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_bus_new_rooms_are_told_to_try_again_and_the_rooms_there_are_go_on() {
    let (bus, a, b) = pair().await;
    let (_here, _) = first(&a, join("demo")).await;
    (0..2).for_each(|node| bus.cut(node, true));
    for (world, room) in [(&a, "new"), (&b, "demo")] {
        let (mut socket, answer) = first(world, join(room)).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("try_again")), "{room}");
        assert_eq!(socket.next().await, json!({"closed": 1008}));
        let refused = world.whip(&format!("/whip/{room}"), Some("yes"), OFFER).await;
        assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "2"));
    }
    let (_, answer) = first(&a, join("demo")).await;
    assert_eq!(answer["type"], "joined", "its own room");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_of_a_room_that_has_another_home_are_sent_there() {
    let (bus, mut a, b) = pair().await;
    let (mut here, _) = first(&a, join("demo")).await;
    let (away, _) = first(&a, join("demo")).await;
    drop(away);
    bus.cut(0, true);
    let taken = loop {
        let (_socket, answer) = first(&b, join("demo")).await;
        if answer["type"] == "joined" {
            break _socket;
        }
    };
    here.send(json!({"type": "message", "value": 1})).await;
    assert_eq!(here.next().await["type"], "message", "the call goes on");
    bus.cut(0, false);
    assert_eq!(here.next().await, json!({"type": "moved", "url": "ws://b/ws"}));
    assert_eq!(here.next().await, json!({"closed": 1008}));
    let mut leaves = 0;
    while leaves < 2 {
        leaves += usize::from(a.told().await == "leave the room has its home on another node");
    }
    drop(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_all_nodes_and_all_rooms_at_any_of_them() {
    let (_bus, a, b) = pair().await;
    let (_one, _) = first(&a, join("one")).await;
    let (_two, _) = first(&b, join("two")).await;
    for world in [&a, &b] {
        let lines = operator_nodes::nodes(world.admin, true).await.unwrap();
        let nodes: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((nodes.len(), &nodes[0]["verdict"], &nodes[1]["verdict"]), (2, &json!("own"), &json!("alive")));
        assert!(operator_nodes::nodes(world.admin, false).await.unwrap().contains("http://a/\n"));
        let page = reqwest::get(format!("http://{}/rooms?everywhere=true", world.admin)).await.unwrap();
        let rooms = page.json::<Value>().await.unwrap();
        let found: Vec<_> =
            rooms["rooms"].as_array().unwrap().iter().map(|r| (r["room"].clone(), r["node"].clone())).collect();
        assert_eq!(found, [(json!("one"), json!("a")), (json!("two"), json!("b"))]);
    }
    let said = operator_nodes::drain(a.admin, 600, false).await.unwrap();
    assert!(said.starts_with("node a takes no new rooms; it has 1 rooms and "), "{said}");
    let (_, answer) = first(&a, join("three")).await;
    assert_eq!(answer, json!({"type": "moved", "url": "ws://b/ws"}));
    assert_eq!(operator_nodes::undrain(a.admin).await.unwrap(), "node a takes new rooms; it has 1\n");
    let health = reqwest::get(a.url("/healthz")).await.unwrap();
    assert!(health.headers()[RUN_HEADER].to_str().unwrap().starts_with("a "));
    let opened =
        reqwest::Client::new().post(format!("http://{}/rooms/two/open", a.admin)).json(&json!({})).send().await;
    let opened = opened.unwrap();
    assert_eq!(
        (opened.status().as_u16(), opened.text().await.unwrap().as_str()),
        (409, "the room is on the node at http://b/: ask there\n")
    );
    let alone = start(&config());
    let error = operator_nodes::nodes(alone.admin, false).await.unwrap_err().to_string();
    assert!(error.contains("without --cluster"), "{error}");
    let error = operator_nodes::drain(alone.admin, 600, false).await.unwrap_err().to_string();
    assert!(error.contains("409") && error.contains("the server is alone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_rooms_names_the_nodes_that_do_not_answer() {
    let (bus, a, b) = pair().await;
    let (_one, _) = first(&a, join("one")).await;
    let (_two, _) = first(&b, join("two")).await;
    let listed = operator::rooms(a.admin, true).await.unwrap();
    assert_eq!((listed.text.lines().count(), listed.missing), (2, None));
    bus.cut(0, true);
    let listed = operator::rooms(a.admin, true).await.unwrap();
    let lines: Vec<Value> = listed.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["room"], &lines[1]), (&json!("one"), &json!({ "missing": ["b"] })));
    assert!(listed.missing.unwrap().contains("do not answer: b;"));
    let table = operator::rooms(a.admin, false).await.unwrap();
    assert!(table.text.ends_with("1 rooms\n") && table.missing.is_some(), "{table:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_a_node_at_the_deadline_of_its_draining_joins_anew_at_another() {
    let (_bus, a, b) = pair().await;
    let (mut here, _) = first(&a, join("demo")).await;
    operator_nodes::drain(a.admin, 0, false).await.unwrap();
    assert_eq!(here.next().await, json!({"type": "moved", "url": "ws://b/ws"}));
    let (_, answer) = first(&b, join("demo")).await;
    assert_eq!(answer["type"], "joined", "the room has been given up");
    let (_, answer) = first(&a, join("demo")).await;
    assert_eq!(answer, json!({"type": "moved", "url": "ws://b/ws"}));
    let drain = |body: &'static str| reqwest::Client::new().post(format!("http://{}/drain", a.admin)).body(body).send();
    for (body, status) in [("{\"deadline_s\": -1}", 422), ("{\"seconds\": 1}", 422), ("soon", 422), ("", 200)] {
        assert_eq!(drain(body).await.unwrap().status().as_u16(), status, "{body}");
    }
}
