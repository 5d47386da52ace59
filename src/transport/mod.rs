//! One client's secure path: ICE-lite, DTLS, SRTP.

pub mod srtp;
