use super::*;

fn at(ring: &mut SentRing, sequence: u16, received: bool) -> Option<(i64, Fate)> {
    ring.report(sequence, received).map(|packet| (packet.at, packet.before))
}

#[test]
fn a_packet_is_found_once_and_again_when_it_was_only_lost() {
    let mut ring = SentRing::new();
    ring.push(1000, 7, 1200, None);
    assert_eq!(at(&mut ring, 7, false), Some((1000, Fate::Pending)));
    assert_eq!(at(&mut ring, 7, false), None);
    assert_eq!(at(&mut ring, 7, true), Some((1000, Fate::Lost)));
    assert_eq!(at(&mut ring, 7, true), None);
    assert_eq!(at(&mut ring, 7, false), None);
}

#[test]
fn what_was_not_sent_is_not_found() {
    let mut ring = SentRing::new();
    assert_eq!(at(&mut ring, 0, true), None);
    ring.push(0, 100, 1200, None);
    ring.push(0, 103, 1200, None);
    for (sequence, found) in
        [(99, false), (100, true), (101, false), (102, false), (103, true), (104, false), (40_000, false)]
    {
        assert_eq!(ring.report(sequence, true).is_some(), found, "{sequence}");
    }
}

#[test]
fn numbers_wrap_and_times_do_too() {
    let mut ring = SentRing::new();
    let late = i64::from(u32::MAX) - 10;
    ring.push(late, 65_535, 1200, None);
    ring.push(late + 20, 0, 1200, None);
    let (before, after) = (ring.report(65_535, true), ring.report(0, true));
    assert_eq!(before.map(|packet| (packet.at, packet.index & 0xFFFF)), Some((late, 65_535)));
    assert_eq!(after.map(|packet| (packet.at, packet.index & 0xFFFF)), Some((late + 20, 0)));
}

#[test]
fn a_number_that_goes_back_is_ignored() {
    let mut ring = SentRing::new();
    ring.push(0, 10, 1200, None);
    ring.push(5, 9, 1200, None);
    assert_eq!(at(&mut ring, 9, true), None);
    assert_eq!(at(&mut ring, 10, true), Some((0, Fate::Pending)));
}

#[test]
fn the_ring_grows_when_packets_fall_out_of_it_too_early_and_not_for_ever() {
    let mut ring = SentRing::new();
    let mut sequence = 0u16;
    for round in 0..12 {
        for _ in 0..4096 {
            ring.push(round, sequence, 1200, None);
            sequence = sequence.wrapping_add(1);
        }
        ring.grow_if_needed();
    }
    assert_eq!(ring.slots.len(), MAX_CAPACITY);
    assert_eq!(at(&mut ring, sequence.wrapping_sub(4000), true), Some((11, Fate::Pending)));
}

#[test]
fn growing_keeps_what_was_sent() {
    let mut ring = SentRing::new();
    for n in 0..600 {
        ring.push(i64::from(n), n, 1200, None);
    }
    ring.grow_if_needed();
    assert_eq!(ring.slots.len(), 2 * FIRST_CAPACITY);
    assert_eq!(at(&mut ring, 87, true), None);
    assert_eq!(at(&mut ring, 88, true), Some((88, Fate::Pending)));
    assert_eq!(at(&mut ring, 599, true), Some((599, Fate::Pending)));
}
