//! Nodes in one process, on a bus in memory.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::memory::Bus;
use super::messages::{BEATS, Run, node_subject};
use super::seal::MIN_SECRET;
use super::settings::Login;
use super::witness::Port;
use super::*;

mod places;
mod rotation;
mod scripts;
mod strangers;
mod terms;
mod watch;

/// What a node's server would do.
#[derive(Default)]
struct Server {
    rooms: Mutex<BTreeSet<RoomId>>,
    gave_way: Mutex<Vec<(RoomId, String)>>,
    load: Mutex<ShardLoad>,
    peers: Mutex<Vec<LinkPeer>>,
    /// What was heard of other nodes' shards.
    heard: Mutex<Vec<String>>,
    scripts: Mutex<scripts::Scripts>,
}

impl Host for Server {
    fn has_room(&self, room: &RoomId) -> bool {
        self.rooms.lock().unwrap().contains(room)
    }
    fn loads(&self) -> Vec<ShardLoad> {
        vec![*self.load.lock().unwrap()]
    }
    fn give_way(&self, room: &RoomId, url: &str) {
        self.rooms.lock().unwrap().remove(room);
        self.gave_way.lock().unwrap().push((room.clone(), url.to_owned()));
    }
    fn shard_of(&self, room: &RoomId) -> Option<u16> {
        self.rooms.lock().unwrap().contains(room).then_some(1)
    }
    fn peers(&self, peers: Vec<LinkPeer>) {
        *self.peers.lock().unwrap() = peers;
    }
    fn ask_of_links(&self) {}
    fn place_heard(&self, shard: usize, from: PlaceId, messages: Vec<(RoomId, PlaceMessage)>) -> bool {
        let words = messages.iter().map(|(room, message)| format!("{shard} hears {}: {room} {message:?}", from.0));
        self.heard.lock().unwrap().extend(words);
        true
    }
    fn place_lost(&self, shard: usize, from: PlaceId) {
        self.heard.lock().unwrap().push(format!("{shard} has lost {}", from.0));
    }
    fn place_away(&self, shard: usize, place: PlaceId, is_away: bool) {
        self.heard.lock().unwrap().push(format!("{shard} {} {}", if is_away { "misses" } else { "reaches" }, place.0));
    }
    fn home_lost(&self, place: PlaceId) {
        self.heard.lock().unwrap().push(format!("{} is gone", place.0));
    }
    fn shard_for(&self, _: &RoomId) -> Option<u16> {
        Some(1)
    }
    fn move_client(&self, _: RoomId, client: ClientId, _: (NodeName, Option<u16>)) -> Pending<'_, Result<(), String>> {
        Box::pin(std::future::ready(if client.as_str() == "here" { Ok(()) } else { Err(NOT_HERE.to_owned()) }))
    }
    fn rooms(&self, _: Option<RoomId>, _: Option<String>) -> RoomsTold<'_> {
        let rooms = self.rooms.lock().unwrap().iter().map(|room| json!({"room": room})).collect();
        Box::pin(std::future::ready((rooms, None)))
    }
}

/// Which nodes answer over HTTP, and whether the ports of the others refuse.
#[derive(Clone, Default)]
struct Ports(Arc<Mutex<HashSet<Run>>>, Arc<AtomicBool>);

impl Witness for Ports {
    fn look(&self, node: Node) -> Pending<'_, Port> {
        let answers = self.0.lock().unwrap().contains(&node.run);
        let none = if self.1.load(Ordering::Relaxed) { Port::Refuses } else { Port::Silent };
        Box::pin(std::future::ready(if answers { Port::Answers } else { none }))
    }
}

/// One node.
struct Peer {
    cluster: Cluster,
    server: Arc<Server>,
    task: JoinHandle<()>,
    who: usize,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nodes that can reach each other.
#[derive(Default)]
struct World {
    bus: Bus,
    ports: Ports,
    nodes: usize,
    /// Shards that the links of further nodes lead to.
    links: u16,
}

impl World {
    fn start(&mut self, name: &str) -> Peer {
        self.start_with(name, &[1])
    }

    /// The first secret seals.
    fn start_with(&mut self, name: &str, secrets: &[u8]) -> Peer {
        let (who, run) = (self.nodes, Run(100 + self.nodes as u64));
        self.nodes += 1;
        let node = Node { name: NodeName::parse(name).unwrap(), run, url: format!("https://{name}/") };
        let secrets: Vec<_> = secrets.iter().map(|secret| [*secret; MIN_SECRET]).collect();
        let seal = Seal::of(&secrets[0], secrets[1..].iter().map(<[u8; MIN_SECRET]>::as_slice));
        let (servers, login, ca, region) = (vec![], Login::None, None, String::new());
        let links: Vec<_> = (0..self.links).map(|n| ([10, 0, 0, who as u8], 40_000 + n).into()).collect();
        let candidates = links.iter().map(|link| vec![*link]).collect();
        let spread = if links.is_empty() { RoomSpread::Never } else { RoomSpread::Always };
        let settings = ClusterSettings { servers, login, ca, seal, node, region, spread, links, candidates };
        self.ports.0.lock().unwrap().insert(run);
        let cluster = Cluster::new(settings, Box::new(self.bus.connect()), Box::new(self.ports.clone()));
        let server = Arc::new(Server::default());
        let task = tokio::spawn(cluster.clone().run(server.clone()));
        Peer { cluster, server, task, who }
    }

    /// Two nodes that know each other.
    async fn pair(&mut self) -> (Peer, Peer) {
        let (a, b) = (self.start("a"), self.start("b"));
        eventually(|| a.sees("b") == Some(Verdict::Alive) && b.sees("a") == Some(Verdict::Alive)).await;
        (a, b)
    }

    /// The process of a node is killed.
    fn kill(&self, peer: &Peer) {
        peer.task.abort();
        self.ports.0.lock().unwrap().remove(&peer.cluster.0.own.run);
        let mut state = peer.cluster.state();
        state.rooms = Rooms::new(peer.cluster.0.own.clone());
    }
}

impl Peer {
    fn sees(&self, name: &str) -> Option<Verdict> {
        let nodes = self.cluster.nodes();
        nodes.iter().find(|line| line.node.as_str() == name).map(|line| line.verdict)
    }

    /// Whether it knows another node as the room's home, which changes when it is told, a little after the table has.
    fn remembers(&self, room: &RoomId) -> bool {
        self.cluster.state().rooms.far(Instant::now(), room).is_some()
    }

    /// Somebody joins the room, and stays if it is here; where it is.
    async fn join(&self, room: &RoomId) -> String {
        match self.cluster.place(room).await {
            Place::Here(hold) => {
                self.server.rooms.lock().unwrap().insert(room.clone());
                assert!(hold.is_good());
                "here".to_owned()
            }
            Place::There(url) => url,
            Place::TryAgain(_) => "try again".to_owned(),
        }
    }

    async fn joins_in_the_end(&self, room: &RoomId) -> String {
        loop {
            match self.join(room).await.as_str() {
                "try again" => sleep(Duration::from_millis(20)).await,
                found => return found.to_owned(),
            }
        }
    }
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

async fn eventually(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.expect("it becomes so");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_anywhere_lands_on_the_rooms_home_and_its_end_frees_it() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let (one, other) = (room("one"), room("x.y"));
    assert_eq!(a.join(&one).await, "here");
    assert_eq!(b.join(&one).await, "https://a/");
    assert_eq!(b.join(&one).await, "https://a/", "remembered");
    assert_eq!(b.join(&other).await, "here");
    assert_eq!(a.join(&other).await, "https://b/");
    assert_eq!(world.bus.keys(), ["one", "x=y"]);
    a.server.rooms.lock().unwrap().clear();
    a.cluster.room_ended(&one);
    eventually(|| world.bus.keys() == ["x=y"]).await;
    eventually(|| !b.remembers(&one)).await;
    assert_eq!(b.join(&one).await, "here");
    assert_eq!(a.join(&one).await, "https://b/");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_begin_a_room_at_once_on_all_nodes_one_wins() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let demo = room("demo");
    let join = |peer: &Peer| {
        let (cluster, demo) = (peer.cluster.clone(), demo.clone());
        tokio::spawn(async move {
            loop {
                match cluster.place(&demo).await {
                    Place::Here(_) => return cluster.0.own.url.clone(),
                    Place::There(url) => return url,
                    Place::TryAgain(_) => {}
                }
            }
        })
    };
    let joins: Vec<_> = (0..50).flat_map(|_| [join(&a), join(&b)]).collect();
    let mut homes = BTreeSet::new();
    for join in joins {
        homes.insert(join.await.unwrap());
    }
    assert_eq!(homes.len(), 1, "{homes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_of_a_killed_node_is_taken_over_and_that_of_one_that_answers_is_not() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let demo = room("demo");
    assert_eq!(a.join(&demo).await, "here");
    world.bus.hang(a.who, true);
    eventually(|| b.sees("a") == Some(Verdict::Silent)).await;
    assert_eq!(b.join(&demo).await, "try again", "it is silent, and answers over HTTP");
    world.kill(&a);
    assert_eq!(b.joins_in_the_end(&demo).await, "here");
    eventually(|| b.sees("a") == Some(Verdict::Dead)).await;
    let counts = b.cluster.0.counts.taken_over.load(Ordering::Relaxed);
    assert_eq!(counts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_reach_the_bus_keeps_its_rooms_and_takes_no_new_ones() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let demo = room("demo");
    assert_eq!(a.join(&demo).await, "here");
    world.bus.cut(a.who, true);
    world.bus.cut(b.who, true);
    eventually(|| a.sees("b") == Some(Verdict::Unheard)).await;
    assert_eq!(a.join(&demo).await, "here");
    assert_eq!((a.join(&room("new")).await, b.join(&room("new")).await), ("try again".into(), "try again".into()));
    for who in [a.who, b.who] {
        world.bus.cut(who, false);
    }
    assert_eq!(b.joins_in_the_end(&demo).await, "https://a/");
    assert_eq!(a.joins_in_the_end(&room("new")).await, "here");
    assert_eq!(*a.server.gave_way.lock().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_partition_the_home_with_the_lower_term_gives_way() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let demo = room("demo");
    assert_eq!(a.join(&demo).await, "here");
    // The others reach neither its messages nor its port.
    world.bus.cut(a.who, true);
    world.ports.0.lock().unwrap().remove(&a.cluster.0.own.run);
    assert_eq!(b.joins_in_the_end(&demo).await, "here");
    assert_eq!(a.join(&demo).await, "here", "its own go on");
    world.bus.cut(a.who, false);
    eventually(|| *a.server.gave_way.lock().unwrap() == [(demo.clone(), "https://b/".to_owned())]).await;
    assert_eq!((a.join(&demo).await, b.join(&demo).await), ("https://b/".into(), "here".into()));
    assert_eq!(*b.server.gave_way.lock().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_has_begun_anew_is_written_again_and_the_homes_stay() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let rooms = ["r1", "r2", "r3"].map(room);
    for room in &rooms {
        assert_eq!(a.join(room).await, "here");
    }
    world.bus.cut(a.who, true);
    world.bus.forget();
    world.bus.cut(a.who, false);
    eventually(|| world.bus.keys() == ["r1", "r2", "r3"]).await;
    for room in &rooms {
        assert_eq!(b.joins_in_the_end(room).await, "https://a/");
    }
    assert_eq!(*a.server.gave_way.lock().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_with_one_name_the_younger_takes_no_part() {
    let mut world = World::default();
    let (a, _b) = world.pair().await;
    let younger = world.start("a");
    sleep(2 * Duration::from_millis(500)).await;
    assert_eq!(younger.join(&room("demo")).await, "try again");
    assert_eq!(a.join(&room("demo")).await, "here");
    world.kill(&a);
    world.bus.cut(a.who, true);
    assert_eq!(younger.joins_in_the_end(&room("demo")).await, "here", "the name is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_old_beat_makes_no_node() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    let copy = a.cluster.0.seal.close(BEATS, &a.cluster.state().beat.clone());
    world.kill(&a);
    world.bus.cut(a.who, true);
    let fresh = world.start("c");
    eventually(|| fresh.sees("b") == Some(Verdict::Alive)).await;
    for _ in 0..10 {
        world.bus.shout(BEATS, copy.clone());
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fresh.sees("a"), None);
    eventually(|| b.sees("a") == Some(Verdict::Dead)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_answers_late_is_found_within_its_time() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    assert_eq!(a.join(&room("demo")).await, "here");
    world.bus.delay(Duration::from_millis(600));
    assert_eq!(b.joins_in_the_end(&room("demo")).await, "https://a/");
    assert_eq!(*a.server.gave_way.lock().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_or_draining_node_gives_new_rooms_to_others_and_keeps_its_own() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    assert_eq!(a.join(&room("mine")).await, "here");
    a.server.load.lock().unwrap().busy = 700;
    eventually(|| a.cluster.nodes()[0].busy == 700).await;
    assert_eq!(a.join(&room("busy")).await, "https://b/");
    assert!(b.cluster.is_home(&room("busy")), "it is there before its first client");
    assert_eq!(a.join(&room("mine")).await, "here");
    a.server.load.lock().unwrap().busy = 0;
    a.cluster.drain(true);
    eventually(|| b.sees("a") == Some(Verdict::Draining)).await;
    assert_eq!(a.join(&room("draining")).await, "https://b/");
    b.cluster.drain(true);
    eventually(|| a.sees("b") == Some(Verdict::Draining)).await;
    assert_eq!(a.join(&room("last")).await, "here", "there is nobody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_gives_its_rooms_up() {
    let mut world = World::default();
    let (a, b) = world.pair().await;
    assert_eq!(a.join(&room("demo")).await, "here");
    a.cluster.leave().await;
    assert_eq!(world.bus.keys(), Vec::<String>::new());
    let nodes: Value = serde_json::to_value(b.cluster.nodes()).unwrap();
    assert_eq!((&nodes[0]["verdict"], &nodes[1]["verdict"]), (&json!("own"), &json!("alive")));
}
