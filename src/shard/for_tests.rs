//! A shard without sockets, for tests of what stands around it.

use std::time::{Duration, Instant};

use super::{Shard, ShardSettings};
use crate::policy::{PolicyEngine, PolicySettings, ScriptLibrary};
use crate::room::history::HistoryLimits;
use crate::transport::TransportConfig;
use crate::transport::dtls::Certificate;

/// A shard whose rooms run the scripts of `library`; no media goes through it.
pub(crate) fn shard(now: Instant, library: ScriptLibrary) -> Shard {
    let limits = HistoryLimits { age: Duration::from_secs(1), bytes: 1024 };
    let settings = ShardSettings {
        transport: TransportConfig::new(Certificate::generate().unwrap()),
        candidates: vec![],
        codecs: vec![],
        video_history: limits,
        audio_history: limits,
        connect_timeout: Duration::from_secs(20),
        max_clients_per_room: 10,
        max_clients: 10_000,
        max_tracks_per_client: 4,
        max_bitrate_bps: None,
    };
    Shard::new(now, settings, PolicyEngine::new(PolicySettings::default(), 1), library, [7; 32])
}
