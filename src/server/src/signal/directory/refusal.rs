//! Why nobody is let in, before any policy is asked.

use std::time::Instant;

use moonring_core::command::{Event, LeaveCause};
use moonring_wire::id::{ClientId, RoomId};

use super::super::door::{Limit, Met};
use super::waiting::is_refusal;
use super::{Directory, Outlet, Route};

/// What an address with too many clients is told to wait, in seconds.
const ADDRESS_RETRY_S: u64 = 10;

/// Why nobody was let in, before any policy was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// All rooms are taken.
    #[error("the server has no room left for another room")]
    Rooms,
    /// All places are taken.
    #[error("the server has no place left for another client")]
    Clients,
    /// All places to wait for a verdict are taken, by many addresses.
    #[error("too many people are joining at once, please try again")]
    Joins,
    /// The address has as many of these as it may.
    #[error("too many {0} from your address")]
    Address(&'static str),
    /// Another process takes over from this one.
    #[error("the server's program is being replaced: try again")]
    Replaced,
    /// Too many joins of the address were refused lately.
    #[error("too many refused joins from your address: try again in {0} s")]
    Later(u64),
}

impl Refusal {
    /// Seconds after which another try makes sense, when it is the address that has to wait.
    pub(crate) fn retry_after(self) -> Option<u64> {
        match self {
            Self::Later(seconds) => Some(seconds),
            Self::Address(_) => Some(ADDRESS_RETRY_S),
            Self::Replaced => Some(1),
            Self::Rooms | Self::Clients | Self::Joins => None,
        }
    }
}

impl Directory {
    /// Ends a client that has no place, once its route is taken out.
    pub(super) fn turn_out(&self, client: ClientId, route: Route, cause: fn(String) -> LeaveCause, reason: &str) {
        if let Outlet::Attached(outbox) = &route.outlet {
            let _ = outbox.push(Event::Left { client: client.clone(), cause: cause(reason.to_owned()) });
        }
        self.say_goodbye(route.shard, client, reason);
    }

    /// Tells the operator of a limit of the server that somebody has met who asked for this room: of those of an address, the
    /// door has told.
    pub(super) fn met(&self, refusal: Refusal, room: &RoomId) -> Refusal {
        let (limit, met) = match refusal {
            Refusal::Rooms => (Limit::Rooms, Met::default()),
            Refusal::Clients => (Limit::Clients, Met::default()),
            Refusal::Joins => (Limit::Joins, Met::on_the_way_to(room)),
            Refusal::Address(_) | Refusal::Replaced | Refusal::Later(_) => return refusal,
        };
        self.door().turn_away(Instant::now(), limit, met);
        refusal
    }

    /// Counts a join that its shard has ended, and tells the operator why.
    pub(super) fn join_ended(&self, client: &ClientId, route: &Route, cause: &LeaveCause) {
        let now = Instant::now();
        if is_refusal(cause) {
            route.permit.refused(now);
        }
        if matches!(cause, LeaveCause::Limit(_)) {
            self.door().turn_away(now, Limit::Room, Met::on_the_way_to(&route.room));
        }
        let reason = match cause {
            LeaveCause::Rejected(words)
            | LeaveCause::Undecided(_, words)
            | LeaveCause::Kicked(words)
            | LeaveCause::TransportFailed(words)
            | LeaveCause::Limit(words)
            | LeaveCause::Later(words) => words,
            // It goes by itself, or goes on elsewhere.
            LeaveCause::Left | LeaveCause::Shutdown | LeaveCause::Moved(_) | LeaveCause::GoesOn(_) => return,
        };
        self.door().join_refused(now, &route.room, (client, route.permit.origin()), reason);
    }
}
