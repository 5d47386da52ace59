//! What a replayed script asks of the world outside, and what it is answered.

use std::time::Duration;

use super::account::normal;
use super::run::Run;
use crate::output::{PolicyReply, PolicyRequest, PolicyRequestId};
use crate::tape::words;

impl Run<'_> {
    /// Brings an answer.
    pub(super) fn answer(&mut self, id: PolicyRequestId, reply: PolicyReply) {
        if let (Some(request), PolicyReply::Shared(answer)) = (self.services.requests.remove(&id), &reply) {
            self.store.borrow_mut().learn(self.now, &self.room, request, answer);
        }
        self.engine.resume(self.now, id, reply);
        self.absorb();
    }

    /// A request of the script: its answer is in the recording, or is made up.
    pub(super) fn requested(&mut self, id: PolicyRequestId, request: PolicyRequest) {
        if self.here.paired.contains(&id) {
            self.services.requests.insert(id, request);
            return;
        }
        let asked = normal(&words::request(&request)).to_string();
        let same = self.index.asked.get(&asked).into_iter().flatten().find(|wait| !self.here.used.contains(wait));
        let answered = same.and_then(|wait| self.index.answers.get(wait).map(|answered| (*wait, answered)));
        let (after, reply) = match (answered, request) {
            (Some((wait, answered)), _) => {
                self.here.used.insert(wait);
                (Duration::from_nanos(answered.after), words::reply_of(&answered.reply))
            }
            (None, PolicyRequest::Http(_)) => {
                let error = "the recording has no answer to this request".to_owned();
                (Duration::ZERO, Some(PolicyReply::Http(Err(error))))
            }
            (None, request) => {
                let answer = self.store.borrow_mut().answer(self.now, &self.room, request);
                (Duration::ZERO, Some(PolicyReply::Shared(answer)))
            }
        };
        if let Some(reply) = reply {
            self.services.answers.insert((self.now + after, id.0), reply);
        }
    }
}
