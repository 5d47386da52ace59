//! A room with two homes for a moment.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_say_they_are_a_rooms_home_a_third_node_goes_to_the_one_with_the_higher_term() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let c = world.start("c");
    eventually(|| ["a", "b"].iter().all(|name| c.sees(name) == Some(Verdict::Alive))).await;
    let demo = room("demo");
    assert_eq!(a.join(&demo).await, "here");
    world.bus.cut(a.who, true);
    world.ports.0.lock().unwrap().remove(&a.cluster.0.own.run);
    assert_eq!(b.joins_in_the_end(&demo).await, "here");
    assert_eq!(c.joins_in_the_end(&demo).await, "https://b/");
    // The former home is back, and cannot read its claims yet; the home has no time to answer.
    world.bus.blind(a.who, true);
    world.bus.cut(a.who, false);
    world.bus.hang(b.who, true);
    assert!(a.cluster.is_home(&demo) && b.cluster.is_home(&demo));
    c.cluster.state().rooms.let_all_grow_old();
    assert_eq!(c.join(&demo).await, "https://b/");
    world.bus.hang(b.who, false);
    world.bus.blind(a.who, false);
    eventually(|| *a.server.gave_way.lock().unwrap() == [(demo.clone(), "https://b/".to_owned())]).await;
    assert_eq!(*b.server.gave_way.lock().unwrap(), []);
}
