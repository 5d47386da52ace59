//! A client's state as bytes, so that it can leave the shard, the process, and the machine.
//!
//! ```text
//! version u16 | what the room knows | keys, counters, ICE        both in postcard's format
//! ```
//! The version counts up with every change of what is inside: another one is not read, as a state that is misread would
//! seal under indexes that were used.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::command::TrafficFigures;
use crate::room::client::{Client, MAX_FORWARDS, MAX_SSRCS};
use crate::room::congestion::PathState;
use crate::room::forward::{ForwardState, Terms};
use crate::room::negotiation::MAX_LAYERS;
use crate::room::track::TrackState;
use moonring_policy::client::{ClientFacts, Connection, Presence};
use moonring_wire::id::{ClientId, Mid, Ssrc, TrackId};
use moonring_wire::negotiate::{Fingerprint, Setup};
use moonring_wire::rights::Rights;
use moonring_wire::transport::{TransportState, WholeTransport};

/// Counts the changes of the encoding.
pub const VERSION: u16 = 9;
/// Bytes of a version.
const HEAD: usize = 2;
/// Longest state: of 256 forwards with layers inside each, which nobody has.
pub const MAX_STATE: usize = 1024 * 1024;
/// Of which the transport's has so much: every SSRC that a client may have had.
const MAX_TRANSPORT: usize = 128 * 1024;

/// Why a client's state is not taken.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is of another version of this program.
    #[error("the state has version {theirs}, this server reads version {VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// It is longer than any.
    #[error("the state has {0} bytes, more than {MAX_STATE}")]
    TooLong(usize),
    /// It is cut short, or no state.
    #[error("the state cannot be read: {0}")]
    Malformed(#[from] postcard::Error),
    /// It has what no client can have.
    #[error("the state is out of bounds: {0}")]
    Unsound(&'static str),
}

/// All of a client but its transport.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClientState {
    pub(in crate::shard) facts: FactsState,
    pub(super) came_early: bool,
    pub(super) is_announced: bool,
    fingerprint: Option<String>,
    /// The certificate that the client made its handshake with: its answers name that one for ever.
    shown: Option<String>,
    pub(super) setup: Setup,
    pub(super) answers: u64,
    pub(super) max_bitrate_bps: Option<u64>,
    pub(super) was_held: bool,
    pub(super) report_ssrc: Ssrc,
    /// Behind which further SSRCs are given out: none twice under one key.
    pub(super) last_ssrc: Ssrc,
    pub(super) terms: BTreeMap<TrackId, Terms>,
    pub(super) path: Option<PathState>,
    pub(super) tracks: Vec<TrackState>,
    pub(super) forwards: Vec<ForwardState>,
    /// Sections in their order: publishing ones by the place in `tracks`, others by the place among the forwards.
    pub(super) sections: Vec<(Mid, Option<u16>)>,
}

/// What the policy may know of it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::shard) struct FactsState {
    connection: Connection,
    metadata: String,
    attributes: String,
    /// Microseconds since it asked to join.
    age: u64,
    identity: Option<String>,
    rights: Rights,
    is_hidden: bool,
    pub(super) traffic: TrafficFigures,
}

impl FactsState {
    pub(in crate::shard) fn of(now: Instant, facts: &ClientFacts) -> Self {
        let age = now.saturating_duration_since(facts.since).as_micros();
        Self {
            connection: facts.connection.clone(),
            metadata: facts.metadata.to_string(),
            attributes: facts.attributes.borrow().to_string(),
            age: u64::try_from(age).unwrap_or(u64::MAX),
            identity: facts.identity.get().cloned(),
            rights: facts.rights.get(),
            is_hidden: facts.is_hidden.get(),
            traffic: TrafficFigures::of(&facts.traffic),
        }
    }

    /// The same facts at a place that knew nothing of the client.
    pub(in crate::shard) fn facts(&self, now: Instant, id: ClientId) -> Result<Rc<ClientFacts>, StateError> {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        let since = now.checked_sub(Duration::from_micros(self.age)).unwrap_or(now);
        let metadata = json(&self.metadata).ok_or(StateError::Unsound("metadata that is not JSON"))?;
        let facts = ClientFacts::new(id, self.connection.clone(), metadata.into(), since);
        let attributes = json(&self.attributes).filter(serde_json::Value::is_object);
        facts.attributes.replace(attributes.ok_or(StateError::Unsound("attributes that are no object"))?.into());
        facts.presence.set(Presence::Joined);
        facts.rights.set(self.rights);
        facts.is_hidden.set(self.is_hidden);
        if let Some(identity) = &self.identity {
            // It is said once.
            let _ = facts.identity.set(identity.clone());
        }
        self.traffic.note(&facts.traffic);
        Ok(Rc::new(facts))
    }
}

impl ClientState {
    /// The client's certificate.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint.as_deref().and_then(|text| Fingerprint::parse(text).ok().flatten())
    }

    /// The server's certificate, as the client knows it.
    pub(super) fn shown(&self) -> Option<Fingerprint> {
        self.shown.as_deref().and_then(|text| Fingerprint::parse(text).ok().flatten())
    }

    /// All that is told beside tracks, forwards and sections.
    pub(in crate::shard) fn of(now: Instant, client: &Client) -> Self {
        Self {
            facts: FactsState::of(now, &client.facts),
            came_early: client.came_early,
            is_announced: client.is_announced,
            fingerprint: client.negotiated.fingerprint.map(|fingerprint| fingerprint.to_string()),
            shown: client.negotiated.shown.map(|fingerprint| fingerprint.to_string()),
            setup: client.negotiated.setup,
            answers: client.negotiated.answers,
            max_bitrate_bps: client.inbound.max_bitrate_bps,
            was_held: client.inbound.was_held,
            report_ssrc: client.inbound.report_ssrc,
            last_ssrc: client.outbound.ssrcs.last(),
            terms: client.outbound.terms.clone(),
            path: client.outbound.congestion.as_ref().map(|path| path.state(now)),
            tracks: Vec::new(),
            forwards: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// Writes it with all of its transport, if it has one, for another process; `None` when it is longer than any may be.
    /// `scratch` has [`MAX_STATE`] bytes, and keys in it afterwards.
    pub(in crate::shard) fn write_whole(
        &self,
        transport: Option<&WholeTransport>,
        scratch: &mut [u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (head, rest) = scratch.split_first_chunk_mut::<HEAD>()?;
        *head = VERSION.to_be_bytes();
        let state = postcard::to_slice(self, rest).ok()?.len();
        let keys = postcard::to_slice(&transport, rest.get_mut(state..)?).ok()?.len();
        Some(Zeroizing::new(scratch.get(..HEAD + state + keys)?.to_vec()))
    }

    /// Reads what [`Self::write_whole`] has written.
    pub(in crate::shard) fn read_whole(bytes: &[u8]) -> Result<(Self, Option<WholeTransport>), StateError> {
        let (state, transport) = Self::read_parts::<Option<WholeTransport>>(bytes)?;
        let has_media = !(state.tracks.is_empty() && state.forwards.is_empty() && state.sections.is_empty());
        let unsound = match &transport {
            Some(_) => state.unsound(),
            None => has_media.then_some("media without a transport"),
        };
        unsound.map_or(Ok((state, transport)), |words| Err(StateError::Unsound(words)))
    }

    /// Writes it without its transport; `None` when it is longer than any may be.
    pub(super) fn write(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(vec![0; MAX_STATE]);
        bytes[..HEAD].copy_from_slice(&VERSION.to_be_bytes());
        let len = postcard::to_slice(self, &mut bytes[HEAD..MAX_STATE - MAX_TRANSPORT]).ok()?.len();
        bytes.truncate(HEAD + len);
        Some(bytes)
    }

    /// Reads what [`Self::write`] and [`add_transport`] have written, and checks what no reader of bytes can.
    pub fn read(bytes: &[u8]) -> Result<(Self, TransportState), StateError> {
        let (state, transport) = Self::read_parts(bytes)?;
        match state.unsound() {
            Some(words) => Err(StateError::Unsound(words)),
            None => Ok((state, transport)),
        }
    }

    fn read_parts<T: DeserializeOwned>(bytes: &[u8]) -> Result<(Self, T), StateError> {
        if bytes.len() > MAX_STATE {
            return Err(StateError::TooLong(bytes.len()));
        }
        let (version, rest) = bytes.split_first_chunk().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        let theirs = u16::from_be_bytes(*version);
        if theirs != VERSION {
            return Err(StateError::Version { theirs });
        }
        let (state, rest) = postcard::take_from_bytes::<Self>(rest)?;
        let (transport, rest) = postcard::take_from_bytes::<T>(rest)?;
        match rest {
            [] => Ok((state, transport)),
            _ => Err(StateError::Unsound("bytes behind its end")),
        }
    }

    fn unsound(&self) -> Option<&'static str> {
        let ssrcs = self.tracks.iter().map(|track| 2 * track.layers.len()).sum::<usize>();
        let is_place = |place: u16| usize::from(place) < MAX_FORWARDS;
        let mut places: Vec<_> = self.forwards.iter().map(|forward| forward.place).collect();
        places.sort_unstable();
        places.dedup();
        let knows = |place: &Option<u16>| place.is_none_or(|place| places.binary_search(&place).is_ok());
        let sections = &self.sections;
        let checks = [
            (self.fingerprint().is_some(), "no certificate"),
            (self.setup != Setup::ActPass, "no DTLS role"),
            (self.tracks.iter().all(|track| track.is_sound(MAX_LAYERS)), "a track that cannot be"),
            (ssrcs <= MAX_SSRCS, "too many SSRCs"),
            (places.iter().all(|place| is_place(*place)), "too many forwards"),
            (places.len() == self.forwards.len(), "two forwards in one place"),
            (sections.iter().all(|(_, place)| knows(place)), "a section without a forward"),
            (
                sections.iter().filter(|(_, place)| place.is_none()).count() == self.tracks.len(),
                "a track without a section",
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, words)| words)
    }
}

/// Adds the transport to a state that was written.
pub(super) fn add_transport(bytes: Zeroizing<Vec<u8>>, transport: &TransportState) -> Option<Zeroizing<Vec<u8>>> {
    let mut scratch = Zeroizing::new(vec![0; MAX_TRANSPORT]);
    let written = postcard::to_slice(transport, &mut scratch).ok()?;
    // In one piece, and never grown: what is grown leaves copies of keys behind.
    let mut all = Zeroizing::new(Vec::with_capacity(bytes.len() + written.len()));
    all.extend_from_slice(&bytes);
    all.extend_from_slice(written);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_state_is_refused_with_the_reason() {
        for (bytes, expected) in [
            (vec![], "the state cannot be read"),
            (vec![0], "the state cannot be read"),
            (vec![0, 5, 1, 2, 3], "the state has version 5, this server reads version 9"),
            (vec![0, 9], "the state cannot be read"),
            (vec![0, 9, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], "the state cannot be read"),
            (vec![0; MAX_STATE + 1], "the state has 1048577 bytes, more than 1048576"),
        ] {
            let words = ClientState::read(&bytes).map(drop).unwrap_err().to_string();
            assert!(words.starts_with(expected), "{words}");
        }
    }
}
