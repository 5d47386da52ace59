//! What a shard tells of itself and of its rooms: copies, taken when nothing else is under way.

use std::time::Duration;

use crate::id::RoomId;
use crate::policy::{PolicyStats, RoomStatus};
use crate::shard::ShardCounters;
use crate::shard::udp::IoStats;

/// Most rooms that one [`crate::command::Command::Report`] asks for: what a tick has time for.
pub const MAX_ROOMS_PER_REPORT: usize = 256;

/// One room.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomReport {
    /// Which.
    pub room: RoomId,
    /// Clients in it, those whose join is being decided on included.
    pub clients: usize,
    /// Tracks published in it.
    pub tracks: usize,
    /// Its policy.
    pub policy: Option<RoomStatus>,
}

/// One shard.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// Rooms on it.
    pub rooms: usize,
    /// Clients on it.
    pub clients: usize,
    /// Tracks on it.
    pub tracks: usize,
    /// What it counted.
    pub counters: ShardCounters,
    /// What its sockets counted.
    pub io: IoStats,
    /// What its policies have done.
    pub policy: PolicyStats,
    /// What its scripts counted with `sfu.count`, all rooms together, those that have ended too.
    pub script_counters: Vec<(String, f64)>,
    /// Rooms that wait to be looked at after a change of scripts.
    pub reloads_waiting: usize,
    /// The longest that a tick was held by reloads.
    pub longest_reload_slice: Duration,
}
