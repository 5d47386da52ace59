//! Rooms whose scripts come from another process, which this one takes over from, or from another node.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{OpenError, PolicyEngine};
use crate::carried::{CarriedPolicy, Checkpoint};
use crate::client::ClientFacts;
use crate::failure::{BEGINS_ANEW, ReloadError};
use crate::host::{Host, RoomFacts};
use crate::library::ResolveError;
use crate::output::PolicyKey;
use crate::reload::{load, new_state};
use crate::room::Room;
use crate::script::Script;
use crate::state::State;
use moonring_wire::id::RoomId;
use moonring_wire::shared::SharedValue;

impl PolicyEngine {
    /// What a room's script hands to another process: the first half of a reload. Nothing changes here. `None`: there is no
    /// such room.
    pub fn hand_over(&mut self, now: Instant, key: PolicyKey) -> Option<Result<CarriedPolicy, ReloadError>> {
        let room = self.rooms.get_mut(key)?;
        Some(room.hand_over(&mut self.context, now))
    }

    /// The second half: opens a room with what its script has had in another process. `roster` is who is in it, in the order
    /// of joining; their hooks have been called there. A script that fails on what it is given begins with `on_init` alone,
    /// and the log says so.
    pub fn open_carried(
        &mut self,
        now: Instant,
        (room, metadata, roster): (&RoomId, SharedValue, Vec<Rc<ClientFacts>>),
        script: Result<Arc<Script>, ResolveError>,
        carried: Option<&CarriedPolicy>,
    ) -> Result<PolicyKey, OpenError> {
        let script = script.inspect_err(|error| tracing::error!(%room, "the room has no script any more: {error}"))?;
        let (name, version) = (script.name(), format!("{:016x}", script.version()));
        let begun =
            self.begin_carried(now, (room, metadata.clone(), roster.clone()), &script, carried).or_else(|error| {
                tracing::error!(%room, script = name, version, "{BEGINS_ANEW}{error}");
                self.begin_carried(now, (room, metadata, roster), &script, None)
            });
        let begun =
            begun.inspect_err(|error| tracing::error!(%room, script = name, version, "the script fails: {error}"))?;
        Ok(self.add_carried(now, begun, carried))
    }

    /// The same for a room that comes from another node, which goes on with it otherwise: a script that fails on what it is given
    /// does not begin at all. In words why not.
    pub fn open_moved(
        &mut self,
        now: Instant,
        (room, metadata, roster): (&RoomId, SharedValue, Vec<Rc<ClientFacts>>),
        script: Result<Arc<Script>, ResolveError>,
        carried: &CarriedPolicy,
    ) -> Result<PolicyKey, String> {
        let script = script.map_err(|error| format!("the room has no script here: {error}"))?;
        let begun = self.begin_carried(now, (room, metadata, roster), &script, Some(carried));
        let begun = begun.map_err(|error| format!("the script does not begin here: {error}"))?;
        Ok(self.add_carried(now, begun, Some(carried)))
    }

    /// What a room begins with that has this checkpoint: what its script is given, and what was said of the room.
    pub fn revive(&mut self, now: Instant, checkpoint: Checkpoint) -> (CarriedPolicy, SharedValue) {
        checkpoint.at(self.context.unix(now))
    }

    /// Has a room's timers wait, or go on.
    pub fn hold(&mut self, key: PolicyKey, is_held: bool) {
        if let Some(room) = self.rooms.get_mut(key) {
            room.hold(is_held);
        }
    }

    fn begin_carried(
        &mut self,
        now: Instant,
        (room, metadata, roster): (&RoomId, SharedValue, Vec<Rc<ClientFacts>>),
        script: &Arc<Script>,
        carried: Option<&CarriedPolicy>,
    ) -> Result<(Rc<RoomFacts>, State), ReloadError> {
        let age = carried.map_or(Duration::ZERO, |carried| Duration::from_micros(carried.age));
        let (opened, unix) = (now.checked_sub(age).unwrap_or(now), self.context.unix(now));
        let moment = (opened, unix.saturating_sub(now.saturating_duration_since(opened)));
        let facts = RoomFacts::new(room.clone(), metadata, moment, self.context.random.clone());
        facts.now.set(now);
        facts.unix.set(unix);
        facts.roster.replace(roster);
        let seed = self.context.seed();
        let settings = &self.context.settings;
        let state = new_state(settings, seed, Host::new(facts.clone(), script.clone()), |_| Ok(()))?;
        if let Some(carried) = carried {
            let loaded = load(settings, &state, carried.state.as_deref(), carried.version.as_deref())?;
            if loaded.is_none() && carried.state.is_some() {
                let script = script.name();
                tracing::warn!(%room, script, "the script has no on_load: its state in the other process is dropped");
            }
        }
        Ok((facts, state))
    }

    fn add_carried(
        &mut self,
        now: Instant,
        (facts, state): (Rc<RoomFacts>, State),
        carried: Option<&CarriedPolicy>,
    ) -> PolicyKey {
        let context = &mut self.context;
        let key = self.rooms.insert_with_key(|key| Room::new(key, facts, state, context));
        self.rooms[key].start(context, now);
        if let Some(carried) = carried {
            self.rooms[key].inherit(context, now, carried);
        }
        key
    }

    /// A client is in the room whom another policy has admitted: no hook is called.
    pub fn admit_without_asking(&mut self, key: PolicyKey, client: Rc<ClientFacts>) {
        if let Some(room) = self.rooms.get(key) {
            room.know(client);
        }
    }

    /// What was said of a room when it was opened.
    pub fn metadata(&self, key: PolicyKey) -> Option<SharedValue> {
        self.rooms.get(key).map(Room::metadata)
    }
}
