//! What is checked before anybody is believed: STUN, SRTP, SRTCP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moonring_loadtest::peer::stun::{Key, MAX_REQUEST, Request};
use moonring_wire::negotiate::IceCredentials;
use moonring_wire::rtp::header::Header;
use moonring_wire::transport::ice::IceLite;
use moonring_wire::transport::srtp::{MAX_RTCP_OVERHEAD, MasterKey, SrtpIn, SrtpOut, SrtpProfile};
use moonring_wire::transport::stun::{self, MAX_RESPONSE, StunError, StunKey, check};

use super::{Parts, joined};

const PASSWORD: &str = "password-of-the-server-";

/// Requests to a lite agent, as they come from some addresses; and answers to the checks that it makes itself, which nobody can
/// give who has not the password.
pub(super) fn stun(bytes: &[u8]) {
    let credentials = |ufrag: &str, pwd: &str| IceCredentials { ufrag: ufrag.into(), pwd: pwd.into() };
    let mut now = Instant::now();
    let mut agent = IceLite::new(now, credentials("serv", PASSWORD), credentials("clie", "password-of-the-client-"));
    let (key, mut out) = (StunKey::new(PASSWORD), [0; MAX_RESPONSE]);
    for (n, request) in Parts(bytes).enumerate() {
        let from = SocketAddr::from(([10, 0, 0, n as u8], 5_000));
        now += Duration::from_millis(10);
        if let Ok(answer) = check::read(request) {
            assert!(!answer.verify(&StunKey::new("password-of-the-client-")), "forged");
            let _ = (answer.transaction(), check::is_answer(request));
        }
        if let Ok(read) = stun::parse(request) {
            if let Ok((len, _)) = agent.handle_request(now, from.into(), &read, &mut out) {
                assert!(len > 0 && len <= MAX_RESPONSE);
            }
            let _ = (read.local_ufrag(), read.remote_ufrag(), read.use_candidate(), read.priority());
            let _ = read.verify(&key);
            assert!(read.respond(&key, from, &mut out) <= MAX_RESPONSE);
            for error in [StunError::UnknownAttribute, StunError::RoleConflict] {
                assert!(read.refuse(&key, error, &mut out) <= MAX_RESPONSE);
            }
        }
    }
}

pub(super) fn stun_seeds() -> Vec<Vec<u8>> {
    let good = check("serv:clie", PASSWORD, 1);
    vec![joined([&good[..]]), joined([&check("othr:clie", PASSWORD, 2)[..], &good[..]]), joined([&good[..20]])]
}

/// Packets to somebody who knows the keys: forged ones change nothing, and a good one is opened to what it was.
pub(super) fn srtp(bytes: &[u8]) {
    for profile in SrtpProfile::ALL {
        let (mut out, mut incoming) = pair(profile);
        for part in Parts(bytes) {
            let mut forged = part.to_vec();
            if let Ok(header) = Header::parse(&forged) {
                let opened = incoming.unprotect_rtp(&mut forged, header.header_len, header.ssrc.0, header.sequence);
                assert!(opened.is_err(), "forged");
                forged = part.to_vec();
            }
            assert!(incoming.unprotect_rtcp(&mut forged).is_err(), "forged");
            if part.len() >= 8 {
                let mut sealed = part.to_vec();
                sealed.resize(part.len() + MAX_RTCP_OVERHEAD, 0);
                let len = out.protect_rtcp(&mut sealed, part.len());
                if let Ok(opened) = incoming.unprotect_rtcp(&mut sealed[..len]) {
                    assert!(sealed[..opened] == *part);
                }
            }
        }
        assert_eq!(incoming.ssrcs(), 0, "nothing is kept of a forged packet");
    }
}

pub(super) fn srtp_seeds() -> Vec<Vec<u8>> {
    let (mut report, rtp) = (vec![0x80, 201, 0, 1, 0, 0, 0, 1], [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 7, 7, 7, 7]);
    let seeds = vec![joined([&report[..], &rtp, &rtp]), joined([&[&rtp[..], &[7; 30]].concat()[..]])];
    report.resize(40, 0);
    seeds.into_iter().chain([joined([&report[..]])]).collect()
}

/// A binding request for `username` (`server:client`), which nominates its pair.
fn check(username: &str, password: &str, transaction: u64) -> Vec<u8> {
    let mut id = [0; 12];
    id[4..].copy_from_slice(&transaction.to_be_bytes());
    let request = Request { transaction: id, username, priority: 0x6E00_1EFF, tie_breaker: 7 };
    let mut message = [0; MAX_REQUEST];
    let len = request.write(&Key::new(password), &mut message);
    message[..len].to_vec()
}

fn pair(profile: SrtpProfile) -> (SrtpOut, SrtpIn) {
    let bytes = [0x5A; 32];
    let master = MasterKey::new(profile, &bytes[..profile.key_len()], &bytes[..profile.salt_len()]);
    let master = master.expect("a key of the right length");
    (SrtpOut::new(profile, &master), SrtpIn::new(profile, &master, 4))
}
