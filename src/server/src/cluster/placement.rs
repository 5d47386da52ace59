//! Where a new room goes: here, unless this node is busy or draining and another has more time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::messages::NodeName;

/// A room that was placed counts for its node for so long, whatever its beats say: it fills slowly.
const RAMP: Duration = Duration::from_secs(20);
/// What it counts, in thousandths of the node's time.
const PLACED: u32 = 5;
/// Rooms that are counted so: far more than a busy node's share.
const MAX_PLACED: usize = 1000;

/// A node takes new rooms of its own clients while it is busy for less than this share of its time, in thousandths.
pub(super) const BUSY: u32 = 600;
/// A client is sent on to a node that has more time by at least so much.
const MARGIN: u32 = 50;

/// A node that a room could be given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub name: NodeName,
    /// It stands in this node's region.
    pub is_near: bool,
    /// The share of its time that it is busy, in thousandths, with what was placed there lately.
    pub score: u32,
    pub is_draining: bool,
}

impl Candidate {
    /// Whether it takes one more client without being busy.
    pub(super) fn has_time(&self) -> bool {
        !self.is_draining && self.score < BUSY
    }
}

/// The rooms that were placed on a node lately.
#[derive(Debug, Default)]
pub(super) struct Ramp(VecDeque<Instant>);

impl Ramp {
    pub(super) fn add(&mut self, now: Instant) {
        if self.0.len() < MAX_PLACED {
            self.0.push_back(now);
        }
    }

    /// What they count, in thousandths of the node's time.
    pub(super) fn score(&mut self, now: Instant) -> u32 {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) >= RAMP) {
            self.0.pop_front();
        }
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_mul(PLACED)
    }
}

/// The node that a new room is given to; `None`: this one, whose `score` is in the same measure.
pub(super) fn choose(score: u32, is_draining: bool, others: &[Candidate]) -> Option<NodeName> {
    let has_time = score < BUSY && !is_draining;
    let takes = others.iter().filter(|other| !has_time && !other.is_draining);
    // Near ones with time, then far ones with time, then whoever has most.
    let rank = |other: &&Candidate| (other.score >= BUSY, other.score < BUSY && !other.is_near, other.score);
    let best = takes.min_by_key(rank)?;
    // Between two busy nodes a room is not sent far for little.
    let is_better = is_draining || best.score < BUSY || (best.is_near && best.score < score);
    is_better.then(|| best.name.clone())
}

/// Where somebody goes whose room has its home on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seating {
    /// There.
    Home,
    /// To this node.
    Here,
    /// To a further one.
    Other(NodeName),
}

/// The node for one more client of a room: its home while that has time and is near; else this one if it has clients of the
/// room and time; else the least busy near one. `own` is this node's score, and whether it has clients of the room.
pub(super) fn seat(home: &NodeName, (score, has_wing): (u32, bool), others: &[Candidate]) -> Seating {
    let is_home = |other: &&Candidate| other.name == *home;
    if others.iter().find(is_home).is_none_or(|home| home.is_near && home.has_time()) {
        return Seating::Home;
    }
    if has_wing && score < BUSY {
        return Seating::Here;
    }
    let near = others.iter().filter(|other| other.is_near && !other.is_draining);
    let best = near.min_by_key(|other| other.score);
    // Nobody is sent further for little: the next node, too, would look for a better one.
    match best.filter(|best| score >= BUSY && best.score + MARGIN < score) {
        Some(best) if best.name == *home => Seating::Home,
        Some(best) => Seating::Other(best.name.clone()),
        None => Seating::Here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_client_goes_home_then_where_the_room_is_then_where_there_is_most_time() {
        let other = |name: &str, is_near: bool, score: u32| Candidate {
            name: NodeName::parse(name).unwrap(),
            is_near,
            score,
            is_draining: false,
        };
        let name = |name: &str| NodeName::parse(name).unwrap();
        for (own, others, expected) in [
            ((0, false), vec![other("home", true, 599)], Seating::Home),
            ((0, false), vec![other("home", false, 100)], Seating::Here),
            ((0, false), vec![other("home", true, 600)], Seating::Here),
            ((599, true), vec![other("home", true, 600), other("a", true, 0)], Seating::Here),
            ((700, true), vec![other("home", true, 900), other("a", true, 300)], Seating::Other(name("a"))),
            ((700, true), vec![other("home", true, 900), other("a", true, 680)], Seating::Here),
            ((700, true), vec![other("home", true, 900), other("a", false, 0)], Seating::Here),
            ((900, true), vec![other("home", true, 700), other("a", true, 800)], Seating::Home),
            ((0, true), vec![], Seating::Home),
        ] {
            assert_eq!(seat(&name("home"), own, &others), expected, "{own:?} {others:?}");
        }
    }

    fn other(name: &str, is_near: bool, score: u32) -> Candidate {
        Candidate { name: NodeName::parse(name).unwrap(), is_near, score, is_draining: false }
    }

    #[test]
    fn what_was_placed_counts_for_a_while_whatever_beats_say() {
        let (mut ramp, now) = (Ramp::default(), Instant::now());
        for n in 0..120 {
            ramp.add(now + Duration::from_millis(n));
        }
        assert_eq!(ramp.score(now), BUSY, "a node that says that it has nothing to do is busy after as many rooms");
        assert_eq!(ramp.score(now + RAMP + Duration::from_millis(59)), BUSY / 2);
        assert_eq!(ramp.score(now + 2 * RAMP), 0);
        (0..2 * MAX_PLACED).for_each(|_| ramp.add(now));
        assert_eq!(ramp.0.len(), MAX_PLACED);
    }

    #[test]
    fn a_new_room_stays_while_there_is_time_then_goes_near_then_far_then_to_the_least_busy() {
        let drains = |candidate| Candidate { is_draining: true, ..candidate };
        let (near, far) = (other("near", true, 100), other("far", false, 0));
        let (busy, busier) = (other("busy", true, 700), other("busier", true, 900));
        for (score, is_draining, others, expected) in [
            (599, false, vec![far.clone(), near.clone()], None),
            (600, false, vec![far.clone(), near.clone()], Some("near")),
            (600, false, vec![far.clone(), busy.clone()], Some("far")),
            (800, false, vec![busier.clone(), busy.clone()], Some("busy")),
            (650, false, vec![busier.clone(), busy.clone()], None),
            (990, false, vec![other("far", false, 900)], None),
            (990, false, vec![drains(near.clone())], None),
            (0, true, vec![busier.clone(), busy], Some("busy")),
            (0, true, vec![other("far", false, 900)], Some("far")),
            (0, true, vec![drains(near)], None),
            (0, true, vec![], None),
        ] {
            let chosen = choose(score, is_draining, &others);
            assert_eq!(chosen.as_ref().map(NodeName::as_str), expected, "{score} {is_draining} {others:?}");
        }
    }
}
