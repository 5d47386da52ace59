//! How much of each track a path has room for: what its publisher is held to where it is a single encoding.

use std::time::{Duration, Instant};

use super::Choice;
use crate::room::cap::{RELEASE, Room};
use crate::room::congestion::Congestion;
use crate::room::forward::{Allotted, Forward};

/// Share of what the path has left for a track: encoders overshoot what they are told.
const FILLED: f64 = 0.95;
/// What a publisher that is held may send more than it does, without a rehearsal.
const MORE: f64 = 1.05;
/// What is worth a rehearsal, relative to what it sends.
const WORTHWHILE: f64 = 1.25;
/// How long what a rehearsal has shown counts: until the encoder has followed.
const SHOWN: Duration = Duration::from_secs(4);

/// Notes how much of each track the path has room for: what the other pictures leave of `budget` bit/s, beside `sound` bit/s of
/// sound, or an even share of it. Of one that is sent whole that is not known, beyond a little more and what a rehearsal has shown.
pub(super) fn note_rooms(
    (now, budget, sound): (Instant, u64, u64),
    path: &mut Congestion,
    choices: &[Choice],
    layers: &[Option<u8>],
    forwards: &mut [Option<Forward>],
) {
    let rate = |n: usize| layers[n].map_or(0, |layer| choices[n].rate(layer));
    let used: u64 = (0..choices.len()).map(rate).sum();
    let is_known = !path.is_ramping(now) && !path.starts_low();
    for (n, choice) in choices.iter().enumerate() {
        let Some(forward) = &mut forwards[choice.place] else { continue };
        let allotted = &mut forward.allotted;
        if !is_known {
            allotted.room = None;
            continue;
        }
        let others = used - rate(n);
        let left = budget.saturating_sub(others).max(budget / choices.len() as u64);
        let left = (left as f64 * FILLED) as u64;
        let is_whole = layers[n].is_some_and(|layer| choice.active(layer + 1).is_none());
        let bps = match choice.before_bps.filter(|_| is_whole) {
            Some(before) => room_for_more(now, path, (left, before), (rate(n), others + sound), allotted),
            None => left,
        };
        allotted.room = Some(Room { bps, is_whole });
    }
}

/// The room for a track that is held and of which `rate` bit/s are sent, beside `others` bit/s; `before` was sent before it was
/// held.
fn room_for_more(
    now: Instant,
    path: &mut Congestion,
    (left, before): (u64, u64),
    (rate, others): (u64, u64),
    allotted: &mut Allotted,
) -> u64 {
    let sure = left.min(before);
    // More than that only after a rehearsal.
    let left = if path.promises_more(now) { before } else { sure };
    let wish = (left as f64 * RELEASE).ceil() as u64;
    let wish = if left < before { left } else { wish };
    let known = (rate as f64 * MORE) as u64;
    if wish as f64 > rate as f64 * WORTHWHILE {
        let may_all = path.may_grow_to(now, others + wish, Some(others + rate));
        let passed = if may_all { Some(wish) } else { path.rehearsed_bps(now).map(|bps| bps.saturating_sub(others)) };
        allotted.shown = passed.map(|bps| (now, (bps as f64 * FILLED * FILLED) as u64)).or(allotted.shown);
    }
    let shown = allotted.shown.filter(|(at, _)| now.saturating_duration_since(*at) < SHOWN);
    shown.map_or(known.min(sure), |(_, bps)| bps.max(known)).min(wish)
}
