#![allow(clippy::disallowed_methods)] // A test needs some instant to start from.

use super::*;
use crate::bandwidth::sharing::Share;

/// A path of constant delay that drops what `keep` says no to, and feedback every 50 ms.
struct Bench {
    start: Instant,
    ms: u64,
    estimator: Estimator,
    sequence: u16,
    /// Sent since the last feedback: number, millisecond, arrived.
    sent: Vec<(u16, u64, bool)>,
    /// A probe that is being sent, and what of it is due.
    probe: Option<(Probe, u64)>,
}

impl Bench {
    fn new(wanted: u64) -> Self {
        let start = Instant::now();
        let mut estimator = Estimator::new(start, Settings::default());
        estimator.set_wanted(start, wanted);
        Self { start, ms: 0, estimator, sequence: 65_000, sent: Vec::new(), probe: None }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    fn send(&mut self, probe: Option<ProbeId>, arrives: bool) {
        self.estimator.on_sent(self.now(), self.sequence, 1200, probe);
        self.sent.push((self.sequence, self.ms, arrives));
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Sends a packet each millisecond, and probes besides at their rate; `feedback` says whether there is any. Returns
    /// how many probes there were.
    fn run(&mut self, ms: u64, feedback: bool, keep: impl Fn(u16) -> bool) -> usize {
        let mut probes = 0;
        for _ in 0..ms {
            self.ms += 1;
            self.send(None, keep(self.sequence));
            if self.probe.is_none() {
                self.probe = self.estimator.poll_probe(self.now()).map(|probe| (probe, 0));
                probes += usize::from(self.probe.is_some());
            }
            self.send_probe();
            if feedback && self.ms.is_multiple_of(50) {
                let packet = encode(&std::mem::take(&mut self.sent));
                self.estimator.on_feedback(self.now(), &packet).unwrap();
            }
        }
        probes
    }

    /// Sends what is due of a probe in this millisecond, in packets of 250 bytes.
    fn send_probe(&mut self) {
        let Some((probe, before)) = self.probe else { return };
        let after = before + probe.bps / 8000;
        for _ in before / 250..after / 250 {
            self.estimator.on_sent(self.now(), self.sequence, 250, Some(probe.id));
            self.sent.push((self.sequence, self.ms, true));
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.probe = (after < u64::from(probe.min_bytes) + 250).then_some((probe, after));
    }
}

/// Two-bit vectors with a delay of 20 ms.
fn encode(sent: &[(u16, u64, bool)]) -> Vec<u8> {
    let ticks = |ms: u64| (ms + 20) * 4;
    let reference = ticks(sent[0].1) / 256;
    let mut out = vec![0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    out.extend(sent[0].0.to_be_bytes());
    out.extend((sent.len() as u16).to_be_bytes());
    out.extend(&(reference as u32).to_be_bytes()[1..]);
    out.push(0);
    let (mut last, mut deltas) = (reference * 256, Vec::new());
    for seven in sent.chunks(7) {
        let symbols = seven.iter().enumerate().filter(|(_, packet)| packet.2);
        let chunk = symbols.fold(0b11u16 << 14, |chunk, (n, _)| chunk | 2 << (12 - 2 * n));
        out.extend(chunk.to_be_bytes());
        for (_, ms, _) in seven.iter().filter(|packet| packet.2) {
            deltas.extend(((ticks(*ms) - last) as i16).to_be_bytes());
            last = ticks(*ms);
        }
    }
    out.extend(deltas);
    out.resize(out.len().next_multiple_of(4), 0);
    let words = (out.len() / 4 - 1) as u16;
    out[2..4].copy_from_slice(&words.to_be_bytes());
    out
}

#[test]
fn the_first_probes_are_due_at_once_at_three_and_six_times_the_start() {
    let mut bench = Bench::new(4_500_000);
    let now = bench.now();
    assert_eq!(bench.estimator.poll_timeout(), Some(bench.start));
    let probes = [(); 3].map(|()| bench.estimator.poll_probe(now).map(|probe| probe.bps));
    assert_eq!(probes, [Some(900_000), Some(1_800_000), None]);
}

#[test]
fn nothing_wanted_is_not_probed_for() {
    let mut bench = Bench::new(0);
    assert_eq!(bench.run(10_000, true, |_| true), 0);
}

#[test]
fn a_good_path_is_found_within_a_second_and_probed_no_further_than_wanted() {
    let mut bench = Bench::new(4_500_000);
    bench.run(1000, true, |_| true);
    assert!(bench.estimator.target_bps() > 3_000_000, "{}", bench.estimator.target_bps());
    bench.run(20_000, true, |_| true);
    // What is really sent (9.6 Mbit/s) may raise the target above what is wanted; probes don't.
    assert!(bench.estimator.target_bps() <= 13_000_000, "{}", bench.estimator.target_bps());
    assert_eq!(bench.run(10_000, true, |_| true), 0);
}

#[test]
fn the_round_trip_and_the_loss_are_told() {
    let mut bench = Bench::new(0);
    bench.run(3000, true, |sequence| sequence % 10 != 0);
    assert!((0.08..0.12).contains(&bench.estimator.loss()), "{}", bench.estimator.loss());
    assert_eq!(bench.estimator.rtt(), Some(Duration::ZERO));
    assert!(bench.estimator.queue() < Duration::from_millis(1));
}

#[test]
fn feedback_that_stops_lowers_the_target_step_by_step_to_the_minimum_and_back_when_it_returns() {
    let mut bench = Bench::new(4_500_000);
    bench.run(5000, true, |_| true);
    let before = bench.estimator.target_bps();
    bench.run(450, false, |_| true);
    assert_eq!((bench.estimator.target_bps(), bench.estimator.is_silent()), (before, false));
    bench.run(1500, false, |_| true);
    let held = bench.estimator.target_bps();
    assert!(bench.estimator.is_silent() && held <= before / 4, "{held} of {before}");
    bench.sent.drain(..bench.sent.len() - 50);
    bench.run(50, true, |_| true);
    assert!(!bench.estimator.is_silent());
    assert!(bench.estimator.target_bps() > before * 8 / 10, "{} of {before}", bench.estimator.target_bps());
    bench.run(20_000, false, |_| true);
    assert_eq!(bench.estimator.target_bps(), 30_000);
}

#[test]
fn after_an_outage_the_target_is_back_at_once_and_after_losses_between_what_arrives_it_is_not() {
    for (every, expected) in [(u16::MAX, 80..=100), (3, 0..=60)] {
        let arrives = |sequence: u16| sequence % every == 1;
        let mut bench = Bench::new(4_500_000);
        bench.run(5000, true, |_| true);
        let before = bench.estimator.target_bps();
        bench.run(2000, false, arrives);
        assert!(bench.estimator.target_bps() <= before / 4);
        bench.run(200, true, |_| true);
        let share = bench.estimator.target_bps() * 100 / before;
        assert!(expected.contains(&share), "{share} % of {before}");
        assert_eq!(bench.estimator.loss() > 0.0, *expected.start() == 0);
    }
}

#[test]
fn feedback_that_comes_once_a_second_is_no_silence() {
    let mut bench = Bench::new(4_500_000);
    let mut second = || {
        bench.run(999, false, |_| true);
        bench.run(1, true, |_| true);
        (bench.estimator.target_bps(), bench.estimator.is_silent())
    };
    let all: Vec<_> = (0..20).map(|_| second()).collect();
    assert!(all[5..].iter().all(|(bps, is_silent)| *bps > 2_000_000 && !is_silent), "{all:?}");
}

#[test]
fn what_is_lost_right_behind_an_outage_does_not_leave_the_target_at_the_minimum() {
    let mut bench = Bench::new(4_500_000);
    bench.run(5000, true, |_| true);
    let before = bench.estimator.target_bps();
    bench.run(2000, false, |_| false);
    bench.run(50, true, |sequence| sequence % 3 > 0);
    bench.run(50, true, |_| true);
    let share = bench.estimator.target_bps() * 100 / before;
    assert!((40..=100).contains(&share), "{share} % of {before}");
}

#[test]
fn silence_of_our_own_is_no_silence() {
    let mut bench = Bench::new(4_500_000);
    bench.run(5000, true, |_| true);
    let before = bench.estimator.target_bps();
    bench.send(None, true);
    for _ in 0..20 {
        bench.ms += 500;
        let _ = bench.estimator.poll_probe(bench.now());
    }
    assert_eq!(bench.estimator.target_bps(), before);
}

#[test]
fn remb_is_the_target_until_there_is_better_feedback() {
    let mut bench = Bench::new(0);
    let now = bench.now();
    for (remb, target) in [(1_000_000, 1_000_000), (0, 30_000), (u64::MAX, 20_000_000)] {
        bench.estimator.on_remb(now, remb);
        assert_eq!(bench.estimator.target_bps(), target);
    }
    bench.run(1000, true, |_| true);
    let now = bench.now();
    bench.estimator.on_remb(now, 50_000);
    assert!(bench.estimator.target_bps() > 1_000_000);
}

#[test]
fn who_only_sends_remb_is_not_taken_for_silent_in_between_and_not_looked_at_for_probes() {
    let mut bench = Bench::new(4_500_000);
    for _ in 0..3 {
        bench.estimator.on_remb(bench.now(), 1_000_000);
        bench.run(1000, false, |_| true);
        assert_eq!((bench.estimator.target_bps(), bench.estimator.is_silent()), (1_000_000, false));
    }
    assert_eq!(bench.estimator.poll_timeout(), None);
    // From the first feedback on silence counts.
    bench.sent.drain(..bench.sent.len() - 50);
    bench.run(50, true, |_| true);
    bench.run(2000, false, |_| true);
    assert!(bench.estimator.is_silent());
}

#[test]
fn more_feedback_than_packets_is_refused() {
    let mut bench = Bench::new(0);
    bench.run(1000, true, |_| true);
    let told = encode(&[(65_000, 1, true); 400]);
    let now = bench.now();
    let results: Vec<_> = (0..100).map(|_| bench.estimator.on_feedback(now, &told)).collect();
    assert!(results[0].is_ok());
    assert_eq!(results[99], Err(FeedbackError::TooMuch));
}

#[test]
fn feedback_that_is_not_whole_counts_for_as_many_packets_as_it_says() {
    let mut bench = Bench::new(0);
    bench.run(1000, true, |_| true);
    let mut told = encode(&[(65_000, 1, true); 40]);
    told[14..16].copy_from_slice(&8_000_u16.to_be_bytes());
    let now = bench.now();
    let results: Vec<_> = (0..100).map(|_| bench.estimator.on_feedback(now, &told)).collect();
    assert_eq!(results[0], Err(FeedbackError::Truncated));
    assert_eq!(results[99], Err(FeedbackError::TooMuch), "it is not read any more");
}

#[test]
fn packets_that_were_never_sent_change_nothing() {
    let mut bench = Bench::new(0);
    bench.run(1000, true, |_| true);
    let before = bench.estimator.target_bps();
    let now = bench.now();
    let future: Vec<_> = (0..100).map(|n| (bench.sequence.wrapping_add(1000 + n), bench.ms, true)).collect();
    let said = bench.estimator.on_feedback(now, &encode(&future));
    assert_eq!(said, Ok(Acknowledged { unknown: 100, ..Acknowledged::default() }));
    assert_eq!(bench.estimator.target_bps(), before);
}

#[test]
fn whatever_is_reported_the_target_stays_in_its_range() {
    let mut bench = Bench::new(4_500_000);
    let mut random = 88_172_645_463_325_252u64;
    for _ in 0..60_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        bench.ms += random >> 8 & 0x3F;
        let probe = bench.estimator.poll_probe(bench.now()).map(|probe| probe.id);
        (0..random & 0xF).for_each(|_| bench.send(probe, true));
        let base = bench.sequence.wrapping_sub((random >> 16) as u16 & 0x3FF);
        let noise = random.to_be_bytes();
        let mut packet = encode(&[(base, random >> 40, true)]);
        packet[14..16].copy_from_slice(&(noise[0] as u16 & 0x7F).to_be_bytes());
        packet.truncate(20);
        (0..20u64).for_each(|n| packet.extend(random.rotate_left(n as u32 * 3).to_be_bytes()));
        let words = (packet.len() / 4 - 1) as u16;
        packet[2..4].copy_from_slice(&words.to_be_bytes());
        let _ = bench.estimator.on_feedback(bench.now(), &packet);
        let target = bench.estimator.target_bps();
        assert!((30_000..=20_000_000).contains(&target), "{target}");
        assert!(bench.estimator.stable_bps() <= 20_000_000);
        bench.sent.clear();
    }
}

/// What a flow is told that shares a bottleneck with another one.
fn share(bench: &Bench, change_bps: f64, probed_ago_ms: u64) -> Share {
    let probed = bench.now() - Duration::from_millis(probed_ago_ms);
    Share { flows: 2, change_bps, probed: Some(probed), misled_until: None }
}

/// It has found 2 Mbit/s, and wants more by now.
fn found_two() -> Bench {
    let mut bench = Bench::new(2_000_000);
    bench.run(2_000, true, |_| true);
    bench.estimator.set_wanted(bench.now(), 20_000_000);
    bench
}

#[test]
fn a_probe_waits_for_those_of_flows_through_the_same_bottleneck() {
    let mut bench = found_two();
    let mut probes = 0;
    for _ in 0..50 {
        bench.estimator.set_share(Some(share(&bench, 0.0, 0)));
        probes += bench.run(100, true, |_| true);
    }
    assert_eq!(probes, 0, "another one probes all the time");
    bench.estimator.set_share(Some(share(&bench, 0.0, 0)));
    assert_eq!(bench.run(1_900, true, |_| true), 0);
    assert!(bench.run(500, true, |_| true) > 0, "it has not done so for two seconds");
}

#[test]
fn a_flow_takes_from_others_and_gives_to_them_what_it_is_told() {
    let after_a_second = |change_bps| {
        let mut bench = found_two();
        for _ in 0..10 {
            bench.estimator.set_share(Some(share(&bench, change_bps, 0)));
            bench.run(100, true, |_| true);
        }
        bench.estimator.target_bps() as f64
    };
    let (given, kept, taken) = (after_a_second(-1e6), after_a_second(0.0), after_a_second(1e6));
    assert!((0.8e6..1.4e6).contains(&(kept - given)), "{kept} and {given}");
    assert!((0.8e6..1.4e6).contains(&(taken - kept)), "{kept} and {taken}");
}

#[test]
fn what_has_misled_one_flow_is_not_believed_by_another_one() {
    let found = |misled_for_s: Option<u64>| {
        let mut bench = found_two();
        assert_eq!(bench.estimator.view().misled_until, None);
        let misled_until = misled_for_s.map(|seconds| bench.now() + Duration::from_secs(seconds));
        bench.estimator.set_share(Some(Share { misled_until, ..share(&bench, 0.0, 9_000) }));
        assert_eq!(bench.estimator.view().misled_until, misled_until);
        assert!(bench.run(800, true, |_| true) > 0);
        bench.estimator.target_bps()
    };
    let (misled, not_misled) = (found(Some(30)), found(None));
    assert!(misled * 2 < not_misled, "{misled} and {not_misled}");
}
