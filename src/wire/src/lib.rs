//! What moonring's bytes mean: ids and media as types, session descriptions, the signalling messages, RTP and RTCP in
//! place, and a client's secure transport (ICE-lite, DTLS, SRTP). No I/O, no clock, no runtime.
//!
//! The load client, the fuzzers of the parsers and the tests against foreign peers stand on this crate alone.
#![forbid(unsafe_code)]

pub mod causes;
pub mod drops;
pub mod id;
pub mod link;
pub mod media;
pub mod message;
pub mod negotiate;
pub mod network;
pub mod packet;
pub mod rights;
pub mod rtp;
pub mod sdp;
pub mod shared;
pub mod transport;
