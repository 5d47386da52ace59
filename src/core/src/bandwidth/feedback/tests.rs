use super::*;

/// A feedback packet with `base`, `count`, a reference of 1 (64 ms), and what comes after the fixed fields.
fn packet(base: u16, count: u16, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    packet.extend(base.to_be_bytes());
    packet.extend(count.to_be_bytes());
    packet.extend([0, 0, 1, 7]);
    packet.extend(rest);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}

fn read(packet: &[u8]) -> Result<Vec<(u16, Option<u32>)>, FeedbackError> {
    Ok(Feedback::parse(packet)?.map(|arrival| (arrival.sequence, arrival.at)).collect())
}

#[test]
fn a_run_of_small_deltas_adds_them_up_and_wraps_the_sequence_number() {
    let read = read(&packet(65_534, 3, &[0x20, 3, 4, 0, 255]));
    assert_eq!(read, Ok(vec![(65_534, Some(260)), (65_535, Some(260)), (0, Some(515))]));
}

#[test]
fn one_bit_and_two_bit_vectors_mix_received_and_lost() {
    // One bit: received, lost, received, then lost up to 14; two bits: large, small, lost.
    let rest = [0b1010_1000, 0, 0b1110_0100, 0, 1, 2, 0xFF, 0xFE, 3];
    let read = read(&packet(10, 17, &rest)).unwrap();
    let received: Vec<_> = read.iter().filter(|(_, at)| at.is_some()).copied().collect();
    assert_eq!(read.len(), 17);
    assert_eq!(received, [(10, Some(257)), (12, Some(259)), (24, Some(257)), (25, Some(260))]);
}

#[test]
fn what_is_cut_short_or_miscounted_is_refused() {
    let whole = packet(1, 3, &[0x20, 3, 4, 0, 255]);
    let cases: [(&str, Vec<u8>, FeedbackError); 9] = [
        ("empty", vec![], FeedbackError::Truncated),
        ("the fixed fields only", packet(1, 3, &[]), FeedbackError::Truncated),
        ("half a chunk", whole[..21].to_vec(), FeedbackError::Truncated),
        ("a length beyond the end", whole[..24].to_vec(), FeedbackError::Truncated),
        ("fewer deltas than symbols", packet(1, 30, &[0x20, 30, 1, 1]), FeedbackError::Truncated),
        ("fewer symbols than packets", packet(1, 30, &[0x20, 3, 0, 0, 1, 1, 1]), FeedbackError::Truncated),
        ("no packets", packet(1, 0, &[0x20, 3, 1, 1, 1]), FeedbackError::BadCount),
        ("more packets than can be in flight", packet(1, 60_000, &[0; 80]), FeedbackError::BadCount),
        ("a picture loss indication", vec![0x81, 206, 0, 4].into_iter().chain([0; 16]).collect(), {
            FeedbackError::NotTransportFeedback
        }),
    ];
    for (name, packet, error) in cases {
        assert_eq!(read(&packet), Err(error), "{name}");
    }
}

#[test]
fn a_run_that_goes_on_beyond_the_count_is_cut_there() {
    let read = read(&packet(5, 2, &[0x3F, 0xFF, 8, 8])).unwrap();
    assert_eq!(read, [(5, Some(264)), (6, Some(272))]);
}

/// Pseudo-random bytes (xorshift), the same each time.
fn noise() -> impl FnMut() -> u8 {
    let mut state = 88_172_645_463_325_252u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    }
}

#[test]
fn any_bytes_are_refused_or_give_as_many_statuses_as_counted() {
    let mut noise = noise();
    let mut read = 0;
    for _ in 0..20_000 {
        let rest: Vec<u8> = (0..noise() % 200).map(|_| noise()).collect();
        let count = u16::from_be_bytes([noise() % 8, noise()]);
        if let Ok(feedback) = Feedback::parse(&packet(u16::from(noise()), count, &rest)) {
            read += 1;
            assert_eq!(feedback.take(10_000).count(), usize::from(count));
        }
    }
    assert!(read > 1000, "{read}");
}

#[test]
fn noise_behind_a_header_does_not_panic() {
    let mut noise = noise();
    for _ in 0..20_000 {
        let mut bytes = vec![0x8F, 205, 0, noise() % 32];
        bytes.extend((0..noise() % 128).map(|_| noise()));
        let _ = read(&bytes);
    }
}
