//! Two clients see and hear each other.

use moonring_core::command::Event;
use moonring_loadtest::peer::PeerEvent;
use moonring_wire::id::Ssrc;
use moonring_wire::media::CodecName::{Opus, Vp8};

use crate::sim::World;
use crate::sim::flows::assert_unbroken;

#[test]
fn two_clients_get_each_others_packets_one_by_one_under_numbers_of_their_own() {
    let mut world = World::new(1);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let tracks: Vec<_> = [alice, bob].map(|who| (world.publish(who, Opus), world.publish(who, Vp8))).into();
    world.subscribe(bob, &tracks[0].0, Opus);
    world.subscribe(bob, &tracks[0].1, Vp8);
    world.subscribe(alice, &tracks[1].0, Opus);
    world.subscribe(alice, &tracks[1].1, Vp8);
    world.run_ms(1_000);
    for who in [alice, bob] {
        assert!(world.members[who].told.contains(&PeerEvent::Connected));
    }
    world.forget_received();
    let before: Vec<u64> = [alice, bob].iter().map(|w| world.peer(*w).sent().packets).collect();
    world.run_ms(5_000);
    for member in &mut world.members {
        member.paused = true;
    }
    world.run_ms(100);
    for (from, to) in [(alice, bob), (bob, alice)] {
        let sent = world.peer(from).sent().packets - before[from];
        for pt in [111, 96] {
            let got = world.got(to, pt);
            assert_unbroken(&got);
            let counters: Vec<u64> = got.iter().filter_map(|g| g.counter).collect();
            assert_eq!(counters.len(), got.len());
            assert!(counters.windows(2).all(|c| c[1] == c[0] + 1), "payloads in the publisher's order");
        }
        let (audio, video) = (world.got(to, 111), world.got(to, 96));
        assert!((249..=252).contains(&audio.len()), "5 s of 20 ms: {}", audio.len());
        // What was under way when counting began came too.
        let total = (audio.len() + video.len()) as u64;
        assert!(total >= sent && total <= sent + 20, "{total} of {sent}");
        let offered: Vec<Ssrc> =
            world.peer(from).offer().sections.iter().flat_map(|s| s.ssrcs.iter().map(|s| s.0)).collect();
        assert!(!offered.contains(&audio[0].ssrc) && !offered.contains(&video[0].ssrc), "SSRCs are the server's own");
        assert_eq!(world.members[to].got.iter().filter(|g| g.repaired).count(), 0);
        let frames = video.iter().filter(|g| g.marker).count();
        assert!((149..=151).contains(&frames), "{frames} frames of 30 a second");
        let timestamps: Vec<u32> = video.iter().filter(|g| g.marker).map(|g| g.timestamp).collect();
        assert!(timestamps.windows(2).all(|t| (2_999..=3_001).contains(&t[1].wrapping_sub(t[0]))));
    }
    assert_eq!(world.shard.counters().drops.total(), 0);
}

#[test]
fn a_client_is_told_of_everything_that_is_there_and_that_comes_and_goes() {
    let mut world = World::new(2);
    let alice = world.join("alice");
    let track = world.publish(alice, Vp8);
    let bob = world.join("bob");
    let joined = world.events.iter().find_map(|event| match event {
        Event::Joined { client, clients, tracks, .. } if client.as_str() == "bob" => {
            Some((clients.clone(), tracks.clone()))
        }
        _ => None,
    });
    let (clients, tracks) = joined.unwrap();
    assert_eq!(clients.iter().map(|c| c.client.as_str()).collect::<Vec<_>>(), ["alice"]);
    assert_eq!(tracks.iter().map(|t| &t.id).collect::<Vec<_>>(), [&track]);
    world.take_words(alice);
    let sound = world.publish(bob, Opus);
    world.leave(bob);
    let told = world.take_words(alice);
    let starts: Vec<&str> = told.iter().map(|words| words.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["TrackPublished", "TrackUnpublished", "ClientLeft"], "{told:?}");
    assert!(told[0].contains(sound.as_str()) && told[1].contains(sound.as_str()));
}

#[test]
fn rooms_do_not_hear_each_other() {
    let mut world = World::new(3);
    let (alice, eve) = (world.join_room("alice", "demo"), world.join_room("eve", "other"));
    let track = world.publish(alice, Opus);
    let mid = world.peer(eve).receive(Opus);
    let outcomes = world.offer(eve, vec![], vec![crate::sim::flows::wants(&mid, Some(&track))]);
    assert_eq!(outcomes[0].reason.as_deref(), Some(format!("there is no track {track}").as_str()));
    assert!(world.take_words(eve).iter().all(|words| !words.contains("alice")));
}
