//! A client goes on at another shard: nothing is lost, doubled or sealed twice, and nobody notices.

use moonring_core::command::{Command, LeaveCause, MoveMessage, PlaceMessage};
use moonring_core::shard::STATE_VERSION;
use moonring_wire::id::TrackId;
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;
use serde_json::json;

use crate::sim::flows::{assert_unbroken, sends};
use crate::sim::places::over_three_shards;
use crate::sim::raw::section;
use crate::sim::{OPEN, World};
use crate::spread::OBEDIENT;

/// Packets at the beginning and at the end that may still be on their way, overtaken by others.
const UNDER_WAY: usize = 10;

/// Alice at home, Bob and Carol each on a shard of their own.
pub(crate) fn three(seed: u64, script: &str) -> (World, [usize; 3]) {
    over_three_shards();
    let mut world = World::ruled(seed, script);
    let members = ["alice", "bob", "carol"].map(|name| world.join(name));
    assert_eq!(members.map(|who| world.members[who].place), [0, 1, 2]);
    (world, members)
}

/// What somebody lacks of all that was sent from the first packet on that came, without repairs of what came before it was
/// forgotten: the packets before and behind each gap.
pub(crate) fn lacking(world: &World, who: usize, pts: &[u8]) -> Vec<(u64, u64)> {
    let got = world.members[who].got.iter().filter(|got| pts.contains(&got.pt));
    let before = pts.iter().filter_map(|pt| world.members[who].forgotten.get(pt)).max();
    let counters = got.filter_map(|got| got.counter).filter(|counter| before.is_none_or(|before| counter > before));
    let mut counters: Vec<u64> = counters.collect();
    assert!(counters.len() > 3 * UNDER_WAY, "{} got {} of {pts:?}", world.members[who].id, counters.len());
    counters.sort_unstable();
    // At both ends one may be under way.
    let counters = &counters[UNDER_WAY..counters.len() - UNDER_WAY];
    counters.windows(2).filter(|pair| pair[1] > pair[0] + 1).map(|pair| (pair[0], pair[1])).collect()
}

/// Asserts that somebody has got everything that was sent from the first packet on that came, each once.
pub(crate) fn assert_complete(world: &World, who: usize, pts: &[u8]) {
    let gaps = lacking(world, who, pts);
    assert!(gaps.is_empty(), "{} lacks {gaps:?} of {pts:?}, WORLD_SEED={}", world.members[who].id, world.seed);
    let got = world.members[who].got.iter().filter(|got| pts.contains(&got.pt));
    // What a receiver asks for again that was only late comes twice, the second time as a retransmission.
    let mut first: Vec<u64> = got.filter(|got| !got.repaired).filter_map(|got| got.counter).collect();
    first.sort_unstable();
    let doubled: Vec<_> = first.windows(2).filter(|pair| pair[1] == pair[0]).collect();
    assert!(doubled.is_empty(), "{} has got {doubled:?} of {pts:?} twice", world.members[who].id);
}

pub(crate) fn assert_sealed_once(world: &World) {
    let repeated: Vec<u32> = world.seals.repeated().collect();
    assert!(repeated.is_empty(), "SSRCs {repeated:?} of {} packets", world.seals.sealed());
}

/// Alice publishes a picture and a voice, which the others receive.
fn call(seed: u64) -> (World, [usize; 3], [TrackId; 2]) {
    let (mut world, [alice, bob, carol]) = three(seed, OPEN);
    let tracks = [world.publish(alice, Vp8), world.publish(alice, Opus)];
    for who in [bob, carol] {
        world.subscribe(who, &tracks[0], Vp8);
        world.subscribe(who, &tracks[1], Opus);
    }
    world.run_ms(1_000);
    world.forget_received();
    world.run_ms(500);
    (world, [alice, bob, carol], tracks)
}

#[test]
fn a_subscriber_that_moves_gets_every_packet_once_under_the_same_numbers() {
    let (mut world, [_, bob, carol], _) = call(1_200);
    for to in [2, 0, 1, 0] {
        world.move_to(bob, to);
        world.run_ms(500);
    }
    for who in [bob, carol] {
        assert_complete(&world, who, &[96]);
        assert_unbroken(&world.got(who, 96));
        assert_unbroken(&world.got(who, 111));
    }
    assert_sealed_once(&world);
    assert_eq!((world.moved, world.left(bob)), (4, None));
    world.run_ms(8_000);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn what_a_shard_has_forwarded_grows_by_no_move_and_never_falls() {
    let (mut world, [_, bob, _], _) = call(1_230);
    world.run_ms(5_000);
    let forwarded = |world: &mut World| [0, 1, 2].map(|place| world.shard_at(place).report().counters.forwarded);
    for to in [2, 0, 1, 0] {
        let before = forwarded(&mut world);
        world.move_to(bob, to);
        world.run_ms(200);
        let after = forwarded(&mut world);
        let grown: Vec<_> = before.iter().zip(&after).map(|(before, after)| after.checked_sub(*before)).collect();
        // In that time two are sent a picture and a voice; what Bob was sent before is 1,000 packets and more.
        let is_grown_by_little = grown.iter().all(|packets| packets.is_some_and(|packets| packets < 500));
        assert!(is_grown_by_little, "{before:?} to {after:?}");
    }
}

#[test]
fn a_publisher_is_not_told_to_stop_while_its_only_receiver_moves() {
    let (mut world, [alice, bob, _]) = three(1_210, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.run_ms(3_000);
    let told = |world: &mut World| {
        let mut words = world.take_words(alice);
        words.retain(|words| words.starts_with("WantedLayers"));
        words
    };
    told(&mut world);
    for to in [2, 0, 1, 0] {
        world.move_to(bob, to);
        world.run_ms(500);
    }
    assert_eq!(told(&mut world), Vec::<String>::new());
    let hide = Command::SetView { client: world.id(bob), track, width: 0, height: 0 };
    world.command(hide);
    world.run_ms(500);
    assert_eq!(told(&mut world), Vec::<String>::new(), "it may be wanted again at once");
    world.run_ms(2_000);
    assert!(matches!(&told(&mut world)[..], [only] if only.contains("layers: []")));
}

#[test]
fn a_voice_that_has_moved_is_heard_for_as_long_as_somebody_speaks() {
    let (mut world, [alice, bob, _]) = three(1_211, OPEN);
    let voice = world.publish(alice, Opus);
    world.subscribe(bob, &voice, Opus);
    world.run_ms(500);
    world.move_to(alice, 2);
    // More reports than fit into what counts them for pictures.
    world.run_ms(300_000);
    assert_eq!((world.left(alice), world.shard.counters().panics), (None, 0));
}

#[test]
fn a_publisher_that_moves_is_received_everywhere_without_a_gap() {
    let (mut world, [alice, bob, carol], _) = call(1_201);
    for to in [1, 2, 0, 2, 1] {
        world.move_to(alice, to);
        world.run_ms(500);
    }
    for who in [bob, carol] {
        assert_complete(&world, who, &[96]);
        assert_complete(&world, who, &[111]);
    }
    assert_sealed_once(&world);
    assert_eq!((world.moved, world.left(alice)), (5, None));
    world.run_ms(8_000);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn publisher_and_subscriber_may_move_at_once() {
    let (mut world, [alice, bob, carol], _) = call(1_202);
    for (to_alice, to_bob) in [(1, 0), (2, 2), (0, 1)] {
        world.begin_move(alice, to_alice).unwrap();
        world.begin_move(bob, to_bob).unwrap();
        world.run_ms(700);
        assert_eq!([alice, bob].map(|who| world.members[who].place), [to_alice, to_bob]);
    }
    for who in [bob, carol] {
        assert_complete(&world, who, &[96]);
        assert_complete(&world, who, &[111]);
    }
    assert_sealed_once(&world);
    world.run_ms(8_000);
    assert_eq!(world.audit(), Vec::<String>::new());
}

/// A script that answers a message with the hooks that it has heard since it began.
pub(crate) const HEARD: &str = "
local heard = {}
local function note(what) return function(client) heard[#heard + 1] = what return true end end
on_client_connect, on_client_disconnect = note('connect'), note('disconnect')
on_publish_request, on_track_published, on_track_unpublished = note('request'), note('published'), note('unpublished')
function on_message(client, value)
  client:send({ id = client:get_id(), heard = table.concat(heard, ' '), value = value, tracks = #client:tracks() })
end";

#[test]
fn hooks_hear_nothing_of_a_move_and_reach_the_client_after_it() {
    let (mut world, [alice, bob, _]) = three(1_203, HEARD);
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(500);
    for (who, to) in [(alice, 2), (bob, 0), (alice, 1), (bob, 2), (alice, 0)] {
        world.move_to(who, to);
        world.take_words(who);
        world.command(Command::Message { client: world.id(who), value: json!(to) });
        let words = world.take_words(who);
        let expected = if who == alice { "\"tracks\": Number(1)" } else { "\"tracks\": Number(0)" };
        let heard = "String(\"connect connect connect request published\")";
        assert!(words.iter().any(|words| words.contains(heard) && words.contains(expected)), "{words:?}");
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn what_is_sent_to_a_client_on_its_way_is_done_in_its_order() {
    let (mut world, [alice, bob, _], tracks) = call(1_204);
    world.begin_move(alice, 2).unwrap();
    // A request every millisecond, until well after the move: the last one is to hold.
    for n in 0..200 {
        let muted = n % 2 == 0;
        world.command(Command::SetMuted { client: world.id(alice), track: tracks[1].clone(), muted });
        world.run_ms(1);
    }
    assert_eq!(world.members[alice].place, 2);
    world.run_ms(200);
    world.forget_received();
    world.run_ms(1_000);
    assert!(world.got(bob, 111).len() > 40, "{}", world.got(bob, 111).len());
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_client_that_does_not_restart_or_does_not_reach_the_shard_stays_where_it_is() {
    let (mut world, [alice, bob, _], _) = call(1_205);
    world.command(Command::Move { id: 1, order: world.order_to(bob, 2) });
    world.run_ms(20_000);
    assert_eq!((world.members[bob].place, world.left(bob)), (1, None));
    assert_complete(&world, bob, &[96]);
    // It may be told again, and then it moves.
    world.move_to(bob, 2);
    world.move_to(alice, 1);
    world.run_ms(500);
    assert_complete(&world, bob, &[96]);
    world.run_ms(8_000);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_client_whose_former_shard_is_silent_joins_anew() {
    let (mut world, [_, bob, carol], _) = call(1_206);
    world.lose = Some(|message| matches!(message, PlaceMessage::Move(MoveMessage::Freeze(_))));
    world.begin_move(bob, 2).unwrap();
    world.run_ms(20_000);
    assert!(
        matches!(world.left(bob), Some(LeaveCause::Later(words)) if words.contains("join again")),
        "{:?}",
        world.left(bob)
    );
    // What the control plane does then.
    world.leave(bob);
    assert_complete(&world, carol, &[96]);
    assert_sealed_once(&world);
    world.run_ms(8_000);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_client_that_leaves_on_its_way_is_gone_everywhere() {
    for (seed, ms) in [(1_207, 0), (1_208, 10), (1_209, 21), (1_210, 30), (1_211, 41), (1_212, 60)] {
        let (mut world, [alice, bob, carol], _) = call(seed);
        world.begin_move(alice, 1).unwrap();
        world.run_ms(ms);
        world.leave(alice);
        world.run_ms(20_000);
        assert_eq!(world.left(alice), Some(&LeaveCause::Left), "after {ms} ms");
        for who in [bob, carol] {
            let words = world.take_words(who);
            assert_eq!(words.iter().filter(|words| words.starts_with("ClientLeft")).count(), 1, "{ms}: {words:?}");
        }
        assert_eq!(world.audit(), Vec::<String>::new(), "after {ms} ms");
    }
}

#[test]
fn who_cannot_move_is_told_why() {
    let (mut world, [alice, bob, _], _) = call(1_213);
    let mut ask = |who: usize, to: usize| world.begin_move(who, to).unwrap_err();
    assert_eq!(ask(bob, 3), "there is no shard 3; there are 0 to 2");
    assert_eq!(ask(alice, 0), "client alice is on shard 0 already");
    world.begin_move(alice, 1).unwrap();
    assert_eq!(world.begin_move(alice, 2).unwrap_err(), "client alice is moving already");
    world.run_ms(500);
    let dora = world.join("dora");
    assert_eq!(world.begin_move(dora, 1).unwrap_err(), "the media transport of client dora is not up");
}

#[test]
fn a_policy_kicks_and_mutes_a_client_wherever_it_is() {
    let (mut world, [alice, bob, carol]) = three(1_214, OBEDIENT);
    let track = world.publish(carol, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(1_000);
    world.begin_move(carol, 0).unwrap();
    for _ in 0..80 {
        world.command(Command::Message { client: world.id(alice), value: json!({ "who": "carol", "mute": true }) });
        world.run_ms(1);
    }
    assert_eq!(world.members[carol].place, 0);
    world.run_ms(200);
    world.forget_received();
    world.run_ms(500);
    assert_eq!(world.got(bob, 111).len(), 0);
    world.move_to(carol, 1);
    world.command(Command::Message { client: world.id(alice), value: json!({ "who": "carol", "kick": true }) });
    assert_eq!(world.left(carol), Some(&LeaveCause::Kicked("Out".into())));
    world.run_ms(8_000);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_client_whose_state_the_new_shard_cannot_read_joins_anew_and_everybody_is_told() {
    let (mut world, [alice, bob, carol], _) = call(1_215);
    world.spoils_states = true;
    world.begin_move(alice, 1).unwrap();
    world.run_ms(500);
    let versions = format!("the state has version {}, this server reads version {STATE_VERSION}", STATE_VERSION ^ 2);
    let words = format!("the server could not move it: {versions}; please join again");
    assert_eq!(world.left(alice), Some(&LeaveCause::Later(words)));
    for who in [bob, carol] {
        let told = world.take_words(who);
        assert_eq!(told.iter().filter(|words| words.starts_with("TrackUnpublished")).count(), 2, "{told:?}");
        assert_eq!(told.iter().filter(|words| words.starts_with("ClientLeft")).count(), 1, "{told:?}");
    }
    assert_sealed_once(&world);
    world.run_ms(8_000);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_track_that_is_paused_stays_so_at_the_other_shard_and_goes_on_without_a_gap() {
    let (mut world, [_, bob, _], tracks) = call(1_216);
    let view = |world: &mut World, size: (u32, u32)| {
        let (client, track) = (world.id(bob), tracks[0].clone());
        world.command(Command::SetView { client, track, width: size.0, height: size.1 });
        world.run_ms(300);
    };
    for to in [2, 0, 1] {
        view(&mut world, (0, 0));
        let before = world.got(bob, 96).len();
        world.move_to(bob, to);
        world.run_ms(700);
        assert_eq!(world.got(bob, 96).len(), before, "nothing is sent");
        view(&mut world, (640, 480));
        world.run_ms(1_000);
        assert!(world.got(bob, 96).len() > before + 50);
    }
    assert_unbroken(&world.got(bob, 96));
    assert_sealed_once(&world);
}

#[test]
fn what_was_lost_before_a_move_is_sent_again_after_it() {
    let (mut world, [_, bob, _], _) = call(1_217);
    for to in [2, 0, 1, 2] {
        world.begin_move(bob, to).unwrap();
        world.run_ms(15);
        world.members[bob].down.loss = 0.5;
        world.run_ms(40);
        world.members[bob].down.loss = 0.0;
        world.run_ms(1_000);
        assert_eq!(world.members[bob].place, to);
    }
    let again = world.members[bob].got.iter().filter(|got| got.repaired).count();
    assert!(again > 0);
    assert_complete(&world, bob, &[96, 97]);
    assert_sealed_once(&world);
}

#[test]
fn the_goodbye_of_a_client_that_has_moved_is_believed_once_nothing_more_comes_and_not_before() {
    for is_gone in [true, false] {
        over_three_shards();
        let mut world = World::new(615);
        let (_, bob) = (world.join("alice"), world.join_raw("bob"));
        world.raw(bob).sections = vec![section("0", Vp8, Direction::SendOnly)];
        world.offer(bob, vec![sends("0")], vec![]);
        world.run_ms(500);
        world.move_raw(bob, 2);
        world.run_ms(8_000);
        let now = world.now;
        world.raw(bob).close(now);
        for _ in 0..15 {
            world.run_ms(1_000);
            if !is_gone {
                let lives = world.raw(bob).check();
                world.raw(bob).out.push(lives);
            }
        }
        let left = world.left(bob).map(|cause| format!("{cause:?}"));
        let said = left.is_some_and(|cause| cause.contains("closed the connection"));
        assert_eq!((world.left(bob).is_some(), said), (is_gone, is_gone), "{:?}", world.left(bob));
    }
}
