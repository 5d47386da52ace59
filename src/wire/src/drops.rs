//! What is counted: per shard, plain integers; the control plane asks for a copy.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a datagram or packet was not believed or not forwarded; the label is the metric's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum DropReason { $($(#[$doc])* #[error($label)] $name,)* }
        impl DropReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The metric's label.
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }
        }
    };
}

drop_reasons! {
    /// A datagram of no bytes.
    Empty = "empty",
    /// A datagram longer than the receive buffer, or media in packets longer than any that are sent.
    TooLong = "too_long",
    /// The first byte is of no protocol that RFC 7983 lists.
    UnknownProtocol = "unknown_protocol",
    /// The address is not one that ICE validated.
    UnknownAddress = "unknown_address",
    /// Not a well-formed STUN message.
    StunMalformed = "stun_malformed",
    /// A STUN message that is not a binding request.
    StunNotRequest = "stun_not_request",
    /// A STUN USERNAME that names no client here.
    StunUnknownUser = "stun_unknown_user",
    /// A STUN MESSAGE-INTEGRITY or FINGERPRINT that does not hold.
    StunBadIntegrity = "stun_bad_integrity",
    /// A valid STUN request from an address that another client has and this one has not proven to be its own.
    StunAddressTaken = "stun_address_taken",
    /// Valid STUN requests from more addresses than a client may come from without proving that it is there.
    StunTooManyAddresses = "stun_too_many_addresses",
    /// A STUN response that answers no check of this server's.
    StunUnexpectedAnswer = "stun_unexpected_answer",
    /// A DTLS record that the handshake refuses.
    Dtls = "dtls",
    /// DTLS records beyond the bound of a tick or a client.
    DtlsTooMany = "dtls_too_many",
    /// Not a well-formed RTP header.
    RtpMalformed = "rtp_malformed",
    /// An SSRC that belongs to no track of the client.
    RtpUnknownSsrc = "rtp_unknown_ssrc",
    /// A payload type that the track did not negotiate.
    RtpUnknownPayloadType = "rtp_unknown_payload_type",
    /// More SSRCs than one client may use.
    RtpTooManySsrcs = "rtp_too_many_ssrcs",
    /// RTP or RTCP before the handshake is complete.
    SrtpNotReady = "srtp_not_ready",
    /// An SRTP packet whose tag does not hold.
    SrtpBadTag = "srtp_bad_tag",
    /// An SRTP packet seen before.
    SrtpReplay = "srtp_replay",
    /// An SRTP packet too old for the replay window.
    SrtpTooOld = "srtp_too_old",
    /// An SRTCP packet that is malformed, unencrypted or without a valid tag.
    SrtcpBad = "srtcp_bad",
    /// A compound RTCP packet that does not parse.
    RtcpMalformed = "rtcp_malformed",
    /// Sound of somebody who is not among the loudest of the room, of whom only some are heard.
    NotLoudest = "not_loudest",
    /// A packet of a muted or unpublished track.
    Muted = "muted",
    /// A datagram between shards from an address that is none of theirs.
    LinkUnknown = "link_unknown",
    /// A datagram between shards that is too short, or whose frames make no sense.
    LinkMalformed = "link_malformed",
    /// A datagram between shards whose tag does not hold: of another process, an older run, or changed on the way.
    LinkBadTag = "link_bad_tag",
    /// A datagram between shards seen before.
    LinkReplay = "link_replay",
    /// A datagram between shards too old for the replay window.
    LinkTooOld = "link_too_old",
    /// Media between shards of a track that has just ended, or is not known yet.
    LinkUnknownTrack = "link_unknown_track",
    /// The tick's bound on work was reached.
    Overload = "overload",
    /// Video that there was no time for: it had waited for too long, or the shard left its layer out.
    Shed = "shed",
    /// A packet asked for again while there was no time for all that was to be sent first.
    ResendShed = "resend_shed",
    /// The socket did not take it.
    SendFailed = "send_failed",
}

/// One number per [`DropReason`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    /// Counts one.
    pub fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }
    /// Counts `n`.
    pub fn add(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }
    /// How many were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }
    /// How many were dropped.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
