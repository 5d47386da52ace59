//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104, REMB, transport-wide feedback): compound packets read in place, and
//! written into a slice.

mod parse;
mod write;

#[cfg(test)]
pub(super) mod tests;

use std::time::Duration;

use crate::id::Ssrc;

pub use parse::{Nacks, RtcpMessage, Ssrcs, parse};
pub use write::{Full, SenderInfo, Writer};

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
mod kind {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SOURCE_DESCRIPTION: u8 = 202;
    pub(super) const BYE: u8 = 203;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
}

/// Feedback message types (RFC 4585 section 6, RFC 5104 section 4.3).
mod format {
    pub(super) const NACK: u8 = 1;
    pub(super) const TRANSPORT_WIDE: u8 = 15;
    pub(super) const PLI: u8 = 1;
    pub(super) const FIR: u8 = 4;
    pub(super) const APPLICATION: u8 = 15;
}

/// What a receiver says of one stream (RFC 3550 section 6.4.1).
///
/// ```text
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                              SSRC                             |
/// | fraction lost |       cumulative number of packets lost       |
/// |           extended highest sequence number received           |
/// |                      interarrival jitter                      |
/// |                         last SR (LSR)                         |
/// |                   delay since last SR (DLSR)                  |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub about: Ssrc,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; below zero when more duplicates came than packets were lost. 24 bits.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with the number of wraps above it.
    pub highest_sequence: u32,
    /// In the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time; 0 without one.
    pub last_sr: u32,
    /// Time since that report came, in 1/65,536 s.
    pub delay_since_last_sr: u32,
}

/// The NTP time, 32.32 bits (RFC 3550 section 4), of a time since the Unix epoch.
pub fn ntp_time(since_unix_epoch: Duration) -> u64 {
    /// Seconds from 1900 to 1970.
    const OFFSET: u64 = 2_208_988_800;
    let fraction = (u64::from(since_unix_epoch.subsec_nanos()) << 32) / 1_000_000_000;
    (since_unix_epoch.as_secs() + OFFSET) << 32 | fraction
}
