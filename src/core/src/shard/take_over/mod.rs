//! Another process goes on with this shard's sockets, its clients and its rooms: a new binary without an end of any call.
//!
//! ```text
//!       shard of the old process                                    shard of the new process
//!   forward_all: nothing waits any more
//!   hand_over: a copy of everything that seals and opens -------->  take_over: reads all of it, seals nothing
//!   (seals nothing; goes on if the other side fails)                (seals nothing)
//!        <------------------------------------------------------    all of it is good
//!   ends, or goes on: not both ---------------------------------->  goes on, or is thrown away
//!   hand_over_policies: `on_unload` of each room ---------------->  policy_handed_over: `on_init`, `on_load`
//! ```
//! **A key, an SSRC and an index never seal two packets**: at most one of the two goes on from the moment of the copy.
//! Histories stay behind: what was sent before can't be sent again, and who lost it asks for a key frame. Everybody goes on
//! under the same numbers, as forwards speak the publishers' own indexes.
//!
//! Media does not wait for scripts: a room forwards while its policy is on its way, and what would call a hook waits for it.

mod arrive;
mod leave;
mod policies;
mod state;

use std::time::Duration;

use moonring_wire::id::ClientId;
use zeroize::Zeroizing;

pub use policies::STATE_PATIENCE;
pub(super) use policies::{Awaited, NO_START, Origin};
pub use state::{TakeOverError, VERSION};

/// How long a shard may catch up with what has waited meanwhile, before it leaves anything out for lack of time.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A piece of a shard's state, in bytes that another process reads. Some have keys: they are overwritten when this is dropped.
pub type Piece = Zeroizing<Vec<u8>>;

/// What a shard hands over.
pub struct HandedOver {
    /// Its state, in the order in which it is read.
    pub pieces: Vec<Piece>,
    /// The clients that go on. The others have to join anew: their handshake, or their join, was under way.
    pub clients: Vec<ClientId>,
}

impl std::fmt::Debug for HandedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HandedOver({} clients in {} pieces)", self.clients.len(), self.pieces.len())
    }
}
