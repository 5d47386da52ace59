//! A shard without sockets, for tests of what stands around it.

use std::time::Instant;

use super::{Shard, ShardSettings};
use moonring_policy::{PolicyEngine, PolicySettings, ScriptLibrary};
use moonring_wire::transport::dtls::Certificate;

/// A shard whose rooms run the scripts of `library`; no media goes through it.
pub(crate) fn shard(now: Instant, library: ScriptLibrary) -> Shard {
    let settings = ShardSettings::new(Certificate::generate().unwrap());
    Shard::new(now, settings, PolicyEngine::new(PolicySettings::unhurried(), 1), library, [7; 32])
}
