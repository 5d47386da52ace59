//! Alerts in the clear (RFC 5246 section 7.2): how the peer of a failed handshake hears of it.

use super::record::ALERT;

pub(super) const HANDSHAKE_FAILURE: u8 = 40;
pub(super) const BAD_CERTIFICATE: u8 = 42;

/// A fatal alert as a whole datagram.
pub(super) fn fatal(description: u8) -> [u8; 15] {
    // The libraries do not tell the number of their last record. This one is larger than all of theirs, as it has to
    // be for a peer that looks for replays, and nothing follows it.
    [ALERT, 0xFE, 0xFD, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 2, description]
}

/// The name that RFC 5246 section 7.2 or RFC 8446 section 6 gives an alert.
pub(super) fn name(description: u8) -> &'static str {
    match description {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        HANDSHAKE_FAILURE => "handshake_failure",
        BAD_CERTIFICATE => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        90 => "user_canceled",
        116 => "certificate_required",
        _ => "unknown",
    }
}
