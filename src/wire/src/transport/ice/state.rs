//! Where a client is, for another process that goes on with the same socket. TCP connections end with this one.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::proof::{Asked, Budget};
use super::{IceLite, Login, MAX_VALIDATED, Validated};
use crate::negotiate::IceCredentials;
use crate::packet::{AddressPair, Local};

/// What goes on of a client's ICE beside its current credentials. Times are ages in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct IceState {
    /// This server's and the client's, before the last restart.
    previous: Option<(IceCredentials, IceCredentials)>,
    validated: Vec<Place>,
    selected: Option<(SocketAddr, Option<IpAddr>)>,
    last_heard: u64,
    generation: u32,
}

/// One address that is believed.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    address: (SocketAddr, Option<IpAddr>),
    heard: u64,
    nominated: Option<u64>,
    priority: u32,
    generation: u32,
    is_proven: bool,
}

impl IceLite {
    /// What goes on elsewhere. Checks and claims that are under way are made anew there.
    pub fn state(&self, now: Instant) -> IceState {
        let age = |at: Instant| u64::try_from(now.saturating_duration_since(at).as_micros()).unwrap_or(u64::MAX);
        let pair = |pair: AddressPair| match pair.local {
            Local::Any => Some((pair.remote, None)),
            Local::Address(ip) => Some((pair.remote, Some(ip))),
            Local::Connection(_) => None,
        };
        let place = |known: &Validated| {
            Some(Place {
                address: pair(known.address)?,
                heard: age(known.heard),
                nominated: known.nominated.map(age),
                priority: known.priority,
                generation: known.generation,
                is_proven: known.proven,
            })
        };
        IceState {
            previous: self.previous.as_ref().map(|login| (login.local.clone(), login.remote.clone())),
            validated: self.validated.iter().filter_map(place).collect(),
            selected: self.selected.and_then(pair),
            last_heard: age(self.last_heard),
            generation: self.generation,
        }
    }

    /// Goes on behind a handshake that another process has had. `None`: more addresses than a client can have.
    pub fn take_over(now: Instant, (local, remote): (IceCredentials, IceCredentials), state: IceState) -> Option<Self> {
        if state.validated.len() > MAX_VALIDATED {
            return None;
        }
        let at = |age: u64| now.checked_sub(Duration::from_micros(age)).unwrap_or(now);
        let pair = |(remote, local): (SocketAddr, Option<IpAddr>)| AddressPair {
            remote,
            local: local.map_or(Local::Any, Local::Address),
        };
        let known = |place: Place| Validated {
            address: pair(place.address),
            heard: at(place.heard),
            nominated: place.nominated.map(at),
            priority: place.priority,
            generation: place.generation.min(state.generation),
            proven: place.is_proven,
            asked: Asked::default(),
        };
        let mut ice = Self {
            current: Login::new(local, remote),
            previous: state.previous.map(|(local, remote)| Login::new(local, remote)),
            validated: state.validated.into_iter().map(known).collect(),
            selected: state.selected.map(pair),
            is_selected_proven: false,
            last_heard: at(state.last_heard),
            generation: state.generation,
            settled: true,
            claims: Vec::new(),
            budget: Budget::new(now),
        };
        ice.note_proof();
        Some(ice)
    }
}
