//! A room over three shards: what travels between them, and what happens when it does not.

use std::time::Duration;

use moonring_core::command::{Command, LeaveCause};
use moonring_core::room::load::Backlog;
use moonring_wire::drops::DropReason;
use moonring_wire::id::PlaceId;
use moonring_wire::link::{Frame, HEAD, MAX_LINK_DATAGRAM, OVERHEAD, Place, Sealer, Stream};
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::sim::flows::assert_unbroken;
use crate::sim::places::{over_three_shards, relayed_to};
use crate::sim::{OPEN, World};

/// Alice at home, Bob and Carol each on a shard of their own.
fn three(seed: u64, script: &str) -> (World, [usize; 3]) {
    over_three_shards();
    let mut world = World::ruled(seed, script);
    let members = ["alice", "bob", "carol"].map(|name| world.join(name));
    assert_eq!(members.map(|who| world.members[who].place), [0, 1, 2]);
    (world, members)
}

#[test]
fn a_track_travels_to_a_shard_only_while_somebody_there_receives_it() {
    let (mut world, [alice, bob, carol]) = three(970, OPEN);
    let track = world.publish(alice, Vp8);
    world.run_ms(2_000);
    assert_eq!([1, 2].map(|place| relayed_to(&mut world, place)), [0, 0]);
    world.subscribe(bob, &track, Vp8);
    world.run_ms(3_000);
    let passed = relayed_to(&mut world, 1);
    assert!(passed > 200 && relayed_to(&mut world, 2) == 0, "{passed}");
    world.command(Command::Unsubscribe { client: world.id(bob), track: track.clone() });
    world.run_ms(100);
    let passed = relayed_to(&mut world, 1);
    world.run_ms(3_000);
    assert_eq!(relayed_to(&mut world, 1), passed);
    // From a wing to the home and to the other wing, once to each.
    let track = world.publish(carol, Opus);
    for who in [alice, bob] {
        world.subscribe(who, &track, Opus);
    }
    world.run_ms(3_000);
    for (who, place) in [(alice, 0), (bob, 1)] {
        let got = world.got(who, 111);
        assert!(got.len() > 100, "{}", got.len());
        assert_unbroken(&got);
        assert!(relayed_to(&mut world, place) <= passed + 160);
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_full_receive_queue_cuts_no_video_that_comes_from_another_shard() {
    let (mut world, [alice, bob, _]) = three(982, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.run_ms(3_000);
    let before = world.members[alice].key_frames_asked();
    let now = world.now;
    for (place, backlog) in [(1, Backlog::Much), (1, Backlog::Little)] {
        world.shard_at(place).note_tick(now, Duration::ZERO, backlog);
    }
    world.run_ms(1_000);
    assert_eq!(world.members[alice].key_frames_asked(), before, "key frames, as behind a cut");
    assert_unbroken(&world.got(bob, 96));
}

#[test]
fn what_is_lost_between_shards_is_sent_again() {
    let (mut world, [alice, bob, carol]) = three(971, OPEN);
    world.between.loss = 0.1;
    let tracks = [world.publish(alice, Vp8), world.publish(bob, Opus)];
    world.subscribe(bob, &tracks[0], Vp8);
    world.subscribe(carol, &tracks[0], Vp8);
    world.subscribe(carol, &tracks[1], Opus);
    let streams = [(bob, 96), (carol, 96), (carol, 111)];
    let newest = |world: &World| streams.map(|(who, pt)| world.got(who, pt).iter().filter_map(|got| got.counter).max());
    world.run_ms(3_000);
    let first = newest(&world);
    world.run_ms(5_000);
    let last = newest(&world);
    // What was lost a moment ago is on its way.
    world.run_ms(500);
    for (n, (who, pt)) in streams.into_iter().enumerate() {
        let is_within = |counter: &u64| (first[n]..=last[n]).contains(&Some(*counter));
        let got = world.got(who, pt);
        let mut counters: Vec<u64> = got.iter().filter_map(|got| got.counter).filter(is_within).collect();
        counters.sort_unstable();
        let missing = counters.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(counters.len() > 200 && missing <= 1, "{missing} of {}", counters.len());
    }
}

#[test]
fn a_late_joiner_on_another_shard_sees_a_picture_at_once() {
    let (mut world, [alice, bob, carol]) = three(972, OPEN);
    let track = world.publish(alice, Vp8);
    world.run_ms(3_000);
    for who in [bob, carol] {
        world.subscribe(who, &track, Vp8);
        world.run_ms(1_000);
        let first = world.got(who, 96).first().expect("a picture").clone();
        assert_eq!(first.head[0] & 0x10, 0x10, "it begins a frame");
        assert_unbroken(&world.got(who, 96));
    }
}

#[test]
fn a_muted_track_does_not_travel_and_goes_on_without_a_gap() {
    let (mut world, [alice, bob, _]) = three(973, OPEN);
    let track = world.publish(alice, Opus);
    world.subscribe(bob, &track, Opus);
    world.run_ms(2_000);
    let mute = |world: &mut World, muted| {
        world.command(Command::SetMuted { client: world.id(alice), track: track.clone(), muted });
        world.run_ms(50);
    };
    mute(&mut world, true);
    let passed = relayed_to(&mut world, 1);
    world.run_ms(2_000);
    assert_eq!(relayed_to(&mut world, 1), passed);
    mute(&mut world, false);
    world.run_ms(1_000);
    assert!(relayed_to(&mut world, 1) > passed + 40);
    assert_unbroken(&world.got(bob, 111));
}

/// Tells everybody all that it has heard, and of whom.
pub(crate) const TELLS_ALL: &str = "
local heard = {}
function on_client_connect() return true end
function on_message(client, n)
  heard[#heard + 1] = client:get_id() .. n
  sfu.broadcast(table.concat(heard, ' '))
end";

/// Each member says 1, then each 2, then each 3: what everybody is told last has `all`.
pub(crate) fn assert_heard_in_order(world: &mut World, members: &[usize], all: &str) {
    for n in 1..=3 {
        for who in members {
            world.command(Command::Message { client: world.id(*who), value: json!(n) });
        }
    }
    for who in members {
        let last = world.take_words(*who).last().cloned().unwrap_or_default();
        assert!(last.contains(all), "{last}");
    }
}

#[test]
fn there_is_one_policy_and_it_hears_each_client_in_its_order() {
    let (mut world, members) = three(974, TELLS_ALL);
    assert_heard_in_order(&mut world, &members, "alice1 bob1 carol1 alice2 bob2 carol2 alice3 bob3 carol3");
}

/// Does what messages say to the client `who`.
pub(crate) const OBEDIENT: &str = "
function on_client_connect() return true end
function on_publish_request() return true end
function on_message(client, order)
  for _, who in ipairs(sfu.clients()) do
    if who:get_id() == order.who then
      if order.kick then who:kick('Out') end
      if order.say then who:send(#who:tracks()) end
      if order.mute ~= nil then for _, track in ipairs(who:tracks()) do who:mute(track.id) end end
    end
  end
end";

#[test]
fn a_script_reaches_clients_wherever_they_are() {
    let (mut world, [alice, bob, carol]) = three(975, OBEDIENT);
    world.publish(carol, Opus);
    world.take_words(carol);
    let order = |world: &mut World, order| {
        world.command(Command::Message { client: world.id(bob), value: order });
    };
    order(&mut world, json!({ "who": "carol", "say": true }));
    let words = world.take_words(carol);
    assert!(words.iter().any(|words| words.starts_with("Message") && words.contains("Number(1)")), "{words:?}");
    order(&mut world, json!({ "who": "carol", "kick": true }));
    assert_eq!(world.left(carol), Some(&LeaveCause::Kicked("Out".into())));
    let words = world.take_words(alice);
    assert!(words.iter().any(|words| words.starts_with("ClientLeft") || words.starts_with("TrackUnpublished")));
    assert_eq!(world.audit(), Vec::<String>::new());
}

/// A datagram from shard 1 to shard 0.
fn sealed(sealer: &mut Sealer, frame: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; MAX_LINK_DATAGRAM + OVERHEAD];
    datagram[HEAD..HEAD + frame.len()].copy_from_slice(frame);
    let len = sealer.seal(&mut datagram, HEAD + frame.len());
    datagram.truncate(len);
    datagram
}

#[test]
fn datagrams_of_strangers_and_old_ones_are_counted_by_reason_and_change_nothing() {
    let (mut world, [alice, bob, _]) = three(976, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(bob, &track, Vp8);
    world.run_ms(2_000);
    let place = |run, shard| Place { run, shard };
    let (mut good, mut old) =
        (Sealer::new(&[9; 32], place(7, 1), place(7, 0)), Sealer::new(&[9; 32], place(6, 1), place(7, 0)));
    let mut wrong = Sealer::new(&[8; 32], place(7, 1), place(7, 0));
    let mut key = [0; 64];
    let len = Frame::Key(Stream { handle: u64::MAX, layer: 7 }).write(&mut key).unwrap();
    // Far ahead of what shard 1 has sent itself.
    for sealer in [&mut good, &mut old, &mut wrong] {
        (0..5_000).for_each(|_| drop(sealed(sealer, &[0])));
    }
    let next = sealed(&mut good, &key[..len]);
    let nonsense = sealed(&mut good, &[9, 0, 0]);
    let mut media = [0; 64];
    let stray = Frame::Media(moonring_wire::link::Media {
        stream: Stream { handle: 1, layer: 0 },
        restarts: 0,
        goes_on: false,
        again: false,
        marker: false,
        hop: true,
        is_red: false,
        index: 1,
        timestamp: 1,
        kept: Default::default(),
        descriptor: &[],
        payload: &[1; 9],
    });
    let len = stray.write(&mut media).unwrap();
    let stray = sealed(&mut good, &media[..len]);
    let (peer, stranger) = ("10.0.0.2:40000".parse().unwrap(), "10.9.9.9:40000".parse().unwrap());
    for (what, from, datagram, expected) in [
        ("a stranger's", stranger, next.clone(), Some(DropReason::LinkUnknown)),
        ("an older run's", peer, sealed(&mut old, &key), Some(DropReason::LinkBadTag)),
        ("another secret's", peer, sealed(&mut wrong, &key), Some(DropReason::LinkBadTag)),
        ("cut short", peer, next[..20].to_vec(), Some(DropReason::LinkMalformed)),
        ("its own", peer, next.clone(), None),
        ("replayed", peer, next, Some(DropReason::LinkReplay)),
        ("of nonsense", peer, nonsense, Some(DropReason::LinkMalformed)),
        ("of an unknown track", peer, stray, Some(DropReason::LinkUnknownTrack)),
        ("enormous", peer, vec![0xC1; 65_000], Some(DropReason::LinkBadTag)),
    ] {
        assert_eq!(world.inject(from, &datagram), expected, "{what}");
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn clients_of_a_wing_whose_messages_were_lost_stay_and_others_come() {
    let (mut world, [alice, bob, carol]) = three(977, OPEN);
    let tracks = [world.publish(alice, Opus), world.publish(bob, Opus)];
    world.subscribe(carol, &tracks[0], Opus);
    world.command_to(1, Command::PlaceLost { from: PlaceId(0) });
    world.command_to(0, Command::PlaceLost { from: PlaceId(1) });
    assert_eq!([alice, bob, carol].map(|who| world.left(who).cloned()), [None, None, None]);
    let heard = world.take_words(carol);
    let again = world.join("dora");
    let bob = world.join("bob2");
    assert_eq!((world.members[again].place, world.members[bob].place), (0, 1));
    let track = world.publish(bob, Opus);
    world.subscribe(carol, &track, Opus);
    world.run_ms(2_000);
    assert!(world.got(carol, 111).len() > 100, "{heard:?}");
    assert_eq!(world.audit(), Vec::<String>::new());
}
