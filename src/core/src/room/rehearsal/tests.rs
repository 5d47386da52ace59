use super::*;

const RTT: Duration = Duration::from_millis(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A path without a queue, of which feedback tells up to `sent`.
fn good(sent: Instant) -> Seen {
    Seen { queue: Duration::ZERO, loss: 0.0, sent, is_draining: false }
}

/// Lets time pass from `from` to `to` in steps of 10 ms, with feedback every 50 ms, and sends what is due. What left,
/// in bytes.
fn rehearse(rehearsals: &mut Rehearsals, t0: Instant, from: u64, to: u64) -> usize {
    let mut all = 0;
    for at in (from..to).step_by(10) {
        let bytes = rehearsals.due(t0 + ms(at), RTT).unwrap_or(0);
        rehearsals.sent(bytes);
        all += bytes;
        if at % 50 == 0 {
            rehearsals.observe(t0 + ms(at), good(t0 + ms(at) - RTT));
        }
    }
    all
}

#[test]
fn what_was_rehearsed_without_a_queue_may_be_sent() {
    let t0 = Instant::now();
    let mut rehearsals = Rehearsals::default();
    assert!(!rehearsals.may_send(t0, 800_000, 500_000, true));
    rehearsals.sent(4_000);
    assert_eq!(rehearsals.due(t0 + ms(100), RTT), Some(6_000));
    rehearsals.sent(6_000);
    assert_eq!(rehearsals.observe(t0 + ms(100), good(t0 + ms(80))), None);
    rehearse(&mut rehearsals, t0, 110, 500);
    assert!(!rehearsals.may_send(t0 + ms(490), 800_000, 500_000, true), "it takes 500 ms");
    assert_eq!(rehearsals.observe(t0 + ms(510), good(t0 + ms(470))), None, "what left last is still under way");
    assert_eq!(rehearsals.observe(t0 + ms(530), good(t0 + ms(490))), Some(Verdict::Passed(800_000)));
    assert_eq!(rehearsals.due(t0 + ms(530), RTT), None);
    for (at, bps, expected) in [(540, 800_000, true), (540, 870_000, true), (540, 1_000_000, false)] {
        assert_eq!(rehearsals.may_send(t0 + ms(at), bps, 500_000, true), expected, "{at} {bps}");
    }
}

#[test]
fn what_is_far_beyond_what_is_sent_is_rehearsed_in_steps() {
    let t0 = Instant::now();
    let mut rehearsals = Rehearsals::default();
    let (mut at, mut steps) = (0, Vec::new());
    while !rehearsals.may_send(t0 + ms(at), 1_500_000, 200_000, true) {
        let began = at;
        while rehearsals.is_running() {
            rehearse(&mut rehearsals, t0, at, at + 10);
            at += 10;
        }
        steps.push(at - began);
        assert!(steps.len() < 9);
    }
    // 300, 450, 900 and 1,500 kbit/s, to the next feedback each.
    assert_eq!(steps, [910, 600, 550, 550]);
    let expected = Rehearsals::default().time_for(t0, 1_500_000, 200_000).as_millis();
    assert!(expected.abs_diff(steps.iter().sum::<u64>().into()) < 100, "{expected} ms reckoned");
    assert!(rehearsals.time_for(t0 + ms(at), 1_500_000, 200_000).is_zero(), "nothing is left to rehearse");
}

#[test]
fn one_that_leaves_a_queue_ends_at_once_and_is_repeated_after_a_pause() {
    let t0 = Instant::now();
    let bad = good(t0);
    for bad in [Seen { queue: ms(40), ..bad }, Seen { loss: 0.1, ..bad }, Seen { is_draining: true, ..bad }] {
        let mut rehearsals = Rehearsals::default();
        rehearsals.may_send(t0, 800_000, 500_000, true);
        assert_eq!(rehearsals.observe(t0 + ms(100), bad), Some(Verdict::Failed));
        assert!(!rehearsals.is_running(), "{bad:?}");
        let begins = |at: u64, bps: u64, is_calm: bool| {
            let mut rehearsals = rehearsals.clone();
            rehearsals.may_send(t0 + ms(at), bps, 500_000, is_calm);
            rehearsals.is_running()
        };
        for (at, bps, is_calm, expected) in [
            (4_000, 800_000, true, false),
            (4_000, 500_000, true, true),
            (4_101, 800_000, true, true),
            (4_101, 800_000, false, false),
        ] {
            assert_eq!(begins(at, bps, is_calm), expected, "{at} {bps} {is_calm}");
        }
    }
}

#[test]
fn where_others_fill_a_queue_one_ends_when_it_gets_longer() {
    let t0 = Instant::now();
    for (before, during, verdict) in [
        (0, 30, None),
        (0, 31, Some(Verdict::Failed)),
        (5, 31, Some(Verdict::Failed)),
        (20, 40, None),
        (20, 41, Some(Verdict::Failed)),
    ] {
        let mut rehearsals = Rehearsals::default();
        let seen = |queue: u64| Seen { queue: ms(queue), ..good(t0) };
        assert_eq!(rehearsals.observe(t0, seen(before)), None);
        rehearsals.may_send(t0, 800_000, 500_000, true);
        assert_eq!(rehearsals.observe(t0 + ms(100), seen(during)), verdict, "{before} {during}");
    }
}

#[test]
fn where_a_part_is_lost_whatever_is_sent_one_ends_when_it_gets_more() {
    let t0 = Instant::now();
    for (before, during, verdict) in
        [(0.0, 0.07, None), (0.0, 0.09, Some(Verdict::Failed)), (0.12, 0.19, None), (0.12, 0.21, Some(Verdict::Failed))]
    {
        let mut rehearsals = Rehearsals::default();
        let seen = |loss: f32| Seen { loss, ..good(t0) };
        assert!((0..100).all(|_| rehearsals.observe(t0, seen(before)).is_none()));
        rehearsals.may_send(t0, 800_000, 500_000, true);
        assert_eq!(rehearsals.observe(t0 + ms(100), seen(during)), verdict, "{before} {during}");
    }
}

#[test]
fn a_thorough_one_takes_twice_as_long() {
    let t0 = Instant::now();
    let mut rehearsals = Rehearsals { is_thorough: true, ..Rehearsals::default() };
    rehearsals.may_send(t0, 800_000, 500_000, true);
    for (from, at, passed) in [(0, 510, None), (510, 990, Some(Verdict::Passed(800_000)))] {
        rehearse(&mut rehearsals, t0, from, at);
        assert_eq!(rehearsals.observe(t0 + ms(at), good(t0 + ms(at))), passed, "{at}");
    }
}

#[test]
fn one_of_which_most_has_not_left_shows_nothing_and_begins_again() {
    let t0 = Instant::now();
    let mut rehearsals = Rehearsals::default();
    rehearsals.may_send(t0, 800_000, 500_000, true);
    rehearse(&mut rehearsals, t0, 0, 110);
    assert_eq!(rehearsals.due(t0 + ms(600), RTT), Some(0));
    rehearsals.sent(1_000);
    assert_eq!(rehearsals.observe(t0 + ms(620), good(t0 + ms(600))), None);
    assert!(!rehearsals.is_running() && rehearsals.passed_bps(t0 + ms(620)).is_none());
    assert!(!rehearsals.may_send(t0 + ms(620), 800_000, 500_000, true));
    rehearse(&mut rehearsals, t0, 620, 1_120);
    assert_eq!(rehearsals.observe(t0 + ms(1_140), good(t0 + ms(1_110))), Some(Verdict::Passed(800_000)));
}

#[test]
fn while_feedback_is_late_nothing_is_added() {
    let t0 = Instant::now();
    let mut rehearsals = Rehearsals::default();
    rehearsals.may_send(t0, 800_000, 500_000, true);
    let before = rehearse(&mut rehearsals, t0, 0, 51);
    // 130 ms after the last feedback it stops, and does not catch up.
    for at in (60..=300).step_by(10) {
        let due = rehearsals.due(t0 + ms(at), RTT).unwrap();
        assert_eq!(due > 0, at <= 180, "{at}");
        rehearsals.sent(due);
    }
    assert_eq!(before, 5_000);
    rehearsals.observe(t0 + ms(300), good(t0 + ms(280)));
    assert_eq!(rehearsals.due(t0 + ms(310), RTT), Some(1_000));
}

/// The rates and milliseconds of the rehearsals before `bps` may be sent where `before` is.
fn steps(mut rehearsals: Rehearsals, bps: u64, before: u64) -> Vec<(u64, u64)> {
    let t0 = Instant::now();
    let (mut at, mut steps) = (0, Vec::new());
    while !rehearsals.may_send(t0 + ms(at), bps, before, true) {
        let (began, rate) = (at, rehearsals.running_bps().unwrap());
        while rehearsals.is_running() {
            rehearse(&mut rehearsals, t0, at, at + 10);
            at += 10;
        }
        steps.push((rate, at - began));
        assert!(steps.len() < 9);
    }
    steps
}

#[test]
fn the_last_one_takes_as_long_as_the_bucket_that_has_shown_takes_to_be_emptied() {
    for (bucket, expected) in [(8_000, 660), (16_000, 1_310), (30_000, 2_410), (90_000, 3_010)] {
        let rehearsals = Rehearsals { bucket, ..Rehearsals::default() };
        assert_eq!(steps(rehearsals, 500_000, 400_000), [(500_000, expected)], "{bucket} bytes");
    }
}

#[test]
fn a_step_on_the_way_up_is_no_proof_for_a_layer_below_it_where_a_large_bucket_has_shown() {
    let t0 = Instant::now();
    for (bucket, expected) in [(8_000, true), (16_000, false)] {
        let mut rehearsals = Rehearsals { bucket, ..Rehearsals::default() };
        rehearsals.may_send(t0, 1_500_000, 500_000, true);
        rehearse(&mut rehearsals, t0, 0, 600);
        assert_eq!(rehearsals.passed_bps(t0 + ms(600)), Some(1_000_000));
        assert_eq!(rehearsals.may_send(t0 + ms(600), 800_000, 500_000, true), expected, "{bucket} bytes");
        assert_eq!(rehearsals.running_bps(), if expected { None } else { Some(800_000) });
    }
}
