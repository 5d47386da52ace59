//! The hooks of a room that wait: for time to pass, or for the reply to a request.

use std::time::{Duration, Instant};

use mlua::Thread;

use super::effects::Effects;
use super::engine_context::{Deadline, EngineContext};
use super::hook::ClientFacts;
use super::host::WaitFor;
use super::mailbox::{Lane, Work};
use super::output::{PolicyKey, PolicyOutput, PolicyReply, PolicyRequest, PolicyRequestId};
use super::settings::{MAX_REQUEST_TIME, MAX_REQUESTS, REQUEST_GRACE};
use super::timer_queue::TimerId;

/// The shortest wait. A script that sleeps for no time, again and again, gets one step per tick.
pub(crate) const MIN_WAIT: Duration = Duration::from_millis(1);

/// A hook that has yielded, with what it needs to go on.
pub(crate) struct WaitingHook {
    pub(crate) work: Work,
    pub(crate) thread: Thread,
    /// What it has asked for so far.
    pub(crate) effects: Effects,
}

/// A hook that waits.
struct Wait {
    id: PolicyRequestId,
    hook: WaitingHook,
    deadline: TimerId,
    /// The reply that the hook gets when none comes in time; `None` for a sleep.
    if_late: Option<PolicyReply>,
    /// The reply that has come and waits for CPU time.
    reply: Option<PolicyReply>,
}

/// All waits of one room.
#[derive(Default)]
pub(crate) struct Waits {
    waits: Vec<Wait>,
}

impl Waits {
    pub(crate) fn len(&self) -> usize {
        self.waits.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// The lanes whose next work has to wait.
    pub(crate) fn lanes(&self) -> impl ExactSizeIterator<Item = Lane> {
        self.waits.iter().map(|wait| wait.hook.work.lane())
    }

    pub(crate) fn has_lane(&self, lane: &Lane) -> bool {
        self.lanes().any(|busy| busy == *lane)
    }

    /// Begins a wait: sets its deadline, and hands out its request if it is for a reply.
    pub(crate) fn begin(
        &mut self,
        context: &mut EngineContext,
        now: Instant,
        room: PolicyKey,
        hook: WaitingHook,
        wait_for: WaitFor,
    ) {
        let id = context.request_id();
        let (after, if_late) = match wait_for {
            WaitFor::Time(time) => (time.max(MIN_WAIT), None),
            WaitFor::Reply(request) if self.requests() >= MAX_REQUESTS => {
                (MIN_WAIT, Some(request.refused("too many requests of this room are under way")))
            }
            WaitFor::Reply(request) => {
                let patience = match &request {
                    PolicyRequest::Http(http) => http.timeout.min(MAX_REQUEST_TIME),
                    PolicyRequest::Shared(_) => MAX_REQUEST_TIME,
                };
                let if_late = request.refused("timed out");
                context.requests.insert(id, room);
                context.outputs.push_back(PolicyOutput::Request { id, key: room, request });
                (patience + REQUEST_GRACE, Some(if_late))
            }
        };
        let deadline = context.deadlines.add(now + after, Deadline::Wait(room, id));
        self.waits.push(Wait { id, hook, deadline, if_late, reply: None });
    }

    /// Ends a wait because its reply or its deadline has come. The hook gets `reply`, else the one that came before,
    /// else the one for late replies. `None` when there is no such wait.
    pub(crate) fn take(
        &mut self,
        context: &mut EngineContext,
        id: PolicyRequestId,
        reply: Option<PolicyReply>,
    ) -> Option<(WaitingHook, Option<PolicyReply>)> {
        let at = self.waits.iter().position(|wait| wait.id == id)?;
        let wait = self.waits.swap_remove(at);
        context.deadlines.remove(wait.deadline);
        context.requests.remove(&id);
        Some((wait.hook, reply.or(wait.reply).or(wait.if_late)))
    }

    /// Keeps a reply until there is CPU time for it.
    pub(crate) fn postpone(
        &mut self,
        context: &mut EngineContext,
        until: Instant,
        room: PolicyKey,
        id: PolicyRequestId,
        reply: Option<PolicyReply>,
    ) {
        let Some(wait) = self.waits.iter_mut().find(|wait| wait.id == id) else { return };
        context.requests.remove(&id);
        context.deadlines.remove(wait.deadline);
        wait.reply = reply.or_else(|| wait.reply.take()).or_else(|| wait.if_late.take());
        wait.deadline = context.deadlines.add(until, Deadline::Wait(room, id));
    }

    /// Ends the waits of a client, and returns their work.
    pub(crate) fn cancel_of(&mut self, context: &mut EngineContext, client: &ClientFacts) -> Vec<Work> {
        let (cancelled, kept) = self.waits.drain(..).partition(|wait| wait.hook.work.is_of(client));
        self.waits = kept;
        cancel(context, cancelled)
    }

    /// Ends all waits, and returns their work.
    pub(crate) fn cancel_all(&mut self, context: &mut EngineContext) -> Vec<Work> {
        cancel(context, std::mem::take(&mut self.waits))
    }

    fn requests(&self) -> usize {
        self.waits.iter().filter(|wait| wait.if_late.is_some()).count()
    }
}

fn cancel(context: &mut EngineContext, waits: Vec<Wait>) -> Vec<Work> {
    let work = waits.into_iter().map(|wait| {
        context.deadlines.remove(wait.deadline);
        context.requests.remove(&wait.id);
        wait.hook.work
    });
    work.collect()
}
