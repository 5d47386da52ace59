//! Rooms over several nodes: whom joins go to, and how long a room stays known.

use std::collections::BTreeSet;

use super::*;

const HOME: PlaceId = PlaceId(7);

#[test]
fn clients_of_a_wing_join_over_its_lead_and_who_comes_after_the_last_one_asks_again_where_the_home_is() {
    let (directory, receivers) = directory(2, 99, Bounds { spread: RoomSpread::Always, ..BOUNDS });
    drop(directory.open_wing(&room("a"), HOME).unwrap());
    assert_eq!(directory.far_home(&room("a")), None, "nobody has come");
    let hold = directory.open_wing(&room("a"), HOME).unwrap();
    let members = [(); 2].map(|()| directory.enter(&room("a"), LOOPBACK).unwrap());
    drop(hold);
    members.iter().for_each(|member| member.send(join(member)).unwrap());
    let ways = receivers.iter().map(|receiver| match receiver.try_recv() {
        Ok(Command::JoinWing { home, beyond, .. }) => (home, beyond),
        other => panic!("{other:?}"),
    });
    assert_eq!(ways.collect::<Vec<_>>(), [(HOME, None), (PlaceId(0), Some(HOME))]);
    assert!(directory.open_wing(&room("a"), PlaceId(8)).is_none(), "it has another home");
    assert_eq!((directory.far_home(&room("a")), directory.home_shard(&room("a"))), (Some(HOME), None));
    assert_eq!((directory.place_gone(PlaceId(8)), directory.place_gone(HOME)), (vec![], vec![room("a")]));
    // Its home is another one from here on, and then this node itself: the shard that spoke to the home is told.
    let told = || match receivers[0].try_recv() {
        Ok(Command::HomeIs { room, home }) => format!("{room} {}", home.0),
        Ok(Command::BecomeHome { room }) => format!("{room} here"),
        other => format!("{other:?}"),
    };
    directory.has_home(&room("a"), PlaceId(8), PlaceId(9));
    assert_eq!(told(), "Err(Empty)", "it is not the former home");
    directory.has_home(&room("a"), HOME, PlaceId(9));
    assert_eq!((told(), directory.far_home(&room("a"))), ("a 9".to_owned(), Some(PlaceId(9))));
    directory.home_moved(&room("a"), PlaceId(10));
    assert_eq!(
        (told(), directory.far_home(&room("a"))),
        ("Err(Empty)".to_owned(), Some(PlaceId(10))),
        "its shard has said so"
    );
    directory.has_home(&room("a"), PlaceId(10), PlaceId(9));
    assert_eq!(told(), "a 9");
    directory.becomes_home(&room("a"), HOME);
    assert_eq!(told(), "Err(Empty)", "it was the home before that one");
    directory.becomes_home(&room("a"), PlaceId(9));
    assert_eq!((told(), directory.far_home(&room("a"))), ("a here".to_owned(), None));
    assert_eq!(directory.home_shard(&room("a")), Some(0));
    directory.home_moved(&room("a"), HOME);
    assert_eq!(directory.far_home(&room("a")), None, "it is this node that says so of its rooms");
    drop(members);
    directory.route(0, Event::RoomClosed(room("a")));
    assert_eq!((directory.far_home(&room("a")), placements(&directory)), (None, vec![]));
}

#[test]
fn a_room_with_wings_elsewhere_stays_when_its_last_client_here_leaves() {
    let (directory, _receivers) = directory(2, 99, Bounds { rooms_max: 1, ..BOUNDS });
    assert!(!directory.wing_comes(&room("a"), 0, HOME), "it is not here");
    let member = admitted(&directory, "a");
    assert!(!directory.wing_comes(&room("a"), 1, HOME), "it is on another shard");
    assert!(directory.wing_comes(&room("a"), 0, HOME) && directory.wing_comes(&room("a"), 0, HOME));
    drop(member);
    directory.route(0, Event::RoomClosed(room("a")));
    assert_eq!(directory.enter(&room("b"), LOOPBACK).unwrap_err(), Refusal::Rooms, "it does not make way");
    assert_eq!(directory.home_shard(&room("a")), Some(0));
    directory.wing_goes(&room("a"), HOME);
    directory.route(0, Event::RoomClosed(room("a")));
    assert_eq!(directory.home_shard(&room("a")), None);
    let _member = admitted(&directory, "a");
    assert!(directory.wing_comes(&room("a"), 0, HOME));
    assert_eq!(directory.take_far_wings(&room("a")), (0, vec![HOME]));
    assert_eq!(directory.take_far_wings(&room("a")), (0, vec![]));
}

#[test]
fn each_of_many_clients_and_homes_that_may_go_elsewhere_is_asked_however_many_cannot() {
    let (directory, _receivers) = directory(1, 999, Bounds { rooms_max: 99, clients_max: 99, ..BOUNDS });
    let members: Vec<_> = (0..60).map(|n| directory.enter(&room(&format!("r{n}")), LOOPBACK).unwrap()).collect();
    members.iter().for_each(|member| assert!(!member.new_ticket().is_empty()));
    let asked = (0..1_000).flat_map(|_| directory.movable(3, |_, _, _| true)).map(|movable| movable.client);
    assert_eq!(asked.collect::<BTreeSet<_>>().len(), 60);
    (0..60).for_each(|n| assert!(directory.wing_comes(&room(&format!("r{n}")), 0, HOME)));
    drop(members);
    let homes = (0..1_000).flat_map(|_| directory.movable_homes(3, |_| true));
    assert_eq!(homes.collect::<BTreeSet<_>>().len(), 60);
    assert_eq!(directory.movable_homes(99, |_| true).len(), 60);
}
