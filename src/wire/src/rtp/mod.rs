//! RTP and RTCP on bytes; no I/O, no clock, no allocation on the path of a packet.
//!
//! | file | what |
//! |---|---|
//! | [`protocol`] | STUN, DTLS, RTP or RTCP: by the first two bytes of a datagram |
//! | [`header`] | the RTP header: reading it in place, writing a fresh one |
//! | [`extension`] | the values of header extensions |
//! | [`sequence`] | 16-bit sequence numbers and 32-bit time stamps without their wraps |
//! | [`codec`] | what a forwarder must know of a payload: key frames, layers, picture ids |
//! | [`dependency`] | the dependency descriptor: layers of any codec, and what each frame needs |
//! | [`rtcp`] | RTCP: reading compound packets, writing reports and feedback |
//! | [`receive`] | statistics of a received stream, for its report blocks |
//! | [`nack`] | which lost packets to ask for again, and when |
//! | [`red`] | sound with the packets of the past in it (RFC 2198) |
//! | [`rtx`] | retransmissions (RFC 4588) and back |
//! | [`twcc`] | transport-wide arrival times, for the sender's bandwidth estimation |
mod bits;
pub mod codec;
pub mod dependency;
pub mod extension;
pub mod header;
pub mod nack;
pub mod protocol;
pub mod receive;
pub mod red;
pub mod rtcp;
pub mod rtx;
pub mod sequence;
pub mod twcc;

#[cfg(test)]
mod random;
#[cfg(test)]
mod robustness_tests;

/// The big-endian number in the first two bytes at `at`, if there are two.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// The big-endian number in the first four bytes at `at`, if there are four.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}
