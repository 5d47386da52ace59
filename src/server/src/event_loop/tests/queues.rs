//! Commands and events that wait, as many as may.

use super::*;

#[test]
fn commands_over_the_capacity_are_refused_and_those_under_it_all_handled() {
    for mode in MODES {
        let world = world(mode, |settings| (settings.command_capacity, settings.commands_per_tick) = (50, 3));
        assert_eq!(world.echo(b"scripts"), b"scripts", "they hold the shard until it is to go on");
        assert_eq!((0..2_000).filter(|_| world.shard.sender().send(leave("many")).is_ok()).count(), 50, "{mode:?}");
        world.go_on.send(()).unwrap();
        assert!((0..50).all(|_| world.next() == Seen::Command("many".into())), "{mode:?}");
        assert!(world.shard.stop());
        assert_eq!(world.seen.try_recv(), Ok(Seen::Stop));
    }
}

#[test]
fn events_that_the_full_queue_does_not_take_come_later_in_order() {
    for mode in MODES {
        let mut world = world_with_events(mode, 2, |_| {});
        for _ in 0..100 {
            world.send("event");
            world.next();
        }
        assert_eq!(world.echo(b"echoed still"), b"echoed still", "a full event queue stops no packet");
        for _ in 0..100 {
            assert!(matches!(world.events.blocking_recv(), Some(Event::Left { .. })), "{mode:?}");
        }
        drop(world.events);
        world.shard.sender().send(leave("closed")).unwrap();
        assert_eq!(world.seen.recv_timeout(WAIT).unwrap(), Seen::Command("closed".into()));
        assert!(world.shard.stop());
    }
}

#[test]
fn a_shard_whose_events_nobody_takes_takes_no_commands_and_goes_on_when_somebody_does() {
    for mode in MODES {
        let mut world = world_with_events(mode, 2, |settings| settings.command_capacity = 50);
        let (mut taken, mut refused) = (0, 0);
        while refused < 30 {
            match world.shard.sender().send(leave("unheard")) {
                Ok(()) => (taken, refused) = (taken + 1, 0),
                Err(_) => {
                    refused += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        assert!((BACKED_UP..BACKED_UP + 60).contains(&taken), "{mode:?} {taken}");
        assert_eq!(world.echo(b"echoed still"), b"echoed still", "packets go on");
        assert!((0..taken).all(|_| matches!(world.events.blocking_recv(), Some(Event::Left { .. }))));
        assert!(world.shard.stop());
    }
}
