//! The goals of the estimator, as medians over a part of the table with a fixed seed.

use moonring_bandwidth_sim::metrics::Outcome;
use moonring_bandwidth_sim::scene::{Scene, bad, grid, homes, odd, own_links, sfu_grid, sfu_homes, shares};
use moonring_bandwidth_sim::table::{run_all, summary};
use moonring_bandwidth_sim::world::Which;

/// Median and worst of the scenes whose names have one of `parts` in them.
fn of(scenes: Vec<Scene>, parts: &[&str]) -> (Outcome, Outcome) {
    let scenes: Vec<_> =
        scenes.into_iter().filter(|scene| parts.iter().any(|part| scene.name.contains(part))).collect();
    assert!(scenes.len() >= 6, "{}", scenes.len());
    let rows = run_all(&scenes, &[Which::Ours], 1);
    (summary(&rows, 0, 0.5), summary(&rows, 0, 1.0))
}

fn at_most(value: Option<f64>, limit: f64) {
    assert!(value.is_some_and(|value| value <= limit), "{value:?} is more than {limit}");
}

fn at_least(value: Option<f64>, limit: f64) {
    assert!(value.is_some_and(|value| value >= limit), "{value:?} is less than {limit}");
}

#[test]
fn one_flow_uses_its_link_with_a_short_queue_and_is_back_soon() {
    let (median, worst) = of(grid(), &["  0.5 Mbit/s", "  2 Mbit/s"]);
    at_most(median.error, 0.12);
    at_least(median.used, 0.92);
    at_most(median.queue_p95, 60.0);
    at_most(worst.queue_p95, 250.0);
    at_most(worst.recovery, 6.0);
}

#[test]
fn layers_use_their_link_with_a_short_queue_and_are_back_soon() {
    let (median, worst) = of(sfu_grid(), &["  2 Mbit/s", "  6 Mbit/s"]);
    at_most(median.error, 0.12);
    at_least(median.used, 0.92);
    at_most(median.queue_p95, 60.0);
    at_most(worst.queue_p95, 250.0);
}

#[test]
fn jitter_loss_and_lost_feedback_are_borne() {
    let (median, worst) = of(bad(), &["  2 Mbit/s"]);
    at_most(median.error, 0.15);
    at_least(median.used, 0.9);
    at_most(worst.queue_p95, 250.0);
}

/// Probes pass through a token bucket at any rate: the target followed each of them, and the queue behind it was full again and again.
#[test]
fn probes_through_a_token_bucket_are_not_believed_for_long() {
    let scenes: Vec<_> = odd().into_iter().filter(|scene| !scene.name.contains("sfu")).collect();
    let (median, worst) = of(scenes, &["bucket of"]);
    at_most(median.error, 0.15);
    at_least(median.used, 0.92);
    at_most(median.queue_p95, 80.0);
    at_most(worst.queue_p95, 250.0);
    at_most(worst.recovery, 8.0);
}

/// The first target was halved twice before the first feedback came, and the first probes were given up.
#[test]
fn feedback_once_a_second_is_enough_to_find_out_what_a_link_carries() {
    let (median, worst) = of(odd(), &["feedback once a second"]);
    at_most(median.error, 0.12);
    at_most(worst.error, 0.15);
    at_most(worst.recovery, 6.0);
}

#[test]
fn flows_share_a_link_within_a_quarter_of_what_is_fair() {
    let (median, _) = of(shares(), &["  1 Mbit/s", "  2 Mbit/s"]);
    at_most(median.unfair, 0.25);
    at_least(median.used, 0.9);
}

/// Flows to different addresses are within a quarter at the median only, and have a queue of 75 ms.
#[test]
fn flows_to_one_address_share_a_link_within_a_quarter_of_what_is_fair_in_every_run() {
    let (median, worst) = of(homes(), &["flows"]);
    at_most(median.unfair, 0.1);
    at_most(worst.unfair, 0.25);
    at_least(median.used, 0.92);
    at_most(median.queue_p95, 65.0);
}

#[test]
fn layers_to_one_address_share_a_link_as_fairly_as_they_can_and_use_it_no_less() {
    let (median, _) = of(sfu_homes(true), &["flows"]);
    let (apart, _) = of(sfu_homes(false), &["flows"]);
    at_most(median.unfair, 0.1);
    at_least(median.used, apart.used.unwrap_or_default() - 0.02);
    at_most(median.queue_p95, apart.queue_p95.unwrap_or_default());
}

/// Strangers behind one relay, and members of a household with slow links of their own.
#[test]
fn flows_to_one_address_with_links_of_their_own_are_not_slowed_down_by_others() {
    let (median, worst) = of(own_links(true), &["own"]);
    let (apart, worst_apart) = of(own_links(false), &["own"]);
    at_least(median.used, apart.used.unwrap_or_default() - 0.02);
    at_least(worst.used, worst_apart.used.unwrap_or_default() - 0.02);
    at_most(median.unfair, apart.unfair.unwrap_or_default() + 0.02);
}
