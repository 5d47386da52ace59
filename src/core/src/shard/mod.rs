//! The sans-I/O core of one shard: it owns rooms, clients, tracks and their policies.
//!
//! No socket, no clock, no thread: datagrams, commands and time come in as arguments, datagrams go out into a
//! [`SendBatch`], events out of [`Shard::poll_event`]. `datagrams` is the way of a packet in, `room::fanout` the way
//! out; `membership`, `offers` and `policies` are the slow path. `event_loop` and `udp` are not part of the core: they
//! drive it, with glommio and the only system calls.
mod anew;
mod announce;
mod answers;
mod asked;
mod audit;
mod bandwidth;
mod carried_room;
mod checkpoints;
mod datagrams;
mod endings;
mod far;
pub mod faults;
mod follow;
#[cfg(test)]
pub(crate) mod for_tests;
mod forwarding;
mod header_extensions;
mod homes;
mod keeping;
mod life;
mod links;
mod listing;
mod membership;
mod moves;
mod offers;
mod operators;
mod orphans;
mod outgoing;
mod overload;
mod peers;
mod pending;
mod places;
mod policies;
mod questions;
mod reachability;
mod read_ahead;
mod reloads;
mod reporting;
mod resending;
mod rights;
mod settings;
mod snapshot;
mod sound;
mod spread;
mod streams;
pub mod take_over;
mod timers;
mod wants;
mod wings;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use slotmap::SecondaryMap;

use crate::command::{Command, Event, JoinRequest, PlaceMessage};
use crate::report::{IoStats, ShardCounters};
use crate::room::World;
use crate::room::links::Links;
use crate::room::load::Load;
use crate::room::read_ahead::ReadAhead;
use moonring_policy::{PolicyEngine, PolicyKey, ScriptLibrary, Ticket};
use moonring_wire::id::{ClientId, ClientKey, PlaceId, RoomId, RoomKey, TrackId, TrackKey};
use moonring_wire::packet::{AddressPair, SendBatch};

pub use moves::{ClientState, MAX_STATE, STATE_VERSION, StateError};
pub use operators::SinkFor;
use overload::Cuts;
use pending::PendingHook;
use reporting::Reporting;
pub use settings::ShardSettings;

/// Scratch memory for DTLS: dimpl wants a record's size and the peer's certificate to fit.
const DTLS_SCRATCH: usize = 64 * 1024;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Client(ClientKey),
    Speakers(RoomKey),
    Sound(RoomKey),
    Rooms,
    Reloads,
    Report,
    Places,
    /// Scripts that have not come from the process before.
    Awaited,
    Links,
}

/// One shard: rooms, clients and tracks, with everything that happens to them. `examples/two_clients.rs` drives it with
/// media; here a client is refused and another one is let in.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
///
/// use moonring_core::command::{Command, Event, JoinRequest, LeaveCause};
/// use moonring_core::shard::{Shard, ShardSettings};
/// use moonring_policy::{PolicyEngine, PolicySettings, Script, ScriptLibrary};
/// use moonring_wire::id::{ClientId, RoomId};
/// use moonring_wire::packet::SendBatch;
/// use moonring_wire::transport::dtls::Certificate;
///
/// let source = b"function on_client_connect(client, token) return token == 'open sesame', 'Wrong token' end";
/// let mut scripts = ScriptLibrary::new(Vec::new());
/// scripts.insert("default_room.lua".into(), Script::compile("default_room.lua", source).map(Arc::new));
///
/// let (now, mut out) = (Instant::now(), SendBatch::new(64 * 1024, 64));
/// let settings = ShardSettings::new(Certificate::generate()?);
/// let engine = PolicyEngine::new(PolicySettings::default(), 1);
/// let mut shard = Shard::new(now, settings, engine, scripts, [7; 32]); // the seed: unpredictable in production
///
/// for (name, token) in [("mallory", "guess"), ("ada", "open sesame")] {
///     let request = JoinRequest {
///         room: RoomId::parse("demo")?,
///         client: ClientId::parse(name)?,
///         token: token.into(),
///         metadata: serde_json::Value::Null,
///         connection: Box::new([192, 0, 2, 1].into()),
///     };
///     shard.handle_command(now, Command::Join(request), &mut out);
/// }
/// let events: Vec<_> = std::iter::from_fn(|| shard.poll_event()).collect();
/// assert!(events.iter().any(|event| matches!(event, Event::Left { cause: LeaveCause::Rejected(reason), .. } if reason == "Wrong token")));
/// assert!(events.iter().any(|event| matches!(event, Event::Joined { client, .. } if client.as_str() == "ada")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Shard {
    settings: ShardSettings,
    start: Instant,
    rng: StdRng,
    world: World,
    index: Index,
    policy: Policies,
    moves: moves::Moves,
    homes: homes::Homes,
    work: Work,
    report: Reporting,
}

/// Finds what the outside names.
#[derive(Default)]
struct Index {
    rooms: HashMap<RoomId, RoomKey>,
    clients: HashMap<ClientId, ClientKey>,
    tracks: HashMap<TrackId, TrackKey>,
    addresses: HashMap<AddressPair, ClientKey>,
    ufrags: HashMap<String, ClientKey>,
    checks: reachability::Checks,
    /// Clients of this shard that are not admitted yet.
    joining: usize,
    /// Clients of other shards that this one knows.
    far: usize,
}

/// The rooms' policies, and what they are asked. In order, so that what ends together is told of in the same order each time.
struct Policies {
    engine: PolicyEngine,
    scripts: ScriptLibrary,
    /// Whose policy each is.
    rooms: SecondaryMap<PolicyKey, RoomKey>,
    reloads: reloads::Reloads,
    recorder: operators::Recorder,
    pending: BTreeMap<Ticket, (RoomKey, PendingHook)>,
    /// What homes were asked, by number.
    far: BTreeMap<u64, (RoomKey, PendingHook)>,
    /// Homes of other nodes that messages do not reach now.
    away: BTreeSet<PlaceId>,
    /// Rooms whose home is gone.
    orphans: BTreeMap<RoomKey, orphans::Orphan>,
    next_far: u64,
    /// Rooms whose scripts' state is on its way.
    awaited: BTreeMap<RoomKey, take_over::Awaited>,
}

/// What waits to be done, and the memory to do it in.
struct Work {
    /// Rooms with packets to forward, in turn.
    dirty_rooms: VecDeque<RoomKey>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Entries of `timers` at which those that no longer count are taken out.
    timers_swept_at: usize,
    events: outgoing::Outgoing,
    dtls_scratch: Box<[u8]>,
    requests: Vec<datagrams::Request>,
    /// The timer being run, for when it panics.
    running_timer: Option<Timer>,
    /// When the timers were last looked at.
    timers_seen: Option<Instant>,
    /// Rooms that are kept without clients, the longest kept first.
    kept: VecDeque<RoomKey>,
    /// Rooms where something is due.
    attended: BTreeSet<RoomKey>,
    /// The timer that is set for them.
    rooms_at: Option<Instant>,
    /// Who waits for a room that is ending.
    late: Vec<(RoomKey, Option<wings::Way>, JoinRequest)>,
    /// What wings say to it meanwhile.
    late_messages: Vec<(RoomKey, PlaceId, PlaceMessage)>,
    /// What other shards are to be told.
    said: Vec<(PlaceId, Vec<(RoomId, PlaceMessage)>)>,
    /// Far tracks of which something else is wanted.
    wants: Vec<TrackKey>,
    /// Whether [`Timer::Places`] is set.
    places_set: bool,
    /// Whether [`Timer::Links`] is.
    links_set: bool,
    /// Whom the command or the policy's words under way are for.
    subject: Option<faults::Subject>,
    /// The client whose datagram names it by more than its address.
    current: Option<ClientKey>,
    /// Where to panic next.
    fault: Option<faults::Stage>,
    /// What there is time for.
    load: Load,
    /// For what a tick is about to touch.
    read_ahead: ReadAhead,
    /// Whose datagrams come next.
    expected: Vec<ClientKey>,
    /// Tracks that go on with their next key frames.
    cuts: Cuts,
}

impl Shard {
    /// An empty shard. `seed` drives every random choice, also of ICE passwords, so it must be unpredictable; `now` is
    /// the moment that send times count from.
    pub fn new(
        now: Instant,
        settings: ShardSettings,
        engine: PolicyEngine,
        scripts: ScriptLibrary,
        seed: [u8; 32],
    ) -> Self {
        let links = settings.links.as_ref().map(Links::new).unwrap_or_default();
        Self {
            settings,
            start: now,
            rng: StdRng::from_seed(seed),
            world: World { links, ..World::default() },
            index: Index::default(),
            policy: Policies {
                engine,
                scripts,
                rooms: SecondaryMap::new(),
                reloads: reloads::Reloads::default(),
                recorder: operators::Recorder::default(),
                pending: BTreeMap::new(),
                far: BTreeMap::new(),
                away: BTreeSet::new(),
                orphans: BTreeMap::new(),
                next_far: 0,
                awaited: BTreeMap::new(),
            },
            moves: moves::Moves::default(),
            homes: homes::Homes::default(),
            work: Work {
                dirty_rooms: VecDeque::new(),
                timers: BinaryHeap::new(),
                timers_swept_at: timers::FIRST_SWEEP,
                events: outgoing::Outgoing::default(),
                dtls_scratch: vec![0; DTLS_SCRATCH].into(),
                requests: Vec::new(),
                running_timer: None,
                timers_seen: None,
                kept: VecDeque::new(),
                attended: BTreeSet::new(),
                rooms_at: None,
                late: Vec::new(),
                late_messages: Vec::new(),
                said: Vec::new(),
                wants: Vec::new(),
                places_set: false,
                links_set: false,
                subject: None,
                current: None,
                fault: None,
                load: Load::new(now),
                read_ahead: ReadAhead::default(),
                expected: Vec::new(),
                cuts: Cuts::default(),
            },
            report: Reporting::default(),
        }
    }

    /// Takes a datagram; media that it carries waits for [`Shard::forward`], answers go to `out` at once.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: impl Into<AddressPair>,
        bytes: &mut [u8],
        out: &mut SendBatch,
    ) {
        self.report.counters.datagrams_in += 1;
        self.work.current = None;
        if let Err(reason) = self.receive(now, from.into(), bytes, out) {
            self.report.counters.drops.count(reason);
        }
        if self.has_said() {
            self.flush_links(out);
        }
    }

    /// Takes a command of the control plane.
    pub fn handle_command(&mut self, now: Instant, command: Command, out: &mut SendBatch) {
        self.begin_command(&command);
        if let Some(command) = self.command_here(now, command) {
            self.carry_out(now, command, out);
        }
        self.do_what_is_due(now, out);
        self.drain_policy(now, out);
        self.end_unheard(now);
        self.flush_links(out);
    }

    fn carry_out(&mut self, now: Instant, command: Command, out: &mut SendBatch) {
        match command {
            Command::Join(request) => self.join(now, request),
            Command::JoinWing { home, beyond, request } => self.join_wing(now, (home, beyond), request),
            Command::PlaceAway { place, is_away } => self.place_away(place, is_away),
            Command::Peers(peers) => self.set_peers(now, &peers),
            Command::FromPlace { from, messages } => self.hear_place(now, from, messages),
            Command::PlaceLost { from } => self.place_lost(now, from),
            Command::TellLinks => self.work.events.push(Event::Links(self.link_reports())),
            Command::BecomeHome { room } => self.become_home(now, &room),
            Command::HomeIs { room, home } => self.home_is(now, &room, home),
            Command::Move { id, order } => self.begin_move(now, id, order),
            Command::MoveHome { id, room, to } => self.move_home(now, id, (&room, to)),
            Command::HomeClaimed { room, is_ours } => self.home_claimed(now, &room, is_ours),
            Command::RouteMoved { client } => self.route_moved(&client),
            Command::Offer(request) => self.offer(now, request),
            Command::Unpublish { client, track } => self.unpublish(now, &client, &track),
            Command::Unsubscribe { client, track } => self.unsubscribe(&client, &track),
            Command::SetMuted { client, track, muted } => self.set_muted_by_client(now, &client, &track, muted),
            Command::SetView { client, track, width, height } => self.set_view(now, &client, &track, (width, height)),
            Command::SetLayer { client, track, layer } => self.set_client_layer(now, &client, &track, layer),
            Command::Snapshot { client } => self.snapshot_again(&client),
            Command::Message { client, value } => self.message(now, &client, value),
            Command::PolicyReply { id, reply } => self.policy.engine.resume(now, id, reply),
            Command::Scripts(library) => self.change_scripts(now, library),
            Command::Policy { room, order } => self.policy_order(now, &room, order),
            Command::Call { id, room, request } => self.operator_calls(now, id, &room, request),
            Command::Act { id, room, action } => self.operator_acts(now, id, &room, action),
            Command::Open { id, room, metadata } => self.operator_opens(now, id, &room, metadata),
            Command::CloseIfEmpty { room, gives_way } => self.close_if_empty(now, &room, gives_way),
            Command::Watch { id, room, sink, depth } => self.watch_room(now, id, &room, (sink, depth)),
            Command::Report { id, rooms } => self.report_rooms(id, rooms),
            Command::ListClients { id, room, after } => self.list_clients(now, id, (&room, after.as_ref())),
            Command::CheckpointFound { room, found } => self.checkpoint_found(now, &room, found),
            Command::PolicyCarried { room, carried } => self.policy_handed_over(now, &room, carried.as_deref()),
            Command::Candidates { own, all } => self.settings.tell_candidates(own, all),
            Command::LeaveIfSilent { client, silence, reason } => self.end_silent(now, (client, silence), reason, out),
            Command::Leave { client, reason } => self.leave(now, &client, reason, out),
        }
    }

    /// Does what is due at `now`: timers, then scripts.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut SendBatch) {
        self.handle_timers(now, out);
        self.run_scripts(now, out);
    }

    /// When [`Shard::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.work.timers.peek().map(|Reverse((at, _))| *at);
        let scripts = self.policy.engine.poll_timeout().filter(|_| !self.is_backed_up());
        let unheard = self.work.events.has_unheard().then_some(self.start);
        [timer, scripts, unheard].into_iter().flatten().min()
    }

    /// The next event for the control plane.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.work.events.pop()
    }

    /// Takes the wall clock, as time since 1970, for scripts.
    pub fn set_clock(&mut self, now: Instant, unix: Duration) {
        self.policy.engine.set_clock(now, unix);
    }

    /// Takes the socket's counters, for the metrics.
    pub fn set_io(&mut self, io: IoStats) {
        self.report.io = io;
    }

    /// The counters so far.
    pub fn counters(&self) -> &ShardCounters {
        &self.report.counters
    }
}
