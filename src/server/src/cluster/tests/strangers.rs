//! Who has another secret, or none.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn strangers_change_nothing() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let demo = room("demo");
    assert_eq!(a.join(&demo).await, "here");
    // A node with another secret is nobody's peer, and finds nobody. What it reads is somebody's, and so is what it writes.
    let stranger = world.start_with("c", &[2]);
    eventually(|| stranger.cluster.state().is_accepted).await;
    let claimed = world.bus.revision("demo");
    assert_eq!(stranger.join(&demo).await, "try again");
    assert_eq!(stranger.join(&room("theirs")).await, "here");
    let theirs = world.bus.revision("theirs");
    assert_eq!((a.join(&room("theirs")).await, b.join(&demo).await), ("try again".into(), "https://a/".into()));
    assert_eq!((world.bus.revision("demo"), world.bus.revision("theirs")), (claimed, theirs));
    let seal = Seal::new(&[2; MIN_SECRET]);
    for (subject, body) in [
        (BEATS.to_owned(), Bytes::from_static(b"nonsense")),
        (BEATS.to_owned(), seal.close(BEATS, &json!({"name": "a", "run": 1, "url": "https://evil/"}))),
        (node_subject(&a.cluster.0.own.name), Bytes::from_static(b"\x01")),
    ] {
        world.bus.shout(&subject, body);
    }
    // Claims that none of us has sealed, one of them in the place of one of ours: they stay, and so does the home.
    world.bus.write("demo", Some(b"nonsense"));
    world.bus.write("other", Some(b"nonsense"));
    world.bus.write("*not a key*", Some(b"nonsense"));
    let written = world.bus.revision("demo");
    assert_eq!(b.join(&room("other")).await, "try again");
    assert_eq!(b.joins_in_the_end(&demo).await, "https://a/");
    a.cluster.check_claim(&(a.server.clone() as Arc<dyn Host>), &demo).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!((world.bus.revision("demo"), a.join(&demo).await), (written, "here".into()));
    assert!(!b.cluster.claim_from(PlaceId(2), &demo).await, "nor does it move to another node");
    // An operator takes them out: rooms begin, and the home has its claim again.
    world.bus.write("demo", None);
    world.bus.write("other", None);
    assert_eq!(b.joins_in_the_end(&room("other")).await, "here");
    eventually(|| world.bus.revision("demo") > written).await;
    assert_eq!((a.join(&demo).await, b.joins_in_the_end(&demo).await), ("here".into(), "https://a/".into()));
    assert_eq!(*a.server.gave_way.lock().unwrap(), []);
    eventually(|| {
        a.cluster.counts() != ClusterCounts::default() && a.cluster.0.counts.strangers.load(Ordering::Relaxed) >= 3
    })
    .await;
    assert_eq!((a.sees("c"), stranger.sees("a"), b.sees("a")), (None, None, Some(Verdict::Alive)));
}
