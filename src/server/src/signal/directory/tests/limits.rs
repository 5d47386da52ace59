//! What the operator hears of who meets a limit.

use super::*;

/// The lines of the log meanwhile, without what is before their words.
fn lines_of(test: impl FnOnce()) -> Vec<String> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(log.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false).with_writer(writer);
    tracing::subscriber::with_default(subscriber.finish(), test);
    let text = std::fs::read_to_string(log.path()).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn whoever_meets_a_limit_is_counted_and_the_log_says_at_once_which_one() {
    let door = DoorLimits { connections: 1, clients_per_address: 1, ..NO_LIMITS };
    let (directory, _receivers) = directory(1, 99, Bounds { door, ..BOUNDS });
    let _members: Vec<_> = ["a", "a", "b", "c"].map(|name| admitted(&directory, name)).into();
    let turned_away = |enter: &mut dyn FnMut()| (lines_of(enter), directory.door().turned_away());
    let mut held = Vec::new();
    let rooms = turned_away(&mut || (0..2).for_each(|_| _ = directory.enter(&room("d"), LOOPBACK).unwrap_err()));
    let mut late_client = None;
    let full = turned_away(&mut || {
        let late = directory.enter(&room("a"), LOOPBACK).unwrap();
        let cause = LeaveCause::Limit("the room is full".into());
        directory.route(0, Event::Left { client: late_client.insert(late.client.clone()).clone(), cause });
    });
    let address = turned_away(&mut || held.extend([(); 2].map(|()| directory.enter(&room("a"), address(1)).ok())));
    let _fifth = admitted(&directory, "a");
    let clients = turned_away(&mut || _ = directory.enter(&room("a"), LOOPBACK).unwrap_err());
    let late = turned_away(&mut || directory.route(0, joined(&held[0].as_ref().unwrap().client)));
    let connections = turned_away(&mut || {
        held.clear();
        let permits = [(); 2].map(|()| directory.door().admit(Instant::now(), LOOPBACK, Thing::Connection));
        assert!(permits[0].is_some() && permits[1].is_none());
    });
    let words = |line: &str| vec![format!("WARN newcomers are turned away: {line}")];
    let full_room = vec![
        "WARN newcomers are turned away: a room has as many clients as clients_per_room allows, or its shard as many as it takes \
         turned_away=1 room=a"
            .to_owned(),
        format!("INFO a join is refused room=a client={} address=127.0.0.1 reason=\"the room is full\"", late_client.unwrap()),
    ];
    let expected = [
        (words("as many rooms are open as rooms_max allows turned_away=1"), 2),
        (full_room, 3),
        (
            words(
                "an address has as many clients as clients_per_address allows (behind a proxy, trust_proxy tells addresses apart) \
                 turned_away=1 address=10.0.0.1",
            ),
            4,
        ),
        (words("as many clients are here as clients_max allows turned_away=1"), 5),
        // Within a minute.
        (vec![], 6),
        (
            words(
                "as many connections are open as clients_max and the descriptors (LimitNOFILE) allow turned_away=1 \
                 address=127.0.0.1",
            ),
            7,
        ),
    ];
    assert_eq!([rooms, full, address, clients, late, connections], expected);
}
