use std::time::Duration;

use bytes::Bytes;
use rtcp::packet::Packet;
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::reception_report::ReceptionReport;
use rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use super::*;
use crate::drops::DropReason;
use crate::rtp::random::Random;

/// What the parser says of `bytes`, one line for each message.
fn messages(bytes: &[u8]) -> (Vec<String>, Result<(), DropReason>) {
    let mut lines = Vec::new();
    let result = parse(bytes, &mut |message| {
        lines.push(match message {
            RtcpMessage::SenderReport { ssrc, ntp, rtp_time, packets, octets } => {
                format!("sr {} {ntp:x} {rtp_time} {packets} {octets}", ssrc.0)
            }
            RtcpMessage::ReportBlock { reporter, block } => format!(
                "block {} {} {} {} {} {} {} {}",
                reporter.0,
                block.about.0,
                block.fraction_lost,
                block.cumulative_lost,
                block.highest_sequence,
                block.jitter,
                block.last_sr,
                block.delay_since_last_sr
            ),
            RtcpMessage::Pli { media } => format!("pli {}", media.0),
            RtcpMessage::Fir { media, command_number } => format!("fir {} {command_number}", media.0),
            RtcpMessage::Nack { media, sequences } => format!("nack {} {:?}", media.0, sequences.collect::<Vec<_>>()),
            RtcpMessage::Remb { bitrate_bps, ssrcs, .. } => {
                format!("remb {bitrate_bps} {:?}", ssrcs.map(|s| s.0).collect::<Vec<_>>())
            }
            RtcpMessage::TransportFeedback { packet } => format!("twcc {}", packet.len()),
            RtcpMessage::Bye { ssrcs } => format!("bye {:?}", ssrcs.map(|s| s.0).collect::<Vec<_>>()),
        });
    });
    (lines, result)
}

fn their_block(ssrc: u32) -> ReceptionReport {
    ReceptionReport {
        ssrc,
        fraction_lost: 2,
        total_lost: 3,
        last_sequence_number: 4,
        jitter: 5,
        last_sender_report: 6,
        delay: 7,
    }
}

pub(in crate::rtp) fn our_block(about: u32) -> ReportBlock {
    ReportBlock {
        about: Ssrc(about),
        fraction_lost: 2,
        cumulative_lost: 3,
        highest_sequence: 4,
        jitter: 5,
        last_sr: 6,
        delay_since_last_sr: 7,
    }
}

fn their_sender_report() -> rtcp::sender_report::SenderReport {
    rtcp::sender_report::SenderReport {
        ssrc: 1,
        ntp_time: 0x0123_4567_89AB_CDEF,
        rtp_time: 77,
        packet_count: 88,
        octet_count: 99,
        reports: vec![their_block(11)],
        profile_extensions: Bytes::new(),
    }
}

const OUR_SENDER: SenderInfo =
    SenderInfo { ssrc: Ssrc(1), ntp: 0x0123_4567_89AB_CDEF, rtp_time: 77, packets: 88, octets: 99 };

fn their_cname(text: &str) -> SourceDescription {
    let item = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: Bytes::copy_from_slice(text.as_bytes()) };
    SourceDescription { chunks: vec![SourceDescriptionChunk { source: 1, items: vec![item] }] }
}

/// The packets that another implementation finds in `bytes`.
fn their_packets(bytes: &[u8]) -> Vec<Box<dyn Packet + Send + Sync>> {
    rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(bytes)).unwrap()
}

#[test]
fn packets_of_another_implementation_are_read() {
    let nacks = [5, 6, 22, 23, 65_535, 0];
    let packets: [(Box<dyn Packet + Send + Sync>, &[&str]); 9] = [
        (Box::new(their_sender_report()), &["sr 1 123456789abcdef 77 88 99", "block 1 11 2 3 4 5 6 7"]),
        (
            Box::new(rtcp::receiver_report::ReceiverReport {
                ssrc: 1,
                reports: vec![their_block(11), their_block(12)],
                profile_extensions: Bytes::from_static(&[1, 2, 3, 4]),
            }),
            &["block 1 11 2 3 4 5 6 7", "block 1 12 2 3 4 5 6 7"],
        ),
        (Box::new(their_cname("somebody")), &[]),
        (Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 }), &["pli 2"]),
        (
            Box::new(FullIntraRequest {
                sender_ssrc: 1,
                media_ssrc: 0,
                fir: vec![FirEntry { ssrc: 2, sequence_number: 3 }, FirEntry { ssrc: 4, sequence_number: 255 }],
            }),
            &["fir 2 3", "fir 4 255"],
        ),
        (
            Box::new(TransportLayerNack {
                sender_ssrc: 1,
                media_ssrc: 2,
                nacks: nack_pairs_from_sequence_numbers(&nacks),
            }),
            &["nack 2 [5, 6, 22, 23, 65535, 0]"],
        ),
        (
            Box::new(ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 2_500_000.0, ssrcs: vec![2, 3] }),
            &["remb 2500000 [2, 3]"],
        ),
        (Box::new(rtcp::extended_report::ExtendedReport { sender_ssrc: 1, reports: vec![] }), &[]),
        (
            Box::new(rtcp::goodbye::Goodbye { sources: vec![1, 2], reason: Bytes::from_static(b"tired") }),
            &["bye [1, 2]"],
        ),
    ];
    let (mut compound, mut everything) = (Vec::new(), Vec::new());
    for (packet, expected) in &packets {
        let bytes = packet.marshal().unwrap();
        assert_eq!(messages(&bytes), (expected.iter().map(|e| e.to_string()).collect(), Ok(())), "{packet:?}");
        compound.extend_from_slice(&bytes);
        everything.extend(expected.iter().map(|e| e.to_string()));
    }
    assert_eq!(messages(&compound), (everything, Ok(())));
}

#[test]
fn written_packets_are_what_another_implementation_writes() {
    let nacks = [3, 4, 19, 20, 40, 50, 66, 67];
    type Write = fn(&mut Writer<'_>) -> Result<(), Full>;
    let cases: [(Write, Box<dyn Packet + Send + Sync>); 10] = [
        (
            |w| w.receiver_report(Ssrc(1), &[our_block(11), our_block(12)]),
            Box::new(rtcp::receiver_report::ReceiverReport {
                ssrc: 1,
                reports: vec![their_block(11), their_block(12)],
                profile_extensions: Bytes::new(),
            }),
        ),
        (|w| w.sender_report(&OUR_SENDER, &[our_block(11)]), Box::new(their_sender_report())),
        (|w| w.cname(Ssrc(1), "somebody"), Box::new(their_cname("somebody"))),
        (|w| w.cname(Ssrc(1), "12345"), Box::new(their_cname("12345"))),
        (|w| w.cname(Ssrc(1), "123456"), Box::new(their_cname("123456"))),
        (|w| w.pli(Ssrc(1), Ssrc(2)), Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 })),
        (
            |w| w.fir(Ssrc(1), Ssrc(2), 3),
            Box::new(FullIntraRequest {
                sender_ssrc: 1,
                media_ssrc: 0,
                fir: vec![FirEntry { ssrc: 2, sequence_number: 3 }],
            }),
        ),
        (
            |w| w.nack(Ssrc(1), Ssrc(2), &[3, 4, 19, 20, 40, 50, 66, 67]),
            Box::new(TransportLayerNack {
                sender_ssrc: 1,
                media_ssrc: 2,
                nacks: nack_pairs_from_sequence_numbers(&nacks),
            }),
        ),
        (
            |w| w.remb(Ssrc(1), 2_500_000, &[Ssrc(2), Ssrc(3)]),
            Box::new(ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 2_500_000.0, ssrcs: vec![2, 3] }),
        ),
        (
            |w| w.bye(&[Ssrc(1), Ssrc(2)]),
            Box::new(rtcp::goodbye::Goodbye { sources: vec![1, 2], reason: Bytes::new() }),
        ),
    ];
    for (write, theirs) in cases {
        let mut out = [0xEE; 200];
        let mut writer = Writer::new(&mut out);
        assert_eq!(write(&mut writer), Ok(()));
        // The crate ends an SDES with a count of its zeros, where RFC 3550 section 6.5 wants zeros only, and writes a
        // reason of no bytes into a BYE.
        let any = theirs.as_any();
        if !any.is::<SourceDescription>() && !any.is::<rtcp::goodbye::Goodbye>() {
            assert_eq!(writer.as_bytes(), &theirs.marshal().unwrap()[..], "{theirs:?}");
        }
        let found = their_packets(writer.as_bytes());
        assert!(found.len() == 1 && found[0].equal(&*theirs), "{found:?}");

        let len = writer.len();
        let mut writer = Writer::new(&mut out[..len - 1]);
        assert_eq!((write(&mut writer), writer.len()), (Err(Full), 0), "{theirs:?}");
    }
}

#[test]
fn many_blocks_become_many_packets() {
    let blocks: Vec<_> = (0..70).map(our_block).collect();
    let mut out = [0; 4000];
    for (count, packets) in [(0, 1), (31, 1), (32, 2), (62, 2), (70, 3)] {
        for sender in [true, false] {
            let mut writer = Writer::new(&mut out);
            if sender {
                writer.sender_report(&OUR_SENDER, &blocks[..count]).unwrap();
            } else {
                writer.receiver_report(Ssrc(1), &blocks[..count]).unwrap();
            }
            assert_eq!(their_packets(writer.as_bytes()).len(), packets, "{count} blocks");
            let found = messages(writer.as_bytes()).0;
            assert_eq!(found.iter().filter(|line| line.starts_with("block 1 ")).count(), count);
        }
    }
}

#[test]
fn losses_are_24_bits_with_a_sign() {
    for (lost, expected) in [(-1, -1), (-0x80_0001, -0x80_0000), (0x7F_FFFF, 0x7F_FFFF), (i32::MAX, 0x7F_FFFF)] {
        let mut out = [0; 32];
        let mut writer = Writer::new(&mut out);
        writer.receiver_report(Ssrc(1), &[ReportBlock { cumulative_lost: lost, ..our_block(2) }]).unwrap();
        assert_eq!(messages(writer.as_bytes()).0, [format!("block 1 2 2 {expected} 4 5 6 7")]);
    }
}

#[test]
fn every_bandwidth_is_told_with_18_bits() {
    for (bitrate, expected) in [
        (0, 0),
        (1, 1),
        (0x3_FFFF, 0x3_FFFF),
        (0x4_0000, 0x4_0000),
        (0x4_0001, 0x4_0000),
        (10_000_000_000, 152_587 << 16),
        (u64::MAX, 0x3_FFFF_u64 << 46),
    ] {
        let mut out = [0; 32];
        let mut writer = Writer::new(&mut out);
        writer.remb(Ssrc(1), bitrate, &[]).unwrap();
        assert_eq!(messages(writer.as_bytes()).0, [format!("remb {expected} []")]);
    }
}

#[test]
fn any_list_of_lost_packets_comes_back() {
    let mut random = Random::new(5);
    for _ in 0..1_000 {
        let mut sequence = random.next() as u16;
        let lost: Vec<u16> = (0..random.below(60))
            .map(|_| {
                sequence = sequence.wrapping_add(1 + random.below(25) as u16);
                sequence
            })
            .collect();
        let mut out = [0; 400];
        let mut writer = Writer::new(&mut out);
        writer.nack(Ssrc(1), Ssrc(2), &lost).unwrap();
        if lost.is_empty() {
            assert!(writer.is_empty());
            continue;
        }
        assert_eq!(messages(writer.as_bytes()).0, [format!("nack 2 {lost:?}")]);
        let theirs = their_packets(writer.as_bytes());
        let theirs = theirs[0].as_any().downcast_ref::<TransportLayerNack>().unwrap();
        let found: Vec<u16> = theirs.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        assert_eq!(found, lost);
    }
}

#[test]
fn a_broken_packet_ends_the_compound_and_what_came_before_it_counts() {
    let pli = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    for (name, bytes) in [
        ("three bytes", &[0x81, 206, 0][..]),
        ("version 1", &[0x41, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]),
        ("longer than the rest", &[0x81, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2]),
        ("feedback without media", &[0x81, 206, 0, 1, 0, 0, 0, 1]),
        ("transport feedback without media", &[0x81, 205, 0, 1, 0, 0, 0, 1]),
        ("a NACK for nothing", &[0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]),
        ("a FIR for nothing", &[0x84, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]),
        ("a FIR for half a stream", &[0x84, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
        ("a REMB without number", &[0x8F, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, b'R', b'E', b'M', b'B']),
        ("a receiver report without its block", &[0x81, 201, 0, 1, 0, 0, 0, 1]),
        ("a receiver report of nobody", &[0x80, 201, 0, 0]),
        ("a sender report without the sender", &[0x80, 200, 0, 1, 0, 0, 0, 1]),
        ("a goodbye to somebody missing", &[0x82, 203, 0, 1, 0, 0, 0, 1]),
        ("padding of nothing", &[0xA0, 203, 0, 1, 0, 0, 0, 0]),
        ("padding of more than there is", &[0xA0, 203, 0, 1, 0, 0, 0, 8]),
        ("padding without a body", &[0xA0, 203, 0, 0]),
    ] {
        let compound = [&pli, bytes].concat();
        assert_eq!(messages(&compound), (vec!["pli 2".to_owned()], Err(DropReason::RtcpMalformed)), "{name}");
    }
    assert_eq!(messages(&[]), (vec![], Err(DropReason::RtcpMalformed)));
}

#[test]
fn ntp_counts_from_1900_in_units_of_2_to_the_minus_32_s() {
    for (unix, expected) in [
        (Duration::ZERO, 2_208_988_800 << 32),
        (Duration::from_millis(1_500), 2_208_988_801 << 32 | 1 << 31),
        // The era ends in February 2036.
        (Duration::from_secs((1 << 32) - 2_208_988_800), 0),
    ] {
        assert_eq!(ntp_time(unix), expected, "{unix:?}");
    }
}

#[test]
fn padding_is_left_out_wherever_others_put_it() {
    for (name, bytes) in [
        ("four", &[0xA1, 203, 0, 2, 0, 0, 0, 9, 0, 0, 0, 4][..]),
        ("not of whole words, as libwebrtc's transport feedback", &[0xA1, 203, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1]),
        ("in the middle", &[0xA1, 203, 0, 2, 0, 0, 0, 9, 0, 0, 0, 4, 0x80, 202, 0, 0]),
    ] {
        assert_eq!(messages(bytes), (vec!["bye [9]".to_owned()], Ok(())), "{name}");
    }
}
