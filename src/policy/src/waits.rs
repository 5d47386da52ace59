//! The hooks of a room that wait: for time to pass, or for the reply to a request.
//!
//! Only so many requests of a room are under way at the same time. Further ones wait here, in order, and are sent when
//! another has been answered; the time that they wait counts towards their time limit.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::Thread;

use super::effects::Effects;
use super::engine_context::{Deadline, EngineContext};
use super::hook::ClientFacts;
use super::host::WaitFor;
use super::output::{PolicyKey, PolicyOutput, PolicyReply, PolicyRequest, PolicyRequestId};
use super::person::Person;
use super::settings::{MAX_REQUEST_TIME, MAX_REQUESTS, MAX_WAITING, MAX_WAITING_JOINS, REQUEST_GRACE};
use super::timer_queue::TimerId;
use super::work::{LANE_BYTES, Lane, Work};

/// The shortest wait. A script that sleeps for no time, again and again, gets one step per tick.
pub(crate) const MIN_WAIT: Duration = Duration::from_millis(1);

/// Bytes that a wait takes, its place in a set of lanes included, beside the event of its hook, what that has asked for, its
/// request and the reply.
const WAIT_BYTES: usize = size_of::<Wait>() + LANE_BYTES;

/// A hook that has yielded, with what it needs to go on.
pub(crate) struct WaitingHook {
    pub(crate) work: Work,
    pub(crate) thread: Thread,
    /// What it has asked for so far.
    pub(crate) effects: Effects,
    pub(crate) since: Instant,
}

enum Stage {
    Asleep,
    /// The request waits for its turn.
    Unsent(PolicyRequest),
    Sent,
    /// Another hook waits for the same, which was asked for once.
    Along(PolicyRequest),
    /// The hook can go on.
    Ready(Option<PolicyReply>),
}

/// A hook that waits.
struct Wait {
    id: PolicyRequestId,
    hook: WaitingHook,
    stage: Stage,
    /// What is asked for, if others may wait for it along with this one.
    shared: Option<Box<PolicyRequest>>,
    deadline: TimerId,
    /// The reply that the hook gets when none comes in time; `None` for a sleep.
    if_late: Option<PolicyReply>,
    bytes: usize,
}

/// All waits of one room.
#[derive(Default)]
pub(crate) struct Waits {
    waits: Vec<Wait>,
    joins: usize,
    sent: usize,
    unsent: VecDeque<PolicyRequestId>,
    ready: VecDeque<PolicyRequestId>,
    bytes: usize,
}

impl Waits {
    pub(crate) fn len(&self) -> usize {
        self.waits.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Bytes of the host that the messages of a person take whose hooks wait.
    pub(crate) fn bytes_of(&self, client: &ClientFacts) -> usize {
        let person = Person::of(client);
        let senders =
            self.waits.iter().filter_map(|wait| Some((wait.hook.work.sender()?, wait.hook.work.held_bytes())));
        senders.filter(|(sender, _)| Person::of(sender) == person).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of the host that the hooks and their events, requests and replies take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when a hook can go on.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn has_room_for_join(&self) -> bool {
        self.joins < MAX_WAITING_JOINS
    }

    pub(crate) fn has_room_for_event(&self) -> bool {
        self.waits.len() - self.joins < MAX_WAITING
    }

    /// How many joins of each address wait.
    pub(crate) fn joins_by_network(&self) -> BTreeMap<Option<IpAddr>, usize> {
        let mut counts = BTreeMap::new();
        if self.joins > 0 {
            let joins = self.waits.iter().map(|wait| &wait.hook.work).filter(|work| work.is_join());
            joins.for_each(|work| *counts.entry(work.network()).or_default() += 1);
        }
        counts
    }

    /// Whose join is given up, when no further one may begin, for one from `newcomer`: one of the address that has most.
    /// `None` when that would only turn things round.
    pub(crate) fn join_that_gives_way(&self, newcomer: Option<IpAddr>) -> Option<Rc<ClientFacts>> {
        if self.has_room_for_join() {
            return None;
        }
        let counts = self.joins_by_network();
        let own = counts.get(&newcomer).copied().unwrap_or(0);
        let (network, _) = counts.into_iter().max_by_key(|(_, count)| *count).filter(|(_, most)| *most > own + 1)?;
        let of_network = |work: &&Work| work.is_join() && work.network() == network;
        self.waits.iter().rev().map(|wait| &wait.hook.work).find(of_network)?.client().cloned()
    }

    /// The lanes whose next work has to wait.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = Lane<'_>> {
        self.waits.iter().map(|wait| wait.hook.work.lane())
    }

    pub(crate) fn has_lane(&self, lane: Lane<'_>) -> bool {
        self.lanes().any(|busy| busy == lane)
    }

    /// Begins a wait: sets its deadline, and sends its request, or lets it wait for its turn.
    pub(crate) fn begin(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        room: PolicyKey,
        hook: WaitingHook,
        wait_for: WaitFor,
    ) {
        let id = context.request_id();
        // In a replay each gets the reply that it got.
        let may_share = matches!(wait_for, WaitFor::Shared(_)) && context.replay.is_none();
        let (after, stage, if_late, bytes) = match wait_for {
            WaitFor::Time(time) => (time.max(MIN_WAIT), Stage::Asleep, None, 0),
            WaitFor::Reply(request) | WaitFor::Shared(request) => {
                let patience = match &request {
                    PolicyRequest::Http(http) => http.timeout.min(MAX_REQUEST_TIME),
                    PolicyRequest::Shared(_) | PolicyRequest::Store(..) => MAX_REQUEST_TIME,
                };
                let (if_late, bytes) = (request.refused("timed out"), request.bytes());
                let is_along = may_share && self.is_asked_for(&request);
                let stage = if is_along { Stage::Along(request) } else { Stage::Unsent(request) };
                (patience + REQUEST_GRACE, stage, Some(if_late), bytes)
            }
        };
        let shared = match &stage {
            Stage::Unsent(request) => {
                self.unsent.push_back(id);
                may_share.then(|| Box::new(request.clone()))
            }
            _ => None,
        };
        let deadline = context.deadlines.add(now + after, Deadline::Wait(room, id));
        let bytes = WAIT_BYTES + hook.work.held_bytes() + hook.effects.bytes() + bytes;
        self.bytes += bytes;
        self.joins += usize::from(hook.work.is_join());
        self.waits.push(Wait { id, hook, stage, shared, deadline, if_late, bytes });
        self.send_next(context, room);
    }

    /// Sends requests as long as there may be more under way.
    fn send_next(&mut self, context: &mut EngineContext, room: PolicyKey) {
        while self.sent < MAX_REQUESTS
            && let Some(id) = self.unsent.pop_front()
        {
            // One that has been given up is not there any more.
            let Some(wait) = self.waits.iter_mut().find(|wait| wait.id == id) else { continue };
            match std::mem::replace(&mut wait.stage, Stage::Sent) {
                Stage::Unsent(request) => {
                    self.sent += 1;
                    context.requests.insert(id, room);
                    context.outputs.push_back(PolicyOutput::Request { id, key: room, request });
                }
                other => wait.stage = other,
            }
        }
    }

    /// Whether a hook waits for this that others may wait along with.
    fn is_asked_for(&self, request: &PolicyRequest) -> bool {
        let is_under_way = |wait: &Wait| matches!(wait.stage, Stage::Unsent(_) | Stage::Sent);
        self.waits.iter().any(|wait| wait.shared.as_deref() == Some(request) && is_under_way(wait))
    }

    /// The waits for what this one has asked for, in their order.
    pub(crate) fn along(&self, id: PolicyRequestId) -> Vec<PolicyRequestId> {
        let asked = self.waits.iter().find(|wait| wait.id == id).and_then(|wait| wait.shared.as_deref());
        let Some(asked) = asked else { return Vec::new() };
        let is_along = |wait: &&Wait| matches!(&wait.stage, Stage::Along(request) if request == asked);
        let mut along: Vec<_> = self.waits.iter().filter(is_along).map(|wait| wait.id).collect();
        along.sort_unstable();
        along
    }

    /// What others have waited for along with a hook that has no reply is asked for by the first of them.
    fn ask_for_those_along(&mut self) {
        while let Some(at) = self.first_without_asker() {
            let wait = &mut self.waits[at];
            let Stage::Along(request) = &wait.stage else { return };
            let request = request.clone();
            (wait.shared, wait.stage) = (Some(Box::new(request.clone())), Stage::Unsent(request));
            self.unsent.push_back(wait.id);
        }
    }

    fn first_without_asker(&self) -> Option<usize> {
        let along = self.waits.iter().enumerate().filter(|(_, wait)| match &wait.stage {
            Stage::Along(request) => !self.is_asked_for(request),
            _ => false,
        });
        along.min_by_key(|(_, wait)| wait.id).map(|(at, _)| at)
    }

    /// The reply or the deadline of a wait has come: its hook can go on. False when there is no such wait any more.
    pub(crate) fn end(
        &mut self,
        context: &mut EngineContext,
        room: PolicyKey,
        id: PolicyRequestId,
        reply: Option<PolicyReply>,
    ) -> bool {
        let Some(wait) = self.waits.iter_mut().find(|wait| wait.id == id) else { return false };
        if matches!(wait.stage, Stage::Ready(_)) {
            return false;
        }
        context.deadlines.remove(wait.deadline);
        context.requests.remove(&id);
        let (bytes, is_late) = (reply.as_ref().map_or(0, PolicyReply::bytes), reply.is_none());
        wait.bytes += bytes;
        self.bytes += bytes;
        let reply = reply.or_else(|| wait.if_late.take());
        let before = std::mem::replace(&mut wait.stage, Stage::Ready(reply));
        self.ready.push_back(id);
        if is_late {
            self.ask_for_those_along();
        }
        if matches!(before, Stage::Sent) {
            self.sent -= 1;
        }
        self.send_next(context, room);
        true
    }

    /// The hook that can go on the longest, with the reply that it waited for.
    pub(crate) fn take_ready(&mut self) -> Option<(PolicyRequestId, WaitingHook, Option<PolicyReply>)> {
        let id = *self.ready.front()?;
        self.take_ready_one(id)
    }

    /// The hooks that can go on.
    pub(crate) fn ready(&self) -> impl Iterator<Item = PolicyRequestId> {
        self.ready.iter().copied()
    }

    /// The same of one that can go on.
    pub(crate) fn take_ready_one(
        &mut self,
        id: PolicyRequestId,
    ) -> Option<(PolicyRequestId, WaitingHook, Option<PolicyReply>)> {
        let place = self.ready.iter().position(|ready| *ready == id)?;
        self.ready.remove(place);
        let at = self.waits.iter().position(|wait| wait.id == id)?;
        let wait = self.waits.swap_remove(at);
        self.bytes -= wait.bytes;
        self.joins -= usize::from(wait.hook.work.is_join());
        match wait.stage {
            Stage::Ready(reply) => Some((id, wait.hook, reply)),
            _ => None,
        }
    }

    /// Ends the waits of a client without a result, and returns their hooks.
    pub(crate) fn cancel_of(
        &mut self,
        context: &mut EngineContext,
        room: PolicyKey,
        client: &ClientFacts,
    ) -> Vec<WaitingHook> {
        let (cancelled, kept) = self.waits.drain(..).partition(|wait| wait.hook.work.is_of(client));
        self.waits = kept;
        self.cancel(context, room, cancelled)
    }

    /// Ends all waits without a result, and returns their hooks.
    pub(crate) fn cancel_all(&mut self, context: &mut EngineContext, room: PolicyKey) -> Vec<WaitingHook> {
        let cancelled = std::mem::take(&mut self.waits);
        self.cancel(context, room, cancelled)
    }

    fn cancel(&mut self, context: &mut EngineContext, room: PolicyKey, waits: Vec<Wait>) -> Vec<WaitingHook> {
        for wait in &waits {
            context.deadlines.remove(wait.deadline);
            context.requests.remove(&wait.id);
            self.bytes -= wait.bytes;
            self.joins -= usize::from(wait.hook.work.is_join());
            self.sent -= usize::from(matches!(wait.stage, Stage::Sent));
            self.ready.retain(|id| *id != wait.id);
        }
        self.ask_for_those_along();
        self.send_next(context, room);
        waits.into_iter().map(|wait| wait.hook).collect()
    }
}
