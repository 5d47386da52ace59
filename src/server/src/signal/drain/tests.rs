//! The control plane of a node that drains, with a queue in its shard's place.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::cluster::Place;
use crate::cluster::memory::{Bus, linked_nodes};
use crate::config::Config;
use crate::shard_handle::ShardHandle;
use crate::signal::admin;
use crate::signal::directory::Membership;
use crate::signal::operator_nodes::{self, LOOK};
use crate::signal::services::{AllowList, Authorities, Services, Stores};
use moonring_core::command::{Command, Event, PlaceMessage};
use moonring_wire::id::PlaceId;
use moonring_wire::rights::Rights;

/// A node with the home of the room demo, beside two others.
struct World {
    bus: Bus,
    cluster: Cluster,
    other: Cluster,
    third: Cluster,
    app: App,
    commands: Receiver<Command>,
    admin: SocketAddr,
    _down: watch::Sender<bool>,
}

impl World {
    async fn new() -> Self {
        let (bus, clusters) = linked_nodes(&["a", "b", "c"]);
        let [cluster, other, third] = <[Cluster; 3]>::try_from(clusters).unwrap();
        let (sender, commands) = sync_channel(64);
        let (down, is_down) = watch::channel(false);
        let own = app_of(&cluster, vec![ShardHandle::new(move |command| sender.try_send(command))], is_down.clone());
        tokio::spawn(cluster.clone().run(Arc::new(own.clone())));
        for further in [&other, &third] {
            let shard = ShardHandle::new(|_| Ok(()));
            tokio::spawn(further.clone().run(Arc::new(app_of(further, vec![shard], is_down.clone()))));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, admin::router(own.clone())).into_future());
        let all = [&cluster, &other, &third];
        eventually(|| all.iter().all(|node| node.nodes().len() == 3)).await;
        eventually(|| [1, 2].map(PlaceId).iter().all(|place| cluster.name_at(*place).is_some())).await;
        Self { bus, cluster, other, third, app: own, commands, admin, _down: down }
    }

    /// Somebody is in the room, whose home is here; `then`, while it is not given up.
    async fn opened(&self, then: impl FnOnce()) -> Membership {
        let Place::Here(_hold) = self.cluster.place(&demo()).await else { panic!("it begins here") };
        let member = somebody_in(&self.app);
        then();
        member
    }

    /// The shard of another node.
    fn shard_of(&self, name: &str) -> PlaceId {
        let is_it = |place: &PlaceId| self.cluster.name_at(*place).is_some_and(|found| found.to_string() == name);
        [1, 2].map(PlaceId).into_iter().find(is_it).unwrap()
    }

    /// A shard of another node has clients of the room.
    fn attach(&self, name: &str) {
        let attach = PlaceMessage::Attach { home: None, anew: false };
        assert!(self.app.place_heard(0, self.shard_of(name), vec![(demo(), attach)]));
        assert!(self.app.directory.is_used());
    }

    /// The shard is asked to have a client go on at another node: the number of the order, and where.
    async fn asked_to_go(&self) -> (u64, PlaceId) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Move { id, order }) => return (id, order.to),
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Another node drains, and this one knows.
    async fn drains(&self, name: &str) {
        let drains = if name == "b" { &self.other } else { &self.third };
        drains.drain(true);
        let is_known = || {
            let nodes = serde_json::to_value(self.cluster.nodes()).unwrap();
            nodes.as_array().unwrap().iter().any(|node| node["node"] == name && node["verdict"] == "draining")
        };
        eventually(is_known).await;
    }

    /// The shard is asked to move the home of the room: the number of the order, and where to.
    async fn asked_to_move(&self) -> (u64, PlaceId) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::MoveHome { id, to, .. }) => return (id, to),
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn drain(&self) -> JoinHandle<anyhow::Result<String>> {
        let admin = self.admin;
        tokio::spawn(async move { operator_nodes::drain(admin, 600, true).await })
    }
}

/// The control plane of a node with these shards.
pub(in crate::signal) fn app_of(cluster: &Cluster, shards: Vec<ShardHandle>, down: watch::Receiver<bool>) -> App {
    let authorities = Authorities::load(&PathBuf::new()).unwrap();
    let services = Services::new(AllowList::default(), &authorities, Stores::default(), None);
    App::new((&Config::default(), 0), shards, services, (None, Some(cluster.clone())), down)
}

/// One more client in the room, at the node's first shard.
pub(in crate::signal) fn somebody_in(app: &App) -> Membership {
    somebody_in_room(app, &demo())
}

/// The same in any room.
pub(in crate::signal) fn somebody_in_room(app: &App, room: &RoomId) -> Membership {
    let member = app.directory.enter(room, Ipv4Addr::LOCALHOST.into()).unwrap();
    let (client, attributes, rights) = (member.client.clone(), json!({}).into(), Rights::default());
    let (clients, tracks, own) = (vec![], vec![], vec![]);
    app.directory.route(0, Event::Joined { client, clients, tracks, own, attributes, rights });
    member
}

pub(in crate::signal) fn demo() -> RoomId {
    RoomId::parse("demo").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_draining_waits_for_the_homes_that_follow_their_clients() {
    let world = World::new().await;
    drop(world.opened(|| world.attach("b")).await);
    assert_eq!(world.app.directory.client_count(), 0, "they are all at the other node");
    let mut waits = world.drain();
    let (id, _) = world.asked_to_move().await;
    assert!(timeout(2 * LOOK, &mut waits).await.is_err(), "the script is still here");
    world.app.calls.answer(id, Ok(Value::Null));
    assert_eq!(waits.await.unwrap().unwrap(), "node a takes no new rooms; it has 0 rooms and 0 clients\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_draining_that_is_called_off_is_told_so() {
    let world = World::new().await;
    drop(world.opened(|| world.attach("b")).await);
    let waits = world.drain();
    let (id, _) = world.asked_to_move().await;
    operator_nodes::undrain(world.admin).await.unwrap();
    world.app.calls.answer(id, Err("it stays".into()));
    let error = waits.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("called off"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_goes_to_the_one_of_its_further_nodes_that_does_not_drain() {
    for (draining, takes) in [("b", "c"), ("c", "b")] {
        let world = World::new().await;
        drop(world.opened(|| ["b", "c"].iter().for_each(|name| world.attach(name))).await);
        world.drains(draining).await;
        let waits = world.drain();
        let (id, to) = world.asked_to_move().await;
        assert_eq!(to, world.shard_of(takes));
        world.app.calls.answer(id, Ok(Value::Null));
        assert!(waits.await.unwrap().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_on_at_another_node_when_the_one_that_they_were_to_go_to_begins_to_drain_too() {
    let world = World::new().await;
    let first = world.opened(|| {}).await;
    assert!(!first.new_ticket().is_empty());
    let _waits = world.drain();
    let (id, to) = world.asked_to_go().await;
    world.app.calls.answer(id, Ok(Value::Null));
    let (draining, takes) = if to == world.shard_of("b") { ("b", "c") } else { ("c", "b") };
    world.drains(draining).await;
    let second = somebody_in(&world.app);
    assert!(!second.new_ticket().is_empty());
    let (_, to) = timeout(Duration::from_secs(15), world.asked_to_go()).await.expect("the second is asked, too");
    assert_eq!(to, world.shard_of(takes));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_go_where_he_is_stays_and_the_operator_is_told_why() {
    let world = World::new().await;
    let member = world.opened(|| {}).await;
    let own = NodeName::parse("a").unwrap();
    for (to, words) in [
        (Some(&own), "the client is at this node already: say which of its shards"),
        (None, "say which shard, or which node"),
    ] {
        assert_eq!(world.app.move_here(&demo(), member.client.clone(), (to, None)).await, Err(words.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_being_sent_away_when_the_draining_is_called_off_goes_as_a_whole() {
    for again in [None, Some(Duration::from_secs(600))] {
        let world = World::new().await;
        let _member = world.opened(|| {}).await;
        world.bus.delay_release(Duration::from_millis(200));
        world.app.drain(&world.cluster, Some(Duration::ZERO));
        eventually(|| !world.cluster.is_home(&demo())).await;
        world.app.drain(&world.cluster, again);
        eventually(|| world.app.directory.client_count() == 0).await;
        assert!(matches!(world.other.place(&demo()).await, Place::Here(_)), "its claim is free");
    }
}

pub(in crate::signal) async fn eventually(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.expect("it becomes so");
}
