//! What is said of a shard and of its rooms.
//!
//! ```text
//! pieces:  head  { room  { client }* }*        each of the first two in postcard's format, clients as in `moves::state`
//! ```

use serde::{Deserialize, Serialize};

use crate::shard::carried_room::CarriedRoom;
use crate::shard::moves::{self, StateError};
use moonring_wire::id::{ClientId, RoomId, TrackId};
use moonring_wire::transport::UnfitState;

/// Counts the changes of what a shard hands over, those of a client's state included: another version is not read.
pub const VERSION: u32 = (2 << 16) | moves::STATE_VERSION as u32;
/// Longest piece about a room: of its metadata, and of 50,000 clients and tracks.
pub(super) const MAX_ROOM: usize = 16 * 1024 * 1024;

/// Why a shard's state is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// It is of another version of this program.
    #[error("the shard's state has version {theirs}, this server reads version {VERSION}")]
    Version {
        /// Its version.
        theirs: u32,
    },
    /// There are fewer pieces, or more, than it says.
    #[error("the shard's state has {0}")]
    Pieces(&'static str),
    /// It is cut short, or no state.
    #[error("the shard's state cannot be read: {0}")]
    Malformed(#[from] postcard::Error),
    /// A client's state is not taken.
    #[error("client {client}: {error}")]
    Client {
        /// Whose.
        client: ClientId,
        /// Why.
        error: StateError,
    },
    /// A client's transport is not taken.
    #[error("client {client}: the transport {error}")]
    Transport {
        /// Whose.
        client: ClientId,
        /// Why.
        error: UnfitState,
    },
    /// Two rooms, or two clients, have the same name.
    #[error("{0} is there twice")]
    Twice(String),
}

/// The first piece.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) version: u32,
    /// Microseconds that send times count from the start of the shard.
    pub(super) since_start: u64,
    pub(super) rooms: u32,
}

/// What is known of a room beside its clients and its policy.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RoomState {
    pub(super) id: RoomId,
    /// What was said of it when it was opened, as JSON.
    pub(super) metadata: String,
    /// The microseconds for which it is kept although nobody is in it.
    pub(super) kept_for: Option<u64>,
    /// Everybody in it, in the order of coming: as many pieces follow.
    pub(super) clients: Vec<ClientId>,
    pub(super) tracks: Vec<TrackId>,
    pub(super) carried: CarriedRoom,
}
