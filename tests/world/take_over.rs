//! Another process goes on with a shard's socket: nobody notices, nothing is lost and nothing is sealed twice.

use moonring_core::command::{Command, Event};
use moonring_core::shard::take_over::{HandedOver, VERSION};
use moonring_wire::drops::DropReason;
use moonring_wire::id::TrackId;
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::negotiate::Direction;
use serde_json::json;

use crate::moves::{assert_complete, assert_sealed_once, lacking};
use crate::sim::flows::{assert_unbroken, sends};
use crate::sim::net::Link;
use crate::sim::places::on_one_shard;
use crate::sim::raw::section;
use crate::sim::{OPEN, World};

/// Counts messages, and whatever else calls a hook.
const COUNTS: &str = r#"
local calls, starts = { connect = 0, message = 0, published = 0, gone = 0 }, 0
function on_init() starts = starts + 1 end
function on_client_connect(client) calls.connect = calls.connect + 1 return true end
function on_publish_request() return true end
function on_track_published() calls.published = calls.published + 1 end
function on_client_disconnect() calls.gone = calls.gone + 1 end
function on_message(client, message)
  calls.message = calls.message + 1
  if message == "mute" then for _, c in ipairs(sfu.clients()) do for _, t in ipairs(c:tracks()) do c:mute(t) end end end
  local names = {}
  for _, c in ipairs(sfu.clients()) do names[#names + 1] = c:get_id() end
  client:send({ calls = calls, starts = starts, here = names, of = sfu.room.metadata })
end
function on_unload() return calls end
function on_load(state) calls = state end
"#;

/// Alice publishes a picture and a voice, which Bob and Carol receive; Bob has a voice as well.
fn call(seed: u64, script: &str) -> (World, [usize; 3], Vec<TrackId>) {
    on_one_shard();
    let mut world = World::ruled(seed, script);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.join(name));
    let mut tracks = vec![world.publish(alice, Vp8), world.publish(alice, Opus), world.publish(bob, Opus)];
    for who in [bob, carol] {
        world.subscribe(who, &tracks[0], Vp8);
        world.subscribe(who, &tracks[1], Opus);
    }
    world.subscribe(alice, &tracks[2], Opus);
    world.run_ms(1_000);
    world.forget_received();
    world.run_ms(500);
    tracks.truncate(2);
    (world, [alice, bob, carol], tracks)
}

fn say(world: &mut World, who: usize, text: &str) {
    world.command(Command::Message { client: world.id(who), value: json!(text) });
}

#[test]
fn a_call_goes_on_in_other_processes_with_every_packet_once_under_the_same_numbers() {
    let (mut world, [alice, bob, carol], _) = call(1_400, OPEN);
    for _ in 0..4 {
        world.take_over();
        world.run_ms(400);
        assert_eq!(world.audit(), Vec::<String>::new());
    }
    for who in [bob, carol] {
        assert_complete(&world, who, &[96]);
        assert_complete(&world, who, &[111]);
        assert_unbroken(&world.got(who, 96));
        assert_unbroken(&world.got(who, 111));
    }
    assert_complete(&world, alice, &[111]);
    assert_sealed_once(&world);
    world.run_ms(40_000);
    assert_eq!([alice, bob, carol].map(|who| world.left(who).cloned()), [None, None, None]);
    assert_eq!((world.audit(), world.drops(DropReason::SrtpReplay)), (vec![], 0));
}

#[test]
fn over_a_lossy_network_nothing_more_is_lost_than_could_not_be_sent_again() {
    let (mut world, [alice, bob, carol], _) = call(1_401, OPEN);
    for who in [alice, bob, carol] {
        (world.members[who].up, world.members[who].down) = (Link::lossy(0.03), Link::lossy(0.03));
    }
    world.run_ms(1_000);
    world.take_over();
    let at = world.now;
    world.run_ms(2_000);
    for who in [bob, carol] {
        let got = world.got(who, 96);
        // What was sent in the last round trips before the seam is not kept by anybody.
        let counters = |time: std::time::Duration| {
            let near = got.iter().filter(|got| got.at >= at - time && got.at <= at + time);
            near.filter_map(|got| got.counter).collect::<Vec<_>>()
        };
        let near = counters(std::time::Duration::from_millis(300));
        let (first, last) = (*near.iter().min().unwrap(), *near.iter().max().unwrap());
        let elsewhere: Vec<_> = lacking(&world, who, &[96, 97])
            .into_iter()
            .filter(|(before, behind)| *behind < first || *before > last)
            .collect();
        assert!(elsewhere.is_empty(), "{elsewhere:?} beside {first} to {last}");
        assert!(world.members[who].got.iter().any(|got| got.repaired && got.at > at), "repairs go on");
    }
    assert_sealed_once(&world);
}

#[test]
fn hooks_wait_for_their_script_and_see_nothing_of_the_change() {
    let (mut world, [alice, bob, carol], _) = call(1_402, COUNTS);
    say(&mut world, alice, "one");
    world.run_ms(100);
    let carried = world.take_over_media();
    world.take_words(alice);
    say(&mut world, alice, "two");
    let dave = world.join("dave");
    world.run_ms(200);
    assert_eq!(world.take_words(alice), Vec::<String>::new(), "the script is on its way");
    assert!(!world.got(bob, 96).is_empty() && world.events.len() < 50);
    world.bring(carried);
    world.run_ms(100);
    let told = world.take_words(alice).join("\n");
    let ids = [alice, bob, carol].map(|who| format!("String({:?})", world.id(who).as_str()));
    for words in ["\"connect\": Number(3)", "\"message\": Number(2)", "\"published\": Number(3)", "\"gone\": Number(0)"]
    {
        assert!(told.contains(words), "{words} in {told}");
    }
    assert!(told.contains("\"starts\": Number(1)") && ids.iter().all(|id| told.contains(id)), "{told}");
    assert!(told.find(&ids[0]) < told.find(&ids[1]) && told.find(&ids[1]) < told.find(&ids[2]), "in their order");
    assert!(told.contains("dave"), "who came meanwhile is in: {told}");
    assert_eq!(world.left(dave), None);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_script_that_does_not_come_or_fails_on_its_state_begins_anew() {
    let failing = COUNTS.replace("calls = state end", "if state.message == 1 then error('no') end calls = state end");
    for (script, comes) in [(COUNTS.to_owned(), false), (failing, true)] {
        let (mut world, [alice, ..], _) = call(1_403, &script);
        say(&mut world, alice, "one");
        world.run_ms(100);
        let carried = world.take_over_media();
        if comes {
            world.bring(carried);
        }
        world.run_ms(5_100);
        world.take_words(alice);
        say(&mut world, alice, "two");
        world.run_ms(100);
        let told = world.take_words(alice).join("\n");
        assert!(told.contains("\"message\": Number(1)") && told.contains("\"connect\": Number(0)"), "{told}");
        assert_eq!(world.audit(), Vec::<String>::new());
    }
}

#[test]
fn a_room_whose_time_without_clients_is_over_while_its_script_is_on_its_way_ends_when_that_is_here() {
    let kept = "EMPTY_TIMEOUT_S = 2 function on_client_connect() return true end";
    for (waits, comes) in [(300, true), (1_000, true), (6_000, false)] {
        on_one_shard();
        let mut world = World::ruled(1_413, kept);
        let alice = world.join("alice");
        world.leave(alice);
        world.run_ms(1_500);
        let carried = world.take_over_media();
        let is_gone = |world: &World| world.events.iter().any(|event| matches!(event, Event::RoomClosed(_)));
        world.run_ms(waits);
        if comes {
            assert!(!is_gone(&world), "its script is on its way");
            world.bring(carried);
        }
        world.run_ms(1_000);
        assert!(is_gone(&world), "after {waits} ms");
        assert_eq!(world.audit(), Vec::<String>::new());
    }
}

#[test]
fn what_is_muted_stays_muted_and_the_room_is_told_as_before() {
    let (mut world, [alice, bob, _], tracks) = call(1_404, COUNTS);
    say(&mut world, bob, "mute");
    world.run_ms(200);
    world.take_over();
    world.forget_received();
    world.run_ms(500);
    assert!(world.got(bob, 96).is_empty() && world.got(bob, 111).is_empty());
    world.take_words(bob);
    let client = world.id(bob);
    world.command(Command::Snapshot { client });
    let told = world.take_words(bob).join("\n");
    for words in [world.id(alice).as_str(), tracks[0].as_str(), "muted: true"] {
        assert!(told.contains(words), "{words} in {told}");
    }
}

#[test]
fn who_has_come_before_may_publish_subscribe_and_leave_afterwards() {
    let (mut world, [alice, bob, carol], tracks) = call(1_405, OPEN);
    let silent = world.join("silent");
    world.take_over();
    let dave = world.join("dave");
    world.subscribe(dave, &tracks[0], Vp8);
    world.subscribe(silent, &tracks[0], Vp8);
    let picture = world.publish(carol, Vp8);
    world.subscribe(alice, &picture, Vp8);
    world.run_ms(1_000);
    for who in [alice, silent, dave] {
        assert!(world.got(who, 96).len() > 20, "{}", world.members[who].id);
    }
    for who in [alice, bob, carol, silent, dave] {
        world.leave(who);
    }
    world.run_ms(1_000);
    assert_eq!(world.audit(), Vec::<String>::new());
    assert_eq!(world.shard.report().rooms, 0);
}

#[test]
fn a_shard_goes_on_itself_when_the_other_process_does_not() {
    let (mut world, [_, bob, carol], _) = call(1_406, COUNTS);
    for _ in 0..3 {
        let handed = world.hand_over();
        drop(world.reader_of(&handed).unwrap());
        world.run_ms(300);
    }
    for who in [bob, carol] {
        assert_complete(&world, who, &[96]);
        assert_unbroken(&world.got(who, 111));
    }
    assert_sealed_once(&world);
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn who_is_in_a_handshake_or_waits_for_a_verdict_does_not_go_along() {
    let waits = "function on_client_connect(c, token) if token == 'slow' then sfu.sleep(10) end return true end
        function on_publish_request() return true end";
    let (mut world, [alice, bob, carol], _) = call(1_407, waits);
    world.join("slow");
    let raw = world.join_raw("raw");
    let handed = world.hand_over();
    let expected: Vec<_> = [alice, bob, carol, raw].map(|who| world.id(who)).into();
    assert_eq!(handed.clients, expected, "raw has not offered anything");
    assert!(!world.shard.is_at_rest_for_hand_over());
}

#[test]
fn scripts_are_told_of_members_that_do_not_go_along_before_they_hand_over() {
    let (mut world, [alice, ..], _) = call(1_409, COUNTS);
    let raw = world.join_raw("raw");
    world.raw(raw).sections = vec![section("0", Vp8, Direction::SendOnly)];
    world.raw(raw).holds = true;
    world.offer(raw, vec![sends("0")], vec![]);
    world.take_over();
    world.take_words(alice);
    say(&mut world, alice, "who is here?");
    world.run_ms(100);
    let told = world.take_words(alice).join("\n");
    let id = world.id(raw);
    for words in ["\"connect\": Number(4)", "\"gone\": Number(1)"] {
        assert!(told.contains(words), "{words} in {told}");
    }
    assert!(!told.contains(id.as_str()), "{told}");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_state_that_is_not_whole_or_of_another_version_is_refused_and_says_why() {
    let (mut world, _, _) = call(1_408, OPEN);
    let handed = world.hand_over();
    let spoilt = |change: &dyn Fn(&mut HandedOver)| {
        let mut copy = HandedOver { pieces: handed.pieces.clone(), clients: vec![] };
        change(&mut copy);
        world.reader_of(&copy).map(drop)
    };
    assert!(spoilt(&|_| {}).is_ok());
    let words = |change: &dyn Fn(&mut HandedOver)| spoilt(change).unwrap_err().to_string();
    assert_eq!(words(&|copy| copy.pieces.clear()), "the shard's state has no beginning");
    assert_eq!(words(&|copy| copy.pieces.truncate(1)), "the shard's state has fewer rooms than it says");
    assert_eq!(words(&|copy| copy.pieces.truncate(3)), "the shard's state has fewer clients than it says");
    let twice = |copy: &mut HandedOver| copy.pieces.push(copy.pieces[1].clone());
    assert_eq!(words(&twice), "the shard's state has more pieces than it says");
    let version = words(&|copy| copy.pieces[0][0] ^= 1);
    let expected = format!("this server reads version {VERSION}");
    assert!(version.starts_with("the shard's state has version ") && version.ends_with(&expected), "{version}");
    for (piece, bytes) in handed.pieces.iter().enumerate() {
        for len in 0..bytes.len() {
            assert!(spoilt(&|copy| copy.pieces[piece].truncate(len)).is_err(), "piece {piece}, {len} bytes");
        }
        for at in 0..bytes.len() {
            // Whatever it becomes, nothing panics.
            let _ = spoilt(&|copy| copy.pieces[piece][at] ^= 0x41);
        }
    }
}

#[test]
fn a_state_with_a_track_of_two_clients_or_a_room_without_anybody_is_refused() {
    let (mut world, _, tracks) = call(1_409, OPEN);
    let handed = world.hand_over();
    let words = |change: &dyn Fn(&mut HandedOver)| {
        let mut copy = HandedOver { pieces: handed.pieces.clone(), clients: vec![] };
        change(&mut copy);
        world.reader_of(&copy).map(drop).unwrap_err().to_string()
    };
    // The head, the room, Alice, Bob and Carol.
    assert_eq!(words(&|copy| copy.pieces[3] = copy.pieces[2].clone()), format!("track {} is there twice", tracks[0]));
    let nobody = |copy: &mut HandedOver| {
        copy.pieces.truncate(2);
        // Its name, its metadata, and that it is not kept; then how many are in it.
        let clients = "demo".len() + "{}".len() + 3;
        copy.pieces[1].truncate(clients);
        copy.pieces[1].extend([0, 0, 0, 0, 0, 0, 0]);
    };
    assert_eq!(words(&nobody), "the shard's state has a room that nobody is in and that is not kept");
}
