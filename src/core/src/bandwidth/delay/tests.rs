use super::*;

/// Sends a packet every `gap_us` for `packets` packets, with the delay that `delay_us` gives; true when overuse was
/// seen.
fn run(observer: &mut DelayObserver, from: i64, packets: i64, gap_us: i64, delay_us: impl Fn(i64) -> i64) -> bool {
    let sent = (0..packets).map(|n| from + n * gap_us);
    // The receiver's clock is far behind ours.
    sent.fold(false, |over, sent| over | observer.on_packet(sent, sent - 7_000_000_000 + delay_us(sent - from)))
}

#[test]
fn a_constant_delay_is_no_overuse_and_no_queue() {
    let mut observer = DelayObserver::default();
    assert!(!run(&mut observer, 0, 1000, 10_000, |_| 50_000));
    assert_eq!((observer.standing_queue_us(), observer.usage()), (0, Usage::Normal));
}

#[test]
fn a_queue_that_grows_is_overuse_within_half_a_second() {
    let mut observer = DelayObserver::default();
    run(&mut observer, 0, 500, 10_000, |_| 50_000);
    assert!(run(&mut observer, 5_000_000, 50, 10_000, |t| 50_000 + t / 10));
    assert!((30_000..50_000).contains(&observer.standing_queue_us()), "{}", observer.standing_queue_us());
}

#[test]
fn a_queue_that_drains_is_underuse() {
    let mut observer = DelayObserver::default();
    run(&mut observer, 0, 100, 10_000, |_| 50_000);
    run(&mut observer, 1_000_000, 60, 10_000, |t| 150_000 - t / 8);
    assert_eq!(observer.usage(), Usage::Under);
}

#[test]
fn clocks_that_drift_apart_are_no_queue() {
    let mut observer = DelayObserver::default();
    // 100 ppm for two minutes: 12 ms.
    assert!(!run(&mut observer, 0, 12_000, 10_000, |t| 50_000 + t / 10_000));
    assert!(observer.standing_queue_us() < 3_100, "{}", observer.standing_queue_us());
}

#[test]
fn a_clock_that_steps_starts_afresh() {
    let mut observer = DelayObserver::default();
    run(&mut observer, 0, 100, 10_000, |_| 50_000);
    assert!(!run(&mut observer, 1_000_000, 100, 10_000, |_| 9_000_000));
    assert_eq!(observer.standing_queue_us(), 0);
}

#[test]
fn an_accepted_queue_counts_no_more_until_it_gets_shorter() {
    let mut observer = DelayObserver::default();
    run(&mut observer, 0, 100, 10_000, |_| 50_000);
    run(&mut observer, 1_000_000, 100, 10_000, |_| 150_000);
    assert_eq!(observer.standing_queue_us(), 100_000);
    observer.accept_queue();
    assert_eq!(observer.standing_queue_us(), 0);
    run(&mut observer, 2_000_000, 100, 10_000, |_| 80_000);
    run(&mut observer, 3_000_000, 100, 10_000, |_| 150_000);
    assert_eq!(observer.standing_queue_us(), 70_000);
}
