//! The shared store, as long as a test runs.

use std::collections::HashMap;
use std::time::Instant;

use crate::policy::output::{SharedRequest, SharedValue};

/// See the module. Unlike the server's it has no bound: a test ends.
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
                let (value, _) = self.entries.entry(key).or_insert((SharedValue::Number(0.0), ends));
                match value {
                    SharedValue::Number(sum) => {
                        *sum += by;
                        Ok(Some(SharedValue::Number(*sum)))
                    }
                    _ => Err("the entry is not a number".into()),
                }
            }
        }
    }
}
