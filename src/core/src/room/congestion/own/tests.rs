use super::*;

const NAMES: [Ssrc; 3] = [Ssrc(1), Ssrc(2), Ssrc(3)];

fn estimate(sender: u32, bps: u64, streams: &[Ssrc]) -> Estimate {
    Estimate { sender: Ssrc(sender), bps, streams: streams.to_vec(), covers_sound: true }
}

/// Estimates of a client that is sent `sent_bps`, at half a second.
fn sent(t0: Instant, sent_bps: u64) -> OwnEstimates {
    let mut own = OwnEstimates::new(t0);
    own.set_wanted(10_000_000, 0);
    own.sent((sent_bps / 16) as usize + HEADERS);
    own
}

#[test]
fn what_several_estimators_tell_counts_together_and_what_one_tells_anew_in_the_place_of_what_it_told() {
    let [a, b, c] = NAMES;
    let all: &[Ssrc] = &[];
    for (told, expected) in [
        (vec![(1, 500, &[a][..]), (2, 300, &[b])], 800),
        (vec![(1, 500, &[a]), (2, 300, &[b]), (1, 400, &[a])], 700),
        // One for all, of which more have come.
        (vec![(1, 500, &[a]), (1, 700, &[a, b]), (1, 600, &[b, c])], 600),
        // Each of several names what others have seen as well.
        (vec![(1, 500, &[a, c]), (2, 300, &[b]), (3, 200, &[c]), (1, 550, &[a, c])], 1_050),
        (vec![(1, 500, &[a]), (1, 300, &[b])], 800),
        (vec![(1, 500, &[a]), (2, 300, &[b]), (1, 400, all)], 400),
        (vec![(1, 400, all), (1, 500, &[a])], 500),
        (vec![(1, u64::MAX, &[a]), (2, 500, &[b])], u64::MAX),
    ] {
        let t0 = Instant::now();
        let mut own = OwnEstimates::new(t0);
        told.iter().for_each(|(sender, bps, streams)| own.take_in(t0, estimate(*sender, *bps, streams)));
        assert_eq!(own.bps(), expected, "{told:?}");
    }
}

#[test]
fn each_estimate_counts_for_its_own_five_seconds_and_a_bounded_number_is_kept() {
    let t0 = Instant::now();
    let at = |ms| t0 + Duration::from_millis(ms);
    let mut own = OwnEstimates::new(t0);
    own.take_in(t0, estimate(1, 500, &NAMES[..1]));
    own.take_in(at(2_000), estimate(2, 300, &NAMES[1..2]));
    for (ms, expected) in [(4_900, (true, 800)), (5_000, (true, 300)), (7_000, (false, 0))] {
        assert_eq!((own.expire(at(ms), 100), own.listed.bps()), expected, "{ms} ms");
    }
    (0..10_000).for_each(|n| own.take_in(t0, estimate(n, 1, &NAMES)));
    assert_eq!(own.listed.estimates().count(), listed::MAX_ESTIMATES);
}

#[test]
fn padding_fills_up_to_what_is_told_and_no_further_while_something_is_left_out() {
    for (served, wanted_bps, least, most) in [
        (Served::Less, 10_000_000, 900_000, 960_000),
        (Served::Less, 600_000, 540_000, 610_000),
        (Served::Whole, 10_000_000, 0, 0),
        (Served::Nothing, 10_000_000, 0, 0),
    ] {
        let t0 = Instant::now();
        let mut own = OwnEstimates::new(t0);
        own.set_wanted(wanted_bps, 0);
        own.set_padded(true);
        own.take_in(t0, estimate(1, 1_000_000, &NAMES));
        own.set_served(t0, served);
        let mut padded = 0;
        for ms in (0..2_000).step_by(20) {
            // Pictures of 20,000 bytes in a second.
            own.sent(400 + HEADERS);
            let bytes = own.poll(t0 + Duration::from_millis(ms));
            own.sent(bytes + HEADERS);
            padded += bytes;
        }
        let bps = if padded > 0 { padded as u64 * 4 + 160_000 } else { 0 };
        assert!((least..=most).contains(&bps), "{served:?} {wanted_bps}: {bps} bit/s");
    }
}

#[test]
fn padding_that_changes_nothing_gives_way_to_a_trial_and_a_trial_to_longer_and_longer_rests() {
    let t0 = Instant::now();
    let mut own = sent(t0, 340_000);
    own.set_padded(true);
    let mut tried = Vec::new();
    for ms in (500..120_000).step_by(500) {
        let now = t0 + Duration::from_millis(ms);
        own.take_in(now, estimate(1, 500_000, &NAMES));
        own.set_served(now, Served::Less);
        let was = own.bps();
        own.sent(340_000 / 16 + HEADERS);
        own.poll(now);
        if (was, own.bps()) == (500_000, 800_000) {
            tried.push(ms / 1_000);
        }
    }
    assert_eq!(tried, [5, 21, 48, 94]);
}

#[test]
fn estimates_that_fall_in_a_search_end_it_and_what_has_failed_is_not_believed_while_it_rests() {
    let t0 = Instant::now();
    let at = |ms| t0 + Duration::from_millis(ms);
    let mut own = sent(t0, 600_000);
    own.set_padded(true);
    own.take_in(at(500), estimate(1, 700_000, &NAMES));
    own.set_served(at(500), Served::Less);
    own.poll(at(500));
    assert!(own.search.is_running());
    own.sent(700_000 / 16 + HEADERS);
    own.take_in(at(1_000), estimate(1, 600_000, &NAMES));
    assert!(!own.search.is_running());
    own.sent(600_000 / 16 + HEADERS);
    own.take_in(at(1_500), estimate(1, 690_000, &NAMES));
    assert_eq!(own.bps(), 665_000);
    own.take_in(at(1_600), estimate(1, 5_000_000, &NAMES));
    assert_eq!(own.bps(), 5_000_000, "another path");
}

#[test]
fn an_estimate_that_rises_lets_pass_what_is_sent_and_one_that_has_fallen_does_not() {
    let t0 = Instant::now();
    let mut own = OwnEstimates::new(t0);
    own.set_wanted(10_000_000, 0);
    for (n, (told, expected)) in
        [(200, 200), (210, 210), (229, 229), (231, 400), (250, 400), (240, 240), (260, 260)].into_iter().enumerate()
    {
        let now = t0 + Duration::from_millis(500 * (n as u64 + 1));
        own.sent(400_000 / 16 + HEADERS);
        own.take_in(now, estimate(1, told * 1_000, &NAMES));
        assert_eq!(own.bps(), expected * 1_000, "{told}");
    }
}

#[test]
fn who_is_sent_nothing_is_tried_with_the_least_after_a_while_that_grows() {
    let t0 = Instant::now();
    let mut own = OwnEstimates::new(t0);
    own.take_in(t0, estimate(1, 10_000, &NAMES));
    let mut tried = Vec::new();
    for second in 1..100 {
        let now = t0 + Duration::from_secs(second);
        own.set_served(now, Served::Nothing);
        assert!(own.expire(now, 300_000));
        if own.bps() == 330_000 {
            tried.push(second);
            own.set_served(now, Served::Whole);
            own.take_in(now, estimate(1, 100_000, &NAMES));
            own.take_in(now, estimate(1, 50_000, &NAMES));
        }
    }
    assert_eq!(tried, [5, 15, 35, 55, 75, 95]);
}

#[test]
fn at_another_place_as_much_is_believed_and_what_has_failed_rests_on() {
    let t0 = Instant::now();
    let at = |ms| t0 + Duration::from_millis(ms);
    let mut own = sent(t0, 600_000);
    own.take_in(at(500), estimate(1, 900_000, &NAMES[..2]));
    own.set_served(at(500), Served::Less);
    own.poll(at(500));
    own.sent(600_000 / 16 + HEADERS);
    own.take_in(at(1_000), estimate(1, 600_000, &NAMES[..2]));
    own.take_in(at(1_000), estimate(2, 90_000, &NAMES[2..]));
    assert_eq!(own.bps(), 570_000);

    let mut there = OwnEstimates::resumed(at(4_000), own.state(at(4_000)));
    there.set_wanted(10_000_000, 0);
    there.set_served(at(4_000), Served::Less);
    let mut believed = Vec::new();
    for ms in (4_000..12_000).step_by(500) {
        there.expire(at(ms), 0);
        there.sent(600_000 / 16 + HEADERS);
        there.take_in(at(ms), estimate(1, 600_000, &NAMES[..2]));
        there.take_in(at(ms), estimate(2, 90_000, &NAMES[2..]));
        there.poll(at(ms));
        if believed.last().is_none_or(|(_, bps)| *bps != there.bps()) {
            believed.push((ms, there.bps()));
        }
    }
    assert_eq!(believed, [(4_000, 570_000), (11_000, 690_000)]);
}

#[test]
fn of_more_estimates_than_a_state_has_room_for_the_newest_go_on() {
    let t0 = Instant::now();
    let mut own = OwnEstimates::new(t0);
    for n in 0..10 {
        let streams: Vec<_> = (0..255).map(|of| Ssrc(1_000 * n + of)).collect();
        own.take_in(t0, estimate(n, 1 << n, &streams));
    }
    assert_eq!(OwnEstimates::resumed(t0, own.state(t0)).bps(), 0b11_1100_0000);
}
