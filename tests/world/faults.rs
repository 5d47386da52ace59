//! A panic at any stage ends whom it was about, and nothing else: not the shard, not another client.

use std::panic::{AssertUnwindSafe, catch_unwind};

use moonring_core::command::{Command, LeaveCause};
use moonring_core::shard::faults::Stage;
use moonring_wire::id::Ssrc;
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;

use crate::sim::World;
use crate::sim::flows::{assert_unbroken, sends};
use crate::sim::raw::{Fields, section};

const FIELDS: Fields<'static> = Fields { ssrc: 900, pt: 111, index: 1_000, timestamp: 5, marker: false, elements: &[] };

/// What the event loop does after a call that panicked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Command,
    Datagram,
    Forward,
    Timeout,
}

/// Runs something of Mallory's into the fault, and contains it as the event loop does.
fn provoke(world: &mut World, mallory: usize, stage: Stage) -> After {
    let address = world.members[mallory].address;
    let id = world.members[mallory].id.clone();
    let track = world.published_by(mallory).remove(0);
    let sealed = world.raw(mallory).seal(&FIELDS, &[0xFC, 1, 2, 3, 4, 5, 6, 7, 8]);
    let report = world.raw(mallory).control(|writer| writer.bye(&[Ssrc(900)]).unwrap());
    let check = world.raw(mallory).check();
    world.shard.arm(stage);
    let mut after = After::Command;
    let caught = catch_unwind(AssertUnwindSafe(|| match stage {
        Stage::Joining | Stage::Admitted => drop(world.join_raw("mallory2")),
        Stage::Offered => {
            world.offer(mallory, vec![], vec![]);
        }
        Stage::Publishing => {
            let mut more = world.raw(mallory).sections.clone();
            more.push(section("1", Opus, Direction::SendOnly));
            world.raw(mallory).sections = more;
            world.offer(mallory, vec![sends("1")], vec![]);
        }
        Stage::Unpublishing => world.command(Command::Unpublish { client: id, track }),
        Stage::Removing => world.command(Command::Leave { client: id, reason: "test".into() }),
        Stage::Message => world.command(Command::Message { client: id, value: 7.into() }),
        Stage::Stun | Stage::Dtls | Stage::Rtp | Stage::Kept | Stage::Rtcp => {
            after = After::Datagram;
            let bytes = match stage {
                Stage::Stun => check,
                Stage::Dtls => vec![22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 1],
                Stage::Rtcp => report,
                _ => sealed,
            };
            world.inject(address, &bytes);
        }
        Stage::Forward => {
            after = After::Forward;
            world.inject(address, &sealed);
        }
        Stage::ClientTimer | Stage::SpeakersTimer => {
            after = After::Timeout;
            world.run_ms(3_000);
        }
    }));
    if caught.is_err() {
        let now = world.now;
        match after {
            After::Command => world.shard.end_commanded(now),
            After::Datagram => world.shard.end_client_at(now, address.into()),
            After::Forward => world.shard.end_forwarding_room(now),
            After::Timeout => world.shard.end_timed_client(now),
        }
    }
    after
}

#[test]
fn a_panic_at_any_stage_ends_what_it_was_about_and_leaves_everything_whole() {
    crate::sim::places::on_one_shard();
    for (n, stage) in Stage::ALL.into_iter().enumerate() {
        // Timers and forwarding are everybody's: there Mallory's fault cannot be told from another's.
        let is_common = matches!(stage, Stage::ClientTimer | Stage::SpeakersTimer | Stage::Forward);
        let mut world = World::new(720 + n as u64);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let track = world.publish(alice, Vp8);
        world.subscribe(bob, &track, Vp8);
        let mallory = world.join_raw_in("elsewhere", "mallory");
        let mut sound = section("0", Opus, Direction::SendOnly);
        sound.ssrcs = vec![(Ssrc(900), None)];
        world.raw(mallory).sections = vec![sound];
        world.offer(mallory, vec![sends("0")], vec![]);
        world.run_ms(1_500);
        assert!(world.raw(mallory).connected, "{stage:?}");
        let panics = world.shard.counters().panics;
        provoke(&mut world, mallory, stage);
        if world.shard.counters().panics == panics {
            assert!(matches!(stage, Stage::SpeakersTimer | Stage::Dtls), "{stage:?} is never passed");
            continue;
        }
        world.run_ms(500);
        assert_eq!(world.audit(), Vec::<String>::new(), "{stage:?}");
        if is_common {
            continue;
        }
        if let Some(cause) = world.left(mallory) {
            assert!(matches!(cause, LeaveCause::Later(words) if words.contains("join again")), "{stage:?}: {cause:?}");
        }
        world.forget_received();
        world.run_ms(2_000);
        let got = world.got(bob, 96);
        assert!(got.len() > 100, "{stage:?}: {}", got.len());
        assert_unbroken(&got);
        let again = world.join_raw_in("elsewhere", "mallory3");
        assert!(world.left(again).is_none(), "{stage:?}: the room takes others");
        assert_eq!(world.audit(), Vec::<String>::new(), "{stage:?}");
    }
}

#[test]
fn a_second_panic_while_the_first_is_cleaned_up_leaves_tables_that_agree() {
    crate::sim::places::on_one_shard();
    let mut world = World::new(740);
    let (alice, bob, mallory) = (world.join("alice"), world.join("bob"), world.join("mallory"));
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.subscribe(mallory, &track, Vp8);
    world.run_ms(1_500);
    let id = world.members[mallory].id.clone();
    world.shard.arm(Stage::Message);
    let command = Command::Message { client: id, value: 7.into() };
    assert!(catch_unwind(AssertUnwindSafe(|| world.command(command))).is_err());
    world.shard.arm(Stage::Removing);
    let now = world.now;
    assert!(catch_unwind(AssertUnwindSafe(|| world.shard.end_commanded(now))).is_err());
    world.shard.end_after_second_panic(now);
    world.run_ms(100);
    assert_eq!(world.audit(), Vec::<String>::new());
    world.forget_received();
    world.run_ms(2_000);
    assert_unbroken(&world.got(bob, 96));
}
