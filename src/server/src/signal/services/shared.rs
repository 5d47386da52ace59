//! `sfu.shared`: what all rooms of the process share, bounded in entries and bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moonring_policy::output::{SharedRequest, SharedValue};

/// Most entries.
const MAX_ENTRIES: usize = 100_000;
/// Most bytes of keys and values.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an entry costs beside its key and its text, about.
const ENTRY_BYTES: usize = 128;

/// The store. Each operation is one step; what has expired makes room, what has not is never pushed out.
#[derive(Debug)]
pub(super) struct SharedStore {
    state: Mutex<State>,
    max_entries: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// Which entry expires when; the number tells those of one moment apart.
    expiries: BTreeMap<(Instant, u64), String>,
    bytes: usize,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    value: SharedValue,
    expires: Option<(Instant, u64)>,
}

impl Default for SharedStore {
    fn default() -> Self {
        Self::bounded(MAX_ENTRIES, MAX_BYTES)
    }
}

impl SharedStore {
    pub(super) fn bounded(max_entries: usize, max_bytes: usize) -> Self {
        Self { state: Mutex::default(), max_entries, max_bytes }
    }

    /// Does one operation; an error is words for the script.
    pub(super) fn serve(&self, now: Instant, request: SharedRequest) -> Result<Option<SharedValue>, String> {
        let mut state = self.state();
        state.expire(now);
        match request {
            SharedRequest::Get { key } => Ok(state.entries.get(&key).map(|entry| entry.value.clone())),
            SharedRequest::Delete { key } => {
                state.remove(&key);
                Ok(None)
            }
            SharedRequest::Set { key, value, ttl } => {
                self.check_room(&state, &key, &value)?;
                state.remove(&key);
                state.insert(now, key, value, ttl);
                Ok(None)
            }
            SharedRequest::Incr { key, by, ttl } => {
                let sum = match state.entries.get_mut(&key) {
                    Some(Entry { value: SharedValue::Number(number), .. }) => {
                        let sum = *number + by;
                        if sum.is_finite() {
                            *number = sum;
                        }
                        sum
                    }
                    Some(_) => return Err(format!("{key:?} holds no number")),
                    None => {
                        self.check_room(&state, &key, &SharedValue::Number(by))?;
                        state.insert(now, key, SharedValue::Number(by), ttl);
                        by
                    }
                };
                if sum.is_finite() { Ok(Some(SharedValue::Number(sum))) } else { Err("the sum is too large".into()) }
            }
        }
    }

    /// Entries and bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.state();
        (state.entries.len(), state.bytes)
    }

    /// Whether an entry fits, in place of what has its key.
    fn check_room(&self, state: &State, key: &str, value: &SharedValue) -> Result<(), String> {
        let before = state.entries.get(key).map_or(0, |entry| cost(key, &entry.value));
        let entries = state.entries.len() + usize::from(before == 0);
        if entries > self.max_entries || state.bytes - before + cost(key, value) > self.max_bytes {
            return Err("the shared store is full".to_owned());
        }
        Ok(())
    }

    /// A panic while it was held left whole operations behind but for a count of bytes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn expire(&mut self, now: Instant) {
        while let Some(first) = self.expiries.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= cost(&key, &entry.value);
            }
        }
    }

    fn insert(&mut self, now: Instant, key: String, value: SharedValue, ttl: Option<Duration>) {
        self.bytes += cost(&key, &value);
        // A moment beyond what the clock can say is never.
        let expires = ttl.and_then(|ttl| now.checked_add(ttl)).map(|at| (at, self.next));
        self.next += 1;
        if let Some(expires) = expires {
            self.expiries.insert(expires, key.clone());
        }
        self.entries.insert(key, Entry { value, expires });
    }

    fn remove(&mut self, key: &str) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.bytes -= cost(key, &entry.value);
        if let Some(expires) = entry.expires {
            self.expiries.remove(&expires);
        }
    }
}

fn cost(key: &str, value: &SharedValue) -> usize {
    let text = if let SharedValue::Text(text) = value { text.len() } else { 0 };
    ENTRY_BYTES + key.len() + text
}

#[cfg(test)]
mod tests {
    use super::SharedRequest::{Delete, Get, Incr, Set};
    use super::SharedValue::{Flag, Number, Text};
    use super::*;

    fn set(key: &str, value: SharedValue, ttl: Option<u64>) -> SharedRequest {
        Set { key: key.into(), value, ttl: ttl.map(Duration::from_secs) }
    }

    fn incr(key: &str, by: f64, ttl: Option<u64>) -> SharedRequest {
        Incr { key: key.into(), by, ttl: ttl.map(Duration::from_secs) }
    }

    fn get(key: &str) -> SharedRequest {
        Get { key: key.into() }
    }

    #[test]
    fn values_live_as_long_as_they_were_given() {
        let (store, start) = (SharedStore::default(), Instant::now());
        for (second, request, expected) in [
            (0, get("a"), Ok(None)),
            (0, set("a", Flag(true), None), Ok(None)),
            (0, get("a"), Ok(Some(Flag(true)))),
            (0, set("t", Text(b"\xff".into()), Some(10)), Ok(None)),
            (9, get("t"), Ok(Some(Text(b"\xff".into())))),
            (10, get("t"), Ok(None)),
            (10, set("t", Number(1.0), Some(10)), Ok(None)),
            (11, set("t", Number(2.0), None), Ok(None)),
            (99, get("t"), Ok(Some(Number(2.0)))),
            (99, Delete { key: "t".into() }, Ok(None)),
            (99, get("t"), Ok(None)),
            (99, set("far", Number(1.0), Some(u64::MAX)), Ok(None)),
            (99, get("far"), Ok(Some(Number(1.0)))),
            (100, incr("n", 2.0, Some(5)), Ok(Some(Number(2.0)))),
            (104, incr("n", 0.5, Some(5)), Ok(Some(Number(2.5)))),
            (105, incr("n", 1.0, None), Ok(Some(Number(1.0)))),
            (105, incr("a", 1.0, None), Err("\"a\" holds no number".to_owned())),
            (105, incr("big", 1e308, None), Ok(Some(Number(1e308)))),
            (105, incr("big", 1e308, None), Err("the sum is too large".to_owned())),
            (105, get("big"), Ok(Some(Number(1e308)))),
        ] {
            let said = format!("{second} {request:?}");
            assert_eq!(store.serve(start + Duration::from_secs(second), request), expected, "{said}");
        }
    }

    #[test]
    fn a_full_store_refuses_until_something_expires_or_is_deleted() {
        let full = Err("the shared store is full".to_owned());
        let (store, start) = (SharedStore::bounded(2, 1000), Instant::now());
        let text = |bytes: usize| Text(vec![b'x'; bytes]);
        for (second, request, expected) in [
            (0, set("a", text(100), Some(5)), Ok(None)),
            (0, set("b", text(100), None), Ok(None)),
            (0, set("c", Flag(true), None), full.clone()),
            (0, incr("c", 1.0, None), full.clone()),
            (0, set("b", text(700), None), full.clone()),
            (0, set("b", text(500), None), Ok(None)),
            (5, set("c", Flag(true), None), Ok(None)),
            (5, set("d", Flag(true), None), full),
            (5, Delete { key: "b".into() }, Ok(None)),
            (5, set("d", text(700), None), Ok(None)),
        ] {
            let said = format!("{second} {request:?}").chars().take(60).collect::<String>();
            assert_eq!(store.serve(start + Duration::from_secs(second), request), expected, "{said}");
        }
        for key in ["c", "d"] {
            store.serve(start, Delete { key: key.into() }).unwrap();
        }
        assert_eq!(store.size(), (0, 0));
        assert!(store.state().expiries.is_empty());
    }
}
