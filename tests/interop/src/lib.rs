//! Nothing: the tests are in `tests/`.

// For their features: see Cargo.toml.
use tempfile as _;
use webrtc_dtls as _;
use webrtc_srtp as _;
use webrtc_util as _;
