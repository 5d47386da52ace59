use moonring_wire::id::Ssrc;
use moonring_wire::rtp::rtcp::Writer;
use moonring_wire::rtp::twcc::ArrivalRecorder;

use super::*;

fn of_all(bps: u64) -> Estimate {
    Estimate { sender: Ssrc(1), bps, streams: Vec::new(), covers_sound: true }
}

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
    path.remb(t0, of_all(500_000));
    assert_eq!(path.target_bps(), Some(500_000));
    for (ms, expected) in [(4_900, Some(500_000)), (5_000, None)] {
        path.set_wanted(
            t0 + Duration::from_millis(ms),
            Demand { wanted_bps: 1_000_000, floor_bps: 100_000, ..Demand::default() },
        );
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
    other.remb(t0, of_all(50_000));
    other.restart(t0);
    assert!(!other.is_controlled());
}

#[test]
fn who_has_given_feedback_and_gives_none_elsewhere_is_not_sent_everything() {
    let t0 = Instant::now();
    let mut path = Congestion::new(t0);
    path.expect_feedback();
    path.sent(t0, 1_000, true, None);
    let (mut recorder, mut bytes) = (ArrivalRecorder::default(), [0; 100]);
    recorder.record(0, t0);
    let mut writer = Writer::new(&mut bytes);
    assert!(recorder.build(Ssrc(1), Ssrc(2), &mut writer));
    path.feedback(t0 + Duration::from_millis(50), writer.as_bytes());
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    path.restart(at(100));
    for ms in (100..12_000).step_by(20) {
        path.sent(at(ms), 1_000, true, None);
        path.poll_probe(at(ms));
    }
    assert!(path.is_silent());
    assert!(path.target_bps().is_some_and(|bps| bps < 50_000), "{:?}", path.target_bps());
}

#[test]
fn a_remb_of_who_is_about_to_give_feedback_counts_only_when_none_comes() {
    let t0 = Instant::now();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    let mut path = Congestion::new(t0);
    path.expect_feedback();
    path.sent(t0, 1_000, true, None);
    let start = Settings::default().start_bps;
    for (ms, expected) in [(100, start), (1_900, start), (2_000, 50_000)] {
        path.remb(at(ms), of_all(50_000));
        assert_eq!(path.target_bps(), Some(expected), "{ms} ms");
    }
}

#[test]
fn what_was_sent_beyond_the_pace_waits() {
    let t0 = Instant::now();
    let mut path = Congestion::new(t0);
    path.remb(t0, of_all(800_000));
    let mut sent = 0;
    while path.may_send(t0) {
        path.sent(t0, 1_172, false, None);
        sent += 1;
        assert!(sent < 10, "250 kB a second let 2.5 kB pass at once");
    }
    assert!(path.ready_at() > t0 && path.ready_at() < t0 + Duration::from_millis(20));
}

/// Chromium behind 200 kbit/s: its first feedback told of a burst, and the middle layer was raised to after 45 ms. Its key frame
/// took more than a second.
#[test]
fn a_first_feedback_that_tells_of_a_burst_is_no_reason_to_raise_a_layer_without_a_rehearsal() {
    let t0 = Instant::now();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    for (burst_ms, packets, name) in [(10, 6, "a burst"), (0, 6, "one packet's time"), (40, 12, "more than a bucket")] {
        let mut path = Congestion::new(t0);
        path.expect_feedback();
        let mut arrivals = ArrivalRecorder::new();
        for n in 0..packets {
            let sequence = path.next_sequence();
            path.sent(at(burst_ms * n / packets), 1_200, true, None);
            arrivals.record(sequence, at(5 + burst_ms * n / packets));
        }
        let mut packet = [0; 100];
        let mut writer = Writer::new(&mut packet);
        assert!(arrivals.build(Ssrc(1), Ssrc(2), &mut writer));
        let length = writer.len();
        assert_eq!(path.feedback(at(45), &packet[..length]), Told::News);
        assert!(!path.may_raise_to(at(45), 350_000, Some(150_000)), "{name}");
    }
    let mut without = Congestion::new(t0);
    without.remb(t0, of_all(1_000_000));
    assert!(without.may_raise_to(t0, 350_000, Some(150_000)), "a REMB tells nothing of a rehearsal");
}

#[test]
fn what_is_raised_from_a_layer_of_unknown_rate_is_rehearsed_from_what_is_sent_once_that_is_known() {
    let t0 = Instant::now();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    let mut path = Congestion::new(t0);
    path.expect_feedback();
    let mut rehearses = Vec::new();
    for ms in (0..700).step_by(20) {
        // 500 kbit/s on the wire.
        path.sent(at(ms), 1_250 - DATAGRAM_OVERHEAD, true, None);
        let (mut recorder, mut bytes) = (ArrivalRecorder::default(), [0; 100]);
        recorder.record(path.next_sequence().wrapping_sub(1), at(ms));
        let mut writer = Writer::new(&mut bytes);
        assert!(recorder.build(Ssrc(1), Ssrc(2), &mut writer));
        path.feedback(at(ms), writer.as_bytes());
        if ms % 300 == 0 {
            assert!(!path.may_raise_to(at(ms), 2_000_000, None), "{ms}");
            rehearses.push(path.rehearsals.is_running());
        }
    }
    assert_eq!(rehearses, [false, false, true]);
    // From 600 ms on, twice that.
    let sent = 4 * 1_250;
    let slice = path.poll_probe(at(700)).expect("a slice of the rehearsal");
    assert!(slice.probe.is_none() && (11_500..13_500).contains(&(slice.bytes + sent)), "{slice:?}");
}

#[test]
fn a_probe_and_a_rehearsal_end_with_the_last_stream_that_they_can_be_sent_in() {
    let t0 = Instant::now();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    for rehearses in [false, true] {
        let mut path = Congestion::new(t0);
        path.expect_feedback();
        path.set_wanted(t0, Demand { wanted_bps: 5_000_000, floor_bps: 100_000, ..Demand::default() });
        path.sent(t0, 1_000, true, None);
        if rehearses {
            let (mut recorder, mut bytes) = (ArrivalRecorder::default(), [0; 100]);
            recorder.record(0, t0);
            let mut writer = Writer::new(&mut bytes);
            assert!(recorder.build(Ssrc(1), Ssrc(2), &mut writer));
            path.feedback(at(1), writer.as_bytes());
            assert!(!path.may_raise_to(at(1), 800_000, Some(150_000)), "a rehearsal begins");
        } else {
            assert!(path.poll_probe(t0).is_some(), "a probe begins");
        }
        assert!(path.poll_timeout().is_some_and(|due| due < at(10)));
        path.set_probed(at(5), false);
        assert_eq!(path.poll_probe(at(5)), None);
        assert!(path.poll_timeout().is_none_or(|due| due > at(100)), "it is due again and again: {rehearses}");
    }
}

/// Where packets were lost the pace is hardly more than the target. What was added for a rehearsal of more took all of it: pictures
/// stood still for as long as it lasted.
#[test]
fn a_rehearsal_beyond_the_pace_leaves_the_pictures_their_part() {
    let t0 = Instant::now();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    let mut path = Congestion::new(t0);
    path.expect_feedback();
    (path.control, path.has_feedback) = (Control::Estimated, true);
    path.set_wanted(t0, Demand { wanted_bps: 2_000_000, floor_bps: 0, ..Demand::default() });
    for n in 0..10 {
        path.pacer.note_loss(at(600 * n), 0.1);
    }
    assert!(!path.rehearsals.may_send(at(6_000), 1_500_000, 900_000, true), "a rehearsal of 1.5 Mbit/s begins");
    path.set_wanted(at(6_000), Demand { wanted_bps: 2_000_000, floor_bps: 0, ..Demand::default() });
    // 40 bytes a millisecond of pictures, and what is missing to the rehearsed rate every 5 ms.
    let (mut waiting, mut longest) = (0, 0);
    for ms in 6_000..6_100 {
        if ms % 5 == 0 {
            let bytes = path.rehearsals.due(at(ms), ASSUMED_RTT).unwrap_or(0);
            path.sent(at(ms), bytes, true, None);
        }
        waiting += 1;
        if path.may_send(at(ms)) {
            path.sent(at(ms), 40 * waiting, true, None);
            waiting = 0;
        }
        longest = longest.max(waiting);
    }
    assert!(longest <= 20, "pictures wait for {longest} ms");
}
