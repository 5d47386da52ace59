//! Which layer of each track a client gets, and what is paused: as much as it, the policy and its path allow.
//!
//! Sound is served first. Of what the path then has left, every picture gets its lowest layer before any gets a higher
//! one, in the order of priority: what the policy says, then what the client shows large before what it shows small, where a
//! shared screen and the pictures of who speaks count for larger than they are. Of what does not fit the upper
//! temporal layers are left out; what does not fit without them is paused, and comes back. Layers are raised into nine tenths of the stable estimate and lowered only when they no longer fit
//! into all of it, and not raised twice within [`RAISE_INTERVAL`], so that a picture does not flip. A size that did not stay is tried again
//! where there is more room.

use std::time::{Duration, Instant};

mod aside;
mod choice;
mod fitting;
mod keeping;
mod priority;
mod raises;
mod rooms;
mod sound;
mod swap;

use aside::{put_away, unsendable};
use choice::{Choice, rungs_of};
use fitting::{allocate, allocate_beside, allocate_to};
use keeping::keep_on;
use priority::{Priority, weight};
use raises::Decision;
use rooms::note_rooms;
use sound::sound_bps;
use swap::{give_way, swap};

use slotmap::SlotMap;

use super::client::{Client, Outbound};
use super::congestion::{Congestion, Demand, Served};
use super::forward::Forward;
use super::layering::Point;
use super::rungs::Rung;
use super::speakers::Speakers;
use super::track::Track;
use moonring_wire::id::TrackKey;
use moonring_wire::media::PauseReason;

/// Share of the estimate into which layers are raised: the rest lets probes find more.
const RAISE_INTO: f64 = 0.9;
/// What is probed for, relative to the rates of the layers: more than raising to them takes, as they vary.
const WANTED_ABOVE: f64 = 1.25;
/// Least time between two raises of one track.
const RAISE_INTERVAL: Duration = Duration::from_secs(5);
const HELD_RAISE_INTERVAL: Duration = Duration::from_secs(1);
/// Least that a track is taken for, in bit/s, when what the path carries is being probed for.
const LEAST_BPS: u64 = 100_000;
/// Least that is probed for, in bit/s, while nothing is known of what layers take that may come: as much as the first probes can find.
const UNKNOWN_BPS: u64 = 1_200_000;
/// What a step of a choice takes, in bit/s.
type Price = fn(&Choice, u8) -> u64;

/// Chooses the layers of all forwards of `client`; tracks whose new layer needs a key frame are asked for one. The
/// places of the forwards that were paused or resumed by it. `speakers` are its room's.
pub fn choose(
    now: Instant,
    client: &mut Client,
    tracks: &mut SlotMap<TrackKey, Track>,
    speakers: Option<&Speakers>,
) -> Vec<u16> {
    let outbound = &mut client.outbound;
    let choices = choices(now, outbound, tracks, speakers);
    let heard = sound_bps(now, outbound, tracks, speakers.and_then(Speakers::last_n));
    let Some(path) = outbound.congestion.as_deref_mut() else { return Vec::new() };
    let sound = if path.leaves_out_sound() { 0 } else { heard };
    let climbing = path.is_new(now);
    let expected = |choice: &Choice| choice.expected_bps.filter(|_| climbing || choice.is_coming());
    let top = |choice: &Choice| {
        let known = (0..=choice.limit).map(|n| choice.sought_rate(n));
        known.chain(choice.before_bps).chain(expected(choice)).max().unwrap_or(0).max(LEAST_BPS)
    };
    let is_unknown = choices.iter().any(|choice| expected(choice) == Some(0));
    let wanted = choices.iter().map(top).sum::<u64>().max(if is_unknown { UNKNOWN_BPS } else { 0 });
    // What is paused needs no room in front of the bottleneck.
    let may_be_sent = |choice: &&Choice| choice.current.is_some() || path.is_ramping(now);
    let floor = choices.iter().filter(may_be_sent).filter_map(|c| c.start().map(|rung| c.rate(rung))).sum::<u64>();
    // A little more than the lowest layers' mean rates: key frames are larger.
    let wanted = if choices.is_empty() { 0 } else { ((wanted + sound) as f64 * WANTED_ABOVE) as u64 };
    let least = choices.iter().filter_map(|c| c.start().map(|rung| c.rate(rung))).min().unwrap_or(0) + sound;
    let least_bps = (least as f64 / RAISE_INTO) as u64;
    let floor_bps = (floor + sound) * 3 / 2;
    path.set_wanted(now, Demand { least_bps, wanted_bps: wanted, floor_bps, sound_bps: heard });
    let (keep, raise) = match path.stable_bps() {
        None => (u64::MAX, u64::MAX),
        Some(bps) => {
            let keep = bps.saturating_sub(sound);
            (keep, ((bps as f64 * RAISE_INTO) as u64).saturating_sub(sound))
        }
    };
    let (ramping, starts_low) = (path.is_ramping(now), path.starts_low());
    // The way up at the start is short, and its key frames are on their way anyhow.
    let price = if climbing { Choice::raised_rate } else { Choice::price };
    let mut kept = allocate_to(keep, &choices, Choice::rate, |n| choices[n].sent());
    keep_on(now, path, (keep, sound), &choices, &mut kept, &mut outbound.forwards);
    let raised = if starts_low {
        choices.iter().map(Choice::start).collect()
    } else {
        allocate_beside(raise, &choices, price, &kept)
    };
    let decision = Decision {
        choices: &choices,
        forwards: &outbound.forwards,
        kept: &kept,
        raised: &raised,
        price,
        climbing,
        ramping,
    };
    let is_settled = !(starts_low || climbing || ramping);
    let swapped = if is_settled { swap(now, keep, &choices, &outbound.forwards) } else { None };
    let layers = swapped.unwrap_or_else(|| {
        let mut layers = decision.layers(now, path, sound);
        give_way(keep, &choices, &mut layers);
        layers
    });
    note_rooms((now, raise, sound), path, &choices, &layers, &mut outbound.forwards);
    let served = served(&choices, &layers);
    let mut changed = put_away(outbound, tracks);
    for (choice, layer) in choices.iter().zip(layers) {
        let Some(forward) = &mut outbound.forwards[choice.place] else { continue };
        let Some(track) = tracks.get_mut(forward.track) else { continue };
        // A key frame that nobody gets would stop everybody's pictures for a moment.
        let path = outbound.congestion.as_deref();
        let may_ask = !forward.awaits_return(path);
        if apply((now, may_ask, path.and_then(Congestion::target_bps)), forward, track, choice, layer) {
            changed.push(choice.place as u16);
        }
    }
    let is_starved = outbound.forwards.iter().flatten().any(|f| f.allotted.paused == Some(PauseReason::Bandwidth));
    if let Some(path) = outbound.congestion.as_deref_mut() {
        path.set_starved(now, is_starved, served);
    }
    changed
}

/// What of the choices is sent with these layers.
fn served(choices: &[Choice], layers: &[Option<u8>]) -> Served {
    let all = || choices.iter().zip(layers);
    if all().all(|(choice, layer)| *layer >= choice.highest()) {
        Served::Whole
    } else if all().all(|(_, layer)| layer.is_none()) {
        Served::Nothing
    } else {
        Served::Less
    }
}

/// The video forwards of which something may be sent, most important first.
fn choices(
    now: Instant,
    outbound: &Outbound,
    tracks: &SlotMap<TrackKey, Track>,
    speakers: Option<&Speakers>,
) -> Vec<Choice> {
    let forwards = outbound.forwards.iter().enumerate().filter_map(|(place, f)| Some((place, f.as_ref()?)));
    let videos = forwards.filter_map(|(place, f)| Some((place, f, tracks.get(f.track).filter(|t| t.is_video())?)));
    let is_controlled = outbound.congestion.as_deref().is_some_and(Congestion::is_controlled);
    let videos = videos.filter(|(_, forward, track)| unsendable(forward, track).is_none());
    let speaks = |track: &Track| speakers.is_some_and(|speakers| speakers.has_spoken_lately(now, track.owner));
    let choice = |(place, forward, track): (_, &Forward, &Track)| {
        choice((now, is_controlled), place, forward, (track, speaks(track)))
    };
    let mut choices: Vec<_> = videos.map(choice).collect();
    // Nobody gives way to somebody who is no more important.
    choices.sort_by_key(|choice| std::cmp::Reverse((choice.priority, choice.current)));
    choices
}

fn choice(
    (now, is_controlled): (Instant, bool),
    place: usize,
    forward: &Forward,
    (track, speaks): (&Track, bool),
) -> Choice {
    let told = forward.limits.highest();
    let rungs = rungs_of(now, forward, track);
    let limit = limit(&rungs, track, told);
    let lowest = rungs.first().map_or(0, |rung| rung.told);
    let base = rungs.iter().rposition(|rung| rung.told == lowest).unwrap_or(0) as u8;
    let priority = Priority {
        policy: forward.limits.policy.priority,
        weight: weight(forward.allotted.view, track.info.source, speaks),
    };
    let current = forward.allotted.paused.is_none().then(|| current(&rungs, forward));
    // A publisher may go on with all layers at once, of which the highest comes first: behind a pause what fitted before fits.
    let awaited = match current.filter(|_| forward.has_begun()) {
        _ if !is_controlled => limit,
        Some(current) => current.min(limit),
        None => 0,
    };
    let before_bps = track.cap.before_bps();
    let in_vain = forward.allotted.size_in_vain(now);
    let expected_bps = expected_bps(&rungs[..=usize::from(limit)], track);
    Choice { place, rungs, base: base.min(limit), limit, priority, current, awaited, before_bps, expected_bps, in_vain }
}

/// What the steps of which it is not known may turn out to take, in bit/s: what they did when packets came of them last, or 0.
fn expected_bps(rungs: &[Rung], track: &Track) -> Option<u64> {
    if track.is_muted() {
        return None;
    }
    let unknown = rungs.iter().filter(|rung| !rung.is_known());
    unknown.map(|rung| track.layers[usize::from(rung.layer)].bitrate_bps).max()
}

/// The highest step of layers up to `told`; where none of these come, the lowest that does, as it is sent in their place: see
/// [`Track::best_layer`].
fn limit(rungs: &[Rung], track: &Track, told: u8) -> u8 {
    let is_kept = |rung: &Rung| rung.layer < track.kept_layers.max(1);
    // Of a single layer there is always something.
    let allowed = rungs.iter().rposition(|rung| rung.told <= told && is_kept(rung)).unwrap_or(0);
    let comes = |rung: &Rung| rung.bps > 0 && is_kept(rung);
    let is_silent = !rungs.iter().take(allowed + 1).any(comes);
    rungs.iter().position(comes).filter(|_| is_silent).unwrap_or(allowed) as u8
}

/// The highest step that a forward lets pass.
fn current(rungs: &[Rung], forward: &Forward) -> u8 {
    let (layer, Point { spatial, temporal }) = (forward.target(), forward.point());
    let passes = |rung: &Rung| rung.layer == layer && rung.point.spatial <= spatial && rung.point.temporal <= temporal;
    let lowest = || rungs.iter().position(|rung| rung.layer == layer);
    rungs.iter().rposition(passes).or_else(lowest).unwrap_or(0) as u8
}

/// The layer between what may be kept and what may be raised to; `None` to pause. `climbing`: nothing is held up yet.
fn decide(
    (now, climbing): (Instant, bool),
    forward: &Forward,
    choice: &Choice,
    keep: Option<u8>,
    raise: Option<u8>,
) -> Option<u8> {
    let Some(current) = choice.current.map(|layer| layer.min(choice.limit)) else { return raise };
    // Of a stream that its publisher makes smaller to fit, all pictures are to come again soon.
    let interval = if choice.before_bps.is_some() { HELD_RAISE_INTERVAL } else { RAISE_INTERVAL };
    let may_raise = climbing || forward.allotted.has_rested(now, interval);
    match (keep, raise) {
        (None, _) => None,
        (Some(keep), _) if keep < current => Some(keep),
        (_, Some(raise)) if raise > current && may_raise => Some(raise),
        // A layer that fell silent is not waited for.
        _ if choice.rate(current) == 0 => Some(keep.unwrap_or(current)),
        _ => Some(current),
    }
}

/// Sets a forward's layer or pauses it; `may_ask` for a key frame of it. True when it was paused or resumed.
fn apply(
    (now, may_ask, path_bps): (Instant, bool, Option<u64>),
    forward: &mut Forward,
    track: &mut Track,
    choice: &Choice,
    layer: Option<u8>,
) -> bool {
    let paused = if layer.is_none() { Some(PauseReason::Bandwidth) } else { None };
    let was = std::mem::replace(&mut forward.allotted.paused, paused);
    let rung = layer.and_then(|rung| choice.rungs.get(usize::from(rung)));
    // What somebody has forbidden is not in vain.
    let sent = choice.current.filter(|current| *current <= choice.limit);
    if let Some(sent) = sent.and_then(|rung| choice.rungs.get(usize::from(rung))) {
        forward.allotted.note_size(now, (sent.size(), rung));
    }
    if let Some(rung) = rung.filter(|_| paused.is_none()) {
        let target = track.best_layer(now, rung.layer);
        if was.is_some() {
            forward.restart(track);
            // Back on a promise: the estimate has some time to follow.
            forward.allotted.tight = Some(now);
        }
        if (forward.target(), forward.point()) != (target, rung.point) {
            // The way up at the start is not held up: only the changes of a picture that is seen are.
            let is_first = forward.layer().is_none() || choice.current.is_none();
            // More pictures of the same size cost no key frame, and the next size does not wait for them.
            let (point, to) = (forward.point(), rung.point);
            let has_size = forward.target() == target && point.spatial == to.spatial;
            let is_more = has_size && to.temporal > point.temporal && choice.before_bps.is_none();
            if !is_first && !is_more {
                forward.allotted.changed = Some(now);
            }
            tracing::debug!(
                track = %track.info.id, to_ssrc = forward.stream.ssrc.0, mid = %forward.mid,
                from = forward.target(), to = target, bps = rung.bps, most_bps = rung.most_bps, "another layer"
            );
            forward.set_target(track, target);
            forward.set_point(rung.point);
        }
        if !may_ask {
            // It is asked for when the path is back.
        } else if track.far.is_none() {
            // It is on its way while the client's transport comes up. From another place it comes once it is wanted there.
            forward.begin_or_ask((now, path_bps), track);
        } else {
            let _ = forward.ask_for_spatial_layer(now, track);
        }
    }
    was != paused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(rates_bps: &[u64], limit: u8) -> Choice {
        let rung = |(layer, bps): (u8, &u64)| Rung { layer, point: Point::ALL, told: layer, bps: *bps, most_bps: *bps };
        Choice {
            place: 0,
            rungs: (0..).zip(rates_bps).map(rung).collect(),
            base: 0,
            limit,
            priority: Priority { policy: 1, weight: 1 },
            current: None,
            awaited: limit,
            before_bps: None,
            expected_bps: None,
            in_vain: None,
        }
    }

    #[test]
    fn a_track_begins_with_all_pictures_of_its_lowest_layer_unless_that_is_much() {
        for (rates, base, expected) in [
            (&[60_000, 90_000, 150_000, 500_000][..], 2, Some(2)),
            (&[400_000, 600_000, 1_000_000], 2, Some(0)),
            (&[200_000, 290_000, 600_000], 2, Some(1)),
            (&[2_000_000], 0, Some(0)),
            (&[0, 500_000], 0, Some(1)),
            (&[0, 0], 0, None),
        ] {
            let choice = Choice { base, ..choice(rates, rates.len() as u8 - 1) };
            assert_eq!(choice.start(), expected, "{rates:?}");
        }
    }

    #[test]
    fn a_raise_to_larger_pictures_is_charged_with_a_key_frame_and_one_to_more_of_them_is_not() {
        let rung = |(layer, spatial, temporal): (u8, u8, u8)| {
            let (point, bps) = (Point { spatial, temporal }, 100_000 * (1 + u64::from(layer + spatial + temporal)));
            Rung { layer, point, told: spatial, bps, most_bps: bps + 20_000 }
        };
        for (to, expected) in [((0, 0, 1), 220_000), ((0, 1, 0), 275_000), ((1, 0, 0), 275_000), ((2, 0, 0), 395_000)] {
            let choice = Choice { rungs: vec![rung((0, 0, 0)), rung(to)], current: Some(0), ..choice(&[], 1) };
            assert_eq!(choice.price(1), expected, "{to:?}");
        }
    }

    #[test]
    fn a_size_that_was_in_vain_takes_a_quarter_more_to_who_would_raise_to_it() {
        let size = |layer| Some((layer, Point::ALL.spatial));
        for (in_vain, prices, sought) in [
            (None, [400_000, 1_075_000], [325_000, 1_000_000]),
            (size(1), [500_000, 1_343_750], [500_000, 1_343_750]),
            (size(2), [400_000, 1_343_750], [325_000, 1_343_750]),
        ] {
            let choice = Choice { current: Some(0), in_vain, ..choice(&[100_000, 325_000, 1_000_000], 2) };
            assert_eq!([choice.price(1), choice.price(2)], prices, "{in_vain:?}");
            assert_eq!([choice.sought_rate(1), choice.sought_rate(2)], sought, "{in_vain:?}");
        }
    }

    #[test]
    fn bandwidth_is_shared_a_layer_at_a_time_and_what_does_not_fit_is_paused() {
        let three = |limit| choice(&[150, 500, 1500], limit);
        let single = choice(&[1000], 0);
        let gap = choice(&[0, 500, 0], 2);
        for (budget, choices, expected) in [
            (10_000, vec![three(2), three(2)], vec![Some(2), Some(2)]),
            (2_100, vec![three(2), three(2)], vec![Some(2), Some(1)]),
            (1_000, vec![three(2), three(2)], vec![Some(1), Some(1)]),
            (300, vec![three(2), three(2)], vec![Some(0), Some(0)]),
            (299, vec![three(2), three(2)], vec![Some(0), None]),
            (0, vec![three(2), three(2)], vec![None, None]),
            (10_000, vec![three(1), three(0)], vec![Some(1), Some(0)]),
            (1_500, vec![single.clone(), three(2)], vec![Some(0), Some(1)]),
            (900, vec![single.clone(), three(2)], vec![None, Some(1)]),
            (10_000, vec![gap], vec![Some(1)]),
            (0, vec![choice(&[0, 0], 1)], vec![Some(1)]),
            (5, vec![], vec![]),
        ] {
            assert_eq!(allocate(budget, &choices, Choice::price), expected, "{budget} {choices:?}");
        }
    }

    #[test]
    fn nobody_gets_the_room_of_what_stays_although_it_does_not_fit() {
        let sent = |bps: u64| Choice { current: Some(0), ..choice(&[bps], 0) };
        let choices = [sent(300), sent(310), choice(&[290], 0)];
        for (budget, kept, expected) in [
            (600, [Some(0), Some(0), None], [Some(0), Some(0), None]),
            (600, [Some(0), None, None], [Some(0), None, Some(0)]),
            (900, [Some(0), Some(0), None], [Some(0), Some(0), Some(0)]),
        ] {
            assert_eq!(allocate_beside(budget, &choices, Choice::rate, &kept), expected, "{budget} {kept:?}");
        }
    }
}
