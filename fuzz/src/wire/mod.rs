//! The targets that need moonring-wire alone: what parses a stranger's bytes.

mod dtls;
mod framing;
mod link;
mod media;
mod seal;
mod text;

use super::target::{Parts, Target, joined};

/// The targets.
pub const TARGETS: &[Target] = &[
    Target { name: "rtp", run: media::rtp, seeds: media::rtp_seeds },
    Target { name: "payload", run: media::payload, seeds: media::payload_seeds },
    Target { name: "dependency", run: media::dependency, seeds: media::dependency_seeds },
    Target { name: "red", run: media::red, seeds: media::red_seeds },
    Target { name: "rtcp", run: media::rtcp, seeds: media::rtcp_seeds },
    Target { name: "stun", run: seal::stun, seeds: seal::stun_seeds },
    Target { name: "srtp", run: seal::srtp, seeds: seal::srtp_seeds },
    Target { name: "dtls", run: dtls::dtls, seeds: dtls::dtls_seeds },
    Target { name: "framing", run: framing::framing, seeds: framing::framing_seeds },
    Target { name: "link", run: link::link, seeds: link::link_seeds },
    Target { name: "sdp", run: text::sdp, seeds: text::sdp_seeds },
    Target { name: "signalling", run: text::signalling, seeds: text::signalling_seeds },
];
