use super::*;

#[test]
fn a_client_that_gives_no_feedback_is_held_back_for_two_seconds_at_most() {
    let t0 = Instant::now();
    let mut path = Congestion::new(t0);
    path.expect_feedback();
    assert!(path.is_controlled() && path.starts_low());
    path.sent(t0, 1_000, true, None);
    assert!(path.stable_bps().is_some());
    path.poll_probe(t0 + Duration::from_millis(2_100));
    assert_eq!((path.stable_bps(), path.is_controlled()), (None, false));
}

#[test]
fn without_transport_wide_numbers_nothing_limits_until_a_remb_does() {
    let t0 = Instant::now();
    let mut path = Congestion::new(t0);
    assert_eq!(path.stable_bps(), None);
    assert!(path.may_send(t0));
    path.remb(t0, 500_000, true);
    assert_eq!(path.target_bps(), Some(500_000));
    for (ms, expected) in [(4_900, Some(500_000)), (5_000, None)] {
        path.set_wanted(t0 + Duration::from_millis(ms), 1_000_000, 100_000);
        assert_eq!(path.target_bps(), expected, "{ms} ms after the only REMB");
    }
}

#[test]
fn a_client_that_is_elsewhere_is_not_held_to_the_silence_of_its_former_path() {
    let t0 = Instant::now();
    let mut path = Congestion::new(t0);
    path.expect_feedback();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    for ms in (0..1_600).step_by(20) {
        path.sent(at(ms), 1_000, true, None);
        path.poll_probe(at(ms));
    }
    let start = Settings::default().start_bps;
    assert!(path.target_bps() < Some(start), "nothing came back");
    path.restart(at(1_600));
    assert_eq!((path.next_sequence(), path.starts_low(), path.is_new(at(1_600))), (80, true, true));
    assert_eq!(path.target_bps(), Some(start));
    // A receiver's own estimate is of the former path, too; the next one says whether there is a limit.
    let mut other = Congestion::new(t0);
    other.remb(t0, 50_000, true);
    other.restart(t0);
    assert!(!other.is_controlled());
}

#[test]
fn what_was_sent_beyond_the_pace_waits() {
    let t0 = Instant::now();
    let mut path = Congestion::new(t0);
    path.remb(t0, 800_000, true);
    let mut sent = 0;
    while path.may_send(t0) {
        path.sent(t0, 1_172, false, None);
        sent += 1;
        assert!(sent < 10, "250 kB a second let 2.5 kB pass at once");
    }
    assert!(path.ready_at() > t0 && path.ready_at() < t0 + Duration::from_millis(20));
}
