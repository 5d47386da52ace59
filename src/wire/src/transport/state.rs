//! A connected transport that goes on elsewhere: the keys and counters that the client has on its side, too.
//!
//! With AES-GCM a pair of key and index must never seal two packets (RFC 7714 section 8.4). So a state is taken by
//! [`Transport::freeze`], after which nothing is sealed here any more, and is used once, by [`Transport::thaw`].

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::ice::{IceLite, IceState};
use super::srtp::{SrtpIn, SrtpInState, SrtpKeys, SrtpOut, SrtpProfile};
use super::{Srtp, Transport, TransportConfig};
use crate::negotiate::IceCredentials;

/// What goes on of a transport. The keys are overwritten when it is dropped, and it does not show them.
#[derive(Serialize, Deserialize)]
pub struct TransportState {
    profile: u16,
    keys: [super::srtp::MasterKey; 2],
    rtcp_index: u32,
    incoming: SrtpInState,
    local: IceCredentials,
    remote: IceCredentials,
}

impl fmt::Debug for TransportState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportState({})", self.local.ufrag)
    }
}

/// A connected transport with the addresses of its client, for a process that takes the socket over as well.
#[derive(Debug, Serialize, Deserialize)]
pub struct WholeTransport {
    state: TransportState,
    ice: IceState,
}

/// A state that is not of the transport that it was given to, or of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitState {
    /// There is no SRTP profile with this number.
    #[error("has the unknown SRTP profile {0}")]
    Profile(u16),
    /// Streams that one client cannot have had.
    #[error("has streams that are out of bounds")]
    Streams,
    /// ICE credentials of another restart.
    #[error("is of another ICE restart")]
    Restart,
    /// More addresses than one client is believed to have.
    #[error("has too many addresses")]
    Addresses,
}

impl Transport {
    /// Waits for a client that is connected elsewhere to prove that it reaches this place, with the credentials of its ICE
    /// restart. Nothing is opened or sealed before [`Self::thaw`].
    pub fn awaiting(now: Instant, config: &TransportConfig, local: IceCredentials, remote: IceCredentials) -> Self {
        let mut ice = IceLite::new(now, local, remote);
        // There is no handshake that would prove an address.
        ice.settle(None);
        Self::unconnected(now, config, ice, None)
    }

    /// Stops sealing and opening, for ever; what goes on elsewhere, or `None` when it is not connected. Connectivity checks
    /// are still answered.
    pub fn freeze(&mut self) -> Option<TransportState> {
        let state = self.state()?;
        (self.srtp, self.dtls) = (None, None);
        Some(state)
    }

    fn state(&self) -> Option<TransportState> {
        let Srtp { out, incoming, keys } = self.srtp.as_ref()?;
        Some(TransportState {
            profile: keys.profile.id(),
            keys: [keys.local.clone(), keys.remote.clone()],
            rtcp_index: out.rtcp_index(),
            incoming: incoming.state(),
            local: self.ice.local().clone(),
            remote: self.ice.remote().clone(),
        })
    }

    /// Everything that goes on in another process with the same socket; `None` when it is not connected. **Nothing may be
    /// sealed here any more**, unless it is certain that the other process never begins.
    pub fn whole(&self, now: Instant) -> Option<WholeTransport> {
        Some(WholeTransport { state: self.state()?, ice: self.ice.state(now) })
    }

    /// Goes on in this process, with the socket of another one: the client is where it was, and notices nothing.
    pub fn take_over(now: Instant, config: &TransportConfig, whole: WholeTransport) -> Result<Self, UnfitState> {
        let WholeTransport { state, ice } = whole;
        let credentials = (state.local.clone(), state.remote.clone());
        let ice = IceLite::take_over(now, credentials, ice).ok_or(UnfitState::Addresses)?;
        let mut transport = Self::unconnected(now, config, ice, None);
        transport.thaw(now, state)?;
        Ok(transport)
    }

    /// Goes on where another place has stopped.
    pub fn thaw(&mut self, now: Instant, state: TransportState) -> Result<(), UnfitState> {
        let TransportState { profile, keys, rtcp_index, incoming: streams, local, remote } = state;
        let profile = SrtpProfile::from_id(profile).ok_or(UnfitState::Profile(profile))?;
        if (&local, &remote) != (self.ice.local(), self.ice.remote()) {
            return Err(UnfitState::Restart);
        }
        let [local, remote] = keys;
        let mut incoming = SrtpIn::new(profile, &remote, self.max_ssrcs);
        if !incoming.resume(streams) {
            return Err(UnfitState::Streams);
        }
        let out = SrtpOut::resumed(profile, &local, rtcp_index);
        self.srtp = Some(Srtp { out, incoming, keys: Box::new(SrtpKeys { profile, local, remote }) });
        self.forgive_silence(now);
        Ok(())
    }
}
