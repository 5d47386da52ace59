//! RTP and RTCP on bytes; no I/O.
