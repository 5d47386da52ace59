//! Changes of claims that a home is not told of.

use super::*;

impl World {
    /// The node b claims a room of a's, as after a's death.
    async fn claims(&self, b: &Peer, key: &str) {
        let over = Some(self.bus.revision(key));
        b.cluster.0.engine.claim(key, b.cluster.claim_of(key), over).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_while_a_watch_begins_anew_is_found_although_nothing_can_be_read_at_first() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let rooms = ["one", "two"].map(room);
    for room in &rooms {
        assert_eq!(a.join(room).await, "here");
    }
    let gave_way = || a.server.gave_way.lock().unwrap().clone();
    for (n, is_blind) in [false, true].into_iter().enumerate() {
        world.bus.deafen(a.who, true);
        world.claims(&b, rooms[n].as_str()).await;
        world.bus.blind(a.who, is_blind);
        world.bus.deafen(a.who, false);
        if is_blind {
            sleep(Duration::from_millis(200)).await;
            assert_eq!(gave_way().len(), n, "it does not know yet");
            world.bus.blind(a.who, false);
        }
        eventually(|| gave_way().len() == n + 1).await;
    }
    assert_eq!(gave_way(), rooms.map(|room| (room, "https://b/".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_kept_is_looked_at_until_it_is_known_that_nobody_else_has_it() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let demo = room("demo");
    assert_eq!(a.join(&demo).await, "here");
    let given = a.cluster.hand_over(&demo).unwrap();
    // The other node takes it, and its word that it has gets lost.
    world.claims(&b, "demo").await;
    sleep(Duration::from_millis(50)).await;
    world.bus.blind(a.who, true);
    a.cluster.keep(a.server.clone(), &demo, given).await;
    assert!(a.cluster.is_home(&demo), "it is not known yet");
    world.bus.blind(a.who, false);
    eventually(|| *a.server.gave_way.lock().unwrap() == [(demo.clone(), "https://b/".to_owned())]).await;
}
