//! Which layers fit into what a path carries.

use super::{Choice, Price};

/// The highest layer of each choice so that all together, at what `price` says of each, fit `budget_bps`: everybody's lowest first, then a layer more
/// in turn, most important first. `None`: not even its lowest fits.
pub(super) fn allocate(budget_bps: u64, choices: &[Choice], price: Price) -> Vec<Option<u8>> {
    allocate_to(budget_bps, choices, price, |n| choices[n].limit)
}

/// The same up to the step that `limit` says for each choice, by its place among them.
pub(super) fn allocate_to(
    budget_bps: u64,
    choices: &[Choice],
    price: Price,
    limit: impl Fn(usize) -> u8,
) -> Vec<Option<u8>> {
    let (used, layers) = lowest(budget_bps, choices, price, |_| false);
    climb(budget_bps, choices, price, (used, layers), limit)
}

/// What the budget has room for beside what is sent and `kept`, which stays whether it fits or not: nobody else may have its place.
pub(super) fn allocate_beside(
    budget_bps: u64,
    choices: &[Choice],
    price: Price,
    kept: &[Option<u8>],
) -> Vec<Option<u8>> {
    let (used, layers) = lowest(budget_bps, choices, price, |n| choices[n].current.is_some() && kept[n].is_some());
    climb(budget_bps, choices, price, (used, layers), |n| choices[n].limit)
}

/// The lowest layers that fit, with what they take. Some `stay` in any case.
fn lowest(budget_bps: u64, choices: &[Choice], price: Price, stays: impl Fn(usize) -> bool) -> (u64, Vec<Option<u8>>) {
    let mut used = 0;
    let mut layers: Vec<Option<u8>> = Vec::with_capacity(choices.len());
    for (n, choice) in choices.iter().enumerate() {
        // Of a track that is silent nothing is sent, whatever its layer.
        let lowest = choice.active(0).unwrap_or(choice.awaited);
        let fits = stays(n) || used + price(choice, lowest) <= budget_bps;
        used += if fits { price(choice, lowest) } else { 0 };
        layers.push(fits.then_some(lowest));
    }
    (used, layers)
}

/// Raises layers in turn, most important first, up to the step that `limit` says for each choice.
fn climb(
    budget_bps: u64,
    choices: &[Choice],
    price: Price,
    (mut used, mut layers): (u64, Vec<Option<u8>>),
    limit: impl Fn(usize) -> u8,
) -> Vec<Option<u8>> {
    loop {
        let mut raised = false;
        for (n, (choice, layer)) in choices.iter().zip(&mut layers).enumerate() {
            let Some(current) = *layer else { continue };
            let Some(next) = choice.active(current + 1).filter(|next| *next <= limit(n)) else { continue };
            let more = price(choice, next).saturating_sub(price(choice, current));
            if used + more <= budget_bps {
                used += more;
                *layer = Some(next);
                raised = true;
            }
        }
        if !raised {
            return layers;
        }
    }
}
