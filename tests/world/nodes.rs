//! A room over two nodes of two shards each: what travels between them, once, and what happens when it does not.

use std::time::Duration;

use moonring_core::command::{Command, LeaveCause};
use moonring_policy::hook::Undecided;
use moonring_wire::drops::DropReason;
use moonring_wire::id::TrackId;
use moonring_wire::link::{Frame, HEAD, LinkPeer, MAX_LINK_DATAGRAM, Media, OVERHEAD, Place, Sealer, Stream};
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::moves::lacking;
use crate::sim::flows::assert_unbroken;
use crate::sim::places::{id_at, over_two_nodes, relayed_to};
use crate::sim::{OPEN, World, room};
use crate::spread::{OBEDIENT, TELLS_ALL, assert_heard_in_order};

/// Alice at home and Bob at the home's node, Carol and Dan at the other node, each on a shard of their own.
pub(crate) fn four(seed: u64, script: &str) -> (World, [usize; 4]) {
    over_two_nodes();
    let mut world = World::ruled(seed, script);
    let members = ["alice", "bob", "carol", "dan"].map(|name| world.join(name));
    assert_eq!(members.map(|who| world.members[who].place), [0, 1, 2, 3]);
    (world, members)
}

/// Packets that each shard has sent to others, and got from others.
fn relayed(world: &mut World) -> ([u64; 4], [u64; 4]) {
    let sent = [0, 1, 2, 3].map(|place| world.shard_at(place).report().counters.relayed_out);
    (sent, [0, 1, 2, 3].map(|place| relayed_to(world, place)))
}

/// Everybody but `who` receives a track.
fn all_receive(world: &mut World, who: usize, track: &TrackId) {
    for other in (0..4).filter(|other| *other != who) {
        world.subscribe(other, track, Vp8);
    }
}

#[test]
fn a_node_gets_one_copy_and_its_shards_see_each_packet_once_and_in_order() {
    let (mut world, [alice, _, carol, dan]) = four(980, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(carol, &track, Vp8);
    world.subscribe(dan, &track, Vp8);
    world.run_ms(3_000);
    for who in [carol, dan] {
        let got = world.got(who, 96);
        assert!(got.len() > 200, "{}", got.len());
        assert_unbroken(&got);
    }
    // From the home to the lead of the other node, and from there to its sibling.
    let (sent, came) = relayed(&mut world);
    assert!(sent[0] > 200 && sent[0] - came[2] < 20 && sent[2] - came[3] < 20, "{sent:?} {came:?}");
    assert_eq!(([sent[1], sent[3]], [came[0], came[1]]), ([0; 2], [0; 2]), "{sent:?} {came:?}");
    assert!(came[3] <= came[2] && came[2] - came[3] < 40, "{came:?}");
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn no_packet_passes_more_than_three_places_wherever_its_publisher_is() {
    for publisher in 0..4 {
        let (mut world, _) = four(981 + publisher as u64, OPEN);
        let track = world.publish(publisher, Vp8);
        all_receive(&mut world, publisher, &track);
        world.run_ms(3_000);
        for who in (0..4).filter(|who| *who != publisher) {
            let got = world.got(who, 96);
            assert!(got.len() > 200, "{publisher} to {who}: {}", got.len());
            assert_unbroken(&got);
        }
        let (sent, _) = relayed(&mut world);
        let least = sent.iter().max().copied().unwrap_or_default() / 2;
        // The publisher's shard sends to its sibling and to the other node's lead, which sends to its own sibling.
        let lead = if publisher < 2 { 2 } else { 0 };
        let expected = [0, 1, 2, 3].map(|place| if place == publisher { 2 } else { usize::from(place == lead) });
        let copies = sent.map(|sent| usize::from(sent > least / 2) + usize::from(sent > least + least / 2));
        assert_eq!(copies, expected, "{sent:?}");
        assert_eq!(world.drops(DropReason::LinkMalformed), 0);
        assert_eq!(world.audit(), Vec::<String>::new());
    }
}

#[test]
fn what_is_lost_or_overtaken_between_nodes_is_repaired() {
    let (mut world, [alice, bob, carol, dan]) = four(985, OPEN);
    world.between_nodes.loss = 0.1;
    world.between_nodes.jitter = Duration::from_millis(15);
    let tracks = [world.publish(alice, Vp8), world.publish(dan, Opus)];
    for (who, track, codec) in [(carol, 0, Vp8), (dan, 0, Vp8), (alice, 1, Opus), (bob, 1, Opus)] {
        world.subscribe(who, &tracks[track], codec);
    }
    world.run_ms(3_000);
    world.forget_received();
    world.run_ms(5_000);
    // What was lost last is repaired, too.
    world.members.iter_mut().for_each(|member| member.paused = true);
    world.run_ms(500);
    for (who, pt) in [(carol, 96), (dan, 96), (alice, 111), (bob, 111)] {
        let mut counters: Vec<u64> = world.got(who, pt).iter().filter_map(|got| got.counter).collect();
        counters.sort_unstable();
        let doubles = counters.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let gaps = lacking(&world, who, &[pt]);
        // Sound is not waited for as long as pictures.
        let most = usize::from(pt == 111);
        assert!(
            counters.len() > 200 && gaps.len() <= most && doubles == 0,
            "{gaps:?}, {doubles} of {}",
            counters.len()
        );
    }
    let again: u64 = [0, 3].iter().map(|place| world.shard_at(*place).counters().relayed_again).sum();
    assert!(again > 30, "{again}");
}

#[test]
fn a_late_joiner_at_another_node_sees_a_picture_within_an_interval_of_key_frames() {
    let (mut world, [alice, _, carol, dan]) = four(986, OPEN);
    let track = world.publish(alice, Vp8);
    world.run_ms(3_000);
    for who in [dan, carol] {
        world.subscribe(who, &track, Vp8);
        world.run_ms(700);
        let first = world.got(who, 96).first().expect("a picture").clone();
        assert_eq!(first.head[0] & 0x10, 0x10, "it begins a frame");
        assert_unbroken(&world.got(who, 96));
    }
}

#[test]
fn a_track_travels_to_a_node_only_while_somebody_there_receives_it() {
    let (mut world, [alice, _, _, dan]) = four(987, OPEN);
    let track = world.publish(alice, Vp8);
    world.run_ms(2_000);
    assert_eq!(relayed(&mut world).1, [0; 4]);
    world.subscribe(dan, &track, Vp8);
    world.run_ms(2_000);
    assert!(relayed(&mut world).1[3] > 100);
    world.command(Command::Unsubscribe { client: world.id(dan), track });
    world.run_ms(200);
    let before = relayed(&mut world).1;
    world.run_ms(3_000);
    assert_eq!(relayed(&mut world).1, before);
}

#[test]
fn what_a_node_wants_ends_three_seconds_after_it_says_so_no_more() {
    let (mut world, [alice, _, carol, _]) = four(988, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(carol, &track, Vp8);
    world.run_ms(2_000);
    world.between_nodes.loss = 1.0;
    world.run_ms(3_600);
    let before = relayed(&mut world).0[0];
    world.run_ms(2_000);
    assert_eq!(relayed(&mut world).0[0], before);
    let links = world.shard_at(2).report().links;
    let rooms: Vec<_> = links.iter().filter(|link| link.is_silent).flat_map(|link| &link.rooms).collect();
    assert_eq!(rooms, [&room("demo")], "the link is silent, and a room lacks what should come over it");
    // And it goes on.
    world.between_nodes.loss = 0.0;
    world.forget_received();
    world.run_ms(3_000);
    assert!(world.got(carol, 96).len() > 100);
    assert!(world.shard_at(2).report().links.iter().all(|link| !link.is_silent && link.rooms.is_empty()));
}

#[test]
fn there_is_one_policy_for_all_nodes_and_it_hears_each_client_once_and_in_its_order() {
    let (mut world, members) = four(989, TELLS_ALL);
    let all = "alice1 bob1 carol1 dan1 alice2 bob2 carol2 dan2 alice3 bob3 carol3 dan3\"";
    assert_heard_in_order(&mut world, &members, all);
}

#[test]
fn a_script_reaches_clients_of_other_nodes_and_all_hear_of_all() {
    let (mut world, [alice, bob, carol, dan]) = four(990, OBEDIENT);
    let track = world.publish(dan, Opus);
    let words = world.take_words(alice);
    for name in ["carol", "dan"] {
        let told = |words: &String| words.starts_with("ClientJoined") && words.contains(name);
        assert!(words.iter().any(told), "{words:?}");
    }
    for who in [alice, bob, carol] {
        world.subscribe(who, &track, Opus);
    }
    world.run_ms(1_000);
    let order = |world: &mut World, order| {
        world.command(Command::Message { client: world.id(bob), value: order });
    };
    world.take_words(dan);
    order(&mut world, json!({ "who": "dan", "say": true }));
    let words = world.take_words(dan);
    assert!(words.iter().any(|words| words.starts_with("Message") && words.contains("Number(1)")), "{words:?}");
    order(&mut world, json!({ "who": "dan", "mute": true }));
    world.run_ms(100);
    let before = relayed(&mut world).1;
    world.run_ms(1_000);
    assert_eq!(relayed(&mut world).1, before, "a muted track stops at its source");
    for who in [alice, carol] {
        world.take_words(who);
    }
    order(&mut world, json!({ "who": "dan", "kick": true }));
    assert_eq!(world.left(dan), Some(&LeaveCause::Kicked("Out".into())));
    for who in [alice, carol] {
        let words = world.take_words(who);
        let gone = ["ClientLeft", "TrackUnpublished"].map(|word| words.iter().filter(|w| w.starts_with(word)).count());
        assert_eq!(gone, [1, 1], "{words:?}");
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn while_messages_do_not_reach_the_home_media_goes_on_and_what_it_decides_is_to_be_tried_again() {
    let (mut world, [alice, _, carol, dan]) = four(991, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(carol, &track, Vp8);
    world.subscribe(dan, &track, Vp8);
    world.run_ms(2_000);
    world.mail.is_cut = true;
    world.command_to(2, Command::PlaceAway { place: id_at(2, 0), is_away: true });
    world.forget_received();
    let late = (0..4).map(|n| world.join(&format!("late{n}"))).collect::<Vec<_>>();
    world.run_ms(5_000);
    for who in [carol, dan] {
        assert!(world.got(who, 96).len() > 300);
        assert_unbroken(&world.got(who, 96));
        assert_eq!(world.left(who), None);
    }
    for who in &late[..2] {
        assert_eq!(world.left(*who), None, "at the home's node all goes on");
    }
    for who in &late[2..] {
        let words = "the room's home cannot be reached, please try again";
        assert_eq!(world.left(*who), Some(&LeaveCause::Undecided(Undecided::Unheard, words.to_owned())));
    }
    world.mail.is_cut = false;
    world.command_to(2, Command::PlaceAway { place: id_at(2, 0), is_away: false });
    let again: Vec<_> = (0..4).map(|n| world.join(&format!("again{n}"))).collect();
    world.run_ms(100);
    assert!(again.iter().all(|who| world.left(*who).is_none()));
}

#[test]
fn when_a_node_is_gone_its_clients_are_gone_for_the_others_and_those_of_its_rooms_wait_for_another_home() {
    let (mut world, [alice, bob, carol, dan]) = four(992, OPEN);
    let track = world.publish(dan, Opus);
    world.subscribe(alice, &track, Opus);
    world.run_ms(500);
    for who in [alice, bob] {
        world.take_words(who);
    }
    // Each side takes the other for gone.
    world.mail.is_cut = true;
    for place in 0..4 {
        world.command_to(place, Command::Peers(Vec::new()));
    }
    for who in [alice, bob] {
        let words = world.take_words(who);
        let count = |begin: &str, name: &str| {
            words.iter().filter(|words| words.starts_with(begin) && words.contains(name)).count()
        };
        let told = [count("ClientLeft", "carol"), count("ClientLeft", "dan"), count("TrackUnpublished", "")];
        assert_eq!(told, [1, 1, 1], "{words:?}");
        assert_eq!(world.left(who), None);
    }
    assert_eq!([carol, dan].map(|who| world.left(who).cloned()), [None, None]);
    world.run_ms(16_000);
    for who in [carol, dan] {
        assert!(matches!(world.left(who), Some(LeaveCause::Later(reason)) if reason.contains("join again")));
    }
    assert_eq!(world.audit(), Vec::<String>::new());
}

#[test]
fn a_link_that_loses_for_long_has_a_layer_less_and_gets_it_back() {
    let (mut world, [alice, _, carol, _]) = four(993, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(carol, &track, Vp8);
    world.run_ms(2_000);
    let down = |world: &mut World| {
        let links = world.shard_at(2).report().links;
        links.iter().map(|link| link.layers_down).max().unwrap_or_default()
    };
    world.between_nodes.loss = 0.05;
    world.run_ms(4_000);
    assert_eq!(down(&mut world), 0);
    world.run_ms(5_000);
    assert!(down(&mut world) > 0);
    world.between_nodes.loss = 0.0;
    world.run_ms(40_000);
    assert_eq!(down(&mut world), 0);
    let lost: u64 = world.shard_at(2).report().links.iter().map(|link| link.lost).sum();
    assert!(lost > 20, "{lost}");
    assert!(world.got(carol, 96).len() > 1_000, "a track of one encoding is never without it");
}

#[test]
fn a_link_that_begins_again_between_the_same_runs_goes_on_counting_and_seals_nothing_twice() {
    let (mut world, [alice, _, carol, _]) = four(995, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(carol, &track, Vp8);
    world.run_ms(1_000);
    let sent = |world: &mut World| -> Vec<u64> {
        [0, 2]
            .into_iter()
            .flat_map(|place| world.shard_at(place).report().links.into_iter().map(|link| link.sent))
            .collect()
    };
    let before = sent(&mut world);
    assert!(before.iter().max() > Some(&50), "{before:?}");
    world.link_nodes_but(Some(0));
    assert_eq!(sent(&mut world), Vec::<u64>::new());
    world.link_nodes_but(None);
    let after = sent(&mut world);
    assert!(
        after.len() == before.len() && after.iter().zip(&before).all(|(after, before)| after >= before),
        "{before:?} {after:?}"
    );
    // And the other side takes what is sent from there on.
    world.run_ms(1_000);
    assert_eq!(
        [DropReason::LinkReplay, DropReason::LinkTooOld, DropReason::LinkBadTag].map(|why| world.drops(why)),
        [0; 3]
    );
    assert!(world.shard_at(2).report().links.iter().all(|link| !link.is_silent));
}

/// A datagram with one frame.
fn sealed(sealer: &mut Sealer, frame: &Frame<'_>) -> Vec<u8> {
    let mut datagram = vec![0; MAX_LINK_DATAGRAM + OVERHEAD];
    let len = frame.write(&mut datagram[HEAD..]).unwrap();
    let len = sealer.seal(&mut datagram, HEAD + len);
    datagram.truncate(len);
    datagram
}

#[test]
fn datagrams_that_no_shard_of_this_run_of_a_peer_has_sealed_are_counted_by_reason() {
    let (mut world, [alice, _, carol, _]) = four(994, OPEN);
    let track = world.publish(alice, Vp8);
    world.subscribe(carol, &track, Vp8);
    world.run_ms(1_000);
    let place = |run, shard| Place { run, shard };
    let sealer = |secret: u8, run, shard| {
        let mut sealer = Sealer::new(&[secret; 32], place(run, shard), place(7, 0));
        // Far ahead of what the shard has sent itself.
        (0..5_000).for_each(|_| drop(sealed(&mut sealer, &Frame::Key(Stream { handle: 1, layer: 0 }))));
        sealer
    };
    let key = Frame::Key(Stream { handle: u64::MAX, layer: 7 });
    let passed_on = Frame::Media(Media {
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
    let mut own = sealer(10, 8, 0);
    let good = sealed(&mut own, &key);
    let twice = sealed(&mut own, &passed_on);
    let (peer, stranger) = ("10.0.0.3:40000".parse().unwrap(), "10.9.9.9:40000".parse().unwrap());
    for (what, from, datagram, expected) in [
        ("a stranger's", stranger, good.clone(), Some(DropReason::LinkUnknown)),
        ("of an older run", peer, sealed(&mut sealer(10, 6, 0), &key), Some(DropReason::LinkBadTag)),
        ("of another shard", peer, sealed(&mut sealer(10, 8, 1), &key), Some(DropReason::LinkBadTag)),
        ("with another secret", peer, sealed(&mut sealer(11, 8, 0), &key), Some(DropReason::LinkBadTag)),
        (
            "with the secret of the shards of a process",
            peer,
            sealed(&mut sealer(9, 8, 0), &key),
            Some(DropReason::LinkBadTag),
        ),
        ("its own", peer, good.clone(), None),
        ("replayed", peer, good, Some(DropReason::LinkReplay)),
        ("that has been passed on", peer, twice, Some(DropReason::LinkMalformed)),
    ] {
        assert_eq!(world.inject(from, &datagram), expected, "{what}");
    }
    // The same process anew: another run, another link.
    let other = LinkPeer { id: id_at(0, 2), place: place(99, 0), address: peer };
    world.command_to(0, Command::Peers(vec![other]));
    let mut fresh = Sealer::new(&[10; 32], place(99, 0), place(7, 0));
    assert_eq!(world.inject(peer, &sealed(&mut own, &key)), Some(DropReason::LinkBadTag), "the run before");
    assert_eq!(world.inject(peer, &sealed(&mut fresh, &key)), None, "its counter begins anew");
}
