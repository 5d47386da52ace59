use std::sync::mpsc::{Receiver, sync_channel};

use tokio::sync::mpsc;

use super::inbox::CLIENT_QUEUE;
use super::waiting::{MAX_WAITING, MAX_WAITING_PER_ROOM};
use super::*;
use crate::signal::door::REFUSALS;
use moonring_core::command::{ClientInfo, LeaveCause};
use moonring_core::report::ShardReport;
use moonring_policy::hook::Undecided;
use moonring_wire::id::PlaceId;

mod limits;
mod nodes;
mod resume;
mod take_over;

fn directory(shards: usize, queue: usize, bounds: Bounds) -> (Directory, Vec<Receiver<Command>>) {
    let (handles, receivers) = (0..shards)
        .map(|_| {
            let (sender, receiver) = sync_channel(queue);
            (ShardHandle::over(sender, Arc::new(|| {})), receiver)
        })
        .unzip();
    (Directory::new(handles, bounds), receivers)
}

fn room(text: &str) -> RoomId {
    RoomId::parse(text).unwrap()
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const BOUNDS: Bounds = Bounds {
    rooms_max: 3,
    clients_max: 5,
    resume: Duration::from_secs(15),
    door: NO_LIMITS,
    spread: RoomSpread::Never,
};
const NO_LIMITS: DoorLimits =
    DoorLimits { connections: 0, connections_per_address: 0, clients_per_address: 0, rooms_per_address: 0 };

fn placements(directory: &Directory) -> Vec<(String, usize, usize)> {
    directory.rooms().into_iter().map(|r| (r.room.to_string(), r.shard, r.clients)).collect()
}

/// A client whose join was allowed.
fn admitted(directory: &Directory, name: &str) -> Membership {
    let mut member = directory.enter(&room(name), LOOPBACK).unwrap();
    directory.route(0, joined(&member.client));
    assert!(matches!(member.events.try_recv(), Ok(Event::Joined { .. })));
    member
}

fn joined(client: &ClientId) -> Event {
    let (clients, tracks, own, attributes) = (vec![], vec![], vec![], serde_json::json!({}).into());
    Event::Joined { client: client.clone(), clients, tracks, own, attributes, rights: Default::default() }
}

fn address(n: usize) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from(0x0A00_0000 + n as u32))
}

#[test]
fn joins_that_wait_take_no_seats_and_no_rooms() {
    let (directory, _receivers) = directory(1, 99, BOUNDS);
    let waiting: Vec<_> =
        (0..40).map(|n| directory.enter(&room(&format!("room{}", n % 10)), address(n)).unwrap()).collect();
    let seats: Vec<_> = ["a", "a", "a", "b", "c"].map(|name| admitted(&directory, name)).into();
    assert_eq!(directory.enter(&room("a"), LOOPBACK).unwrap_err(), Refusal::Clients);
    let mut late = waiting.into_iter().next().unwrap();
    directory.route(0, joined(&late.client));
    let told = late.events.try_recv().unwrap();
    assert!(matches!(&told, Event::Left { cause: LeaveCause::Limit(reason), .. } if reason.contains("no place left")));
    drop(seats);
    assert_eq!(directory.client_count(), 0);
}

#[test]
fn a_join_of_the_address_that_has_most_makes_way_when_a_room_is_full_of_joins() {
    let (directory, receivers) = directory(1, 999, BOUNDS);
    let strangers: Vec<_> =
        (0..MAX_WAITING_PER_ROOM).map(|n| directory.enter(&room("a"), address(n % 10)).unwrap()).collect();
    let mut members: Vec<_> = (0..4).map(|n| directory.enter(&room("a"), address(100 + n)).unwrap()).collect();
    assert_eq!(directory.client_count(), MAX_WAITING_PER_ROOM);
    let goodbyes = receivers[0].try_iter().filter(|c| matches!(c, Command::Leave { .. })).count();
    assert_eq!(goodbyes, 4);
    for member in &mut members {
        directory.route(0, joined(&member.client));
        assert!(matches!(member.events.try_recv(), Ok(Event::Joined { .. })));
    }
    assert!(directory.enter(&room("b"), address(0)).is_ok(), "other rooms have places of their own");
    drop(strangers);
    drop(members);
    assert_eq!(directory.client_count(), 0);
    assert_eq!(directory.state().waiting.len(), 0);
}

#[test]
fn the_joins_that_wait_on_the_server_are_bounded() {
    let (directory, _receivers) = directory(1, 9_999, BOUNDS);
    let enter = |n: usize| directory.enter(&room(&format!("room{}", n % 20)), address(n % 1_000));
    let strangers: Vec<_> = (0..MAX_WAITING).map(|n| enter(n).unwrap()).collect();
    assert_eq!(enter(0).unwrap_err(), Refusal::Joins, "nobody has many more than it");
    let _member = directory.enter(&room("a"), address(5_000)).unwrap();
    assert_eq!(directory.client_count(), MAX_WAITING);
    drop(strangers);
}

#[test]
fn nobody_makes_way_for_a_join_that_is_refused_then() {
    let bounds = Bounds { rooms_max: 20, clients_max: 9_999, ..BOUNDS };
    let (directory, _receivers) = directory(1, 9_999, bounds);
    let waiting: Vec<_> = (0..MAX_WAITING)
        .map(|n| directory.enter(&room(&format!("room{}", n % 20)), address(n % 1_000)).unwrap())
        .collect();
    waiting.iter().take(20).for_each(|member| directory.route(0, joined(&member.client)));
    let others: Vec<_> = (0..20).map(|n| directory.enter(&room("room0"), address(2_000 + n)).unwrap()).collect();
    let before = directory.client_count();
    assert_eq!(directory.enter(&room("new"), address(5_000)).unwrap_err(), Refusal::Rooms);
    assert_eq!(directory.client_count(), before, "all who waited still do");
    drop((waiting, others));
}

#[test]
fn a_script_that_fails_is_no_refusal_of_who_wanted_in() {
    let words = || "Internal script error".to_owned();
    for (cause, expected) in [
        (LeaveCause::Rejected(words()), true),
        (LeaveCause::Undecided(Undecided::Crowded, words()), true),
        (LeaveCause::Undecided(Undecided::Failed, words()), false),
        (LeaveCause::Undecided(Undecided::CutOff, words()), false),
        (LeaveCause::Later(words()), false),
    ] {
        let (directory, _receivers) = directory(1, 99, BOUNDS);
        for _ in 0..REFUSALS {
            let member = directory.enter(&room("a"), address(7)).unwrap();
            directory.route(0, Event::Left { client: member.client.clone(), cause: cause.clone() });
        }
        assert_eq!(directory.door().may_join(Instant::now(), address(7)).is_err(), expected, "{cause:?}");
    }
}

fn join(member: &Membership) -> Command {
    Command::Join(moonring_core::command::JoinRequest {
        room: room("a"),
        client: member.client.clone(),
        token: String::new(),
        metadata: serde_json::Value::Null,
        connection: Box::new(LOOPBACK.into()),
    })
}

#[test]
fn a_join_that_a_full_shard_did_not_take_needs_no_goodbye() {
    let (directory, receivers) = directory(1, 1, BOUNDS);
    let members = [(); 2].map(|()| directory.enter(&room("a"), LOOPBACK).unwrap());
    assert_eq!(members.each_ref().map(|member| member.send(join(member)).is_ok()), [true, false]);
    assert!(matches!(receivers[0].try_recv(), Ok(Command::Join(_))));
    let [first, second] = members;
    drop(second);
    assert!(receivers[0].try_recv().is_err());
    drop(first);
    assert!(matches!(receivers[0].try_recv(), Ok(Command::Leave { .. })));
}

#[test]
fn a_room_stays_on_its_shard_and_the_next_goes_to_the_least_loaded() {
    let (directory, _receivers) = directory(2, 9, BOUNDS);
    let members: Vec<Membership> = ["a", "a", "b", "c"].map(|r| admitted(&directory, r)).into();
    let expected = [("a", 0, 2), ("b", 1, 1), ("c", 1, 1)].map(|(r, s, c)| (r.to_owned(), s, c));
    assert_eq!(placements(&directory), expected);
    assert_eq!(directory.enter(&room("d"), LOOPBACK).unwrap_err(), Refusal::Rooms);
    let _fifth = admitted(&directory, "a");
    assert_eq!(directory.enter(&room("a"), LOOPBACK).unwrap_err(), Refusal::Clients);
    drop(members);
}

#[test]
fn a_closed_room_is_forgotten_unless_somebody_is_on_the_way_there() {
    let (directory, _receivers) = directory(1, 9, BOUNDS);
    let first = directory.enter(&room("a"), LOOPBACK).unwrap();
    directory.route(0, Event::RoomClosed(room("a")));
    assert_eq!(placements(&directory), [("a".to_owned(), 0, 1)]);
    drop(first);
    assert_eq!(placements(&directory), [("a".to_owned(), 0, 0)]);
    directory.route(0, Event::RoomClosed(room("a")));
    assert_eq!(placements(&directory), []);
}

#[test]
fn a_room_without_clients_makes_way_and_its_shard_is_told() {
    let (directory, receivers) = directory(1, 9, BOUNDS);
    let opened = ["x", "y", "z"];
    opened.iter().for_each(|name| assert_eq!(directory.open(&room(name)), Ok(0)));
    assert_eq!(directory.open(&room("x")), Ok(0), "it is there already");
    let _member = directory.enter(&room("a"), LOOPBACK).unwrap();
    let told: Vec<Command> = receivers[0].try_iter().collect();
    let [Command::CloseIfEmpty { room, gives_way: false }] = &told[..] else { panic!("{told:?}") };
    let left: Vec<_> = placements(&directory).into_iter().map(|(name, ..)| name).collect();
    assert!(opened.contains(&room.as_str()) && !left.contains(&room.to_string()) && left.len() == 3, "{left:?}");
}

#[test]
fn a_room_that_its_shard_did_not_open_is_forgotten() {
    let (directory, _receivers) = directory(1, 9, BOUNDS);
    let shard = directory.open(&room("a")).unwrap();
    directory.not_opened(&room("a"), shard);
    assert_eq!(placements(&directory), []);
    let _member = directory.enter(&room("b"), LOOPBACK).unwrap();
    directory.not_opened(&room("b"), shard);
    assert_eq!(placements(&directory), [("b".to_owned(), 0, 1)], "somebody is on the way there");
}

#[test]
fn dropping_a_membership_says_goodbye_once_and_not_after_the_shard_did() {
    let (directory, receivers) = directory(1, 9, BOUNDS);
    let stays = directory.enter(&room("a"), LOOPBACK).unwrap();
    let mut kicked = directory.enter(&room("a"), LOOPBACK).unwrap();
    let client = kicked.client.clone();
    directory.route(0, Event::Left { client: client.clone(), cause: LeaveCause::Kicked("no".into()) });
    assert!(matches!(kicked.events.try_recv().unwrap(), Event::Left { .. }));
    assert!(kicked.send(Command::Message { client, value: serde_json::Value::Null }).is_err());
    drop(kicked);
    assert!(receivers[0].try_recv().is_err());
    let name = stays.client.clone();
    drop(stays);
    assert!(matches!(receivers[0].try_recv().unwrap(), Command::Leave { client, .. } if client == name));
    assert_eq!(directory.client_count(), 0);
}

#[test]
fn a_client_that_does_not_take_its_events_is_ended_without_anybody_waiting() {
    let (directory, receivers) = directory(1, 9, BOUNDS);
    let mut slow = directory.enter(&room("a"), LOOPBACK).unwrap();
    for _ in 0..=CLIENT_QUEUE {
        directory.route(0, Event::Connected { client: slow.client.clone() });
    }
    let expected = slow.client.clone();
    assert!(matches!(receivers[0].try_recv().unwrap(), Command::Leave { client, reason }
        if client == expected && reason == "too slow"));
    assert_eq!((directory.client_count(), directory.slow_clients()), (0, 1));
    for _ in 0..CLIENT_QUEUE {
        assert!(matches!(slow.events.try_recv().unwrap(), Event::Connected { .. }));
    }
    assert_eq!(slow.events.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
}

#[tokio::test]
async fn a_goodbye_waits_for_a_shard_that_is_full() {
    let (directory, mut receivers) = directory(1, 1, BOUNDS);
    let receiver = receivers.remove(0);
    let first = directory.enter(&room("a"), LOOPBACK).unwrap();
    let second = directory.enter(&room("a"), LOOPBACK).unwrap();
    drop(first);
    drop(second);
    assert!(receiver.try_recv().is_ok());
    let late = tokio::task::spawn_blocking(move || receiver.recv()).await.unwrap();
    assert!(matches!(late, Ok(Command::Leave { .. })));
}

#[test]
fn clients_of_a_shard_that_is_too_busy_are_asked_to_move_to_one_that_has_time() {
    let bounds = Bounds { spread: RoomSpread::Load, clients_max: 99, ..BOUNDS };
    for (loads, expected) in [([0, 0, 899], 0), ([700, 0, 950], 10), ([700, 650, 950], 0)] {
        let (directory, receivers) = directory(3, 99, bounds);
        let members: Vec<_> = (0..15).map(|_| admitted(&directory, "busy")).collect();
        for member in &members {
            directory.client_moved(0, &member.client, PlaceId(2));
        }
        for (shard, busy_permille) in loads.into_iter().enumerate() {
            directory.note_load(shard, &ShardReport { busy_permille, ..ShardReport::default() });
        }
        let asked = receivers[2]
            .try_iter()
            .filter(|command| matches!(command, Command::Move { order, .. } if order.to == PlaceId(1)));
        assert_eq!(asked.count(), expected, "{loads:?}");
        assert!(receivers[..2].iter().all(|receiver| receiver.try_iter().count() == 0));
    }
}

#[test]
fn what_is_for_a_client_that_has_moved_goes_to_its_new_shard_and_so_does_its_goodbye() {
    let (directory, receivers) = directory(2, 99, BOUNDS);
    let member = admitted(&directory, "a");
    let client = member.client.clone();
    assert_eq!(directory.shard_of(&room("a"), &client), Some(0));
    // Of a shard that does not have it this means nothing.
    directory.client_moved(1, &client, PlaceId(1));
    member.send(Command::Snapshot { client: client.clone() }).unwrap();
    directory.client_moved(0, &client, PlaceId(1));
    assert_eq!((directory.shard_of(&room("a"), &client), directory.shard_of(&room("b"), &client)), (Some(1), None));
    member.send(Command::Snapshot { client }).unwrap();
    drop(member);
    assert!(matches!(receivers[0].try_iter().collect::<Vec<_>>()[..], [Command::Snapshot { .. }]));
    assert!(matches!(
        receivers[1].try_iter().collect::<Vec<_>>()[..],
        [Command::Snapshot { .. }, Command::Leave { .. }]
    ));
}

#[test]
fn a_client_is_counted_on_the_shard_that_it_is_on_and_its_room_on_its_home() {
    let (directory, _receivers) = directory(3, 99, Bounds { spread: RoomSpread::Always, ..BOUNDS });
    assert_eq!(directory.placed(), [(0, 0), (0, 0), (0, 0)]);
    let members: Vec<_> = (0..2).map(|_| directory.enter(&room("a"), LOOPBACK).unwrap()).collect();
    assert_eq!(directory.placed(), [(1, 1), (0, 1), (0, 0)]);
    directory.client_moved(1, &members[1].client, PlaceId(2));
    assert_eq!(directory.placed(), [(1, 1), (0, 0), (0, 1)]);
    drop(members);
    assert!(directory.placed().iter().all(|(_, clients)| *clients == 0));
}
