//! How much a handshake sends where, before anybody is known to be there.

use crate::packet::AddressPair;

/// Bytes that a handshake may send, beside three for each that came (RFC 9147 section 5.1 has no such number; RFC 9000
/// section 8 has the three): a flight with its repetitions.
const HANDSHAKE_BYTES: usize = 8 * 1024;

/// What the handshake has sent where.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    to: Flights,
    pub(super) bytes_in: usize,
    bytes_out: usize,
}

/// Where the flights of a handshake went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flights {
    #[default]
    Nowhere,
    To(AddressPair),
    ToSeveral,
}

impl Handshake {
    /// Counts a datagram of a flight; false when it would be more than an address may get that nobody is known to be at.
    pub(super) fn may_send(&mut self, to: AddressPair, bytes: usize) -> bool {
        self.to = match self.to {
            Flights::Nowhere => Flights::To(to),
            Flights::To(before) if before == to => Flights::To(to),
            Flights::To(_) | Flights::ToSeveral => Flights::ToSeveral,
        };
        self.bytes_out += bytes;
        self.bytes_out <= HANDSHAKE_BYTES + 3 * self.bytes_in
    }

    /// The address where the client must have been to finish the handshake.
    pub(super) fn proven(&self) -> Option<AddressPair> {
        match self.to {
            Flights::To(address) => Some(address),
            Flights::Nowhere | Flights::ToSeveral => None,
        }
    }
}
