//! What the two libraries have in common.

use std::time::Instant;

use crate::drops::DropReason;
use crate::transport::srtp::SrtpKeys;

/// A library that does a handshake, and keeps the association that comes of it.
///
/// Each call that may produce something is followed by [`Stack::poll`] until that returns `None`.
pub(super) trait Stack: std::fmt::Debug + Send {
    /// Takes a datagram of whole records.
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason>;

    /// Sends again what was not answered.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`Stack::handle_timeout`] is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Hands what is to be sent to `sink`, and returns what happened. `scratch` has [`super::SCRATCH`] bytes.
    fn poll(&mut self, scratch: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> Option<StackEvent>;

    /// Ends a complete association with `close_notify`.
    fn close(&mut self, now: Instant);
}

/// What became of a handshake or of the association.
#[derive(Debug)]
pub(super) enum StackEvent {
    /// The peer has proven to own the expected certificate, and these are the keys.
    Connected(SrtpKeys),
    /// There will be no keys.
    Failed {
        /// The reason in words.
        reason: String,
        /// The alert that the peer has not got from the library itself.
        alert: Option<u8>,
    },
    /// The peer has ended the association.
    Closed,
}

impl StackEvent {
    pub(super) fn failed(reason: impl Into<String>, alert: Option<u8>) -> Self {
        Self::Failed { reason: reason.into(), alert }
    }
}

pub(super) const OTHER_CERTIFICATE: &str =
    "the client's certificate is not the one of its offer (the fingerprint differs)";
pub(super) const NO_CERTIFICATE: &str = "the client has shown no certificate";
pub(super) const NO_COMMON_PROFILE: &str =
    "no common SRTP profile: the client offers none of those that this server accepts";
