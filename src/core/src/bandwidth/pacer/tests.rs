#![allow(clippy::disallowed_methods)] // A test needs some instant to start from.

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A pacer of 1,000 bytes per millisecond (3.2 Mbit/s times 2.5), and when it starts.
fn pacer() -> (Pacer, Instant) {
    let now = Instant::now();
    let mut pacer = Pacer::new(now);
    pacer.set_target(now + ms(100), 3_200_000);
    (pacer, now + ms(100))
}

/// Bytes that go in `duration` when a packet of `bytes` is always waiting.
fn sent(pacer: &mut Pacer, now: Instant, duration: u64, bytes: usize) -> usize {
    let ticks = (0..duration).map(|tick| now + ms(tick));
    ticks.map(|now| std::iter::repeat_with(|| pacer.allow(now, bytes)).take_while(|yes| *yes).count() * bytes).sum()
}

#[test]
fn two_and_a_half_times_the_target_goes_over_time() {
    let (mut pacer, now) = pacer();
    pacer.force(now, 5000);
    let sent = sent(&mut pacer, now, 1000, 1200);
    assert!((990_000..1_010_000).contains(&sent), "{sent}");
}

#[test]
fn a_run_goes_whole_and_its_debt_is_paid_off_afterwards() {
    let (mut pacer, now) = pacer();
    pacer.force(now, pacer.run_bytes());
    let now = now + ms(100);
    pacer.force(now, pacer.run_bytes() - 1);
    assert!(pacer.allow(now, 20_000));
    assert_eq!(pacer.debt() / 1000, 19);
    assert!(!pacer.allow(now + ms(19), 1200));
    let ready = pacer.ready_at();
    assert!(ready > now + ms(19) && ready < now + ms(21));
    assert!(pacer.allow(ready, 1200));
}

#[test]
fn light_traffic_is_not_delayed() {
    let (mut pacer, now) = pacer();
    // Nothing went for a while; then a frame of four packets and sound every 33 ms, a seventh of the pace.
    let now = now + ms(100);
    let delayed = (0..100).filter(|n| !pacer.allow(now + ms(n * 33), 4400) || !pacer.allow(now + ms(n * 33), 100));
    assert_eq!(delayed.count(), 0);
}

#[test]
fn what_is_forced_is_counted_and_its_debt_bounded() {
    let (mut pacer, now) = pacer();
    (0..100).for_each(|_| pacer.force(now, 50_000));
    assert!(pacer.debt() <= MAX_RUN, "{}", pacer.debt());
    assert!(!pacer.allow(now, 1));
    assert!(pacer.allow(now + ms(70), 1200));
}

#[test]
fn a_target_of_nothing_still_pays_debts_off() {
    let (mut pacer, now) = pacer();
    pacer.set_target(now, 0);
    pacer.force(now, MAX_RUN);
    assert!(pacer.ready_at() < now + Duration::from_secs(8));
}

#[test]
fn a_clock_that_goes_back_gives_nothing_away() {
    let (mut pacer, now) = pacer();
    pacer.force(now + ms(50), 30_000);
    assert!(!pacer.allow(now, 1200));
}

#[test]
fn where_packets_get_lost_the_pace_comes_down_and_is_back_a_minute_later() {
    let t0 = Instant::now();
    let mut pacer = Pacer::new(t0);
    let mut at = t0;
    let mut lose = |loss: f32, seconds: u64| {
        for _ in 0..seconds * 10 {
            at += Duration::from_millis(100);
            pacer.note_loss(at, loss);
        }
        (pacer.factor() * 100.0).round() as u32
    };
    assert_eq!(
        [(0.01, 9), (0.05, 1), (0.05, 3), (0.01, 9), (0.0, 10), (0.0, 30)].map(|(l, s)| lose(l, s)),
        [250, 160, 125, 125, 165, 250]
    );
}
