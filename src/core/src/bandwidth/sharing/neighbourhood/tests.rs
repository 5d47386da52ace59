use super::*;
use std::time::Instant;

/// Tenths of a second until flows that share are known: a window, and one more.
const KNOWN: u32 = 2 * SAMPLES as u32 + 1;

fn at(tenths: u32) -> Duration {
    Duration::from_millis(100) * tenths
}

fn view(queue_ms: f64) -> FlowView {
    let queue = Duration::from_secs_f64(queue_ms / 1e3);
    let (claim_bps, least_bps, wish_bps) = (1e6, 0.0, 9e6);
    FlowView { queue, claim_bps, least_bps, wish_bps, is_growing: true, probed: None, misled_until: None }
}

/// A queue of up to 40 ms that grows for `period` tenths of a second and is drained.
fn saw(tenths: u32, period: u32) -> f64 {
    40.0 * f64::from(tenths % period) / f64::from(period)
}

/// Hears of each flow every tenth of a second, with a queue of so many milliseconds. What each was told last.
fn hear<const N: usize>(
    there: &mut Neighbourhood<usize>,
    tenths: std::ops::Range<u32>,
    flow: impl Fn(usize, u32) -> FlowView,
) -> [Option<Share>; N] {
    let mut told = [None; N];
    for tenth in tenths {
        told = std::array::from_fn(|key| there.hear(at(tenth), key, flow(key, tenth)));
    }
    told
}

#[test]
fn flows_whose_queues_move_together_are_told_of_each_other_after_two_windows_and_others_never() {
    let mut there = Neighbourhood::default();
    let flow = |key, tenth| view(if key < 2 { saw(tenth, 10) } else { saw(tenth, 13) });
    assert_eq!(hear::<3>(&mut there, 0..KNOWN - 1, flow), [None; 3]);
    let share = Share { flows: 2, change_bps: 0.0, probed: None, misled_until: None };
    for (from, until) in [(KNOWN - 1, KNOWN + 1), (KNOWN + 1, 200), (200, 600)] {
        assert_eq!(hear::<3>(&mut there, from..until, flow), [Some(share), Some(share), None], "{until}");
    }
}

#[test]
fn flows_that_go_different_ways_from_then_on_are_soon_not_told_of_each_other_any_more() {
    let mut there = Neighbourhood::default();
    let mut shared = hear::<2>(&mut there, 0..600, |_, tenth| view(saw(tenth, 10)));
    assert!(shared[0].is_some());
    shared = hear::<2>(&mut there, 600..600 + 3 * SAMPLES as u32, |key, tenth| view(saw(tenth, [10, 7][key])));
    assert_eq!(shared, [None; 2], "however long they have shared");
}

#[test]
fn queues_that_have_stopped_moving_change_nothing() {
    let mut there = Neighbourhood::default();
    hear::<2>(&mut there, 0..100, |_, tenth| view(saw(tenth, 10)));
    assert!(hear::<2>(&mut there, 100..600, |_, _| view(0.0))[0].is_some());
}

#[test]
fn a_flow_that_has_fallen_silent_claims_nothing_and_its_place_is_given_away() {
    let mut there = Neighbourhood::default();
    let moves = |_, tenth| view(saw(tenth, 10));
    assert_eq!(hear::<3>(&mut there, 0..100, moves)[0].map(|share| share.flows), Some(3));
    assert_eq!(hear::<2>(&mut there, 100..111, moves)[0].map(|share| share.flows), Some(2));
    hear::<2>(&mut there, 111..160, moves);
    assert_eq!(there.hear(at(160), 7, view(0.0)), None, "who comes is not taken for who was there");
    assert_eq!(there.flows.len(), 3);
    assert!(there.is_heard_of(at(160)) && !there.is_heard_of(at(220)));
}

#[test]
fn the_first_of_those_that_share_may_leave() {
    let mut there = Neighbourhood::default();
    let moves = |_, tenth| view(saw(tenth, 10));
    hear::<3>(&mut there, 0..100, moves);
    let mut told = None;
    for tenth in 100..200 {
        told = [1, 2].map(|key| there.hear(at(tenth), key, moves(key, tenth)))[0];
        // Somebody with a way of its own gets the place.
        there.hear(at(tenth), 9, view(saw(tenth, 7)));
    }
    assert_eq!(told.map(|share| share.flows), Some(2));
}

#[test]
fn no_more_than_so_many_flows_are_compared() {
    let mut there = Neighbourhood::default();
    for key in 0..MAX_FLOWS + 3 {
        there.hear(at(0), key, view(0.0));
    }
    assert_eq!(there.flows.len(), MAX_FLOWS);
}

#[test]
fn a_flow_is_told_of_the_probes_of_others_and_of_what_has_misled_them() {
    let began = Instant::now();
    let mut there = Neighbourhood::default();
    let flow = |key: usize, tenth| {
        let moment = |n: u64| began + Duration::from_secs(n * key as u64);
        FlowView { probed: Some(moment(1)), misled_until: Some(moment(60)), ..view(saw(tenth, 10)) }
    };
    let told = hear::<3>(&mut there, 0..100, flow).map(|share| share.map(|share| (share.probed, share.misled_until)));
    let of = |key: u64| Some((Some(began + Duration::from_secs(key)), Some(began + Duration::from_secs(60 * key))));
    assert_eq!(told, [of(2), of(2), of(1)]);
}

/// How the claims of three flows, of which the second grows or not, are to change in kbit/s a second. Each claims, needs and wishes for
/// so many kbit/s.
fn changes(claims: [f64; 3], least: f64, wishes: [f64; 3], is_growing: bool) -> [f64; 3] {
    let mut there = Neighbourhood::default();
    let flow = |key: usize, tenth| {
        let (claim_bps, wish_bps, least_bps) = (claims[key] * 1e3, wishes[key] * 1e3, least * 1e3);
        FlowView { claim_bps, wish_bps, least_bps, is_growing: is_growing || key != 1, ..view(saw(tenth, 10)) }
    };
    let told = hear::<3>(&mut there, 0..100, flow);
    told.map(|share| share.map_or(f64::NAN, |share| share.change_bps / 1e3).round())
}

#[test]
fn what_some_have_beyond_their_fair_share_the_others_get_and_not_at_once() {
    let much = [9e3; 3];
    for (name, claims, least, wishes, is_growing, expected) in [
        ("fair", [300.0, 300.0, 300.0], 0.0, much, true, [0.0, 0.0, 0.0]),
        ("fair but for a little", [310.0, 280.0, 310.0], 0.0, much, true, [0.0, 0.0, 0.0]),
        ("one has much", [600.0, 150.0, 150.0], 0.0, much, true, [-150.0, 75.0, 75.0]),
        ("no faster than what it lacks", [360.0, 270.0, 270.0], 0.0, much, true, [-60.0, 30.0, 30.0]),
        ("two have more", [500.0, 300.0, 100.0], 0.0, much, true, [-50.0, 0.0, 50.0]),
        ("one drains a queue", [600.0, 150.0, 150.0], 0.0, much, false, [-75.0, 0.0, 75.0]),
        ("one wishes for little", [600.0, 200.0, 100.0], 0.0, [9e3, 9e3, 100.0], true, [-100.0, 100.0, 0.0]),
        ("two do", [600.0, 100.0, 200.0], 0.0, [9e3, 250.0, 200.0], true, [-50.0, 50.0, 0.0]),
        ("a claim beyond the wish is none", [500.0, 400.0, 900.0], 0.0, [9e3, 9e3, 100.0], true, [-50.0, 50.0, 0.0]),
        ("all wish for little", [600.0, 50.0, 90.0], 0.0, [100.0; 3], true, [-17.0, 25.0, -8.0]),
        ("equal parts are enough", [600.0, 150.0, 150.0], 300.0, much, true, [-150.0, 75.0, 75.0]),
        ("equal parts are too little for any", [600.0, 150.0, 150.0], 301.0, much, true, [0.0, 0.0, 0.0]),
    ] {
        assert_eq!(changes(claims, least, wishes, is_growing), expected, "{name}");
    }
}
