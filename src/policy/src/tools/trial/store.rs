//! The stores, as long as a test runs.

use std::collections::HashMap;
use std::time::Instant;

use crate::output::{SharedRequest, SharedValue};

/// See the module. It answers as the server's does, but has no bound: a test ends.
#[derive(Debug, Default)]
pub(super) struct Store {
    entries: HashMap<String, (SharedValue, Option<Instant>)>,
}

impl Store {
    /// Does what a script asks for.
    pub(super) fn serve(&mut self, now: Instant, request: SharedRequest) -> Result<Option<SharedValue>, String> {
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
                let message = format!("{key:?} holds no number");
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
