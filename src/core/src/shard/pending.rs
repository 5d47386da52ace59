//! What the shard waits for of policies.

use moonring_wire::id::{ClientKey, PlaceId, TrackKey};

/// What an answer of a policy is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PendingHook {
    Connect(ClientKey),
    Offer(ClientKey),
    Message(ClientKey),
    /// May a receiver go on with another track?
    Follow(ClientKey, u16, TrackKey),
    /// An operator's program has called; its number.
    Call(u64),
    /// The room is told that it ends.
    Close,
    /// A wing has asked.
    Far(FarQuestion),
    Notice,
}

/// An answer that a wing waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FarQuestion {
    pub(super) wing: PlaceId,
    /// `None` when it waits for no answer.
    pub(super) ticket: Option<u64>,
    /// The client that is to be admitted.
    pub(super) joining: Option<ClientKey>,
}
