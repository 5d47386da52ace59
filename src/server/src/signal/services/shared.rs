//! `sfu.shared`: what all rooms of the process share, bounded in entries and bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::taken::Taken;
use moonring_policy::output::{SharedRequest, SharedValue};
use moonring_wire::id::RoomId;

/// Most entries.
const MAX_ENTRIES: usize = 100_000;
/// Most bytes of keys and values.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The part of the store that the entries of one room may take.
const ROOM_PART: usize = 8;
/// What an entry costs beside its key and its text, about.
const ENTRY_BYTES: usize = 128;

/// An entry, for a process that takes over.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::signal) struct SharedEntry {
    key: String,
    value: SharedValue,
    owner: RoomId,
    /// For how long it is there.
    ttl: Option<Duration>,
}

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
    /// What the entries of each room take.
    rooms: HashMap<RoomId, Taken>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    value: SharedValue,
    /// The room that has set it.
    owner: RoomId,
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

    /// Does one operation for a room; an error is raised in its script.
    pub(super) fn serve(
        &self,
        now: Instant,
        room: &RoomId,
        request: SharedRequest,
    ) -> Result<Option<SharedValue>, String> {
        let mut state = self.state();
        state.expire(now);
        match request {
            SharedRequest::Get { key } => Ok(state.entries.get(&key).map(|entry| entry.value.clone())),
            SharedRequest::Delete { key } => {
                state.remove(&key);
                Ok(None)
            }
            SharedRequest::Set { key, value, ttl } => {
                self.check_space(&state, room, &key, &value)?;
                state.remove(&key);
                state.insert(now, room, (key, value), ttl);
                Ok(None)
            }
            SharedRequest::CompareAndSet { key, expected, value } => {
                let before = state.entries.get(&key);
                let is_expected = before.map(|entry| &entry.value) == expected.as_ref();
                let left = before.and_then(|entry| entry.expires).map(|(at, _)| at.saturating_duration_since(now));
                match value {
                    Some(value) if is_expected => {
                        self.check_space(&state, room, &key, &value)?;
                        state.remove(&key);
                        state.insert(now, room, (key, value), left);
                    }
                    None if is_expected => state.remove(&key),
                    _ => {}
                }
                Ok(Some(SharedValue::Flag(is_expected)))
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
                        self.check_space(&state, room, &key, &SharedValue::Number(by))?;
                        state.insert(now, room, (key, SharedValue::Number(by)), ttl);
                        by
                    }
                };
                if sum.is_finite() { Ok(Some(SharedValue::Number(sum))) } else { Err("the sum is too large".into()) }
            }
        }
    }

    /// All entries, for a process that takes over.
    pub(super) fn entries(&self, now: Instant) -> Vec<SharedEntry> {
        let mut state = self.state();
        state.expire(now);
        let left = |entry: &Entry| entry.expires.map(|(at, _)| at.saturating_duration_since(now));
        let entries = state.entries.iter().map(|(key, entry)| SharedEntry {
            key: key.clone(),
            value: entry.value.clone(),
            owner: entry.owner.clone(),
            ttl: left(entry),
        });
        entries.collect()
    }

    /// Takes in the entries of the process before.
    pub(super) fn inherit(&self, now: Instant, entries: Vec<SharedEntry>) {
        let mut state = self.state();
        for SharedEntry { key, value, owner, ttl } in entries {
            state.remove(&key);
            state.insert(now, &owner, (key, value), ttl);
        }
    }

    /// Entries and bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.state();
        (state.entries.len(), state.bytes)
    }

    /// Whether an entry fits, in place of what has its key: into the room's share, and into the store.
    fn check_space(&self, state: &State, room: &RoomId, key: &str, value: &SharedValue) -> Result<(), String> {
        let before = state.entries.get(key);
        let freed = before.map_or(0, |entry| cost(key, &entry.value));
        let entries = state.entries.len() + usize::from(before.is_none());
        if entries > self.max_entries || state.bytes - freed + cost(key, value) > self.max_bytes {
            return Err("the shared store is full: give entries a ttl".to_owned());
        }
        let (own, freed) = if before.is_some_and(|entry| entry.owner == *room) { (0, freed) } else { (1, 0) };
        let taken = state.rooms.get(room).copied().unwrap_or_default();
        let (entries, bytes) = (self.max_entries.div_ceil(ROOM_PART), self.max_bytes.div_ceil(ROOM_PART));
        if taken.entries + own > entries || taken.bytes - freed + cost(key, value) > bytes {
            return Err(format!(
                "this room's share of the shared store is full ({entries} entries or {bytes} bytes): give entries a ttl"
            ));
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
                self.give_back(&key, &entry);
            }
        }
    }

    fn insert(&mut self, now: Instant, owner: &RoomId, (key, value): (String, SharedValue), ttl: Option<Duration>) {
        let bytes = cost(&key, &value);
        self.bytes += bytes;
        self.rooms.entry(owner.clone()).or_default().add(bytes);
        // A moment beyond what the clock can say is never.
        let expires = ttl.and_then(|ttl| now.checked_add(ttl)).map(|at| (at, self.next));
        self.next += 1;
        if let Some(expires) = expires {
            self.expiries.insert(expires, key.clone());
        }
        self.entries.insert(key, Entry { value, owner: owner.clone(), expires });
    }

    fn remove(&mut self, key: &str) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.give_back(key, &entry);
        if let Some(expires) = entry.expires {
            self.expiries.remove(&expires);
        }
    }

    /// An entry is gone.
    fn give_back(&mut self, key: &str, entry: &Entry) {
        let bytes = cost(key, &entry.value);
        self.bytes -= bytes;
        if let Some(taken) = self.rooms.get_mut(&entry.owner) {
            taken.remove(bytes);
            if taken.entries == 0 {
                self.rooms.remove(&entry.owner);
            }
        }
    }
}

fn cost(key: &str, value: &SharedValue) -> usize {
    let text = if let SharedValue::Text(text) = value { text.len() } else { 0 };
    ENTRY_BYTES + key.len() + text
}

#[cfg(test)]
mod tests {
    use super::SharedRequest::{CompareAndSet, Delete, Get, Incr, Set};
    use super::SharedValue::{Flag, Number, Text};
    use super::*;

    fn set(key: &str, value: SharedValue, ttl: Option<u64>) -> SharedRequest {
        Set { key: key.into(), value, ttl: ttl.map(Duration::from_secs) }
    }

    fn incr(key: &str, by: f64, ttl: Option<u64>) -> SharedRequest {
        Incr { key: key.into(), by, ttl: ttl.map(Duration::from_secs) }
    }

    fn compare_and_set(key: &str, expected: Option<SharedValue>, value: Option<SharedValue>) -> SharedRequest {
        CompareAndSet { key: key.into(), expected, value }
    }

    #[test]
    fn entries_go_on_in_another_process_for_the_time_that_is_left() {
        let (old, now, room) = (SharedStore::default(), Instant::now(), RoomId::parse("a").unwrap());
        let at = |s: u64| now + Duration::from_secs(s);
        for (key, value, ttl) in
            [("n", Number(1.5), None), ("t", Text(vec![0, 255]), Some(9)), ("f", Flag(true), Some(2))]
        {
            old.serve(now, &room, set(key, value, ttl)).unwrap();
        }
        let bytes = postcard::to_extend(&old.entries(at(3)), Vec::new()).unwrap();
        let new = SharedStore::default();
        new.inherit(at(3), postcard::from_bytes(&bytes).unwrap());
        let found = |s, key| new.serve(at(s), &room, get(key)).unwrap();
        assert_eq!((found(3, "n"), found(8, "t"), found(3, "f")), (Some(Number(1.5)), Some(Text(vec![0, 255])), None));
        assert_eq!((found(9, "t"), found(9, "n")), (None, Some(Number(1.5))));
        assert_eq!(new.size(), {
            old.serve(at(9), &room, get("n")).unwrap();
            old.size()
        });
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
            (105, set("c", Number(1.0), Some(10)), Ok(None)),
            (105, compare_and_set("c", Some(Number(2.0)), Some(Number(3.0))), Ok(Some(Flag(false)))),
            (105, compare_and_set("c", Some(Number(1.0)), Some(Number(3.0))), Ok(Some(Flag(true)))),
            (114, get("c"), Ok(Some(Number(3.0)))),
            (115, get("c"), Ok(None)),
            (115, compare_and_set("c", None, Some(Number(4.0))), Ok(Some(Flag(true)))),
            (115, compare_and_set("c", Some(Number(4.0)), None), Ok(Some(Flag(true)))),
            (115, get("c"), Ok(None)),
        ] {
            let said = format!("{second} {request:?}");
            assert_eq!(store.serve(start + Duration::from_secs(second), &room("a"), request), expected, "{said}");
        }
    }

    #[test]
    fn a_full_store_refuses_until_something_expires_or_is_deleted() {
        let full = Err("the shared store is full: give entries a ttl".to_owned());
        let (store, start) = (SharedStore::bounded(16, 8000), Instant::now());
        let text = |bytes: usize| Text(vec![b'x'; bytes]);
        for n in 0..14 {
            assert_eq!(store.serve(start, &room(&format!("r{n}")), set(&format!("k{n}"), Flag(true), None)), Ok(None));
        }
        for (second, owner, request, expected) in [
            (0, "a", set("a", text(100), Some(5)), Ok(None)),
            (0, "b", set("b", text(100), None), Ok(None)),
            (0, "c", set("c", Flag(true), None), full.clone()),
            (0, "c", incr("c", 1.0, None), full.clone()),
            (0, "b", set("b", text(500), None), Ok(None)),
            (5, "c", set("c", Flag(true), None), Ok(None)),
            (5, "d", set("d", Flag(true), None), full),
            (5, "d", Delete { key: "b".into() }, Ok(None)),
            (5, "d", set("d", text(700), None), Ok(None)),
        ] {
            let said = format!("{second} {request:?}").chars().take(60).collect::<String>();
            let now = start + Duration::from_secs(second);
            assert_eq!(store.serve(now, &room(owner), request), expected, "{said}");
        }
        for key in (0..14).map(|n| format!("k{n}")).chain(["c".into(), "d".into()]) {
            store.serve(start, &room("x"), Delete { key }).unwrap();
        }
        assert_eq!(store.size(), (0, 0));
        assert!(store.state().expiries.is_empty() && store.state().rooms.is_empty());
    }

    #[test]
    fn one_room_cannot_fill_the_store() {
        let (store, start) = (SharedStore::bounded(80, 80_000), Instant::now());
        let fill = |name: &str| {
            let set = |n: &i32| store.serve(start, &room(name), set(&format!("{name}{n}"), Number(1.0), None));
            (0..100).filter(|n| set(n).is_ok()).count()
        };
        assert_eq!((fill("greedy"), fill("other")), (10, 10), "an eighth each");
        let refused = store.serve(start, &room("greedy"), incr("more", 1.0, None)).unwrap_err();
        assert!(refused.starts_with("this room's share of the shared store is full (10 entries"), "{refused}");
        assert_eq!(store.serve(start, &room("greedy"), incr("greedy1", 1.0, None)), Ok(Some(Number(2.0))));
        assert_eq!(store.serve(start, &room("other"), Delete { key: "greedy1".into() }), Ok(None));
        assert_eq!(store.serve(start, &room("greedy"), incr("more", 1.0, None)), Ok(Some(Number(1.0))));
    }

    fn room(id: &str) -> RoomId {
        RoomId::parse(id).unwrap()
    }
}
