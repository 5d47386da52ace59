//! What is inside SRTP: RTP, payloads, RTCP.

use std::time::{Duration, Instant};

use moonring_wire::id::{Pt, Ssrc};
use moonring_wire::media::CodecName;
use moonring_wire::rtp::codec::av1::structure::Structure;
use moonring_wire::rtp::codec::{inspect, vp8, vp9};
use moonring_wire::rtp::header::{Header, NewHeader, write_header};
use moonring_wire::rtp::rtcp::{ReportBlock, RtcpMessage, SenderInfo, Writer, parse};
use moonring_wire::rtp::twcc::ArrivalRecorder;
use moonring_wire::rtp::{extension, protocol, rtx};

use super::{Parts, joined};

/// A packet, decrypted.
pub(super) fn rtp(bytes: &[u8]) {
    let _ = protocol::classify(bytes);
    let Ok(header) = Header::parse(bytes) else { return };
    assert!(header.header_len <= bytes.len() && header.extension_range().end == header.header_len);
    for (_, value) in header.extensions(bytes) {
        extension::parse_abs_send_time(value);
        extension::parse_transport_sequence(value);
        extension::AudioLevel::parse(value);
        extension::parse_text(value);
        extension::parse_video_orientation(value);
    }
    let Ok(payload) = header.payload_range(bytes) else { return };
    assert!(payload.start <= payload.end && payload.end <= bytes.len());
    rtx::unwrap(&bytes[payload]);
    let mut packet = bytes.to_vec();
    if let Ok(Some(start)) = rtx::restore(&mut packet, &header, Pt(96), Ssrc(5)) {
        assert_eq!(Header::parse(&packet[start..]).map(|h| (h.ssrc, h.payload_type)), Ok((Ssrc(5), Pt(96))));
    }
}

pub(super) fn rtp_seeds() -> Vec<Vec<u8>> {
    let elements: &[&[(u8, &[u8])]] =
        &[&[], &[(1, &[0x85]), (4, b"0"), (3, &[1, 2, 3])], &[(1, &[0x85]), (15, b"two-byte form")]];
    let packet = |elements: &&[(u8, &[u8])]| {
        let (payload_type, ssrc) = (Pt(96), Ssrc(1));
        let fields = NewHeader { marker: true, payload_type, sequence: 1, timestamp: 2, ssrc };
        let mut packet = vec![0; 100];
        let len = write_header(&mut packet, &fields, elements);
        packet.truncate(len);
        packet.extend([0x12, 0x34, 7, 7, 7, 7]);
        packet
    };
    let mut seeds: Vec<_> = elements.iter().map(packet).collect();
    // With padding.
    seeds.push([&[0xA0, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], &[9; 8][..], &[0, 0, 3]].concat());
    seeds
}

/// A stream of payloads, each behind its dependency descriptor.
pub(super) fn payload(bytes: &[u8]) {
    let mut structure = None;
    let mut parts = Parts(bytes);
    while let (Some(descriptor), Some(payload)) = (parts.next(), parts.next()) {
        for codec in CodecName::ALL {
            let mut info = inspect(codec, payload, Some(descriptor));
            structure = Structure::parse(descriptor).or(structure);
            if let Some(structure) = &structure {
                structure.complete(descriptor, &mut info);
            }
        }
        let mut rewritten = payload.to_vec();
        vp8::rewrite(&mut rewritten, 1, 2);
        vp9::rewrite(&mut rewritten, 1, 2);
        assert_eq!(rewritten.len(), payload.len());
    }
}

pub(super) fn payload_seeds() -> Vec<Vec<u8>> {
    // A descriptor with a structure of two templates, as in the RTP payload format for AV1, appendix A.
    let structure: &[u8] = &[0x80, 0, 1, 0x80, 0, 0x1E, 0x01, 0x04, 0xF0, 0x40];
    let payloads: &[&[u8]] = &[
        &[0x90, 0xE0, 0x81, 0x23, 5, 0x20, 0, 0, 0], // VP8: X, I with 15 bits, L, T
        &[0xAC, 0x81, 0x23, 0x20, 7, 0x18, 0, 2, 0, 2, 0], // VP9: I, L, B, V
        &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE], // H.264: STAP-A with SPS and PPS
        &[0x7C, 0x85, 1, 2, 3],                      // H.264: FU-A that starts an IDR
        &[0x18, 0x0A, 0x0B, 0, 0, 0, 0x32, 2, 0x10, 0], // AV1: a sequence header and a frame
    ];
    payloads.iter().map(|payload| joined([structure, payload, &[0xC0, 0, 2], payload])).collect()
}

/// A compound packet, decrypted; and arrivals, whose feedback must be readable.
pub(super) fn rtcp(bytes: &[u8]) {
    let mut items = 0;
    let _ = parse(bytes, &mut |message| {
        items += match message {
            RtcpMessage::Nack { sequences, .. } => sequences.count(),
            RtcpMessage::Remb { ssrcs, .. } | RtcpMessage::Bye { ssrcs } => ssrcs.count(),
            _ => 1,
        };
    });
    assert!(items <= bytes.len() * 5, "17 numbers in four bytes are the densest there is");
    let mut recorder = ArrivalRecorder::new();
    let mut now = Instant::now();
    for arrival in bytes.chunks_exact(4) {
        now += Duration::from_micros(u64::from(u16::from_be_bytes([arrival[0], arrival[1]])) * 37);
        recorder.record(u16::from_be_bytes([arrival[2], arrival[3]]), now);
    }
    for _ in 0..4 {
        let mut out = [0; 1_200];
        let mut writer = Writer::new(&mut out);
        if recorder.build(Ssrc(1), Ssrc(2), &mut writer) {
            assert_eq!(parse(writer.as_bytes(), &mut |_| {}), Ok(()));
        }
    }
}

pub(super) fn rtcp_seeds() -> Vec<Vec<u8>> {
    let block = ReportBlock {
        about: Ssrc(1),
        fraction_lost: 2,
        cumulative_lost: 3,
        highest_sequence: 4,
        jitter: 5,
        last_sr: 6,
        delay_since_last_sr: 7,
    };
    let info = SenderInfo { ssrc: Ssrc(1), ntp: 2, rtp_time: 3, packets: 4, octets: 5 };
    let compounds: [fn(&mut Writer<'_>, &SenderInfo, ReportBlock) -> bool; 4] = [
        |w, _, block| w.receiver_report(Ssrc(1), &[block; 2]).and_then(|()| w.pli(Ssrc(1), Ssrc(2))).is_ok(),
        |w, info, block| w.sender_report(info, &[block]).and_then(|()| w.cname(Ssrc(1), "name")).is_ok(),
        |w, _, _| w.nack(Ssrc(1), Ssrc(2), &[1, 5, 100]).and_then(|()| w.fir(Ssrc(1), Ssrc(2), 3)).is_ok(),
        |w, _, _| w.remb(Ssrc(1), 1 << 40, &[Ssrc(1), Ssrc(2)]).and_then(|()| w.bye(&[Ssrc(1)])).is_ok(),
    ];
    let mut seeds: Vec<_> = compounds
        .iter()
        .map(|write| {
            let mut out = [0; 1_200];
            let mut writer = Writer::new(&mut out);
            assert!(write(&mut writer, &info, block));
            writer.as_bytes().to_vec()
        })
        .collect();
    let mut recorder = ArrivalRecorder::new();
    let now = Instant::now();
    (0..20).for_each(|n| recorder.record(n * 2, now + Duration::from_millis(u64::from(n) * 7)));
    let mut out = [0; 1_200];
    let mut writer = Writer::new(&mut out);
    assert!(recorder.build(Ssrc(1), Ssrc(2), &mut writer));
    seeds.push(writer.as_bytes().to_vec());
    seeds
}
