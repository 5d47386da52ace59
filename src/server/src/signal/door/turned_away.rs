//! Tells the operator at which limits newcomers are turned away: they are told themselves, and nobody else would notice.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use moonring_wire::id::RoomId;

use super::Thing;

/// Between two lines of the log about one limit.
const EVERY: Duration = Duration::from_secs(60);

/// What newcomers have met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::signal) enum Limit {
    /// All connections of the server are taken.
    Connections,
    /// All places for clients are taken.
    Clients,
    /// All rooms are taken.
    Rooms,
    /// All places to wait for a verdict are taken.
    Joins,
    /// A room, or the shard that it is on, takes no more.
    Room,
    /// One address holds as much as it may.
    Address(Thing),
    /// So many joins of one address were refused that it has to wait.
    Refusals,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "as many connections are open as clients_max and the descriptors (LimitNOFILE) allow",
            Self::Clients => "as many clients are here as clients_max allows",
            Self::Rooms => "as many rooms are open as rooms_max allows",
            Self::Joins => "as many joins wait for the verdict of a script as may",
            Self::Room => "a room has as many clients as clients_per_room allows, or its shard as many as it takes",
            Self::Address(Thing::Connection) => {
                "an address has as many connections as connections_per_address allows (behind a proxy, trust_proxy tells addresses apart)"
            }
            Self::Address(Thing::Client) => {
                "an address has as many clients as clients_per_address allows (behind a proxy, trust_proxy tells addresses apart)"
            }
            Self::Address(Thing::Room) => "an address has opened as many rooms as rooms_per_address allows",
            Self::Address(Thing::Join) => "as many joins of an address wait for the verdict of a script as may",
            Self::Refusals => "too many joins of an address were refused, and it has to wait",
        })
    }
}

/// Where somebody has met a limit, as far as that is part of it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::signal) struct Met<'a> {
    address: Option<IpAddr>,
    room: Option<&'a RoomId>,
}

impl<'a> Met<'a> {
    /// The address has it.
    pub(in crate::signal) fn at(address: IpAddr) -> Self {
        Self { address: Some(address), room: None }
    }

    /// On the way into this room.
    pub(in crate::signal) fn on_the_way_to(room: &'a RoomId) -> Self {
        Self { address: None, room: Some(room) }
    }
}

/// Who was turned away.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    is_of_admin_pages: bool,
    count: AtomicU64,
    said: Mutex<BTreeMap<Limit, Said>>,
}

/// The last line about a limit, and how many have met it since.
#[derive(Debug)]
struct Said {
    at: Instant,
    unsaid: u64,
}

impl TurnedAway {
    /// Nobody yet, at the admin pages.
    pub(super) fn of_admin_pages() -> Self {
        Self { is_of_admin_pages: true, ..Self::default() }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one, and says so in the log: the first time, and once a minute for as long as it goes on.
    pub(super) fn add(&self, now: Instant, limit: Limit, met: Met<'_>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let Some(turned_away) = self.due(now, limit) else { return };
        let (address, room) = (met.address.map(tracing::field::display), met.room.map(tracing::field::display));
        match self.is_of_admin_pages {
            true => {
                let words = "as many connections to them are open as may be, in all or of one address: end some";
                tracing::warn!(turned_away, address, "who asks the admin pages is turned away: {words}");
            }
            false => tracing::warn!(turned_away, address, room, "newcomers are turned away: {limit}"),
        }
    }

    /// How many are to be told of, if it is time to.
    fn due(&self, now: Instant, limit: Limit) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(&limit) {
            Some(last) if now.saturating_duration_since(last.at) < EVERY => {
                last.unsaid += 1;
                None
            }
            last => {
                let met = last.map_or(0, |last| last.unsaid) + 1;
                said.insert(limit, Said { at: now, unsaid: 0 });
                Some(met)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_told_of_at_once_and_then_once_a_minute_with_how_many_met_it() {
        let (turned_away, t0) = (TurnedAway::default(), Instant::now());
        for (seconds, limit, expected) in [
            (0, Limit::Clients, Some(1)),
            (1, Limit::Clients, None),
            (2, Limit::Rooms, Some(1)),
            (59, Limit::Clients, None),
            (60, Limit::Clients, Some(3)),
            (61, Limit::Address(Thing::Client), Some(1)),
            (61, Limit::Address(Thing::Room), Some(1)),
            (119, Limit::Clients, None),
            (500, Limit::Clients, Some(2)),
        ] {
            assert_eq!(turned_away.due(t0 + Duration::from_secs(seconds), limit), expected, "{seconds} {limit}");
        }
    }
}
