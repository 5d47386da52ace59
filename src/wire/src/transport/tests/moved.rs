//! A transport that goes on elsewhere: with the same keys, behind the same numbers, once.

use super::*;
use crate::transport::srtp::{SrtpIn, SrtpOut, SrtpProfile};

/// A connected transport at A with the client's ends of SRTP, and one at B that waits for the client.
fn scene(profile: SrtpProfile) -> (Instant, Transport, Transport, (SrtpOut, SrtpIn)) {
    let now = Instant::now();
    let config = TransportConfig { profiles: vec![profile], ..TransportConfig::new(Certificate::generate().unwrap()) };
    let (local, remote) = (credentials("server"), credentials("client"));
    let mut a = Transport::awaiting(now, &config, local.clone(), remote.clone());
    let material: Vec<u8> = (0..profile.keying_material_len() as u8).collect();
    let keys = SrtpKeys::from_keying_material(profile, &material, false).unwrap();
    let client = (SrtpOut::new(profile, &keys.remote), SrtpIn::new(profile, &keys.local, 8));
    let (out, incoming) = (SrtpOut::new(profile, &keys.local), SrtpIn::new(profile, &keys.remote, 64));
    a.srtp = Some(Srtp { out, incoming, keys: Box::new(keys) });
    (now, a, Transport::awaiting(now, &config, local, remote), client)
}

/// An RTP packet of SSRC 9 with this index.
fn packet(index: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3];
    packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    packet.resize(15 + 16, 0);
    packet
}

fn sealed(out: &SrtpOut, index: u64) -> Vec<u8> {
    let mut packet = packet(index);
    let len = out.protect_rtp(&mut packet, 12, 15, index);
    packet.truncate(len);
    packet
}

fn opens(at: &mut Transport, now: Instant, packet: &[u8]) -> Result<u64, DropReason> {
    let seq = u16::from_be_bytes([packet[2], packet[3]]);
    at.unprotect_rtp((now, CLIENT), &mut packet.to_vec(), 12, 9, seq).map(|(_, index)| index)
}

#[test]
fn what_was_opened_at_one_place_is_a_replay_at_the_other_also_after_a_round_of_numbers() {
    for profile in SrtpProfile::ALL {
        let (now, mut a, mut b, (client, mut to_client)) = scene(profile);
        let packets: Vec<_> = [65_530, 65_535, 65_537].map(|index| sealed(&client, index)).into();
        assert_eq!(opens(&mut a, now, &packets[0]), Ok(65_530));
        assert_eq!(opens(&mut a, now, &packets[2]), Ok(65_537));
        let mut report = [0x80, 201, 0, 1, 0, 0, 0, 9].to_vec();
        report.resize(60, 0);
        let seal = |at: &mut Transport| {
            let mut report = report.clone();
            let len = at.srtp_out_mut().unwrap().protect_rtcp(&mut report, 8);
            report.truncate(len);
            report
        };
        let first = seal(&mut a);
        let state = a.freeze().unwrap();
        assert!(a.srtp_out().is_none() && a.freeze().is_none(), "nothing more is sealed there");
        assert_eq!(opens(&mut a, now, &packets[1]), Err(DropReason::SrtpNotReady));
        assert!(!format!("{state:?}").contains("key"), "{state:?}");
        b.thaw(now, state).unwrap();
        assert_eq!(opens(&mut b, now, &packets[2]), Err(DropReason::SrtpReplay));
        assert_eq!(opens(&mut b, now, &packets[1]), Ok(65_535));
        assert_eq!(opens(&mut b, now, &sealed(&client, 65_538)), Ok(65_538));
        // The index of SRTCP goes on: the client's replay window takes both.
        for mut report in [first, seal(&mut b)] {
            assert_eq!(to_client.unprotect_rtcp(&mut report), Ok(8), "{profile:?}");
        }
    }
}

#[test]
fn a_state_of_another_restart_is_refused() {
    let (now, mut a, _, _) = scene(SrtpProfile::AeadAes128Gcm);
    let config = TransportConfig::new(Certificate::generate().unwrap());
    let mut other = Transport::awaiting(now, &config, credentials("other"), credentials("client"));
    assert_eq!(other.thaw(now, a.freeze().unwrap()), Err(UnfitState::Restart));
    assert!(!other.is_connected());
}
