use super::super::messages::{NodeName, Run};
use super::*;

impl<S> Rooms<S> {
    /// What is known of other homes has been known for too long to be believed.
    pub(in crate::cluster) fn let_all_grow_old(&mut self) {
        self.far.values_mut().for_each(|far| far.at -= FAR_FRESH);
    }
}

fn node(name: &str, run: u64) -> Node {
    Node { name: NodeName::parse(name).unwrap(), run: Run(run), url: format!("https://{name}/") }
}

fn claim(name: &str, run: u64) -> Option<Claim> {
    Some(Claim { node: node(name, run) })
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

/// The node a, in its run 1, is the home of the room demo by the term 7.
fn rooms(now: Instant) -> Rooms<()> {
    let mut rooms = Rooms::new(node("a", 1));
    rooms.won(&room("demo"), 7, now, || ());
    rooms
}

#[test]
fn the_higher_term_is_the_home() {
    let now = Instant::now();
    for (revision, claim, expected, term) in [
        (7, claim("b", 2), Effect::None, Some(7)),
        (6, claim("b", 2), Effect::None, Some(7)),
        (8, claim("b", 2), Effect::GiveWay(node("b", 2), ()), None),
        (8, claim("a", 9), Effect::GiveWay(node("a", 9), ()), None),
        (8, claim("a", 1), Effect::None, Some(8)),
        (8, None, Effect::Rewrite(None), Some(7)),
        (7, None, Effect::None, Some(7)),
    ] {
        let mut rooms = rooms(now);
        let found = rooms.changed(now, &room("demo"), revision, claim.clone());
        assert_eq!((found, rooms.term(&room("demo"))), (expected, term), "{revision} {claim:?}");
    }
}

#[test]
fn after_a_time_of_deafness_the_higher_term_is_the_home_and_what_is_lost_is_written_again() {
    let now = Instant::now();
    for (found, expected, term) in [
        (None, Effect::Rewrite(None), Some(7)),
        (Some((7, claim("a", 1).unwrap())), Effect::None, Some(7)),
        (Some((9, claim("a", 1).unwrap())), Effect::None, Some(9)),
        (Some((3, claim("a", 1).unwrap())), Effect::None, Some(3)),
        (Some((9, claim("b", 2).unwrap())), Effect::GiveWay(node("b", 2), ()), None),
        (Some((3, claim("b", 2).unwrap())), Effect::Rewrite(Some(3)), Some(7)),
    ] {
        let mut rooms = rooms(now);
        assert_eq!(rooms.checked(now, &room("demo"), found.clone()), expected, "{found:?}");
        assert_eq!(rooms.term(&room("demo")), term, "{found:?}");
        assert_eq!(rooms.checked(now, &room("other"), found), Effect::None, "a room that is not ours any more");
    }
}

#[test]
fn a_room_that_somebody_is_on_the_way_into_is_not_given_up() {
    let now = Instant::now();
    let mut rooms = rooms(now);
    assert!(!rooms.hold(&room("other")), "it is not ours");
    assert!(rooms.hold(&room("demo")) && rooms.hold(&room("demo")));
    for _ in 0..2 {
        assert_eq!(rooms.end(now, &room("demo")), None);
        rooms.let_go(&room("demo"));
    }
    assert_eq!(rooms.end(now, &room("demo")), Some((7, ())));
    assert_eq!((rooms.end(now, &room("demo")), rooms.len()), (None, 0));
    let soon = now + Duration::from_secs(1);
    rooms.won(&room("demo"), 8, soon, || ());
    assert_eq!(rooms.end(now, &room("demo")), None);
    assert_eq!(rooms.end(soon, &room("demo")), Some((8, ())));
}

#[test]
fn other_homes_are_remembered_for_a_while_and_within_a_bound() {
    let now = Instant::now();
    let mut rooms = Rooms::<()>::new(node("a", 1));
    rooms.know(now, &room("demo"), (node("b", 2), 7));
    assert_eq!((rooms.far(now, &room("demo")), rooms.far_term(&room("demo"))), (Some(&node("b", 2)), 7));
    assert_eq!(rooms.far(now + FAR_FRESH, &room("demo")), None);
    assert_eq!(rooms.changed(now, &room("demo"), 9, claim("c", 3)), Effect::None);
    assert_eq!((rooms.far(now, &room("demo")), rooms.far_term(&room("demo"))), (Some(&node("c", 3)), 9));
    assert_eq!(rooms.changed(now, &room("demo"), 10, None), Effect::None);
    assert_eq!(rooms.far(now, &room("demo")), None);
    for n in 0..MAX_FAR + 10 {
        rooms.know(now, &room(&format!("r{n}")), (node("b", 2), 7));
    }
    assert!(rooms.far.len() <= MAX_FAR);
    assert!(rooms.far(now, &room(&format!("r{}", MAX_FAR + 9))).is_some());
}

#[test]
fn claims_that_are_given_up_at_the_end_are_not_written_again() {
    let now = Instant::now();
    let mut rooms = rooms(now);
    assert_eq!(rooms.leave(), [(room("demo"), 7)]);
    assert_eq!(rooms.changed(now, &room("demo"), 8, None), Effect::None);
    assert_eq!((rooms.len(), rooms.hold(&room("demo"))), (0, false));
}
