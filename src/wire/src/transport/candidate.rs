//! The candidates that an answer lists, written by `webrtc-ice`.

use std::net::SocketAddr;

use webrtc_ice::candidate::Candidate;
use webrtc_ice::candidate::candidate_base::CandidateBaseConfig;
use webrtc_ice::candidate::candidate_host::CandidateHostConfig;

/// RTP, and with rtcp-mux RTCP too (RFC 8445 section 5.1.1.1).
const COMPONENT: u16 = 1;

/// The values of `a=candidate:` lines (RFC 8839 section 5.1) for host candidates with these addresses, the preferred
/// one first.
pub fn candidate_lines(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().enumerate().filter_map(|(rank, address)| candidate_line(rank, *address)).collect()
}

fn candidate_line(rank: usize, address: SocketAddr) -> Option<String> {
    // RFC 8445 section 5.1.2.1: type preference 126 for hosts, a local preference of its own for each address.
    let local_preference = u32::from(u16::MAX) - rank.min(usize::from(u16::MAX)) as u32;
    let base_config = CandidateBaseConfig {
        // Not part of the line; given, so that none is made up.
        candidate_id: "candidate:host".into(),
        network: "udp".into(),
        address: address.ip().to_string(),
        port: address.port(),
        component: COMPONENT,
        priority: 126 << 24 | local_preference << 8 | u32::from(256 - COMPONENT),
        ..CandidateBaseConfig::default()
    };
    let config = CandidateHostConfig { base_config, ..CandidateHostConfig::default() };
    config.new_candidate_host().ok().map(|candidate| candidate.marshal())
}

#[cfg(test)]
mod tests {
    use webrtc_ice::candidate::candidate_base::unmarshal_candidate;

    use super::*;

    #[test]
    fn candidates_are_lines_that_a_client_reads_back() {
        let addresses = ["192.0.2.1:40000".parse().unwrap(), "[2001:db8::1]:40001".parse().unwrap()];
        let lines = candidate_lines(&addresses);
        assert_eq!(lines.len(), 2);
        for (line, address) in lines.iter().zip(addresses) {
            let read = unmarshal_candidate(line).unwrap();
            assert_eq!((read.address(), read.port()), (address.ip().to_string(), address.port()), "{line}");
        }
        assert!(lines[0].contains(" 1 udp 2130706431 192.0.2.1 40000 typ host"), "{}", lines[0]);
        assert!(lines[1].contains(" 1 udp 2130706175 2001:db8::1 40001 typ host"), "{}", lines[1]);
    }
}
