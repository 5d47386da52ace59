//! Where datagrams go.

use moonring_wire::packet::SendBatch;
use moonring_wire::transport::dtls;

/// Where a peer's datagrams go, and memory that handshakes need for a moment; shared by the peers of a thread. The
/// datagrams of a call are to be taken (and [`SendBatch::clear`]ed) before another peer's, which has another address.
#[derive(Debug)]
pub struct Outbox {
    /// The datagrams.
    pub batch: SendBatch,
    pub(super) scratch: Box<[u8]>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { batch: SendBatch::new(1 << 20, 1_024), scratch: vec![0; dtls::SCRATCH].into() }
    }
}
