//! A room's checkpoint: what its script would hand over, kept outside of the process, for when that is lost.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::PolicyEngine;
use super::reload::CarriedPolicy;
use super::settings::CHECKPOINT_LIFE;
use moonring_wire::shared::SharedValue;

/// Timers that are due this close to where they were are the same.
const SAME_TIMER_MS: u64 = 1_000;

/// See the module.
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
}

impl PolicyEngine {
    /// What a room begins with that has this checkpoint: what the script is given, and what was said of the room. Its timers have
    /// gone on meanwhile.
    pub fn revive(&mut self, now: Instant, checkpoint: Checkpoint) -> (CarriedPolicy, SharedValue) {
        let Checkpoint { mut carried, metadata, made } = checkpoint;
        // Clocks of two machines differ.
        let passed = milliseconds(self.context.unix(now)).saturating_sub(made);
        let passed = Duration::from_millis(passed).min(CHECKPOINT_LIFE).as_micros() as u64;
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
