//! What a shard is told at its start.

use std::net::SocketAddr;
use std::time::Duration;

use crate::room::client;
use crate::room::history::HistoryLimits;
use crate::room::links::LinkSettings;
use moonring_wire::media::CodecName;
use moonring_wire::transport::TransportConfig;
use moonring_wire::transport::dtls::Certificate;

/// How a shard works, and what is allowed on it.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// Certificate, SRTP profiles, timeouts.
    pub transport: TransportConfig,
    /// Addresses for the answers' candidates: this shard's port under every announced address.
    pub candidates: Vec<SocketAddr>,
    /// There is somebody who takes TCP connections at these, too.
    pub over_tcp: bool,
    /// Codecs that publishers may use.
    pub codecs: Vec<CodecName>,
    /// H.264 goes to receivers that offer another profile of it, too: most decoders know more than they say.
    pub h264_any_profile: bool,
    /// Packets kept of a video layer.
    pub video_history: HistoryLimits,
    /// Packets kept of a sound track.
    pub audio_history: HistoryLimits,
    /// How long a client may take from its first offer to a media transport that is up.
    pub connect_timeout: Duration,
    /// Most clients in one room.
    pub max_clients_per_room: usize,
    /// Most clients on this shard.
    pub max_clients: usize,
    /// Rooms that scripts keep although nobody is in them; when there are more, the one that has been kept longest ends.
    pub max_kept_rooms: usize,
    /// Most tracks one client may publish.
    pub max_tracks_per_client: usize,
    /// How many of a room are heard at once, the loudest, unless its policy says otherwise; `None`: everybody.
    pub audio_last_n: Option<usize>,
    /// Tell of rooms, clients and tracks by [`Event::Webhook`](crate::command::Event::Webhook), not only of what scripts
    /// want to be told.
    pub webhooks: bool,
    /// What a publisher may send when the policy does not say otherwise, in bit/s.
    pub max_bitrate_bps: Option<u64>,
    /// How long the sound of a room in which four or more speak is held back, so that more of it leaves together; zero
    /// for not at all.
    pub sound_hold: Duration,
    /// The other shards, over which rooms may be spread.
    pub links: Option<LinkSettings>,
    /// With so many clients and more, what packets will touch is always read ahead: with fewer it is in the caches, unless
    /// the shard has slept.
    pub read_ahead_from: usize,
}

impl ShardSettings {
    /// From now on clients are told these addresses: `own` of this shard, `all` of all shards of this node.
    pub(super) fn tell_candidates(&mut self, own: Vec<SocketAddr>, all: Vec<Vec<SocketAddr>>) {
        self.candidates = own;
        if let Some(links) = &mut self.links {
            links.candidates = all;
        }
    }

    /// What the server's own defaults are: every codec, a second of each layer kept. Without `candidates`, which the
    /// answers to offers need.
    pub fn new(certificate: Certificate) -> Self {
        let age = Duration::from_secs(1);
        Self {
            transport: TransportConfig { max_ssrcs: client::MAX_SSRCS, ..TransportConfig::new(certificate) },
            candidates: Vec::new(),
            over_tcp: false,
            codecs: CodecName::ALL.to_vec(),
            h264_any_profile: false,
            video_history: HistoryLimits { age, bytes: 1024 * 1024 },
            // A second of Opus is 8 KiB at 64 kbit/s.
            audio_history: HistoryLimits { age, bytes: 16 * 1024 },
            connect_timeout: Duration::from_secs(20),
            max_clients_per_room: 500,
            max_clients: 50_000,
            max_kept_rooms: 1_000,
            max_tracks_per_client: 16,
            audio_last_n: None,
            webhooks: false,
            max_bitrate_bps: None,
            sound_hold: Duration::ZERO,
            links: None,
            read_ahead_from: 256,
        }
    }
}
