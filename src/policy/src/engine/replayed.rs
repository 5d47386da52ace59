//! An engine whose one room is replayed ([`crate::tools::replay`]): nothing of it runs by itself.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PolicyEngine;
use crate::engine_context::{Deadline, Pinned};
use crate::failure::ReloadError;
use crate::hook::ClientFacts;
use crate::host::{Host, RoomFacts};
use crate::output::{PolicyKey, PolicyRequestId};
use crate::reload::{Request, load, new_state};
use crate::room::Room;
use crate::room::taping::reseed;
use crate::script::Script;
use crate::tape::line::{Of, Seeds};
use crate::tape::{Depth, Sink};
use crate::timer_queue::TimerId;
use moonring_wire::id::RoomId;
use moonring_wire::shared::SharedValue;

/// How a replay begins.
pub(crate) struct Opening {
    pub(crate) now: Instant,
    pub(crate) opened: Instant,
    pub(crate) room: RoomId,
    pub(crate) metadata: SharedValue,
    pub(crate) script: Arc<Script>,
    pub(crate) seeds: Seeds,
    pub(crate) signatures: Vec<(String, bool)>,
    /// Takes what happens.
    pub(crate) sink: Sink,
    pub(crate) middle: Option<Carried>,
}

/// What a room has become when its recording begins.
#[derive(Default)]
pub(crate) struct Carried {
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) state_version: Option<Vec<u8>>,
    pub(crate) clients: Vec<Rc<ClientFacts>>,
    pub(crate) timers: HashMap<String, Instant>,
}

impl PolicyEngine {
    /// Opens a room whose steps are chosen with [`PolicyEngine::run_chosen`].
    pub(crate) fn open_replayed(&mut self, opening: Opening) -> Result<PolicyKey, ReloadError> {
        let Opening { now, opened, room, metadata, script, seeds, signatures, sink, middle } = opening;
        self.context.replay = Some(Pinned::default());
        let facts = RoomFacts::new(room, metadata, (opened, self.context.unix(now)), self.context.random.clone());
        facts.now.set(now);
        reseed(&facts, &seeds);
        let settings = &self.context.settings;
        let host = Host::new(facts.clone(), script);
        let is_middle = middle.is_some();
        let middle = middle.unwrap_or_default();
        facts.roster.replace(middle.clients);
        let state = new_state(settings, seeds.math, host, |_| Ok(()))?;
        if is_middle {
            load(settings, &state, middle.state.as_deref(), middle.state_version.as_deref())?;
        }
        let context = &mut self.context;
        let key = self.rooms.insert_with_key(|key| Room::new(key, facts, state, context));
        self.with(key, |room, context| {
            room.replay_signatures(&signatures);
            // There are no others.
            let _ = room.watch(context, now, sink, Depth::Trace);
            room.start(context, now);
            if is_middle {
                room.replay_timers(context, now, &middle.timers);
                room.replay_seeds(&seeds);
            }
        });
        Ok(key)
    }

    /// The room's deadlines up to `now`, in order.
    pub(crate) fn deadlines(&self, now: Instant) -> impl Iterator<Item = (TimerId, &Deadline)> {
        let of_room = |deadline: &Deadline| !matches!(deadline, Deadline::Free | Deadline::Pump(_));
        self.context.deadlines.due(now).filter(move |(_, deadline)| of_room(deadline))
    }

    /// Does at `now` what was to be done at a deadline.
    pub(crate) fn meet_deadline(&mut self, now: Instant, id: TimerId) {
        if let Some(deadline) = self.context.deadlines.take(id) {
            self.meet(now, id.0, deadline);
        }
    }

    /// The steps that could run now.
    pub(crate) fn runnable(&self, key: PolicyKey) -> Vec<Of> {
        self.rooms.get(key).map_or_else(Vec::new, Room::runnable)
    }

    /// Runs a step, at this time of day. False when it cannot run now.
    pub(crate) fn run_chosen(&mut self, now: Instant, unix: Option<Duration>, key: PolicyKey, of: Of) -> bool {
        if let Some(unix) = unix {
            self.context.set_clock(now, unix);
        }
        self.rooms.get_mut(key).is_some_and(|room| room.run_chosen(&mut self.context, now, of))
    }

    /// The number that the next event will have.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.context.next_ticket()
    }

    /// The number that the next wait will have.
    pub(crate) fn next_wait(&self) -> PolicyRequestId {
        self.context.next_request_id()
    }

    /// Gives the room another version, whose random numbers begin with `seed`.
    pub(crate) fn replay_reload(&mut self, now: Instant, key: PolicyKey, (seed, request): (u64, &Request)) {
        self.context.replay = Some(Pinned { seed: Some(seed) });
        self.with(key, |room, context| room.replay_reload(context, now, request));
    }

    /// Lets the room's random numbers begin anew.
    pub(crate) fn replay_seeds(&mut self, key: PolicyKey, seeds: &Seeds) {
        self.with(key, |room, _| room.replay_seeds(seeds));
    }
}
