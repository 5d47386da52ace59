//! Rooms over two nodes: who is told what, over the bus.

use super::*;
use moonring_core::command::RoomEnd;
use moonring_core::report::LinkReport;

/// Two nodes of two shards each, whose rooms may be on both, and that know each other's shards.
async fn linked(world: &mut World) -> (Peer, Peer) {
    world.links = 2;
    let (a, b) = world.pair().await;
    let knows = |peer: &Peer| peer.server.peers.lock().unwrap().len() == 2;
    eventually(|| knows(&a) && knows(&b)).await;
    (a, b)
}

fn heard(peer: &Peer) -> Vec<String> {
    peer.server.heard.lock().unwrap().clone()
}

fn message(words: &str) -> (RoomId, PlaceMessage) {
    (room("demo"), PlaceMessage::Ended(RoomEnd::Closed(words.to_owned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_at_another_node_stays_there_and_the_shards_speak_to_each_other() {
    let mut world = World::default();
    let (a, b) = linked(&mut world).await;
    assert_eq!(a.join(&room("demo")).await, "here");
    let url = b.join(&room("demo")).await;
    assert_eq!(url, "https://a/");
    let Wing::Here(home) = b.cluster.wing(&room("demo"), url.clone(), false).await else { panic!("it is a wing") };
    assert_eq!(home, PlaceId(3), "shard 1 of the other node, behind the two own ones");
    assert_eq!(
        b.cluster.wing(&room("other"), url, false).await,
        Wing::There("https://a/".into()),
        "not asked for lately"
    );
    let peers = b.server.peers.lock().unwrap().clone();
    let addresses: Vec<_> = peers.iter().map(|peer| (peer.id.0, peer.address.to_string(), peer.place)).collect();
    let place = |shard| moonring_wire::link::Place { run: 100, shard };
    let expected = [(2, "10.0.0.0:40000".into(), place(0)), (3, "10.0.0.0:40001".into(), place(1))];
    assert_eq!(addresses, expected);
    assert!(b.cluster.place_said(
        0,
        home,
        vec![message("one"), (room("demo"), PlaceMessage::Attach { home: None, anew: false })]
    ));
    assert!(a.cluster.place_said(1, PlaceId(2), vec![message("two")]));
    eventually(|| heard(&a).len() == 2 && heard(&b).len() == 1).await;
    assert_eq!(heard(&a)[0], "1 hears 2: demo Ended(Closed(\"one\"))");
    assert_eq!(heard(&b), ["0 hears 3: demo Ended(Closed(\"two\"))"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_the_bus_is_away_is_heard_afterwards_once_and_in_order() {
    let mut world = World::default();
    let (a, b) = linked(&mut world).await;
    world.bus.cut(b.who, true);
    for n in 0..20 {
        b.cluster.place_said(0, PlaceId(2), vec![message(&n.to_string())]);
    }
    eventually(|| heard(&b) == ["0 misses 2"]).await;
    assert_eq!(heard(&a), Vec::<String>::new());
    world.bus.cut(b.who, false);
    eventually(|| heard(&b) == ["0 misses 2", "0 reaches 2"]).await;
    let expected: Vec<_> = (0..20).map(|n| format!("0 hears 2: demo Ended(Closed(\"{n}\"))")).collect();
    eventually(|| heard(&a).len() >= 20).await;
    assert_eq!(heard(&a), expected);
    assert_eq!(a.server.peers.lock().unwrap().len(), 2, "silence alone ends no link");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_links_to_a_node_that_is_dead_end_and_its_next_run_has_others() {
    let mut world = World::default();
    let (a, b) = linked(&mut world).await;
    world.kill(&b);
    eventually(|| a.server.peers.lock().unwrap().is_empty()).await;
    assert_eq!(heard(&a), ["2 is gone", "3 is gone"]);
    let again = world.start("b");
    eventually(|| a.server.peers.lock().unwrap().len() == 2).await;
    let peers = a.server.peers.lock().unwrap().clone();
    assert_eq!(peers.iter().map(|peer| (peer.id.0, peer.place.run)).collect::<Vec<_>>(), [(4, 102), (5, 102)]);
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_say_to_a_shard_is_counted_and_changes_nothing() {
    let mut world = World::default();
    let (a, _b) = linked(&mut world).await;
    let subject = messages::place_subject(&a.cluster.0.own, 0);
    let stranger = Seal::new(&[9; MIN_SECRET]);
    let before = a.cluster.counts();
    for body in [Bytes::new(), Bytes::from_static(&[1; 200]), stranger.encrypt(&subject, &[1; 60]).unwrap()] {
        world.bus.shout(&subject, body);
    }
    eventually(|| a.cluster.counts() != before).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(heard(&a), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_shards_speak_another_version_gets_no_wing() {
    let mut world = World::default();
    let (a, b) = linked(&mut world).await;
    a.join(&room("demo")).await;
    let ask = |version| {
        let ask = messages::Ask::Wing { room: room("demo"), version };
        let cluster = b.cluster.clone();
        async move { cluster.ask(&node_subject(&NodeName::parse("a").unwrap()), ask, Duration::from_secs(5)).await }
    };
    assert_eq!(ask(moonring_core::command::PLACE_VERSION).await, Ok(messages::Answer::Wing { shard: 1 }));
    assert_eq!(ask(99).await, Ok(messages::Answer::No { why: "another version".into() }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_thought_dead_and_comes_back_has_the_numbers_that_it_had() {
    let mut world = World::default();
    let (a, b) = linked(&mut world).await;
    let before = a.server.peers.lock().unwrap().clone();
    world.bus.cut(b.who, true);
    world.ports.0.lock().unwrap().remove(&b.cluster.0.own.run);
    eventually(|| heard(&a) == ["2 is gone", "3 is gone"]).await;
    // One that is new meanwhile gets others.
    let c = world.start("c");
    eventually(|| a.server.peers.lock().unwrap().len() == 2).await;
    let numbers = |peer: &Peer| peer.server.peers.lock().unwrap().iter().map(|peer| peer.id.0).collect::<Vec<_>>();
    assert_eq!(numbers(&a), [4, 5]);
    world.ports.0.lock().unwrap().insert(b.cluster.0.own.run);
    world.bus.cut(b.who, false);
    eventually(|| a.server.peers.lock().unwrap().len() == 4).await;
    assert_eq!(a.server.peers.lock().unwrap()[..2], before[..]);
    let home = PlaceId(2);
    assert!(a.cluster.place_said(0, home, vec![(room("demo"), PlaceMessage::Detach)]));
    eventually(|| heard(&b).iter().any(|words| words.ends_with("demo Detach"))).await;
    drop(c);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_other_addresses_is_reached_at_these_over_the_same_links() {
    let mut world = World::default();
    let (a, b) = linked(&mut world).await;
    let at = |ip: [u8; 4]| [40_000, 40_001].map(|port| SocketAddr::from((ip, port)));
    let peers = || b.server.peers.lock().unwrap().clone();
    let before: Vec<_> = peers().iter().map(|peer| (peer.id, peer.place)).collect();
    a.cluster.readdressed(None, Some(at([10, 0, 0, 7]).to_vec()));
    eventually(|| peers().iter().map(|peer| peer.address).eq(at([10, 0, 0, 7]))).await;
    assert_eq!(peers().iter().map(|peer| (peer.id, peer.place)).collect::<Vec<_>>(), before);
    let (name, demo) = (&a.cluster.0.own.name, room("demo"));
    let destination = || b.cluster.destination(name, &demo, Some(1));
    assert_eq!(destination().await.unwrap().candidates, [at([10, 0, 0, 0])[1]]);
    a.cluster.readdressed(Some(at([192, 0, 2, 7]).map(|at| vec![at]).to_vec()), None);
    assert_eq!(destination().await.unwrap().candidates, [at([192, 0, 2, 7])[1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_whether_it_takes_a_client_and_at_which_addresses() {
    let mut world = World::default();
    let (a, b) = linked(&mut world).await;
    let name = |name: &str| NodeName::parse(name).unwrap();
    let ask = |node: &str, shard: Option<u16>| {
        let (cluster, node) = (b.cluster.clone(), name(node));
        async move { cluster.destination(&node, &room("demo"), shard).await }
    };
    let there = |place: u16, port: u16| {
        Ok(moving::Destination { place: PlaceId(place), candidates: vec![([10, 0, 0, 0], port).into()] })
    };
    assert_eq!(ask("a", None).await, there(3, 40_001), "of its own choice");
    assert_eq!(ask("a", Some(0)).await, there(2, 40_000));
    assert_eq!(ask("a", Some(2)).await, Err("node a takes no client: it has no shard 2; it has 0 to 1".into()));
    assert_eq!(ask("c", None).await, Err("there is no node c that lives".into()));
    a.cluster.drain(true);
    assert_eq!(ask("a", None).await, Err("node a takes no client: it drains".into()));
    let version = messages::Ask::TakeClient { room: room("demo"), shard: None, version: 99 };
    let answer = b.cluster.ask(&node_subject(&name("a")), version, Duration::from_secs(5)).await;
    assert!(matches!(&answer, Ok(messages::Answer::No { why }) if why.contains("version 99")), "{answer:?}");
    let order = |client: &str| {
        let (cluster, client) = (b.cluster.clone(), ClientId::parse(client).unwrap());
        async move { cluster.order_elsewhere(&room("demo"), &client, (name("b"), None)).await }
    };
    assert_eq!(order("here").await, Ok(()));
    assert_eq!(order("nobody").await, Err("there is no client nobody in the room".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_handed_over_is_the_node_s_that_claims_it_or_stays_where_it_was() {
    let mut world = World::default();
    let (a, b) = linked(&mut world).await;
    for name in ["demo", "other"] {
        assert_eq!(a.join(&room(name)).await, "here");
    }
    let stays = a.cluster.hand_over(&room("other")).unwrap();
    assert!(!a.cluster.is_home(&room("other")));
    a.cluster.keep(a.server.clone(), &room("other"), stays).await;
    assert!(a.cluster.is_home(&room("other")), "nobody else has claimed it");
    let goes = a.cluster.hand_over(&room("demo")).unwrap();
    assert!(b.cluster.claim_from(PlaceId(2), &room("demo")).await);
    assert!(b.cluster.is_home(&room("demo")));
    assert!(!b.cluster.claim_from(PlaceId(9), &room("other")).await, "of a node that is not there");
    assert_eq!(a.server.gave_way.lock().unwrap().len(), 0, "nobody is sent anywhere");
    // Who thinks that it has kept a room that another node has claimed gives way: at once, or when it hears of the claim.
    a.cluster.keep(a.server.clone(), &room("demo"), goes).await;
    assert!(!a.cluster.is_home(&room("demo")));
    eventually(|| *a.server.gave_way.lock().unwrap() == [(room("demo"), "https://b/".to_owned())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_heard_on_a_link_is_not_dead_although_it_neither_beats_nor_answers_over_http() {
    for refuses in [false, true] {
        heard_on_a_link_alone(refuses).await;
    }
}

/// Its port is silent, or refuses, as behind a proxy that has ended or a firewall.
async fn heard_on_a_link_alone(refuses: bool) {
    let mut world = World::default();
    world.ports.1.store(refuses, Ordering::Relaxed);
    let (a, b) = linked(&mut world).await;
    assert_eq!(b.join(&room("demo")).await, "here");
    // Its media comes to a shard of a, and then to nobody.
    let reporter = a.cluster.clone();
    let media = tokio::spawn(async move {
        for received in 1.. {
            let report = LinkReport {
                place: PlaceId(3),
                sent: 0,
                received,
                lost: 0,
                layers_down: 0,
                is_silent: false,
                rooms: vec![],
                rtt: Duration::ZERO,
            };
            reporter.links_told(0, &[report]);
            sleep(Duration::from_millis(100)).await;
        }
    });
    sleep(Duration::from_millis(300)).await;
    world.bus.cut(b.who, true);
    world.ports.0.lock().unwrap().remove(&b.cluster.0.own.run);
    eventually(|| a.sees("b") == Some(Verdict::Silent)).await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let join = a.join(&room("demo")).await;
        assert_eq!((a.sees("b"), join), (Some(Verdict::Silent), "try again".into()), "refuses: {refuses}");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(heard(&a), Vec::<String>::new(), "its links go on");
    media.abort();
    eventually(|| a.sees("b") == Some(Verdict::Dead)).await;
    assert_eq!(a.joins_in_the_end(&room("demo")).await, "here");
}
