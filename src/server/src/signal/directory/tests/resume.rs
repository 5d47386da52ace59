//! Stays without a connection, and everybody who would like to have somebody else's.

use serde_json::{Value, json};

use super::*;
use crate::signal::directory::inbox::{CLIENT_QUEUE, FAIR_BYTES, ROOM_QUEUE_BYTES};
use crate::signal::directory::resume::Stay;
use moonring_core::command::News;
use moonring_wire::shared::Shared;

/// A client with its first ticket.
fn member(directory: &Directory) -> (Membership, String) {
    let member = directory.enter(&room("a"), LOOPBACK).unwrap();
    let ticket = member.new_ticket();
    (member, ticket)
}

fn stay(directory: &Directory, ticket: &str) -> Stay {
    match directory.resume(ticket) {
        Resumed::Stay(stay) => *stay,
        other => panic!("{other:?}"),
    }
}

fn is_unknown(directory: &Directory, ticket: &str) -> bool {
    matches!(directory.resume(ticket), Resumed::Unknown)
}

fn message(client: &ClientId, value: Value) -> Event {
    Event::message(client.clone(), value)
}

fn left(client: &ClientId, cause: LeaveCause) -> Event {
    Event::Left { client: client.clone(), cause }
}

/// Who has left, by the commands that the shard got.
fn goodbyes(receiver: &Receiver<Command>) -> Vec<String> {
    let commands = std::iter::from_fn(|| receiver.try_recv().ok());
    commands.filter_map(|c| if let Command::Leave { reason, .. } = c { Some(reason) } else { None }).collect()
}

#[test]
fn a_lost_connection_is_not_a_goodbye_and_its_ticket_goes_on_with_the_stay() {
    let (directory, receivers) = directory(1, 9, BOUNDS);
    let (first, ticket) = member(&directory);
    let client = first.client.clone();
    directory.route(0, message(&client, json!("unread")));
    first.detach();
    assert_eq!((directory.client_count(), goodbyes(&receivers[0])), (1, vec![]));
    let info = ClientInfo {
        client: ClientId::parse("bob").unwrap(),
        metadata: Value::Null.into(),
        attributes: json!({}).into(),
    };
    directory.route(0, Event::News { client: client.clone(), news: Shared::new(News::ClientJoined(info)) });
    directory.route(0, message(&client, json!("meanwhile")));
    let Stay { member, room, kept, offer } = stay(&directory, &ticket);
    assert_eq!((&member.client, room.as_str(), offer), (&client, "a", None));
    let kept: Vec<Value> = kept
        .into_events()
        .into_iter()
        .map(|e| if let Some(News::Message(value)) = e.news() { Value::clone(value) } else { Value::Null })
        .collect();
    assert_eq!(kept, [json!("unread"), json!("meanwhile")], "the snapshot has the rest");
    member.send(Command::Snapshot { client: client.clone() }).unwrap();
    drop(member);
    assert_eq!((directory.client_count(), goodbyes(&receivers[0])), (0, vec![CONNECTION_LOST.to_owned()]));
}

#[test]
fn tickets_that_are_guessed_malformed_or_of_somebody_else_open_nothing() {
    let (directory, _receivers) = directory(1, 9, BOUNDS);
    let (a, ticket) = member(&directory);
    let (b, other) = member(&directory);
    let secret = |ticket: &str| ticket.rsplit_once('.').unwrap().1.to_owned();
    let client = a.client.clone();
    a.detach();
    let guesses = [
        String::new(),
        ".".into(),
        client.to_string(),
        format!("{client}."),
        format!("{client}.{}", "0".repeat(32)),
        format!("{client}.{}", secret(&other)),
        format!("{}.{}", b.client, secret(&ticket)),
        format!("nobody.{}", secret(&ticket)),
        format!("{client}.+{}", &secret(&ticket)[1..]),
        format!("{client}.0{}", secret(&ticket)),
        format!("{client}.{}", &secret(&ticket)[1..]),
        format!(" {ticket}"),
        format!("{client}.{}", ticket.rsplit('.').next().unwrap().to_uppercase()),
    ];
    for guess in guesses {
        assert!(is_unknown(&directory, &guess), "{guess:?}");
    }
    assert_eq!(stay(&directory, &ticket).member.client, client, "guesses do not use up the right one");
}

#[test]
fn a_ticket_is_good_once_and_each_new_one_ends_the_one_before() {
    let (directory, _receivers) = directory(1, 9, BOUNDS);
    let (first, used) = member(&directory);
    first.detach();
    let second = stay(&directory, &used).member;
    assert!(is_unknown(&directory, &used), "replayed");
    let replaced = second.new_ticket();
    let current = second.new_ticket();
    assert_ne!(replaced, current);
    second.detach();
    assert!(is_unknown(&directory, &replaced));
    assert!(matches!(directory.resume(&current), Resumed::Stay(_)));
}

#[test]
fn of_two_connections_with_one_ticket_the_first_has_the_stay_and_ends_the_connection_before() {
    let (directory, receivers) = directory(1, 9, BOUNDS);
    // Not yet noticed as lost, or stolen: the connection is still there.
    let (mut old, ticket) = member(&directory);
    let client = old.client.clone();
    let mut new = stay(&directory, &ticket).member;
    assert!(is_unknown(&directory, &ticket));
    assert!(old.is_replaced() && !new.is_replaced());
    assert_eq!(old.events.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    assert!(old.send(Command::Snapshot { client: client.clone() }).is_err(), "it has no say any more");
    assert!(is_unknown(&directory, &old.new_ticket()), "nor a ticket to give");
    drop(old);
    directory.route(0, message(&client, json!(1)));
    assert!(matches!(new.events.try_recv(), Ok(Event::News { .. })));
    assert_eq!((directory.client_count(), goodbyes(&receivers[0])), (1, vec![]));
}

#[test]
fn a_stay_that_nobody_resumes_ends_and_an_earlier_deadline_does_not_end_a_later_one() {
    let (directory, receivers) = directory(1, 9, BOUNDS);
    let (first, ticket) = member(&directory);
    let client = first.client.clone();
    first.detach();
    let second = stay(&directory, &ticket).member;
    directory.expire(&client, 1);
    assert_eq!(directory.client_count(), 1, "it has a connection");
    let ticket = second.new_ticket();
    second.detach();
    directory.expire(&client, 1);
    assert_eq!(directory.client_count(), 1, "the deadline of the first loss");
    directory.expire(&client, 3);
    assert_eq!((directory.client_count(), goodbyes(&receivers[0])), (0, vec![CONNECTION_LOST.to_owned()]));
    assert!(is_unknown(&directory, &ticket), "expired");
}

#[tokio::test]
async fn a_stay_ends_by_itself_when_its_time_is_over() {
    let (directory, receivers) = directory(1, 9, Bounds { resume: Duration::from_millis(1), ..BOUNDS });
    member(&directory).0.detach();
    while directory.client_count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(goodbyes(&receivers[0]), [CONNECTION_LOST]);
}

#[test]
fn without_a_time_or_a_ticket_a_lost_connection_is_a_goodbye() {
    let (off, receivers) = directory(1, 9, Bounds { resume: Duration::ZERO, ..BOUNDS });
    let (client, ticket) = member(&off);
    assert_eq!(ticket, "");
    client.detach();
    assert_eq!((off.client_count(), goodbyes(&receivers[0]).len()), (0, 1));
    let (directory, receivers) = directory(1, 9, BOUNDS);
    directory.enter(&room("a"), LOOPBACK).unwrap().detach();
    assert_eq!((directory.client_count(), goodbyes(&receivers[0]).len()), (0, 1));
}

#[test]
fn a_client_that_was_kicked_while_away_is_told_so_once_and_any_other_end_makes_it_join_anew() {
    let kicked = || LeaveCause::Kicked("Be nice".into());
    for (cause, is_away, is_told) in [
        (kicked(), true, true),
        (kicked(), false, true),
        (LeaveCause::TransportFailed("silent".into()), true, false),
        (LeaveCause::Left, true, false),
    ] {
        let (directory, _receivers) = directory(1, 9, BOUNDS);
        let (member, ticket) = member(&directory);
        let client = member.client.clone();
        let _there = if is_away {
            member.detach();
            None
        } else {
            Some(member)
        };
        directory.route(0, left(&client, cause.clone()));
        assert_eq!(directory.client_count(), 0);
        assert!(is_unknown(&directory, &format!("{client}.{}", "0".repeat(32))));
        match directory.resume(&ticket) {
            Resumed::Kicked(reason) => assert!(is_told && reason == "Be nice"),
            other => assert!(!is_told, "{cause:?}: {other:?}"),
        }
        assert!(is_unknown(&directory, &ticket));
    }
}

#[test]
fn events_of_a_client_that_is_away_are_bounded_and_its_answer_is_among_them() {
    let (directory, _receivers) = directory(1, 9, BOUNDS);
    let (member, ticket) = member(&directory);
    let client = member.client.clone();
    let pending = PendingOffer { request: 4, bundled: true };
    member.send_offer(Command::Snapshot { client: client.clone() }, pending).unwrap();
    member.detach();
    let refusal = moonring_core::command::RefusalCode::BadOffer;
    directory.route(0, Event::Refused { client: client.clone(), request: Some(4), code: refusal, message: "".into() });
    for n in 0..2 * CLIENT_QUEUE {
        directory.route(0, message(&client, json!(n)));
        directory.route(0, Event::News { client: client.clone(), news: Shared::new(News::ActiveSpeakers(vec![])) });
    }
    let Stay { kept, offer, .. } = stay(&directory, &ticket);
    let kept = kept.into_events();
    assert_eq!((kept.len(), offer), (CLIENT_QUEUE, None));
    assert!(matches!(kept[0], Event::Refused { .. }), "{:?}", kept[0]);
    assert!(
        matches!(kept[CLIENT_QUEUE - 1].news(), Some(News::Message(value)) if *value == json!(2 * CLIENT_QUEUE - 1))
    );
    // Speakers are told again with the snapshot.
    assert!(
        kept.iter()
            .all(|event| matches!((event, event.news()), (Event::Refused { .. }, _) | (_, Some(News::Message(_))))),
        "{kept:?}"
    );
}

#[test]
fn what_is_kept_for_all_who_are_away_is_bounded_for_their_room_and_the_newest_of_it_stays() {
    let (directory, _receivers) = directory(1, 99, Bounds { clients_max: 99, ..BOUNDS });
    let away = || {
        let (member, ticket) = member(&directory);
        let client = member.client.clone();
        member.detach();
        (client, ticket)
    };
    let away: Vec<_> = (0..30).map(|_| away()).collect();
    for n in 0..30 {
        for (client, _) in &away {
            directory.route(0, message(client, json!([n, "x".repeat(60 * 1024)])));
        }
    }
    let kept: Vec<_> = away.iter().map(|(_, ticket)| stay(&directory, ticket).kept.into_events()).collect();
    let bytes: usize = kept.iter().flatten().map(Event::bytes).sum();
    assert!(bytes <= ROOM_QUEUE_BYTES + away.len() * FAIR_BYTES, "{bytes}");
    let newest = |events: &Vec<Event>| matches!(events.last().and_then(Event::news), Some(News::Message(value)) if value[0] == json!(29));
    assert!(kept.iter().all(newest));
}

#[test]
fn an_offer_that_is_still_undecided_is_known_to_the_next_connection() {
    let (directory, _receivers) = directory(1, 9, BOUNDS);
    let (member, ticket) = member(&directory);
    let pending = PendingOffer { request: 4, bundled: false };
    member.send_offer(Command::Snapshot { client: member.client.clone() }, pending).unwrap();
    member.detach();
    assert_eq!(stay(&directory, &ticket).offer, Some(pending));
}

#[test]
fn a_shutdown_says_goodbye_for_those_who_are_away() {
    let (directory, receivers) = directory(1, 9, BOUNDS);
    let (away, _) = member(&directory);
    let (_there, _) = member(&directory);
    away.detach();
    directory.expire_all();
    assert_eq!((directory.client_count(), goodbyes(&receivers[0])), (1, vec![SHUTS_DOWN.to_owned()]));
}
