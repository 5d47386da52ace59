//! Several servers as one: each room has one home, and whoever joins at another node is told where it is.
//!
//! ```text
//!            beats, questions ┌────────┐ claims: room -> node, revision = term
//!        ┌───────────────────▶│  NATS  │◀───────────────────┐
//!        │                    └────────┘                    │
//!     node n1 (home of "a")                              node n2 (home of "b")
//!        ▲                                                  │
//!        └───────────── moved {url}, or 307 ◀── join "a" ───┘
//! ```
//! NATS is not on the way of media, nor of a running call: a node that cannot reach it goes on with the rooms that it has,
//! takes no new ones, and gives way when it comes back and finds a higher term ([`rooms`]). That a home is dead takes two
//! witnesses ([`peers`], [`witness`]); its rooms are taken over when somebody asks for them ([`lookup`]).

mod anew;
mod answer;
mod beating;
mod counts;
mod courier;
mod dead_links;
mod engine;
mod find;
mod hearsay;
mod lookup;
#[cfg(test)]
pub(crate) mod memory;
mod messages;
mod moving;
mod nats;
mod peers;
mod placement;
mod places;
mod rooms;
mod run;
mod scripts;
mod seal;
mod secrets;
mod settings;
mod tables;
#[cfg(test)]
mod tests;
mod unreadable;
mod values;
mod wings;
mod witness;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};

use self::counts::Counts;
pub(crate) use self::counts::{CLUSTER_COUNTERS, ClusterCounts};
use self::engine::{Engine, Message, QUEUE, Serving};
pub(crate) use self::engine::{Pending, Unwritten};
use self::find::Found;
pub use self::hearsay::Hearsay;
use self::lookup::OFFLINE;
pub(crate) use self::messages::NodeName;
pub(crate) use self::messages::ShardLoad;
use self::messages::{Beat, Node, NodeState};
pub(crate) use self::moving::NOT_HERE;
use self::nats::Nats;
pub(crate) use self::peers::{NodeLine, Verdict};
use self::peers::{Peers, Standing, line_of};
use self::placement::Ramp;
use self::places::Mail;
use self::rooms::Rooms;
pub(crate) use self::scripts::{NodeTold, Pushed, ScriptHost};
use self::seal::Seal;
pub(crate) use self::settings::ClusterSettings;
pub(crate) use self::tables::{Kept, Table, Unread};
pub(crate) use self::wings::Wing;
pub(crate) use self::witness::RUN_HEADER;
use self::witness::{Http, Witness, run_of};
use crate::config::RoomSpread;
use moonring_core::command::PlaceMessage;
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use moonring_wire::link::LinkPeer;

/// Seconds after which whoever is told to try again does.
pub(crate) const RETRY_S: u64 = 2;
/// Rooms that have ended and wait to be looked at; what does not fit is found by the sweep.
const ENDED: usize = 1024;

/// What the cluster needs of the server around it.
pub(crate) trait Host: ScriptHost + Send + Sync + 'static {
    /// Whether somebody is in the room, or its script keeps it.
    fn has_room(&self, room: &RoomId) -> bool;
    /// How the shards do.
    fn loads(&self) -> Vec<ShardLoad>;
    /// Sends everybody of a room to the node at this URL, and closes it.
    fn give_way(&self, room: &RoomId, url: &str);
    /// The shard that has a room, whose home is this node.
    fn shard_of(&self, room: &RoomId) -> Option<u16>;
    /// These are the shards of the other nodes.
    fn peers(&self, peers: Vec<LinkPeer>);
    /// The shards are to tell at once how their links are, by [`Cluster::links_told`].
    fn ask_of_links(&self);
    /// A shard of another node says something to one of this node; false when that takes nothing now.
    fn place_heard(&self, shard: usize, from: PlaceId, messages: Vec<(RoomId, PlaceMessage)>) -> bool;
    /// Messages of a shard of another node were lost.
    fn place_lost(&self, shard: usize, from: PlaceId);
    /// Messages of a shard of this node reach one of another, or do not.
    fn place_away(&self, shard: usize, place: PlaceId, is_away: bool);
    /// A shard of another node is gone: its rooms that have clients here need another home.
    fn home_lost(&self, place: PlaceId);
    /// The shard for one more client of a room, who comes from another node; `None` when nobody may come.
    fn shard_for(&self, room: &RoomId) -> Option<u16>;
    /// Moves a client of this node to a shard of a node; in words why not.
    fn move_client(
        &self,
        room: RoomId,
        client: ClientId,
        to: (NodeName, Option<u16>),
    ) -> Pending<'_, Result<(), String>>;
    /// Some of the rooms, as the admin page tells of them.
    fn rooms(&self, after: Option<RoomId>, named: Option<String>) -> RoomsTold<'_>;
}

/// Some rooms, and what to ask next.
pub(crate) type RoomsTold<'a> = Pending<'a, (Vec<serde_json::Value>, Option<RoomId>)>;

/// This node's part in the cluster; cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    own: Node,
    seal: Seal,
    engine: Box<dyn Engine>,
    witness: Box<dyn Witness>,
    started: Instant,
    counts: Counts,
    state: Mutex<State>,
    spread: RoomSpread,
    /// Shards of this node that others are linked to; none where its rooms are on no other node.
    linked: u16,
    mail: Mutex<Mail>,
    /// A shard has said something.
    said: Notify,
    /// Somebody wants to know how the links are.
    links_wanted: Notify,
    /// Uploaded scripts change, or are about to.
    scripts: tokio::sync::Mutex<()>,
    /// Messages to what is served.
    inbox: mpsc::Sender<Message>,
    /// Rooms that have ended.
    ended: mpsc::Sender<RoomId>,
    /// The other ends, until [`Cluster::run`] has them.
    ends: Mutex<Option<Ends>>,
}

struct Ends {
    inbox: mpsc::Receiver<Message>,
    ended: mpsc::Receiver<RoomId>,
}

struct State {
    peers: Peers,
    rooms: Rooms<Serving>,
    searches: HashMap<RoomId, watch::Receiver<Option<Found>>>,
    /// The look at the claims of all own rooms, while it goes on.
    checking: Option<Serving>,
    /// What this node said last of itself.
    beat: Beat,
    /// Where clients send media to each of its shards.
    candidates: Vec<Vec<SocketAddr>>,
    /// No other process has its name.
    is_accepted: bool,
    /// Rooms that were begun here.
    begun: Ramp,
    /// Nodes that are asked whether they are there.
    proving: HashSet<NodeName>,
    /// Nodes that seal with a further secret, and when each was heard last.
    others_seal: BTreeMap<NodeName, Instant>,
    /// What was logged, and when last, so that it is not all the time.
    warned: HashMap<String, Instant>,
}

/// Where somebody who wants to join goes.
#[derive(Debug)]
pub(crate) enum Place {
    /// Here. The room is this node's at least until this is dropped.
    Here(Hold),
    /// To the node at this URL, which ends with a slash.
    There(String),
    /// Nowhere now: why.
    TryAgain(&'static str),
}

/// Keeps a room this node's while somebody is on the way into it.
pub(crate) struct Hold {
    cluster: Cluster,
    room: RoomId,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({})", self.0.own.name)
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hold({})", self.room)
    }
}

impl Cluster {
    /// Connects to NATS, or goes on trying to.
    pub(crate) async fn connect(settings: ClusterSettings) -> anyhow::Result<Self> {
        let engine = Nats::connect(&settings).await?;
        tracing::info!(node = %settings.node.name, url = settings.node.url, region = settings.region, "is part of a cluster");
        Ok(Self::new(settings, Box::new(engine), Box::new(Http::new()?)))
    }

    fn new(settings: ClusterSettings, engine: Box<dyn Engine>, witness: Box<dyn Witness>) -> Self {
        let (own, region) = (settings.node, settings.region);
        let (inbox, inbox_end) = mpsc::channel(QUEUE);
        let linked = u16::try_from(settings.links.len()).unwrap_or(u16::MAX);
        let (ended, ended_end) = mpsc::channel(ENDED);
        let beat = Beat {
            node: own.clone(),
            seq: 0,
            region: region.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: NodeState::Serving,
            shards: Vec::new(),
            rooms: 0,
            links: settings.links,
            scripts: String::new(),
            unheard: Vec::new(),
        };
        let state = State {
            peers: Peers::new(own.clone(), region),
            rooms: Rooms::new(own.clone()),
            searches: HashMap::new(),
            checking: None,
            beat,
            candidates: settings.candidates,
            is_accepted: false,
            begun: Ramp::default(),
            proving: HashSet::new(),
            others_seal: BTreeMap::new(),
            warned: HashMap::new(),
        };
        let counts = Counts { further_needed: settings.seal.has_further().into(), ..Counts::default() };
        Self(Arc::new(Inner {
            own,
            seal: settings.seal,
            engine,
            witness,
            started: Instant::now(),
            counts,
            state: Mutex::new(state),
            spread: settings.spread,
            mail: Mutex::new(Mail::new(linked)),
            linked,
            said: Notify::new(),
            links_wanted: Notify::new(),
            scripts: tokio::sync::Mutex::default(),
            inbox,
            ended,
            ends: Mutex::new(Some(Ends { inbox: inbox_end, ended: ended_end })),
        }))
    }

    /// Where somebody who wants to join a room goes. A room that is nowhere gets its home by it.
    pub(crate) async fn place(&self, room: &RoomId) -> Place {
        // A room can end between the search and the hold.
        for _ in 0..3 {
            let mut search = {
                let mut state = self.state();
                if state.rooms.hold(room) {
                    return Place::Here(Hold { cluster: self.clone(), room: room.clone() });
                }
                if let Some(url) = state.remembered(Instant::now(), room) {
                    return Place::There(url);
                }
                match self.search(&mut state, room, find::By::Client) {
                    Some(search) => search,
                    None => return self.try_again("too many rooms are looked for at once"),
                }
            };
            let found = search.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
            match found {
                Some(Found::Here) => {}
                Some(Found::There(node)) => return Place::There(node.url),
                Some(Found::TryAgain(why)) => return self.try_again(why),
                None => return self.try_again(OFFLINE),
            }
        }
        self.try_again("the room ends just now")
    }

    fn try_again(&self, why: &'static str) -> Place {
        self.0.counts.try_again.fetch_add(1, Ordering::Relaxed);
        Place::TryAgain(why)
    }

    /// Whether this node is the home of a room, as far as it knows.
    pub(crate) fn is_home(&self, room: &RoomId) -> bool {
        self.state().rooms.term(room).is_some()
    }

    /// A room has ended here: its claim is given up.
    pub(crate) fn room_ended(&self, room: &RoomId) {
        // One that does not fit is found by the sweep.
        let _ = self.0.ended.try_send(room.clone());
    }

    /// Takes new rooms, or none; the calls that there are go on.
    pub(crate) fn drain(&self, is_draining: bool) {
        self.state().beat.state = if is_draining { NodeState::Draining } else { NodeState::Serving };
    }

    /// The name that tickets of this node begin with.
    pub(crate) fn name(&self) -> &str {
        self.0.own.name.as_str()
    }

    /// Where clients reach this node.
    pub(crate) fn url(&self) -> &str {
        &self.0.own.url
    }

    /// What `/healthz` says of this run.
    pub(crate) fn run_header(&self) -> String {
        run_of(&self.0.own)
    }

    /// All nodes, this one first.
    pub(crate) fn nodes(&self) -> Vec<NodeLine> {
        let own = self.own_line();
        [own].into_iter().chain(self.state().peers.lines(Instant::now())).collect()
    }

    /// This node, as it says itself that it is; the rooms are those of now.
    pub(crate) fn own_line(&self) -> NodeLine {
        let state = self.state();
        NodeLine { rooms: state.rooms.len(), ..line_of(&state.beat, Verdict::Own, 0) }
    }

    /// A panic while it was held left whole entries behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_connected(&self) -> bool {
        *self.0.engine.connected().borrow()
    }
}

impl State {
    /// The URL of a room's home that was found lately and still lives.
    fn remembered(&self, now: Instant, room: &RoomId) -> Option<String> {
        let node = self.rooms.far(now, room)?;
        let standing = self.peers.standing(now, &node.name, Some(node.run));
        (standing == Standing::Beats).then(|| node.url.clone())
    }

    /// True the first time that something is said, within a bound.
    fn warns(&mut self, of: String) -> bool {
        self.warns_every(of, Duration::MAX)
    }

    /// The same, and true again when it was said so long ago.
    fn warns_every(&mut self, of: String, pause: Duration) -> bool {
        const MOST: usize = 1024;
        if self.warned.get(&of).is_some_and(|said| said.elapsed() < pause) {
            return false;
        }
        if self.warned.len() >= MOST {
            self.warned.clear();
        }
        self.warned.insert(of, Instant::now());
        true
    }
}

impl Hold {
    /// Whether the room is still this node's: to be asked once whoever was on the way is in it.
    pub(crate) fn is_good(&self) -> bool {
        self.cluster.is_home(&self.room)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.cluster.state().rooms.let_go(&self.room);
    }
}
