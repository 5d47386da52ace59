//! The targets that need moonring-wire alone: what parses a stranger's bytes.

mod dtls;
mod link;
mod media;
mod seal;
mod text;

use super::target::{Parts, Target, joined};

/// The targets.
pub const TARGETS: &[Target] = &[
    Target { name: "rtp", run: media::rtp, seeds: media::rtp_seeds, rounds: 20_000 },
    Target { name: "payload", run: media::payload, seeds: media::payload_seeds, rounds: 20_000 },
    Target { name: "dependency", run: media::dependency, seeds: media::dependency_seeds, rounds: 20_000 },
    Target { name: "rtcp", run: media::rtcp, seeds: media::rtcp_seeds, rounds: 20_000 },
    Target { name: "stun", run: seal::stun, seeds: seal::stun_seeds, rounds: 10_000 },
    Target { name: "srtp", run: seal::srtp, seeds: seal::srtp_seeds, rounds: 5_000 },
    Target { name: "dtls", run: dtls::dtls, seeds: dtls::dtls_seeds, rounds: 150 },
    Target { name: "link", run: link::link, seeds: link::link_seeds, rounds: 20_000 },
    Target { name: "sdp", run: text::sdp, seeds: text::sdp_seeds, rounds: 2_000 },
    Target { name: "signalling", run: text::signalling, seeds: text::signalling_seeds, rounds: 10_000 },
];
