//! What peers have in common.

use std::time::Duration;

use moonring_wire::transport::dtls::{Certificate, DtlsVersions};
use moonring_wire::transport::srtp::SrtpProfile;

use crate::media::Clock;

/// What all peers of a load have in common.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// One certificate for all, so that thousands of peers need no thousand keys.
    pub certificate: Certificate,
    /// DTLS versions that are spoken.
    pub versions: DtlsVersions,
    /// SRTP profiles that are accepted.
    pub profiles: Vec<SrtpProfile>,
    /// Turns [`std::time::Instant`]s into the nanoseconds that payloads carry.
    pub clock: Clock,
    /// Ask for lost packets.
    pub nack: bool,
    /// The bandwidth to claim by REMB, if any.
    pub remb_bps: Option<u64>,
    /// Tell the server when its packets arrive (transport-wide congestion control), as browsers do.
    pub transport_feedback: bool,
    /// Open one packet in so many (1: all); the others are counted by their headers alone, which costs less.
    pub open_one_in: u32,
    /// Packets of each published track that can be sent again.
    pub resend_packets: usize,
    /// Time between two reports.
    pub report_interval: Duration,
    /// Without a valid answer to a check for so long, the server is gone (RFC 7675 section 5.1 has 30 s).
    pub consent_timeout: Duration,
}

impl PeerConfig {
    /// The usual settings.
    pub fn new(certificate: Certificate, clock: Clock) -> Self {
        Self {
            certificate,
            versions: DtlsVersions::default(),
            profiles: SrtpProfile::ALL.to_vec(),
            clock,
            nack: true,
            remb_bps: None,
            transport_feedback: false,
            open_one_in: 1,
            resend_packets: 256,
            report_interval: Duration::from_secs(1),
            consent_timeout: Duration::from_secs(30),
        }
    }
}
