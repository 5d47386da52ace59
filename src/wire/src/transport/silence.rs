//! What is not heard of a client: its end where it says nothing, or nothing that can be read, and its answers to checks.

use std::time::{Duration, Instant};

use super::Transport;
use crate::packet::AddressPair;

/// By how much the silence that ends a handshake is longer than the one that ends a connection.
const HANDSHAKE_FIRST: Duration = Duration::from_secs(5);
/// How long a client is silent behind a goodbye that cannot be read before it is believed to be one: clients that live check
/// their path at least every six seconds (RFC 7675 section 5.1).
const GOODBYE: Duration = Duration::from_secs(10);

impl Transport {
    /// This process stood still: silence counts from `now`, as nobody could be heard.
    pub fn forgive_silence(&mut self, now: Instant) {
        (self.heard_media, self.farewell) = (now, None);
        self.idle_at = now + self.idle_timeout;
    }

    /// A DTLS record has come for which there are no keys here, as the handshake was elsewhere. Behind a handshake clients send
    /// one only to say goodbye. Anybody could send it, so it ends nothing by itself: the client is silent from now on if it is one.
    pub(super) fn note_farewell(&mut self, now: Instant) {
        if self.srtp.is_some() {
            self.farewell = Some(now);
            self.idle_at = self.idle_at.min(now + GOODBYE);
        }
    }

    /// Looks at silence, and says when to look again.
    pub(super) fn is_silent(&mut self, now: Instant) -> bool {
        // A handshake has a bound of its own, and says more when it ends by it.
        let timeout = self.idle_timeout + if self.srtp.is_some() { Duration::ZERO } else { HANDSHAKE_FIRST };
        let heard = self.ice.last_heard().max(self.heard_media);
        self.farewell = self.farewell.filter(|at| *at >= heard);
        let idle_at = heard + timeout;
        self.idle_at = self.farewell.map_or(idle_at, |at| idle_at.min(at + GOODBYE));
        now >= self.idle_at
    }

    /// Where a check is to be sent again now, as it was not answered: see [`Transport::check`].
    pub fn check_again(&self, now: Instant) -> Option<AddressPair> {
        self.ice.check_again().filter(|(at, _)| !self.ended && *at <= now).map(|(_, address)| address)
    }

    /// When [`Transport::check_again`] has something to tell.
    pub fn check_timeout(&self) -> Option<Instant> {
        self.ice.check_again().filter(|_| !self.ended).map(|(at, _)| at)
    }
}
