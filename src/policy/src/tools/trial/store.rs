//! The stores, as long as a test runs.

use std::collections::HashMap;
use std::time::Instant;

use crate::output::{PolicyRequest, SharedRequest, SharedValue, StoreSpace};
use moonring_wire::id::RoomId;

/// See the module. It answers as the server's does, but has no bound: a test ends.
#[derive(Debug, Default)]
pub(in crate::tools) struct Store {
    entries: HashMap<String, (SharedValue, Option<Instant>)>,
}

impl Store {
    /// Does what a script of `room` asks for, in the place that it means.
    pub(in crate::tools) fn answer(
        &mut self,
        now: Instant,
        room: &RoomId,
        request: PolicyRequest,
    ) -> Result<Option<SharedValue>, String> {
        match request {
            PolicyRequest::Shared(request) => self.serve(now, request),
            PolicyRequest::Store(space, mut request) => {
                // No key of the shared store begins so: it would not be text.
                let prefix = match space {
                    StoreSpace::Room { script } => format!("\0{script}\0{room}\0"),
                    StoreSpace::Global => "\0".to_owned(),
                };
                request.key_mut().insert_str(0, &prefix);
                self.serve(now, request)
            }
            PolicyRequest::Http(_) => Err("not a request to a store".into()),
        }
    }

    /// Takes over what another store has answered.
    pub(in crate::tools) fn learn(
        &mut self,
        now: Instant,
        room: &RoomId,
        request: PolicyRequest,
        answer: &Result<Option<SharedValue>, String>,
    ) {
        let (PolicyRequest::Shared(asked) | PolicyRequest::Store(_, asked)) = &request else { return };
        let known = match (asked, answer) {
            (SharedRequest::Get { key } | SharedRequest::Incr { key, .. }, Ok(Some(value))) => {
                SharedRequest::Set { key: key.clone(), value: value.clone(), ttl: None }
            }
            (SharedRequest::Get { key }, Ok(None)) => SharedRequest::Delete { key: key.clone() },
            (asked, Ok(_)) => asked.clone(),
            (_, Err(_)) => return,
        };
        let known = match request {
            PolicyRequest::Store(space, _) => PolicyRequest::Store(space, known),
            _ => PolicyRequest::Shared(known),
        };
        // What it says is known already.
        let _ = self.answer(now, room, known);
    }

    /// Does what a script asks for.
    pub(in crate::tools) fn serve(
        &mut self,
        now: Instant,
        request: SharedRequest,
    ) -> Result<Option<SharedValue>, String> {
        self.entries.retain(|_, (_, ends)| ends.is_none_or(|ends| ends > now));
        match request {
            SharedRequest::Get { key } => Ok(self.entries.get(&key).map(|(value, _)| value.clone())),
            SharedRequest::Set { key, value, ttl } => {
                self.entries.insert(key, (value, ttl.map(|ttl| now + ttl)));
                Ok(None)
            }
            SharedRequest::Delete { key } => {
                self.entries.remove(&key);
                Ok(None)
            }
            SharedRequest::Incr { key, by, ttl } => {
                let ends = ttl.map(|ttl| now + ttl);
                // Without the place that stands before it.
                let own = key.rsplit('\0').next().unwrap_or_default();
                let message = format!("{own:?} holds no number");
                let (value, _) = self.entries.entry(key).or_insert((SharedValue::Number(0.0), ends));
                let SharedValue::Number(number) = value else { return Err(message) };
                let sum = *number + by;
                if !sum.is_finite() {
                    return Err("the sum is too large".into());
                }
                *number = sum;
                Ok(Some(SharedValue::Number(sum)))
            }
            SharedRequest::CompareAndSet { key, expected, value } => {
                let before = self.entries.get(&key);
                let is_expected = before.map(|(value, _)| value) == expected.as_ref();
                let ends = before.and_then(|(_, ends)| *ends);
                match value {
                    Some(value) if is_expected => drop(self.entries.insert(key, (value, ends))),
                    None if is_expected => drop(self.entries.remove(&key)),
                    _ => {}
                }
                Ok(Some(SharedValue::Flag(is_expected)))
            }
        }
    }
}
