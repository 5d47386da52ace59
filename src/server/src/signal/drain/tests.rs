//! The control plane of a node that drains, with a queue in its shard's place.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::cluster::Place;
use crate::cluster::memory::{Bus, nodes};
use crate::config::Config;
use crate::shard_handle::ShardHandle;
use crate::signal::admin;
use crate::signal::directory::Membership;
use crate::signal::operator_nodes::{self, LOOK};
use crate::signal::services::{AllowList, Authorities, Services, Stores};
use moonring_core::command::{Command, Event, PlaceMessage};
use moonring_wire::id::PlaceId;
use moonring_wire::rights::Rights;

/// The shard of another node that has a wing.
const WING: PlaceId = PlaceId(1);

/// A node with the home of the room demo, beside another one.
struct World {
    bus: Bus,
    cluster: Cluster,
    other: Cluster,
    app: App,
    commands: Receiver<Command>,
    admin: SocketAddr,
    _down: tokio::sync::watch::Sender<bool>,
}

impl World {
    async fn new() -> Self {
        let (bus, clusters) = nodes(&["a", "b"]);
        let [cluster, other] = <[Cluster; 2]>::try_from(clusters).unwrap();
        let (sender, commands) = sync_channel(64);
        let (down, is_down) = tokio::sync::watch::channel(false);
        let authorities = Authorities::load(&PathBuf::new()).unwrap();
        let app = |cluster: &Cluster, shards| {
            let services = Services::new(AllowList::default(), &authorities, Stores::default(), None);
            App::new((&Config::default(), 0), shards, services, (None, Some(cluster.clone())), is_down.clone())
        };
        let own = app(&cluster, vec![ShardHandle::new(move |command| sender.try_send(command))]);
        tokio::spawn(cluster.clone().run(Arc::new(own.clone())));
        tokio::spawn(other.clone().run(Arc::new(app(&other, vec![]))));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, admin::router(own.clone())).into_future());
        eventually(|| cluster.nodes().len() + other.nodes().len() == 4).await;
        Self { bus, cluster, other, app: own, commands, admin, _down: down }
    }

    /// Somebody is in the room, whose home is here; `then`, while it is not given up.
    async fn opened(&self, then: impl FnOnce()) -> Membership {
        let Place::Here(_hold) = self.cluster.place(&demo()).await else { panic!("it begins here") };
        let member = self.app.directory.enter(&demo(), Ipv4Addr::LOCALHOST.into()).unwrap();
        let (client, attributes, rights) = (member.client.clone(), json!({}).into(), Rights::default());
        let (clients, tracks, own) = (vec![], vec![], vec![]);
        self.app.directory.route(0, Event::Joined { client, clients, tracks, own, attributes, rights });
        then();
        member
    }

    /// A shard of the other node has clients of the room.
    fn attach(&self) {
        let attach = PlaceMessage::Attach { home: None, anew: false };
        assert!(self.app.place_heard(0, WING, vec![(demo(), attach)]));
        assert!(self.app.directory.is_used());
    }

    /// The shard is asked to move the home of the room.
    async fn asked_to_move(&self) -> u64 {
        loop {
            match self.commands.try_recv() {
                Ok(Command::MoveHome { id, .. }) => return id,
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

fn demo() -> RoomId {
    RoomId::parse("demo").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_draining_waits_for_the_homes_that_follow_their_clients() {
    let world = World::new().await;
    drop(world.opened(|| world.attach()).await);
    assert_eq!(world.app.directory.client_count(), 0, "they are all at the other node");
    let mut waits = world.drain();
    let id = world.asked_to_move().await;
    assert!(timeout(2 * LOOK, &mut waits).await.is_err(), "the script is still here");
    world.app.calls.answer(id, Ok(Value::Null));
    assert_eq!(waits.await.unwrap().unwrap(), "node a takes no new rooms; it has 0 rooms and 0 clients\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_draining_that_is_called_off_is_told_so() {
    let world = World::new().await;
    drop(world.opened(|| world.attach()).await);
    let waits = world.drain();
    let id = world.asked_to_move().await;
    operator_nodes::undrain(world.admin).await.unwrap();
    world.app.calls.answer(id, Err("it stays".into()));
    let error = waits.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("called off"), "{error}");
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

async fn eventually(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.expect("it becomes so");
}
