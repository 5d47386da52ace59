//! What is inside SRTP: RTP, payloads, RTCP.

use std::time::{Duration, Instant};

use moonring_wire::id::{Pt, Ssrc};
use moonring_wire::media::CodecName;
use moonring_wire::rtp::codec::{PayloadInfo, inspect, picture_size, vp8, vp9};
use moonring_wire::rtp::dependency::{Frame, MAX_SPATIAL, MAX_TEMPORAL, shift_frame_number};
use moonring_wire::rtp::header::{Header, NewHeader, write_header};
use moonring_wire::rtp::rtcp::{ReportBlock, RtcpMessage, SenderInfo, Writer, parse};
use moonring_wire::rtp::twcc::ArrivalRecorder;
use moonring_wire::rtp::{extension, protocol, red, rtx};

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
    let mut parts = Parts(bytes);
    while let (Some(descriptor), Some(payload)) = (parts.next(), parts.next()) {
        for codec in CodecName::ALL {
            inspect(codec, payload, Some(descriptor));
            picture_size(codec, payload);
        }
        let mut rewritten = payload.to_vec();
        vp8::rewrite(&mut rewritten, 1, 2);
        vp9::rewrite(&mut rewritten, 1, 2);
        assert_eq!(rewritten.len(), payload.len());
    }
}

pub(super) fn payload_seeds() -> Vec<Vec<u8>> {
    let descriptor: &[u8] = &[0x80, 0, 1, 0x80, 0];
    let payloads: &[&[u8]] = &[
        &[0x90, 0xE0, 0x81, 0x23, 5, 0x20, 0, 0, 0], // VP8: X, I with 15 bits, L, T
        &[0xAC, 0x81, 0x23, 0x20, 7, 0x18, 0, 2, 0, 2, 0], // VP9: I, L, B, V
        &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE], // H.264: STAP-A with SPS and PPS
        &[0x7C, 0x85, 1, 2, 3],                      // H.264: FU-A that starts an IDR
        &[0x18, 0x0A, 0x0B, 0, 0, 0, 0x32, 2, 0x10, 0], // AV1: a sequence header and a frame
    ];
    payloads.iter().map(|payload| joined([descriptor, payload, &[0xC0, 0, 2], payload])).collect()
}

/// The dependency descriptors of a stream, one after the other.
pub(super) fn dependency(bytes: &[u8]) {
    let mut structure = None;
    for descriptor in Parts(bytes) {
        let mut shifted = descriptor.to_vec();
        shift_frame_number(&mut shifted, 7);
        assert_eq!(shifted.len(), descriptor.len());
        let Some(frame) = Frame::parse(descriptor, structure.as_deref()) else { continue };
        assert!(usize::from(frame.spatial) < MAX_SPATIAL && usize::from(frame.temporal) < MAX_TEMPORAL);
        PayloadInfo::default().complete(&frame);
        let again = Frame::parse(&shifted, structure.as_deref()).map(|frame| frame.links.number);
        assert_eq!(again, Some(frame.links.number.wrapping_add(7)));
        structure = frame.structure.or(structure);
        let layers = structure.as_deref().map(|structure| structure.layers(frame.active_targets.unwrap_or(u32::MAX)));
        assert!(layers.is_some_and(|(s, t)| usize::from(s) <= MAX_SPATIAL && usize::from(t) <= MAX_TEMPORAL));
    }
}

pub(super) fn dependency_seeds() -> Vec<Vec<u8>> {
    // L1T2: templates T0 (key), T0, T1; targets T0, T1; a chain; 640x360.
    let flat: &[u8] = &[0x80, 0, 1, 0x80, 0x00, 0x51, 0xE8, 0xA1, 0xA2, 0x20, 0x84, 0x29, 0x3F, 0xC0, 0x59, 0xC0];
    // As the key frame of the tests beside the parser: L2T2 with two chains and two sizes.
    let two: &[u8] = &[
        0xBC, 0x00, 0x01, 0x87, 0x8E, 0x67, 0xAF, 0x13, 0x0A, 0x01, 0x4E, 0x23, 0x31, 0x88, 0x95, 0x13, 0x33, 0x33,
        0x33, 0x33, 0x90, 0x27, 0xC0, 0x16, 0x70, 0x4F, 0xC0, 0x2C, 0xC0,
    ];
    let own: &[u8] = &[0xFF, 0, 7, 0x7F, 0x00, 0x90, 0x40, 0x80, 0, 0, 0];
    [flat, two].map(|first| joined([first, &[0xC0, 0, 2], own, &[0xBD, 0, 3], first])).to_vec()
}

/// Redundant sound: its own packet is its end, and is the same for a receiver with another payload type.
pub(super) fn red(bytes: &[u8]) {
    let own = red::primary(bytes);
    assert!(own.is_none_or(|own| !own.is_empty() && bytes.ends_with(own)));
    let mut renumbered = bytes.to_vec();
    red::renumber(&mut renumbered, Pt(111));
    assert_eq!((renumbered.len(), red::primary(&renumbered)), (bytes.len(), own));
}

pub(super) fn red_seeds() -> Vec<Vec<u8>> {
    let payloads: [&[u8]; 3] = [
        &[111, 7, 8],
        &[0xEF, 0x0F, 0x00, 2, 111, 1, 2, 7, 8],
        &[0xEF, 0x1E, 0x00, 1, 0xEF, 0x0F, 0x00, 2, 111, 1, 2, 3, 9],
    ];
    payloads.map(<[u8]>::to_vec).to_vec()
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
