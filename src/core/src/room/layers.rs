//! Which simulcast layer each client gets: as high as it, the policy and its bandwidth allow.

use std::time::Instant;

use slotmap::SlotMap;

use super::client::Client;
use super::track::Track;
use moonring_wire::id::TrackKey;

/// Share of the client's estimate that video may use: the rest is sound, resending, and room to grow.
const USABLE: f64 = 0.9;

/// One choice to make: the bit rates of a track's layers (0 for one that is silent) and the highest allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    rates_bps: Vec<u64>,
    limit: u8,
}

/// Chooses the layers of all forwards of `client`; tracks whose new layer needs a key frame are asked for one.
pub fn choose(now: Instant, client: &mut Client, tracks: &mut SlotMap<TrackKey, Track>) {
    let forwards =
        client.outbound.forwards.iter().flatten().filter(|f| tracks.get(f.track).is_some_and(Track::is_video));
    let choices: Vec<Choice> = forwards.clone().map(|forward| choice(now, forward, &tracks[forward.track])).collect();
    let limits = match client.outbound.remb_bps {
        Some(bps) => allocate((bps as f64 * USABLE) as u64, &choices),
        None => choices.iter().map(|c| c.limit).collect(),
    };
    let mut limits = limits.into_iter();
    for forward in client.outbound.forwards.iter_mut().flatten() {
        let Some(track) = tracks.get_mut(forward.track).filter(|t| t.is_video()) else { continue };
        let limit = limits.next().unwrap_or(0);
        let target = track.best_layer(now, limit);
        forward.set_target(track, target);
        if forward.waits_for_key_frame() {
            track.layers[usize::from(target)].want_key_frame(now);
        }
    }
}

fn choice(now: Instant, forward: &super::forward::Forward, track: &Track) -> Choice {
    let top = track.top_layer();
    let limit = [forward.limits.client, forward.limits.policy].into_iter().flatten().fold(top, u8::min);
    let rate = |layer: &super::track::Layer| if layer.is_active(now) { layer.bitrate_bps.max(1) } else { 0 };
    Choice { rates_bps: track.layers.iter().map(rate).collect(), limit }
}

/// The highest layer of each choice so that all together fit `budget_bps`: everybody's lowest first, then a layer
/// more in turn. The lowest layer is never taken away.
fn allocate(budget_bps: u64, choices: &[Choice]) -> Vec<u8> {
    let active =
        |c: &Choice, from: u8| (from..=c.limit).find(|n| c.rates_bps.get(usize::from(*n)).is_some_and(|r| *r > 0));
    let rate = |c: &Choice, layer: u8| c.rates_bps.get(usize::from(layer)).copied().unwrap_or(0);
    let mut layers: Vec<u8> = choices.iter().map(|c| active(c, 0).unwrap_or(c.limit)).collect();
    let mut used: u64 = choices.iter().zip(&layers).map(|(c, l)| rate(c, *l)).sum();
    loop {
        let mut raised = false;
        for (choice, layer) in choices.iter().zip(&mut layers) {
            let Some(next) = active(choice, *layer + 1) else { continue };
            let more = rate(choice, next).saturating_sub(rate(choice, *layer));
            if used + more <= budget_bps {
                used += more;
                *layer = next;
                raised = true;
            }
        }
        if !raised {
            return layers;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_shared_a_layer_at_a_time() {
        let three = |limit| Choice { rates_bps: vec![150, 500, 1500], limit };
        let single = Choice { rates_bps: vec![1000], limit: 0 };
        let gap = Choice { rates_bps: vec![0, 500, 0], limit: 2 };
        for (budget, choices, expected) in [
            (10_000, vec![three(2), three(2)], vec![2, 2]),
            (2_100, vec![three(2), three(2)], vec![2, 1]),
            (1_000, vec![three(2), three(2)], vec![1, 1]),
            (0, vec![three(2), three(2)], vec![0, 0]),
            (10_000, vec![three(1), three(0)], vec![1, 0]),
            (1_500, vec![single.clone(), three(2)], vec![0, 1]),
            (10_000, vec![gap], vec![1]),
            (5, vec![], vec![]),
        ] {
            assert_eq!(allocate(budget, &choices), expected, "{budget} {choices:?}");
        }
    }
}
