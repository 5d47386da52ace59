//! Who is more important takes the place of who is less so.

use std::time::Instant;

use super::raises::{current_bps, total_bps};
use super::{Choice, RAISE_INTERVAL, allocate, allocate_to};
use crate::room::forward::Forward;

/// What is sent instead may take so much more than what was, as a part of it: rates vary.
const TOLERANCE: u64 = 16;

/// The steps that fit into `keep` bit/s by priority, where some of them are in the place of less important ones that are sent now
/// and all together take no more than before: nothing is to be tried for that. `None`: it stays as it is for now.
pub(super) fn swap(
    now: Instant,
    keep: u64,
    choices: &[Choice],
    forwards: &[Option<Forward>],
) -> Option<Vec<Option<u8>>> {
    let target = allocate(keep, choices, Choice::raised_rate);
    let all = || choices.iter().zip(&target);
    let raised = || all().filter(|(choice, step)| **step > choice.current);
    let lowered = all().filter(|(choice, step)| **step < choice.current);
    let least = raised().map(|(choice, _)| choice.priority).min()?;
    let most = lowered.map(|(choice, _)| choice.priority).max()?;
    let rested = |choice: &Choice| {
        forwards[choice.place].as_ref().is_none_or(|forward| forward.allotted.has_rested(now, RAISE_INTERVAL))
    };
    let (sent, bps) = (current_bps(choices)?, total_bps(choices, &target, Choice::rate));
    let may_swap = least > most && bps <= sent + sent / TOLERANCE && raised().all(|(choice, _)| rested(choice));
    may_swap.then_some(target)
}

/// Lowers what is less important than what `layers` raise as far as it takes to fit all into `keep` bit/s.
pub(super) fn give_way(keep: u64, choices: &[Choice], layers: &mut [Option<u8>]) {
    let raised = choices.iter().zip(&*layers).filter(|(choice, layer)| **layer > choice.current);
    let Some(most) = raised.map(|(choice, _)| choice.priority).max() else { return };
    let fits = allocate_to(keep, choices, Choice::rate, |n| layers[n].unwrap_or(0));
    let less = choices.iter().zip(layers).zip(fits).filter(|((choice, _), _)| choice.priority < most);
    for ((_, layer), fits) in less {
        *layer = (*layer).min(fits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::allocation::priority::Priority;
    use crate::room::layering::Point;
    use crate::room::rungs::Rung;

    /// Of 150 and 500 bit/s.
    fn choice(place: usize, policy: u8, current: u8) -> Choice {
        let rung = |(layer, bps)| Rung { layer, point: Point::ALL, told: layer, bps, most_bps: bps };
        Choice {
            place,
            rungs: [(0, 150), (1, 500)].map(rung).to_vec(),
            base: 0,
            limit: 1,
            priority: Priority { policy, weight: 1 },
            current: Some(current),
            awaited: 0,
            before_bps: None,
            expected_bps: None,
            in_vain: None,
        }
    }

    #[test]
    fn only_who_is_less_important_gives_way_to_a_raise_that_does_not_fit_beside_it() {
        for (keep, priority, first, expected) in [
            (1_000, 2, Some(1), [Some(1), Some(1)]),
            (999, 2, Some(1), [Some(1), Some(0)]),
            (299, 2, Some(1), [Some(1), None]),
            (999, 1, Some(1), [Some(1), Some(1)]),
            (999, 2, Some(0), [Some(0), Some(1)]),
        ] {
            let mut layers = [first, Some(1)];
            give_way(keep, &[choice(0, priority, 0), choice(1, 1, 1)], &mut layers);
            assert_eq!(layers, expected, "{keep} {priority}");
        }
    }
}
