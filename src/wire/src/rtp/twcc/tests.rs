use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use webrtc_util::marshal::Unmarshal;

use super::*;
use crate::rtp::random::Random;

/// What another implementation reads in a feedback: each sequence number with its arrival in microseconds, if it came.
fn decode(bytes: &[u8]) -> (u8, Vec<(u16, Option<i64>)>) {
    let feedback = TransportLayerCc::unmarshal(&mut Bytes::copy_from_slice(bytes)).unwrap();
    let mut symbols: Vec<SymbolTypeTcc> = Vec::new();
    for chunk in &feedback.packet_chunks {
        match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                symbols.extend(std::iter::repeat_n(run.packet_status_symbol, usize::from(run.run_length)));
            }
            PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(&vector.symbol_list),
        }
    }
    let count = usize::from(feedback.packet_status_count);
    assert!(symbols.len() >= count && symbols[count..].iter().all(|s| *s == SymbolTypeTcc::PacketNotReceived));
    // 24 bits with a sign.
    let mut time = i64::from((feedback.reference_time << 8) as i32 >> 8) * 64_000;
    let mut deltas = feedback.recv_deltas.iter();
    let statuses = symbols[..count].iter().enumerate().map(|(n, symbol)| {
        let arrival = (*symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
            time += deltas.next().unwrap().delta;
            time
        });
        (feedback.base_sequence_number.wrapping_add(n as u16), arrival)
    });
    let statuses = statuses.collect();
    assert!(deltas.next().is_none());
    (feedback.fb_pkt_count, statuses)
}

/// All feedback packets there are to send now.
fn feedback(recorder: &mut ArrivalRecorder) -> Vec<Vec<(u16, Option<i64>)>> {
    let mut all = Vec::new();
    loop {
        let mut out = [0xEE; 1_200];
        let mut writer = Writer::new(&mut out);
        if !recorder.build(Ssrc(1), Ssrc(2), &mut writer) {
            assert!(!recorder.is_pending() && writer.is_empty());
            return all;
        }
        all.push(decode(writer.as_bytes()).1);
    }
}

/// Arrivals as (sequence, ms) in → packets told, lost ones as -1, out.
fn told(arrivals: &[(u16, u64)]) -> Vec<Vec<(u16, i64)>> {
    let start = Instant::now();
    let mut recorder = ArrivalRecorder::new();
    arrivals.iter().for_each(|(sequence, ms)| recorder.record(*sequence, start + Duration::from_millis(*ms)));
    let packets = feedback(&mut recorder).into_iter();
    packets.map(|p| p.into_iter().map(|(s, at)| (s, at.map_or(-1, |us| us / 1000))).collect()).collect()
}

#[test]
fn arrivals_come_out_as_they_went_in() {
    for (name, arrivals, expected) in [
        ("nothing", &[][..], vec![]),
        ("one", &[(7, 0)], vec![vec![(7, 0)]]),
        ("wrap", &[(65_535, 0), (0, 1)], vec![vec![(65_535, 0), (0, 1)]]),
        ("a loss", &[(1, 0), (3, 2)], vec![vec![(1, 0), (2, -1), (3, 2)]]),
        ("reordered", &[(1, 0), (3, 2), (2, 3)], vec![vec![(1, 0), (2, 3), (3, 2)]]),
        ("before the first", &[(2, 0), (1, 3)], vec![vec![(1, 3), (2, 0)]]),
        ("the first arrival of a duplicate counts", &[(1, 0), (2, 1), (2, 9)], vec![vec![(1, 0), (2, 1)]]),
        ("8 s apart", &[(1, 0), (2, 8_000)], vec![vec![(1, 0), (2, 8_000)]]),
        ("9 s apart", &[(1, 0), (2, 9_000), (3, 9_001)], vec![vec![(1, 0)], vec![(2, 9_000), (3, 9_001)]]),
        ("a gap beyond the window", &[(1, 0), (5_001, 2)], vec![vec![(5_001, 2)]]),
        ("too late for the window", &[(5_000, 0), (1, 2)], vec![vec![(5_000, 0)]]),
    ] {
        assert_eq!(told(arrivals), expected, "{name}");
    }
}

#[test]
fn what_was_told_is_not_told_again_and_losses_between_feedbacks_are() {
    let start = Instant::now();
    let mut recorder = ArrivalRecorder::new();
    for (record, expected) in [
        (&[10, 11][..], vec![vec![(10, true), (11, true)]]),
        (&[], vec![]),
        (&[13], vec![vec![(12, false), (13, true)]]),
        (&[12], vec![vec![(12, true), (13, true)]]),
    ] {
        record.iter().for_each(|sequence| recorder.record(*sequence, start));
        let told: Vec<Vec<_>> =
            feedback(&mut recorder).iter().map(|p| p.iter().map(|(s, at)| (*s, at.is_some())).collect()).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn a_feedback_tells_of_500_packets_at_most_and_fits_the_room() {
    let start = Instant::now();
    for (room, most) in [(1_200, 500), (300, 119), (40, 5), (28, 0), (0, 0)] {
        let mut recorder = ArrivalRecorder::new();
        (0..1000).for_each(|n| recorder.record(n, start + Duration::from_millis(u64::from(n) * 70)));
        let mut out = vec![0; room];
        let mut writer = Writer::new(&mut out);
        assert_eq!(recorder.build(Ssrc(1), Ssrc(2), &mut writer), most > 0, "{room} bytes");
        if most > 0 {
            assert_eq!(decode(writer.as_bytes()).1.len(), most, "{room} bytes");
        }
    }
}

/// Symbols, as digits, in → packet chunks out.
#[test]
fn symbols_are_packed_into_the_chunk_that_tells_most() {
    for (symbols, expected) in [
        ("", &[][..]),
        ("1", &[0x2001]),
        ("0000", &[0x0004]),
        ("2222222", &[0x4007]),
        ("11111111111111101", &[0x200F, 0x9000]),
        ("10111111111111", &[0xAFFF]),
        ("111111111111101", &[0xBFFE, 0x2001]),
        ("0120", &[0xC600]),
        ("1112111111122", &[0xD595, 0xD568]),
        ("111111122", &[0x2007, 0x4002]),
        ("11111122", &[0xD556, 0x4001]),
    ] {
        let mut statuses = Statuses::new();
        for symbol in symbols.bytes() {
            assert!(statuses.push([None, Some(1), Some(-1)][usize::from(symbol - b'0')]));
        }
        let chunks: Vec<u16> = statuses.chunks().map(|chunk| chunk.bits).collect();
        assert_eq!(chunks, expected, "{symbols}: {chunks:04x?}");
    }
}

#[test]
fn feedbacks_are_counted_and_go_on_over_the_end_of_the_reference_time() {
    let start = Instant::now();
    let mut recorder = ArrivalRecorder::new();
    for n in 0..600u32 {
        // 24 bits of 64 ms are 12 days.
        let at = Duration::from_secs(u64::from(n) * 3_600);
        recorder.record(n as u16, start + at);
        let mut out = [0; 100];
        let mut writer = Writer::new(&mut out);
        assert!(recorder.build(Ssrc(1), Ssrc(2), &mut writer));
        let (count, statuses) = decode(writer.as_bytes());
        assert_eq!(count, n as u8);
        let round = 64_000 << 24;
        assert_eq!(statuses[0].1.unwrap().rem_euclid(round), (at.as_micros() as i64).rem_euclid(round));
    }
}

#[test]
fn any_pattern_of_arrivals_is_told_exactly() {
    let mut random = Random::new(6);
    for _ in 0..300 {
        let start = Instant::now();
        let (mut recorder, mut now) = (ArrivalRecorder::new(), start);
        let mut sequence = random.next() as u16;
        let (loss, reorder, burst) = (2 + random.below(30), 2 + random.below(30), 1 + random.below(20));
        let (mut sent, mut received): (Vec<u16>, BTreeMap<u16, i64>) = Default::default();
        let mut held = None;
        for _ in 0..random.below(900) {
            sequence = sequence.wrapping_add(1);
            sent.push(sequence);
            if !received.is_empty() && random.one_in(burst) {
                let longest = if random.one_in(20) { 200_000 } else { 10_000 };
                now += Duration::from_micros(random.below(longest));
            }
            if !received.is_empty() && random.one_in(loss) {
                continue;
            }
            let arrivals = if held.is_none() && random.one_in(reorder) && !received.is_empty() {
                held = Some(sequence);
                [None, None]
            } else {
                [Some(sequence), held.take()]
            };
            for arrived in arrivals.into_iter().flatten() {
                recorder.record(arrived, now);
                received.insert(arrived, (now - start).as_micros() as i64 / 250 * 250);
            }
        }
        let told: Vec<_> = feedback(&mut recorder).concat();
        let last = sent.iter().rposition(|s| received.contains_key(s)).map_or(0, |at| at + 1);
        let expected: Vec<_> = sent[..last].iter().map(|s| (*s, received.get(s).copied())).collect();
        assert_eq!(told, expected);
    }
}
