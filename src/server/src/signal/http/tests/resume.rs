//! WebSockets that are cut, and what comes after them.

use super::*;

async fn resume(world: &World, ticket: &Value) -> (Socket, Value) {
    let mut socket = world.socket().await;
    socket.send(json!({"type": "resume", "ticket": ticket})).await;
    let answer = socket.next().await;
    (socket, answer)
}

#[tokio::test]
async fn a_cut_websocket_is_resumed_and_the_shard_is_asked_for_a_snapshot_only() {
    let mut world = start(&config());
    let mut socket = world.socket().await;
    let joined = socket.join("yes").await;
    assert_eq!((&joined["resumed"], &joined["resume_s"], &joined["own"]), (&json!(false), &json!(15), &json!([])));
    drop(socket);
    let (mut socket, resumed) = resume(&world, &joined["ticket"]).await;
    assert_eq!((&resumed["type"], &resumed["resumed"]), (&json!("joined"), &json!(true)));
    assert_eq!((&resumed["client"], &resumed["room"]), (&joined["client"], &json!("demo")));
    assert_eq!((&resumed["own"][0]["id"], &resumed["clients"]), (&json!("t1"), &json!([])));
    assert_ne!(resumed["ticket"], joined["ticket"]);
    socket.send(json!({"type": "message", "value": "hello"})).await;
    assert_eq!(socket.next().await, json!({"type": "message", "value": "hello"}));
    socket.send(json!({"type": "leave"})).await;
    assert_eq!(socket.next().await, json!({"closed": 1000}));
    let (_, refused) = resume(&world, &resumed["ticket"]).await;
    assert_eq!(refused["code"], "ticket", "who leaves has nothing to come back to");
    let told = [world.told().await, world.told().await, world.told().await, world.told().await];
    assert_eq!(told, ["join demo yes 7 127.0.0.1", "snapshot", "message", "leave left"]);
}

#[tokio::test]
async fn a_ticket_opens_one_socket_and_closes_the_one_before() {
    let world = start(&config());
    let mut first = world.socket().await;
    let ticket = first.join("yes").await["ticket"].clone();
    let (mut second, resumed) = resume(&world, &ticket).await;
    assert_eq!(resumed["resumed"], true);
    assert_eq!(first.next().await, json!({"closed": 1000}));
    for (ticket, what) in [(ticket, "replayed"), (json!("nobody.00"), "guessed"), (json!("x".repeat(300)), "long")] {
        let (mut socket, refused) = resume(&world, &ticket).await;
        let code = if what == "long" { "too_large" } else { "ticket" };
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!(code)), "{what}");
        assert_eq!(socket.next().await, json!({"closed": 1008}));
    }
    second.send(json!({"type": "message", "value": 1})).await;
    assert_eq!(second.next().await["type"], "message");
}

#[tokio::test]
async fn a_stay_that_is_not_resumed_in_time_is_over() {
    let mut world = start(&Config { resume_s: 1, ..config() });
    let mut socket = world.socket().await;
    let ticket = socket.join("yes").await["ticket"].clone();
    drop(socket);
    assert_eq!(world.told().await, "join demo yes 7 127.0.0.1");
    assert_eq!(world.told().await, "leave connection lost");
    assert_eq!(resume(&world, &ticket).await.1["code"], "ticket");
}

#[tokio::test]
async fn a_client_that_is_kicked_after_its_websocket_was_cut_is_told_when_it_resumes() {
    let mut world = start(&config());
    let mut socket = world.socket().await;
    let ticket = socket.join("yes").await["ticket"].clone();
    socket.send(json!({"type": "message", "value": "kick me"})).await;
    drop(socket);
    while world.told().await != "message" {}
    let (mut socket, mut answer) = resume(&world, &ticket).await;
    if answer["type"] == "joined" {
        // The kick's way was longer than that of the ticket.
        answer = socket.next().await;
    }
    assert_eq!(answer, json!({"type": "kicked", "reason": "As you wish"}));
}

#[tokio::test]
async fn a_shutdown_for_good_says_so_and_goodbye_for_who_is_away() {
    let says = crate::config::ShutdownSays::Closing;
    let mut world = start(&Config { shutdown_says: says, ..config() });
    let mut away = world.socket().await;
    away.join("yes").await;
    away.0.close(None).await.unwrap();
    assert!(away.next().await.get("closed").is_some());
    let mut there = world.socket().await;
    there.join("yes").await;
    world.stop.take().unwrap().send(()).unwrap();
    assert_eq!(there.next().await, json!({"type": "closing", "reason": "The server is shutting down"}));
    assert_eq!(there.next().await, json!({"closed": 1001}));
    world.served.await.unwrap().unwrap();
    let mut leaves = Vec::new();
    while let Some(note) = world.told.recv().await {
        leaves.extend(note.strip_prefix("leave ").map(str::to_owned));
    }
    assert_eq!(leaves, ["the server shuts down"; 2]);
}

#[tokio::test]
async fn who_is_just_coming_when_the_server_shuts_down_is_told_that_it_does() {
    let mut world = start(&config());
    let (mut waits, mut new) = (world.socket().await, world.socket().await);
    waits.send(json!({"type": "join", "room": "demo", "token": "hang"})).await;
    assert_eq!(world.told().await, "join demo hang null 127.0.0.1");
    let request = reqwest::Client::new().post(world.url("/whip/demo")).header("content-type", "application/sdp");
    let encoder = tokio::spawn(request.bearer_auth("hang").body(OFFER).send());
    assert_eq!(world.told().await, "join demo hang {\"via\":\"whip\"} 127.0.0.1");
    world.stop.take().unwrap().send(()).unwrap();
    // It may be told before it asks.
    let _ = new.0.send(Message::text(json!({"type": "join", "room": "demo", "token": "yes"}).to_string())).await;
    let refused = encoder.await.unwrap().unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
    assert!(refused.text().await.unwrap().contains("shutting down"));
    for socket in [&mut waits, &mut new] {
        assert_eq!(socket.next().await, json!({"type": "restarting", "reason": "The server is restarting"}));
    }
    assert_eq!(waits.next().await, json!({"closed": 1012}));
    world.served.await.unwrap().unwrap();
}
