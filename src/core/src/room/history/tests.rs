use super::*;

fn limits(bytes: usize) -> HistoryLimits {
    HistoryLimits { age: Duration::from_secs(1), bytes }
}

/// Pushes packets of `len` bytes filled with their index, one each millisecond.
fn fill(history: &mut History, t0: Instant, indexes: std::ops::Range<u64>, len: usize) {
    for index in indexes {
        let now = t0 + Duration::from_millis(index);
        let packet = Packet { index, ..Packet::new(now) };
        history.push(packet, &[], &vec![index as u8; len]);
    }
}

#[test]
fn a_packet_is_found_by_arrival_and_by_index_with_its_bytes() {
    let mut history = History::new(limits(1 << 20));
    let t0 = Instant::now();
    assert!(history.find(0).is_none() && history.memory() == 0);
    let kept = KeptExtensions { audio_level: Some(5), ..KeptExtensions::default() };
    history.push(Packet { index: 70_000, kept, ..Packet::new(t0) }, &[9, 9], &[1, 2, 3]);
    let packet = *history.find(70_000).unwrap();
    assert_eq!(history.payload(&packet), [1, 2, 3]);
    assert_eq!(history.descriptor(&packet), [9, 9]);
    assert_eq!(history.get(0).unwrap().index, 70_000);
    assert!(history.get(1).is_none() && history.find(70_001).is_none());
}

#[test]
fn every_packet_that_is_here_has_its_own_bytes_whatever_was_overwritten() {
    let t0 = Instant::now();
    for (bytes, len) in [(20_000, 1000), (16_384, 1), (17_000, 1201), (100_000, 333)] {
        let mut history = History::new(limits(bytes));
        fill(&mut history, t0, 0..5_000, len);
        assert!(history.memory() < bytes * 6, "{bytes} {len}: {}", history.memory());
        assert!(history.end() - history.oldest() > 8);
        for n in history.oldest()..history.end() {
            let packet = *history.get(n).unwrap();
            assert_eq!(packet.index, n);
            assert_eq!(history.payload(&packet), vec![n as u8; len]);
            assert_eq!(history.find(n).unwrap().index, n);
        }
    }
}

#[test]
fn a_key_frame_begins_where_it_is_first_said_to() {
    let (t0, mut history) = (Instant::now(), History::new(limits(1 << 20)));
    let mut push = |index, timestamp, key_frame| {
        let info = PayloadInfo { key_frame, frame_start: true, ..PayloadInfo::default() };
        history.push(Packet { index, timestamp, info, ..Packet::new(t0) }, &[], &[0]);
        history.key_frame()
    };
    // Parameter sets, the picture, the next picture, another key frame.
    let seen = [(0, 7, true), (1, 7, true), (2, 8, false), (3, 9, true)].map(|(n, ts, key)| push(n, ts, key));
    assert_eq!(seen, [Some(0), Some(0), Some(0), Some(3)]);
    history.forget_key_frame();
    assert_eq!(history.key_frame(), None);
}

#[test]
fn memory_grows_only_while_young_packets_would_be_lost() {
    let t0 = Instant::now();
    let mut history = History::new(limits(1 << 20));
    fill(&mut history, t0, 0..5_000, 100);
    assert!(history.end() - history.oldest() >= 1_000, "a second's packets are here");
    assert!(history.memory() < 620_000, "and not much more: {}", history.memory());
}

#[test]
fn packets_that_differ_by_little_are_evened_out_and_others_are_not() {
    let t0 = Instant::now();
    for (first, lengths, expected) in [
        (0, &[1000, 1000, 1001, 1001][..], &[1, 1, 0, 0][..]),
        (0, &[1001, 1000, 1001], &[0, 1, 0]),
        (0, &[1001, 900, 1001], &[0, 0, 0]),
        (0, &[1000, 1008, 500, 499, 0, 3], &[8, 0, 0, 0, 0, 0]),
        (2, &[1000, 1000, 1000, 1001], &[0, 0, 1, 0]),
    ] {
        let mut history = History::new(limits(1 << 16));
        for (index, len) in lengths.iter().enumerate() {
            history.push(Packet { index: index as u64, ..Packet::new(t0) }, &[], &vec![0; *len]);
        }
        history.even_out(first);
        let padding: Vec<_> = (0..history.end()).map(|n| history.get(n).unwrap().padding).collect();
        assert_eq!(padding, expected, "{lengths:?}");
    }
}

#[test]
fn a_payload_that_can_never_fit_is_left_out() {
    let mut history = History::new(limits(1024));
    history.push(Packet::new(Instant::now()), &[], &[0; 1025]);
    assert_eq!(history.end(), 0);
}

#[test]
fn what_has_overtaken_a_packet_is_found_and_what_was_before_a_jump_back_is_not() {
    let t0 = Instant::now();
    for (indexes, timestamps, of, expected) in [
        ([9, 11, 10, 12], [0, 10, 10, 10], 2, Some(1)),
        ([9, 12, 11, 10], [0, 20, 10, 10], 3, Some(1)),
        ([9, 10, 11, 12], [0, 10, 10, 10], 1, None),
        ([12, 11, 9, 10], [10, 10, 0, 10], 3, Some(0)),
        ([90, 91, 10, 11], [10, 20, 30, 30], 2, None),
    ] {
        let mut history = History::new(limits(1 << 20));
        for (index, timestamp) in indexes.into_iter().zip(timestamps) {
            history.push(Packet { index, timestamp, ..Packet::new(t0) }, &[], &[0]);
        }
        let packet = *history.get(of).unwrap();
        assert_eq!(history.first_to_overtake(of, &packet), expected, "{indexes:?}");
        assert_eq!(history.arrival_of(packet.index), Some(of));
    }
}
