//! The beginning of a wait: what is asked of the world, and when it is given up.

use std::time::{Duration, Instant};

use super::agenda::When;
use super::desk::{Desk, Due};
use super::host::WaitFor;
use super::output::{PolicyOutput, PolicyReply, PolicyRequest, PolicyRequestId};
use super::room::Room;
use super::settings::{MAX_REQUEST_TIME, MAX_REQUESTS, REQUEST_GRACE};

/// The shortest wait: a script that sleeps for nothing, again and again, gets one step per tick.
pub(crate) const MIN_WAIT: Duration = Duration::from_millis(1);

impl Room {
    /// Asks for what the hook waits for. The last value is what a missing reply means.
    pub(super) fn begin_wait(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        wait: WaitFor,
    ) -> (PolicyRequestId, When, Option<PolicyReply>) {
        let id = desk.request_id();
        let due = |desk: &mut Desk, after: Duration| desk.agenda.add(now + after, Due::Wait(self.key, id));
        let request = match wait {
            WaitFor::Time(time) => return (id, due(desk, time.max(MIN_WAIT)), None),
            WaitFor::Reply(request) => request,
        };
        let refusal = |words: &str| match request {
            PolicyRequest::Http(_) => PolicyReply::Http(Err(words.to_owned())),
            PolicyRequest::Shared(_) => PolicyReply::Shared(Err(words.to_owned())),
        };
        if self.waiting.iter().filter(|waiting| waiting.if_late.is_some()).count() >= MAX_REQUESTS {
            return (id, due(desk, MIN_WAIT), Some(refusal("too many requests of this room are under way")));
        }
        let patience = match &request {
            PolicyRequest::Http(http) => http.timeout.min(MAX_REQUEST_TIME),
            PolicyRequest::Shared(_) => MAX_REQUEST_TIME,
        };
        let (due, late) = (due(desk, patience + REQUEST_GRACE), refusal("timed out"));
        desk.requests.insert(id, self.key);
        desk.outputs.push_back(PolicyOutput::Request { id, key: self.key, request });
        (id, due, Some(late))
    }
}
