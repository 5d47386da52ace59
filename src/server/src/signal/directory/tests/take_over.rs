//! Stays go on in another process.

use std::collections::HashSet;

use super::*;

/// As another process reads it.
fn crossed(stays: &Stays) -> Stays {
    serde_json::from_slice(&serde_json::to_vec(stays).unwrap()).unwrap()
}

#[tokio::test]
async fn a_ticket_is_good_in_the_process_that_takes_over() {
    let (old, _receivers) = directory(2, 9, BOUNDS);
    let (a, b, waits) = (admitted(&old, "a"), admitted(&old, "b"), old.enter(&room("a"), LOOPBACK).unwrap());
    let (ticket, other) = (a.new_ticket(), b.new_ticket());
    old.close(true);
    assert_eq!(old.enter(&room("a"), LOOPBACK).unwrap_err(), Refusal::Replaced);
    // B's handshake was under way, say.
    let goes: HashSet<ClientId> = [a.client.clone(), waits.client.clone()].into();
    let stays = crossed(&old.freeze(&goes));
    assert!(matches!(old.resume(&ticket), Resumed::Later), "nobody can say yet");
    for stranger in [format!("{}.{:032x}", a.client, 7), format!("nobody.{:032x}", 7), "x".to_owned()] {
        assert!(matches!(old.resume(&stranger), Resumed::Unknown), "{stranger} is good nowhere");
    }
    assert_eq!(b.new_ticket(), "", "it would not be known there");
    assert!(stays.fits(2) && !stays.fits(1), "rooms are on both shards");
    let (new, receivers) = directory(2, 9, BOUNDS);
    new.inherit(stays);
    assert_eq!(placements(&new), [("a".to_owned(), 0, 1), ("b".to_owned(), 1, 0)]);
    assert!(matches!(new.resume(&other), Resumed::Unknown));
    let Resumed::Stay(stay) = new.resume(&ticket) else { panic!("the ticket is good") };
    assert_eq!((&stay.member.client, stay.room.as_str(), new.client_count()), (&a.client, "a", 1));
    assert!(matches!(new.resume(&ticket), Resumed::Unknown), "once");
    stay.member.send(Command::Snapshot { client: a.client.clone() }).unwrap();
    assert!(matches!(receivers[0].try_recv(), Ok(Command::Snapshot { .. })));
    drop(stay);
    assert!(matches!(receivers[0].try_recv(), Ok(Command::Leave { .. })), "it is a stay like any other");
    assert_eq!(new.client_count(), 0);
}

#[tokio::test]
async fn the_running_process_goes_on_with_its_tickets_when_no_other_takes_over() {
    let (directory, _receivers) = directory(1, 9, BOUNDS);
    let member = admitted(&directory, "a");
    let ticket = member.new_ticket();
    directory.close(true);
    directory.freeze(&[member.client.clone()].into());
    directory.thaw();
    directory.close(false);
    assert!(matches!(directory.resume(&ticket), Resumed::Stay(_)));
    assert!(directory.enter(&room("a"), LOOPBACK).is_ok());
}

#[tokio::test]
async fn who_does_not_resume_in_the_other_process_leaves_in_its_time() {
    let bounds = Bounds { resume: Duration::from_millis(1), ..BOUNDS };
    let (old, _receivers) = directory(1, 9, bounds);
    let member = admitted(&old, "a");
    let _ticket = member.new_ticket();
    let (new, receivers) = directory(1, 9, bounds);
    new.inherit(crossed(&old.freeze(&[member.client.clone()].into())));
    while new.client_count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(receivers[0].try_recv(), Ok(Command::Leave { .. })));
}

#[tokio::test]
async fn a_session_over_http_is_connected_without_a_ticket_and_addresses_hold_what_they_held() {
    let limits = Bounds { door: DoorLimits { clients_per_address: 1, ..NO_LIMITS }, ..BOUNDS };
    let (old, _receivers) = directory(1, 9, limits);
    let mut encoder = old.enter(&room("a"), address(1)).unwrap();
    old.route(0, joined(&encoder.client));
    encoder.events.try_recv().unwrap();
    let (new, _receivers) = directory(1, 9, limits);
    new.inherit(crossed(&old.freeze(&[encoder.client.clone()].into())));
    assert_eq!(new.enter(&room("a"), address(1)).unwrap_err(), Refusal::Address("clients"));
    let mut member = new.attach(&encoder.client).unwrap();
    new.route(0, Event::message(encoder.client.clone(), serde_json::json!(1)));
    assert!(member.events.try_recv().is_ok());
    assert!(new.attach(&ClientId::parse("nobody").unwrap()).is_none());
}
