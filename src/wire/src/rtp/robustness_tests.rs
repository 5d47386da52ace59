//! Whatever bytes come, no parser panics and none runs on: random and mutated inputs, the same in every run.

use std::time::{Duration, Instant};

use super::codec::{inspect, vp8, vp9};
use super::dependency::Frame;
use super::header::{Header, NewHeader, write_header};
use super::random::Random;
use super::rtcp::{SenderInfo, Writer};
use super::{extension, protocol, rtcp, rtx};
use crate::id::{Pt, Ssrc};
use crate::media::CodecName;

const ROUNDS: usize = 60_000;

/// Flips, cuts and adds bytes.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(4) {
            0 if at < bytes.len() => bytes[at] = random.next() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, random.next() as u8),
        }
    }
}

fn rtp_packet(random: &mut Random) -> Vec<u8> {
    let value = random.bytes(20);
    let count = random.below(5) as u8;
    let elements: Vec<(u8, &[u8])> = (0..count).map(|id| (id + 1, &value[..random.below(20) as usize])).collect();
    let fields =
        NewHeader { marker: false, payload_type: Pt(96), sequence: 1, timestamp: 2, ssrc: Ssrc(random.next() as u32) };
    let mut packet = vec![0; 200];
    let len = write_header(&mut packet, &fields, &elements);
    packet.truncate(len);
    let payload = random.below(40) as usize;
    packet.extend(random.bytes(payload));
    packet
}

#[test]
fn rtp_of_any_bytes_is_read_or_refused() {
    let mut random = Random::new(7);
    let mut parsed = 0;
    for _ in 0..ROUNDS {
        let mut packet = rtp_packet(&mut random);
        mutate(&mut random, &mut packet);
        let _ = protocol::classify(&packet);
        let Ok(header) = Header::parse(&packet) else { continue };
        parsed += 1;
        assert!(header.header_len <= packet.len() && header.extension_range().end == header.header_len);
        assert!(header.extensions(&packet).count() <= packet.len());
        for (_, value) in header.extensions(&packet) {
            extension::parse_abs_send_time(value);
            extension::parse_transport_sequence(value);
            extension::AudioLevel::parse(value);
            extension::parse_text(value);
            extension::parse_video_orientation(value);
        }
        if let Ok(payload) = header.payload_range(&packet) {
            assert!(payload.start <= payload.end && payload.end <= packet.len());
        }
        if let Ok(Some(start)) = rtx::restore(&mut packet, &header, Pt(96), Ssrc(5)) {
            assert_eq!(Header::parse(&packet[start..]).map(|h| h.ssrc), Ok(Ssrc(5)));
        }
    }
    assert!(parsed > ROUNDS / 2, "{parsed}");
}

#[test]
fn payloads_of_any_bytes_are_looked_into() {
    let mut random = Random::new(8);
    let (mut structure, mut described) = (None, 0);
    for _ in 0..ROUNDS {
        let len = random.below(40) as usize;
        let mut payload = random.bytes(len);
        let len = random.below(60) as usize;
        let descriptor = random.bytes(len);
        let codecs = [CodecName::Opus, CodecName::Vp8, CodecName::Vp9, CodecName::H264, CodecName::Av1];
        for codec in codecs {
            let mut info = inspect(codec, &payload, Some(&descriptor));
            if let Some(frame) = Frame::parse(&descriptor, structure.as_deref()) {
                info.complete(&frame);
                described += 1;
                structure = frame.structure.or(structure);
            }
        }
        let before = payload.len();
        vp8::rewrite(&mut payload, 1, 2);
        vp9::rewrite(&mut payload, 1, 2);
        assert_eq!(payload.len(), before);
    }
    assert!(described > ROUNDS / 100, "{described}");
}

fn compound(random: &mut Random) -> Vec<u8> {
    let mut out = [0; 1_200];
    let mut writer = Writer::new(&mut out);
    let block = rtcp::tests::our_block(1);
    let info = SenderInfo { ssrc: Ssrc(1), ntp: 2, rtp_time: 3, packets: 4, octets: 5 };
    for _ in 0..1 + random.below(4) {
        let written = match random.below(9) {
            0 => writer.receiver_report(Ssrc(1), &[block; 2]),
            1 => writer.sender_report(&info, &[block]),
            2 => writer.cname(Ssrc(1), "name"),
            3 => writer.pli(Ssrc(1), Ssrc(2)),
            4 => writer.fir(Ssrc(1), Ssrc(2), 3),
            5 => writer.nack(Ssrc(1), Ssrc(2), &[1, 5, 100]),
            6 => writer.remb(Ssrc(1), 1 << 40, &[Ssrc(1), Ssrc(2)]),
            7 => writer.bye(&[Ssrc(1)]),
            _ => {
                let mut recorder = super::twcc::ArrivalRecorder::new();
                let now = Instant::now();
                (0..20).for_each(|n| recorder.record(n, now + Duration::from_millis(random.below(100))));
                assert!(recorder.build(Ssrc(1), Ssrc(2), &mut writer));
                Ok(())
            }
        };
        assert_eq!(written, Ok(()));
    }
    writer.as_bytes().to_vec()
}

#[test]
fn rtcp_of_any_bytes_is_read_or_refused() {
    let mut random = Random::new(9);
    let mut refused = 0;
    for _ in 0..ROUNDS {
        let mut bytes = compound(&mut random);
        mutate(&mut random, &mut bytes);
        let mut items = 0;
        let result = rtcp::parse(&bytes, &mut |message| {
            items += match message {
                rtcp::RtcpMessage::Nack { sequences, .. } => sequences.count(),
                rtcp::RtcpMessage::Remb { ssrcs, .. } | rtcp::RtcpMessage::Bye { ssrcs } => ssrcs.count(),
                _ => 1,
            };
        });
        assert!(items <= bytes.len() * 5, "17 numbers in four bytes are the densest there is");
        refused += usize::from(result.is_err());
    }
    assert!(refused > ROUNDS / 10 && refused < ROUNDS * 9 / 10, "{refused}");
}
