//! What a shard tells of itself and of its rooms: copies, taken when nothing else is under way.

use std::time::Duration;

pub use crate::room::track::{KeyFrameCounts, KeyFrameNeed};
use moonring_policy::canary::CanaryCounts;
use moonring_policy::client::Via;
use moonring_policy::hook::PathFigures;
use moonring_policy::{PolicyStats, RoomStatus};
use moonring_wire::drops::Drops;
use moonring_wire::id::{ClientId, PlaceId, RoomId};

/// Most rooms that one [`crate::command::Command::Report`] asks for: what a tick has time for.
pub const MAX_ROOMS_PER_REPORT: usize = 256;
/// Most clients of a room whose paths its report tells of: a room of thousands would hold up its shard.
pub const MAX_PATHS_PER_ROOM: usize = 128;

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
    /// The paths to its clients that receive something, at most [`MAX_PATHS_PER_ROOM`].
    pub paths: Vec<PathReport>,
}

/// The path to one client.
#[derive(Clone, Debug, PartialEq)]
pub struct PathReport {
    /// Which client.
    pub client: ClientId,
    /// How the client has come.
    pub via: Via,
    /// What its media goes over: `"udp"` or `"tcp"`; `None` before it is sent to.
    pub transport: Option<&'static str>,
    /// How many other clients of this shard it is known to share a bottleneck with.
    pub sharing: usize,
    /// How the path is.
    pub figures: PathFigures,
}

/// One shard.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// The share of its time that it was busy lately, in thousandths.
    pub busy_permille: u32,
    /// The part of the video that there is time for, in thousandths.
    pub video_kept_permille: u32,
    /// How long it lets datagrams wait for others, in microseconds.
    pub coalescing_us: u32,
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
    /// How far its rooms are with the last change of scripts.
    pub reloads: ReloadProgress,
    /// The longest that a tick was held by reloads.
    pub longest_reload_slice: Duration,
    /// The links to other nodes.
    pub links: Vec<LinkReport>,
    /// What both sides of the canary have done, if there is one.
    pub canary: Option<CanaryCounts>,
}

/// How far the rooms of a shard are with the last change of scripts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadProgress {
    /// Orders of operators to reload that had been given by then.
    pub orders: u64,
    /// Rooms that wait to be looked at, or for their hooks.
    pub waiting: usize,
    /// Rooms that run the new version of their script.
    pub reloaded: usize,
    /// Rooms where the old version runs on.
    pub failed: usize,
    /// The first [`MAX_FAILED_ROOMS`] of these, and why.
    pub failures: Vec<(RoomId, String)>,
}

/// Rooms whose failed reload is told with all words.
pub const MAX_FAILED_ROOMS: usize = 16;

/// The link to a shard of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkReport {
    /// Which shard.
    pub place: PlaceId,
    /// Datagrams sent there.
    pub sent: u64,
    /// Datagrams that have come from there.
    pub received: u64,
    /// Datagrams that were sent from there and have not come.
    pub lost: u64,
    /// So many layers less than receivers have use for are asked for, because of the loss.
    pub layers_down: u8,
    /// Nothing is heard from there, although the link is used.
    pub is_silent: bool,
    /// While it is silent: the rooms with tracks that should come from there.
    pub rooms: Vec<RoomId>,
    /// The round trip, or what is assumed of it.
    pub rtt: Duration,
}

/// Counters of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardCounters {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// RTP packets believed.
    pub packets_in: u64,
    /// Bytes of RTP packets believed.
    pub bytes_in: u64,
    /// RTP packets forwarded; in the shard's own copy, to clients that have left.
    pub forwarded: u64,
    /// Bytes of RTP packets forwarded, likewise.
    pub forwarded_bytes: u64,
    /// Requests for key frames sent to publishers.
    pub key_frames: KeyFrameCounts,
    /// Retransmissions sent.
    pub resent: u64,
    /// Packets that were sent again to other shards.
    pub relayed_again: u64,
    /// Packets that came from other shards.
    pub relayed_in: u64,
    /// Clients that have moved to other shards.
    pub moved: u64,
    /// Packets sent to other shards.
    pub relayed_out: u64,
    /// What was dropped, and why.
    pub drops: Drops,
    /// Events for the control plane that were lost, as it did not take those before.
    pub events_lost: u64,
    /// Panics that were contained.
    pub panics: u64,
}

/// What went through a shard's sockets since they were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Receives that brought them; fewer than datagrams with GRO.
    pub receives: u64,
    /// Datagrams longer than the receive buffer, dropped.
    pub too_long: u64,
    /// Receives that failed, for example over an ICMP error.
    pub receive_errors: u64,
    /// Receive calls that filled all buffers (more datagrams may wait in the socket).
    pub out_of_buffers: u64,
    /// Datagrams dropped by the kernel because the socket's buffer was full.
    pub kernel_drops: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Their bytes, with those of datagrams that failed.
    pub bytes_out: u64,
    /// Sends that carried them; fewer than datagrams with GSO.
    pub sends: u64,
    /// Datagrams refused by the kernel.
    pub send_failed: u64,
    /// Datagrams dropped because the socket's buffer was full.
    pub would_block: u64,
    /// Datagrams sent one by one because GSO was refused.
    pub without_gso: u64,
    /// System calls.
    pub enters: u64,
    /// Submissions that the ring refused.
    pub submit_errors: u64,
    /// What goes over connections in the place of datagrams, and is in none of the figures above.
    pub tcp: TcpStats,
}

/// What a shard counted of media over TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStats {
    /// Connections that there are.
    pub open: u64,
    /// Connections that were let in.
    pub accepted: u64,
    /// Connections that were not, as there were too many.
    pub refused: u64,
    /// Connections that ended before a client had proven to have them.
    pub strangers: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Datagrams that were left out because too much waited, or the connection had ended.
    pub left_out: u64,
}
