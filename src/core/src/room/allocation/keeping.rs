//! Layers that do not fit into the estimate any more, and stay all the same.
//!
//! An estimate dips: after a key frame, a probe, or what others send through the same bottleneck, of which each that sees the
//! queue gives way a little. Who lowers a layer at each dip is the one that stays low, as the others have taken its place when it
//! may raise again.

use std::time::{Duration, Instant};

use super::{Choice, allocate};
use crate::room::congestion::Congestion;
use crate::room::forward::Forward;

/// What would fit into this many times the estimate stays while it gets through without a queue; a lowest layer for [`LONG_DIP`]
/// in any case.
const NEARLY: f64 = 1.6;
const LONG_DIP: Duration = Duration::from_secs(3);
/// A higher layer that would fit into this many times the estimate stays for [`DIP`] in any case; one that takes more than
/// [`GIVES_WAY_BPS`] for as much less.
const ALMOST: f64 = 1.4;
const DIP: Duration = Duration::from_secs(4);
const GIVES_WAY_BPS: u64 = 600_000;

/// Raises what is `kept` of each track to what stays although it does not fit into the `keep` bit/s of the estimate, in which
/// there are `sound` bit/s of sound beside it.
pub(super) fn keep_on(
    now: Instant,
    path: &Congestion,
    (keep, sound): (u64, u64),
    choices: &[Choice],
    kept: &mut [Option<u8>],
    forwards: &mut [Option<Forward>],
) {
    let within = |factor: f64| {
        let all = (keep.saturating_add(sound) as f64 * factor) as u64;
        allocate(all.saturating_sub(sound), choices, Choice::rate)
    };
    let (nearly, almost) = (within(NEARLY), within(ALMOST));
    let (is_calm, is_carried) = (path.is_calm(), path.carries_what_is_sent());
    for (n, choice) in choices.iter().enumerate() {
        let Some(forward) = &mut forwards[choice.place] else { continue };
        let lasts = |since: Option<Instant>, dip: Duration| {
            since.is_some_and(|since| now.saturating_duration_since(since) < dip)
        };
        // The last layer is not taken away by a dip, and neither by an estimate below what gets through.
        let tight = &mut forward.allotted.tight;
        *tight = if kept[n] < choice.start() { tight.or(Some(now)) } else { None };
        let is_sent = choice.current.is_some_and(|layer| choice.rate(layer) > 0);
        let is_dip = lasts(*tight, LONG_DIP) || (is_calm && is_sent);
        kept[n] = kept[n].max(nearly[n].min(choice.start()).filter(|_| is_dip));
        // Nor is a higher one, unless it is far beyond the estimate.
        let current = choice.current.map(|layer| layer.min(choice.limit)).filter(|layer| choice.rate(*layer) > 0);
        let squeezed = &mut forward.allotted.squeezed;
        if kept[n] >= current || kept[n].is_none() {
            *squeezed = None;
            continue;
        }
        *squeezed = if is_carried { None } else { squeezed.or(Some(now)) };
        // The largest gives way first: nobody else has to any more.
        let share = GIVES_WAY_BPS as f64 / choice.rate(current.unwrap_or(0)) as f64;
        let dip = DIP.mul_f64(share.min(1.0));
        let fits = |layers: &[Option<u8>]| layers[n] >= current;
        if (lasts(*squeezed, dip) && fits(&almost)) || (is_carried && fits(&nearly)) {
            kept[n] = current;
        }
    }
}
