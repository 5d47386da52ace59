//! The offers of one connection: one at a time, also across a resume.
//!
//! A client that resumes does not know whether the answer it waits for was lost with its connection, so it offers anew.
//! While the shard still decides on the offer from before, the new one is held here, and follows once that is decided.

use super::super::directory::PendingOffer;
use moonring_core::command::Command;

/// The offers that are not decided yet.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// The offer of this connection.
    current: Option<PendingOffer>,
    /// The offer of the connection before it.
    stale: Option<PendingOffer>,
    /// The current one, while it has to wait for the stale one.
    held: Option<Command>,
}

/// What to do with an offer.
#[derive(Debug)]
pub(super) enum Taken {
    /// It goes to the shard.
    Now(Command, PendingOffer),
    /// It waits.
    Held,
}

impl Offers {
    pub(super) fn after_resume(stale: Option<PendingOffer>) -> Self {
        Self { stale, ..Self::default() }
    }

    /// True while this connection's offer is not decided.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn take(&mut self, command: Command, offer: PendingOffer) -> Taken {
        self.current = Some(offer);
        if self.stale.is_none() {
            return Taken::Now(command, offer);
        }
        self.held = Some(command);
        Taken::Held
    }

    /// The shard has decided on the offer with this number. The stale one is decided first, whatever its number.
    pub(super) fn decided(&mut self, request: u64) -> Option<PendingOffer> {
        let is_it = |offer: &mut PendingOffer| offer.request == request;
        self.stale.take_if(is_it).or_else(|| self.current.take_if(is_it))
    }

    /// The offer that was held, once it may go.
    pub(super) fn release(&mut self) -> Option<(Command, PendingOffer)> {
        let offer = self.current.filter(|_| self.stale.is_none())?;
        self.held.take().map(|command| (command, offer))
    }

    /// The shard did not take the current offer.
    pub(super) fn lost(&mut self) {
        self.current = None;
    }
}
