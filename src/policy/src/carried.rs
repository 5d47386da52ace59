//! What a room's script hands to the same room in another process; kept outside of it, for when it is lost, as a checkpoint.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::CHECKPOINT_KEPT;
use moonring_wire::shared::SharedValue;

/// Timers that are due this close to where they were are the same.
const SAME_TIMER_MS: u64 = 1_000;

/// What a room's script hands to the same room in another process, as a reload hands it to the next version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CarriedPolicy {
    /// What `on_unload` has returned, in the format of [`super::plain`].
    pub(crate) state: Option<Vec<u8>>,
    /// `STATE_VERSION`, likewise.
    pub(crate) version: Option<Vec<u8>>,
    /// Named timers, and the microseconds until each is due.
    pub(crate) timers: Vec<(String, u64)>,
    /// What the script has counted with `sfu.count`.
    pub(crate) counters: Vec<(String, f64)>,
    /// Microseconds since the room was opened.
    pub(crate) age: u64,
}

impl CarriedPolicy {
    /// Bytes, about, that it takes.
    pub fn bytes(&self) -> usize {
        let part = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let timers: usize = self.timers.iter().map(|(name, _)| name.len() + 32).sum();
        let counters: usize = self.counters.iter().map(|(name, _)| name.len() + 32).sum();
        part(&self.state) + part(&self.version) + timers + counters
    }

    /// When the named timers are due.
    pub(crate) fn due(&self, now: Instant) -> HashMap<String, Instant> {
        let at = |after: u64| now.checked_add(Duration::from_micros(after)).unwrap_or(now);
        self.timers.iter().map(|(name, after)| (name.clone(), at(*after))).collect()
    }
}

/// What a room begins with whose process was lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    carried: CarriedPolicy,
    /// What was said of the room when it was opened, as JSON text.
    metadata: String,
    /// Milliseconds since 1970 at which it was made.
    made: u64,
}

impl Checkpoint {
    pub(crate) fn new(carried: CarriedPolicy, metadata: &SharedValue, unix: Duration) -> Self {
        Self { carried, metadata: metadata.to_string(), made: milliseconds(unix) }
    }

    /// Bytes, about, that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.carried.bytes() + self.metadata.len()
    }

    /// A number that tells what it holds from what another one does; that time has passed is no difference.
    pub fn digest(&self) -> u64 {
        let CarriedPolicy { state, version, timers, counters, age: _ } = &self.carried;
        let mut hash = DefaultHasher::new();
        (state, version, &self.metadata).hash(&mut hash);
        for (name, us) in timers {
            (name, (self.made + us / 1_000) / SAME_TIMER_MS).hash(&mut hash);
        }
        for (name, n) in counters {
            (name, n.to_bits()).hash(&mut hash);
        }
        hash.finish()
    }

    /// What the script is given at this time of day, and what was said of the room. Its timers have gone on meanwhile.
    pub(crate) fn at(self, unix: Duration) -> (CarriedPolicy, SharedValue) {
        let Self { mut carried, metadata, made } = self;
        // Clocks of two machines differ.
        let passed = milliseconds(unix).saturating_sub(made);
        let passed = Duration::from_millis(passed).min(CHECKPOINT_KEPT).as_micros() as u64;
        carried.age = carried.age.saturating_add(passed);
        for (_, us) in &mut carried.timers {
            *us = us.saturating_sub(passed);
        }
        let metadata = serde_json::from_str(&metadata).ok().filter(Value::is_object);
        (carried, metadata.map_or_else(SharedValue::empty_object, SharedValue::from))
    }
}

fn milliseconds(unix: Duration) -> u64 {
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}
