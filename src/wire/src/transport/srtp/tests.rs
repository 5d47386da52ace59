//! Against `webrtc-srtp`, packet by packet, and against hostile packets.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

use super::*;
use crate::drops::DropReason;

const SSRC: u32 = 0x1234_5678;

fn reference(profile: SrtpProfile) -> Context {
    let named = match profile {
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let (key, salt) = key_and_salt(profile);
    Context::new(&key, &salt, named, None, None).unwrap()
}

fn key_and_salt(profile: SrtpProfile) -> (Vec<u8>, Vec<u8>) {
    ((1..=profile.key_len() as u8).collect(), (101..101 + profile.salt_len() as u8).collect())
}

fn master(profile: SrtpProfile) -> MasterKey {
    let (key, salt) = key_and_salt(profile);
    MasterKey::new(profile, &key, &salt).unwrap()
}

fn pair(profile: SrtpProfile) -> (SrtpOut, SrtpIn) {
    (SrtpOut::new(profile, &master(profile)), SrtpIn::new(profile, &master(profile), 4))
}

/// A packet with `csrcs` contributing sources and, when given, an extension of so many words; and its header's length.
fn rtp(ssrc: u32, seq: u16, csrcs: usize, extension: Option<usize>, payload: &[u8]) -> (Vec<u8>, usize) {
    let mut packet = vec![0x80 | csrcs as u8 | u8::from(extension.is_some()) << 4, 0x80 | 96];
    packet.extend(seq.to_be_bytes());
    packet.extend((u32::from(seq) * 3000).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    (0..csrcs as u32).for_each(|csrc| packet.extend(csrc.to_be_bytes()));
    if let Some(words) = extension {
        packet.extend([0xBE, 0xDE, 0, words as u8]);
        (0..words).for_each(|_| packet.extend([0x10, 0xAA, 0, 0]));
    }
    let header_len = packet.len();
    packet.extend(payload);
    (packet, header_len)
}

fn seal(out: &SrtpOut, index: u64) -> Vec<u8> {
    let (mut packet, header_len) = rtp(SSRC, index as u16, 0, None, &[7; 100]);
    let plain_len = packet.len();
    packet.resize(plain_len + MAX_RTP_OVERHEAD, 0);
    let len = out.protect_rtp(&mut packet, header_len, plain_len, index);
    packet.truncate(len);
    packet
}

fn open(incoming: &mut SrtpIn, packet: &[u8]) -> Result<u64, DropReason> {
    let mut packet = packet.to_vec();
    let seq = u16::from_be_bytes([packet[2], packet[3]]);
    let ssrc = word(&packet, 8);
    incoming.unprotect_rtp(&mut packet, 12, ssrc, seq).map(|(len, index)| {
        assert_eq!(packet[12..len], [7; 100]);
        index
    })
}

#[test]
fn rtp_is_byte_by_byte_what_webrtc_srtp_makes_and_each_opens_the_others() {
    let mut rng = StdRng::seed_from_u64(1);
    for profile in SrtpProfile::ALL {
        let (out, mut incoming) = pair(profile);
        let (mut their_out, mut their_in) = (reference(profile), reference(profile));
        // Starts below a wrap, so that the rollover counter takes part.
        for index in 65_000_u64..67_000 {
            let payload: Vec<u8> = (0..rng.random_range(0..1300)).map(|_| rng.random()).collect();
            let extension = rng.random_bool(0.5).then(|| rng.random_range(0..5));
            let (plain, header_len) = rtp(SSRC, index as u16, rng.random_range(0..4), extension, &payload);
            let mut slot = [0; 2000];
            slot[..header_len].copy_from_slice(&plain[..header_len]);
            let len = out.seal_rtp(&payload, &mut slot, header_len, index);
            let theirs = their_out.encrypt_rtp(&plain).unwrap();
            assert_eq!(slot[..len], theirs[..], "{profile:?} {index}");
            assert_eq!(their_in.decrypt_rtp(&slot[..len]).unwrap()[..], plain[..]);
            let opened = incoming.unprotect_rtp(&mut slot[..len], header_len, SSRC, index as u16);
            assert_eq!(opened, Ok((plain.len(), index)));
            assert_eq!(slot[..plain.len()], plain);
        }
    }
}

#[test]
fn rtcp_is_byte_by_byte_what_webrtc_srtp_makes_and_each_opens_the_others() {
    let mut rng = StdRng::seed_from_u64(2);
    for profile in SrtpProfile::ALL {
        let (mut out, mut incoming) = pair(profile);
        let (mut their_out, mut their_in) = (reference(profile), reference(profile));
        for words in 0..300_u16 {
            let mut plain = vec![0x80, 200];
            plain.extend((words + 1).to_be_bytes());
            plain.extend(SSRC.to_be_bytes());
            plain.extend((0..words * 4).map(|_| rng.random::<u8>()));
            let mut buf = plain.clone();
            buf.resize(plain.len() + MAX_RTCP_OVERHEAD, 0);
            let len = out.protect_rtcp(&mut buf, plain.len());
            let theirs = their_out.encrypt_rtcp(&plain).unwrap();
            assert_eq!(buf[..len], theirs[..], "{profile:?} {words}");
            assert_eq!(their_in.decrypt_rtcp(&buf[..len]).unwrap()[..], plain[..]);
            assert_eq!(incoming.unprotect_rtcp(&mut buf[..len]), Ok(plain.len()));
            assert_eq!(buf[..plain.len()], plain);
        }
    }
}

#[test]
fn every_changed_bit_of_a_packet_is_noticed() {
    for profile in SrtpProfile::ALL {
        let (out, mut incoming) = pair(profile);
        assert_eq!(open(&mut incoming, &seal(&out, 1)), Ok(1));
        let packet = seal(&out, 2);
        for at in (12..packet.len()).chain([0, 1, 4]) {
            let mut changed = packet.clone();
            changed[at] ^= 4;
            assert_eq!(open(&mut incoming, &changed), Err(DropReason::SrtpBadTag), "{profile:?} {at}");
        }
        assert_eq!(open(&mut incoming, &packet), Ok(2));
    }
}

#[test]
fn packets_pass_once_in_any_order_and_not_when_too_late() {
    for profile in SrtpProfile::ALL {
        let (out, mut incoming) = pair(profile);
        for (index, expected) in [
            (0xFFF0, Ok(())),
            (0x1_0010, Ok(())),
            (0xFFFF, Ok(())),
            (0xFFFF, Err(DropReason::SrtpReplay)),
            (0x1_0000, Ok(())),
            (0x1_0010, Err(DropReason::SrtpReplay)),
            (0x1_0410, Ok(())),
            (0x1_0010, Err(DropReason::SrtpTooOld)),
            (0x1_0011, Ok(())),
        ] {
            let outcome = open(&mut incoming, &seal(&out, index));
            assert_eq!(outcome, expected.map(|()| index), "{profile:?} {index:x}");
        }
    }
}

#[test]
fn a_stream_is_found_again_after_a_long_gap() {
    for profile in SrtpProfile::ALL {
        for gap in [1, 20_000, 32_767, 32_769, 40_000, 65_535, 65_536, 65_540, 100_000, 131_000] {
            for start in [100, 30_000, 33_000, 65_500, 0x7_1234] {
                let (out, mut incoming) = pair(profile);
                // A stream beyond its first wraps is followed there packet by packet in steps.
                let mut index = start & 0xFFFF;
                while index < start {
                    open(&mut incoming, &seal(&out, index)).unwrap();
                    index += 10_000;
                }
                open(&mut incoming, &seal(&out, start)).unwrap();
                let lost = (0..10).find(|n| open(&mut incoming, &seal(&out, start + gap + n)).is_ok());
                assert!(lost.is_some(), "{profile:?} {start} + {gap}");
            }
        }
    }
}

#[test]
fn forged_packets_leave_no_state_and_the_number_of_ssrcs_is_bounded() {
    for profile in SrtpProfile::ALL {
        let (out, mut incoming) = pair(profile);
        for ssrc in 0..1000_u32 {
            let mut forged = seal(&out, 5);
            forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
            assert_eq!(open(&mut incoming, &forged), Err(DropReason::SrtpBadTag));
        }
        assert_eq!(incoming.ssrcs(), 0);
        for ssrc in 0..5_u32 {
            let (mut packet, header_len) = rtp(ssrc, 1, 0, None, &[7; 100]);
            let plain_len = packet.len();
            packet.resize(plain_len + profile.tag_len(), 0);
            out.protect_rtp(&mut packet, header_len, plain_len, 1);
            let expected = if ssrc < 4 { Ok(1) } else { Err(DropReason::RtpTooManySsrcs) };
            assert_eq!(open(&mut incoming, &packet), expected);
            if ssrc == 4 {
                incoming.retire(2);
                assert_eq!(open(&mut incoming, &packet), Ok(1));
            }
        }
    }
}

#[test]
fn an_ssrc_out_of_use_keeps_its_rollover_counter_and_its_window() {
    for profile in SrtpProfile::ALL {
        let (out, mut incoming) = pair(profile);
        let sealed = |index: u64| {
            let (mut packet, header_len) = rtp(7, index as u16, 0, None, &[7; 100]);
            let plain_len = packet.len();
            packet.resize(plain_len + profile.tag_len(), 0);
            out.protect_rtp(&mut packet, header_len, plain_len, index);
            packet
        };
        for step in 0..15 {
            assert_eq!(open(&mut incoming, &sealed(step * 10_000)), Ok(step * 10_000));
        }
        incoming.retire(7);
        assert_eq!(incoming.ssrcs(), 0);
        assert_eq!(open(&mut incoming, &sealed(140_001)), Ok(140_001));
        incoming.retire(7);
        assert_eq!(open(&mut incoming, &sealed(140_001)), Err(DropReason::SrtpReplay));
        assert!(open(&mut incoming, &sealed(0)).is_err() && open(&mut incoming, &sealed(65_536)).is_err());
    }
}

/// A goodbye of this SSRC.
fn bye(out: &mut SrtpOut, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 203, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet.resize(8 + MAX_RTCP_OVERHEAD, 0);
    let len = out.protect_rtcp(&mut packet, 8);
    packet.truncate(len);
    packet
}

#[test]
fn goodbyes_of_streams_that_are_out_of_use_do_not_use_up_the_ssrcs_of_rtcp() {
    for profile in SrtpProfile::ALL {
        let (mut out, mut incoming) = pair(profile);
        // Four SSRCs may be in use at a time.
        for ssrc in 0..200 {
            let (mut packet, header_len) = rtp(ssrc, 1, 0, None, &[7; 100]);
            let plain_len = packet.len();
            packet.resize(plain_len + profile.tag_len(), 0);
            out.protect_rtp(&mut packet, header_len, plain_len, 1);
            assert_eq!(open(&mut incoming, &packet), Ok(1), "{ssrc}");
            incoming.retire(ssrc);
            let goodbye = bye(&mut out, ssrc);
            assert_eq!(incoming.unprotect_rtcp(&mut goodbye.clone()), Ok(8), "{profile:?} {ssrc}");
            assert_eq!(incoming.unprotect_rtcp(&mut goodbye.clone()), Err(DropReason::SrtpReplay));
        }
    }
}

#[test]
fn a_packet_that_is_sent_again_under_its_number_passes_once_behind_a_thousand_others() {
    for profile in SrtpProfile::ALL {
        let (out, mut incoming) = pair(profile);
        for index in (0..1_000).filter(|index| *index != 10 && *index != 900) {
            open(&mut incoming, &seal(&out, index)).unwrap();
        }
        for index in [10, 900] {
            assert_eq!(open(&mut incoming, &seal(&out, index)), Ok(index), "{profile:?}");
            assert_eq!(open(&mut incoming, &seal(&out, index)), Err(DropReason::SrtpReplay), "{profile:?}");
        }
    }
}

#[test]
fn rtcp_that_is_unencrypted_forged_replayed_or_short_is_refused() {
    for profile in SrtpProfile::ALL {
        let (mut out, mut incoming) = pair(profile);
        let bye = [0x81, 203, 0, 1, 0x12, 0x34, 0x56, 0x78];
        let mut sealed = bye.to_vec();
        sealed.resize(bye.len() + MAX_RTCP_OVERHEAD, 0);
        let len = out.protect_rtcp(&mut sealed, bye.len());
        sealed.truncate(len);

        // E = 0: plain text, any index, any tag.
        let word_at = if profile == SrtpProfile::Aes128CmHmacSha1_80 { len - 14 } else { len - 4 };
        let mut unencrypted = sealed.clone();
        unencrypted[..8].copy_from_slice(&bye);
        unencrypted[word_at] = 0;
        assert_eq!(incoming.unprotect_rtcp(&mut unencrypted), Err(DropReason::SrtcpBad));
        for short in 0..len {
            assert_eq!(incoming.unprotect_rtcp(&mut sealed.clone()[..short]), Err(DropReason::SrtcpBad));
        }
        for at in 0..len {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(incoming.unprotect_rtcp(&mut changed), Err(DropReason::SrtcpBad), "{profile:?} {at}");
        }
        assert_eq!(incoming.unprotect_rtcp(&mut sealed.clone()), Ok(8));
        assert_eq!(incoming.unprotect_rtcp(&mut sealed.clone()), Err(DropReason::SrtpReplay));
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut rng = StdRng::seed_from_u64(3);
    for profile in SrtpProfile::ALL {
        let (out, mut incoming) = pair(profile);
        for _ in 0..20_000 {
            let mut packet = seal(&out, 7);
            packet.truncate(rng.random_range(0..=packet.len()));
            for _ in 0..rng.random_range(0..4) {
                let at = rng.random_range(0..packet.len().max(1));
                packet.get_mut(at).into_iter().for_each(|byte| *byte = rng.random());
            }
            let header_len = rng.random_range(0..40);
            let _ = incoming.unprotect_rtp(&mut packet.clone(), header_len, rng.random(), rng.random());
            let _ = incoming.unprotect_rtcp(&mut packet);
        }
    }
}
