//! What an offer may ask for, and what is said when it asks for something else.

use moonring_core::command::{Event, PublishIntent, RefusalCode, SubscribeIntent};
use moonring_core::shard::ShardSettings;
use moonring_wire::id::{Mid, TrackId};
use moonring_wire::media::CodecName::{H264, Opus, Vp8};
use moonring_wire::media::Extension;
use moonring_wire::negotiate::{AnswerSection, Direction, Fingerprint, IceCredentials, OfferSection, SectionKind};

use crate::sim::flows::{sends, wants};
use crate::sim::places::on_one_shard;
use crate::sim::raw::{MID_ID, REPAIRED_RID_ID, RID_ID, section, simulcast};
use crate::sim::{OPEN, World, settings};

fn mid(text: &str) -> Mid {
    Mid::parse(text).unwrap()
}

/// Alice publishes sound and pictures; Bob offers `sections` and asks for what is said: the outcomes as (mid, reason).
fn outcomes(
    sections: Vec<OfferSection>,
    publish: &[&str],
    subscribe: fn(&[TrackId]) -> Vec<SubscribeIntent>,
) -> (Vec<(String, String)>, World) {
    let mut world = World::new(70);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let tracks = [world.publish(alice, Opus), world.publish(alice, Vp8)];
    world.raw(bob).sections = sections;
    let publish: Vec<PublishIntent> = publish.iter().map(|mid| sends(mid)).collect();
    let outcomes = world.offer(bob, publish, subscribe(&tracks));
    let words = |outcome: moonring_wire::negotiate::SectionOutcome| {
        let reason = outcome.reason.unwrap_or_else(|| "ok".into());
        let reason = reason.replace(tracks[0].as_str(), "SOUND").replace(tracks[1].as_str(), "PICTURE");
        (outcome.mid.to_string(), reason)
    };
    (outcomes.into_iter().map(words).collect(), world)
}

#[test]
fn the_transport_is_that_of_the_first_section_that_the_server_does_not_refuse() {
    on_one_shard();
    let mut world = World::with(73, ShardSettings { codecs: vec![Opus, Vp8], ..settings() }, OPEN);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let track = world.publish(alice, Vp8);
    world.raw(bob).sections = vec![section("0", H264, Direction::RecvOnly), section("1", Vp8, Direction::RecvOnly)];
    let mut offer = world.raw(bob).offer();
    offer.sections[1].ice = Some(offer.ice.clone());
    offer.ice = IceCredentials { ufrag: "other".into(), pwd: "password-of-the-first-section".into() };
    world.offer_with(bob, offer, vec![], vec![wants(&mid("1"), Some(&track))]);
    world.run_ms(2_000);
    assert!(world.got(bob, 96).len() > 20, "{}", world.got(bob, 96).len());
    // It answers checks with that section's password.
    world.members[bob].address = "192.168.7.7:7000".parse().unwrap();
    let check = world.raw(bob).check();
    world.raw(bob).out.push(check);
    world.run_ms(1_000);
    world.forget_received();
    world.run_ms(1_000);
    assert!(world.got(bob, 96).len() > 20, "{}", world.got(bob, 96).len());
    // The next offer has stopped the first section, and is no ICE restart.
    let before = world.raw(bob).answer.clone().unwrap().ice;
    world.raw(bob).sections[0].stopped = true;
    world.offer(bob, vec![], vec![]);
    assert_eq!(world.raw(bob).answer.clone().unwrap().ice, before);
}

#[test]
fn each_section_comes_out_by_itself_with_its_reason() {
    let recv = |m: &str, codec| section(m, codec, Direction::RecvOnly);
    let send = |m: &str, codec| section(m, codec, Direction::SendOnly);
    let nowhere = |_: &[TrackId]| vec![wants(&mid("0"), Some(&TrackId::parse("nowhere").unwrap()))];
    let sound = |t: &[TrackId]| vec![wants(&mid("0"), Some(&t[0]))];
    let picture = |t: &[TrackId]| vec![wants(&mid("0"), Some(&t[1]))];
    let picture_twice = |t: &[TrackId]| vec![wants(&mid("0"), Some(&t[1])), wants(&mid("1"), Some(&t[1]))];
    let both_in_one = |t: &[TrackId]| vec![wants(&mid("0"), Some(&t[1])), wants(&mid("0"), Some(&t[0]))];
    let none = |_: &[TrackId]| vec![];
    let mut data = send("0", Vp8);
    data.kind = SectionKind::Other;
    let mut stopped = send("0", Vp8);
    stopped.stopped = true;
    // (what is offered, the mids to publish in, what to receive, the reasons)
    type Case<'a> = (Vec<OfferSection>, &'a [&'a str], fn(&[TrackId]) -> Vec<SubscribeIntent>, &'a [&'a str]);
    let cases: Vec<Case<'_>> = vec![
        (vec![recv("0", Vp8)], &[], nowhere, &["there is no track nowhere"]),
        (vec![recv("0", Vp8)], &[], picture, &["ok"]),
        (vec![recv("0", Vp8)], &[], sound, &["track SOUND is audio, section 0 is not"]),
        (vec![recv("0", H264)], &[], picture, &["section 0 does not offer VP8"]),
        (vec![send("0", Vp8)], &[], picture, &["section 0 does not receive"]),
        (vec![recv("7", Vp8)], &[], picture, &["the offer has no section 0"]),
        (vec![recv("0", Vp8), recv("1", Vp8)], &[], picture_twice, &["track PICTURE is received already", "ok"]),
        (vec![recv("0", Vp8)], &["0"], none, &["section 0 does not send"]),
        (vec![send("0", Vp8)], &["0"], none, &["ok"]),
        (vec![send("0", Vp8)], &["0", "0"], none, &["section 0 is in use", "ok"]),
        (vec![section("0", Vp8, Direction::SendRecv)], &["0"], picture, &["section 0 is in use", "ok"]),
        (vec![section("0", Vp8, Direction::SendRecv)], &[], both_in_one, &["section 0 is in use", "ok"]),
        (vec![data], &["0"], none, &["section 0 carries no audio or video"]),
        (vec![stopped], &["0"], none, &["the offer has no section 0"]),
        (
            (0..6).map(|n| send(&n.to_string(), Opus)).collect(),
            &["0", "1", "2", "3", "4", "5"],
            none,
            &["a client may publish at most 4 tracks", "a client may publish at most 4 tracks", "ok", "ok", "ok", "ok"],
        ),
    ];
    for (n, (sections, publish, subscribe, expected)) in cases.into_iter().enumerate() {
        let (outcomes, _) = outcomes(sections, publish, subscribe);
        let reasons: Vec<&str> = outcomes.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(reasons, expected, "case {n}");
    }
}

#[test]
fn a_section_in_use_is_not_given_to_another_track() {
    let (_, mut world) = outcomes(vec![section("0", Vp8, Direction::SendOnly)], &["0"], |_| vec![]);
    let bob = 1;
    let again = world.offer(bob, vec![sends("0")], vec![]);
    assert_eq!(again[0].reason.as_deref(), Some("section 0 is in use"));
    world.raw(bob).sections[0].direction = Direction::Inactive;
    world.offer(bob, vec![], vec![]);
    world.raw(bob).sections[0].direction = Direction::SendOnly;
    let anew = world.offer(bob, vec![sends("0")], vec![]);
    assert!(anew[0].track.is_some(), "a section that was given up can be used again");
}

#[test]
fn what_an_offer_lets_go_it_may_ask_for_anew_in_another_section() {
    // Whoever lets a track go without a connection, and takes it again, has not been able to say `unsubscribe` between.
    let mut world = World::new(78);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let track = world.publish(alice, Vp8);
    world.raw(bob).sections = vec![section("0", Vp8, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&mid("0"), Some(&track))]);
    world.raw(bob).sections[0].direction = Direction::Inactive;
    world.raw(bob).sections.push(section("1", Vp8, Direction::RecvOnly));
    let anew = world.offer(bob, vec![], vec![wants(&mid("1"), Some(&track))]);
    assert_eq!(anew[0].reason, None);
    // As many as it may publish, one of which makes way for another one.
    let sending = (2..6).map(|n| section(&n.to_string(), Opus, Direction::SendOnly));
    world.raw(bob).sections.extend(sending);
    world.offer(bob, ["2", "3", "4", "5"].map(sends).to_vec(), vec![]);
    world.raw(bob).sections[2].direction = Direction::Inactive;
    world.raw(bob).sections.push(section("6", Opus, Direction::SendOnly));
    let other = world.offer(bob, vec![sends("6")], vec![]);
    assert_eq!(other[0].reason, None);
}

#[test]
fn a_stopped_section_takes_another_one_in_its_place_under_another_mid() {
    // RFC 8829 section 5.2.2: the next new section stands where a stopped one stood.
    let mut world = World::new(79);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let track = world.publish(alice, Opus);
    world.raw(bob).sections = vec![section("0", Opus, Direction::RecvOnly)];
    world.offer(bob, vec![], vec![wants(&mid("0"), Some(&track))]);
    let answered = |world: &mut World| {
        let text = |section: &AnswerSection| match section {
            AnswerSection::Accepted { mid, rids, .. } => format!("{} {}", mid.as_ref().unwrap(), rids.len()),
            AnswerSection::Refused { mid, .. } => format!("{} refused", mid.as_ref().unwrap()),
        };
        world.raw(bob).answer.clone().unwrap().sections.iter().map(text).collect::<Vec<_>>()
    };
    for round in 1..=300 {
        let name = round.to_string();
        world.raw(bob).sections.truncate(1);
        world.raw(bob).sections.push(simulcast(&name, &["q", "h", "f"]));
        let outcome = world.offer(bob, vec![sends(&name)], vec![]).remove(0);
        assert_eq!((outcome.mid.as_str(), outcome.reason), (name.as_str(), None));
        assert_eq!(answered(&mut world), ["0 0".to_owned(), format!("{name} 3")]);
        world.raw(bob).sections[1].stopped = true;
        // Every other one is taken over without an offer that stops it alone.
        if round % 2 == 0 {
            world.offer(bob, vec![], vec![]);
            assert_eq!(answered(&mut world), ["0 0".to_owned(), format!("{name} refused")]);
        }
    }
}

#[test]
fn who_publishes_where_it_receives_or_receives_where_it_publishes_is_told_what_to_do() {
    // addTrack reuses a transceiver that receives.
    let (_, mut world) =
        outcomes(vec![section("0", Vp8, Direction::RecvOnly)], &[], |t| vec![wants(&mid("0"), Some(&t[1]))]);
    let bob = 1;
    world.raw(bob).sections[0].direction = Direction::SendRecv;
    world.raw(bob).sections.push(section("1", Vp8, Direction::SendOnly));
    let reason = world.offer(bob, vec![sends("0")], vec![])[0].reason.clone();
    let expected =
        "section 0 is in use for receiving; publish in one of its own (addTransceiver with the direction sendonly)";
    assert_eq!(reason.as_deref(), Some(expected));
    let own = world.offer(bob, vec![sends("1")], vec![])[0].track.clone().unwrap();
    world.raw(bob).sections[1].direction = Direction::SendRecv;
    let reason = world.offer(bob, vec![], vec![wants(&mid("1"), Some(&own.id))])[0].reason.clone();
    let expected =
        "section 1 is in use for publishing; receive in one of its own (addTransceiver with the direction recvonly)";
    assert_eq!(reason.as_deref(), Some(expected));
}

#[test]
fn an_answer_has_the_offers_sections_in_its_order_whatever_became_of_them() {
    let mut data = section("d", Vp8, Direction::SendRecv);
    (data.kind, data.codecs) = (SectionKind::Other, vec![]);
    let sections = vec![section("b", Opus, Direction::SendOnly), data, section("a", Vp8, Direction::RecvOnly)];
    let (_, mut world) = outcomes(sections, &["b"], |_| vec![]);
    let answer = world.raw(1).answer.clone().unwrap();
    let kinds: Vec<String> = answer
        .sections
        .iter()
        .map(|section| match section {
            AnswerSection::Accepted { mid, direction, .. } => format!("{} {direction:?}", mid.as_ref().unwrap()),
            AnswerSection::Refused { mid, .. } => format!("{} refused", mid.as_ref().unwrap()),
        })
        .collect();
    assert_eq!(kinds, ["b RecvOnly", "d refused", "a Inactive"]);
}

#[test]
fn a_second_offer_while_the_first_is_decided_on_is_busy_and_so_is_one_before_joining() {
    let script = "function on_client_connect() sfu.sleep(500) return true end
        function on_publish_request() sfu.sleep(1000) return true end";
    let mut world = World::ruled(71, script);
    let who = world.join_raw("alice");
    world.raw(who).sections = vec![section("0", Opus, Direction::SendOnly)];
    world.offer(who, vec![sends("0")], vec![]);
    assert_eq!(world.refusals()[0].0, RefusalCode::Busy, "not joined yet");
    world.run_ms(600);
    world.offer(who, vec![sends("0")], vec![]);
    world.run_ms(100);
    assert!(world.raw(who).answer.is_none());
    world.offer(who, vec![], vec![]);
    assert_eq!(world.refusals()[0].0, RefusalCode::Busy);
    world.run_ms(1_000);
    assert!(world.raw(who).answer.is_some() && world.members[who].outcomes[0].track.is_some());
}

#[test]
fn a_client_that_leaves_while_its_offer_is_decided_on_is_gone_and_publishes_nothing() {
    let script = "function on_client_connect() return true end
        function on_publish_request() sfu.sleep(1000) return true end";
    let mut world = World::ruled(72, script);
    let (who, other) = (world.join_raw("alice"), world.join_raw("bob"));
    world.raw(who).sections = vec![section("0", Opus, Direction::SendOnly)];
    world.offer(who, vec![sends("0")], vec![]);
    world.leave(who);
    world.take_words(who);
    world.run_ms(3_000);
    assert_eq!(world.take_words(who), Vec::<String>::new());
    assert!(world.take_words(other).iter().all(|words| !words.contains("TrackPublished")));
    world.leave(other);
    world.run_ms(100);
    assert!(world.events.iter().any(|event| matches!(event, Event::RoomClosed(_))));
}

#[test]
fn a_changed_certificate_is_refused_and_the_call_goes_on() {
    let mut world = World::with(73, settings(), OPEN);
    let who = world.join_raw("alice");
    world.raw(who).sections = vec![section("0", Opus, Direction::SendOnly)];
    world.offer(who, vec![sends("0")], vec![]);
    world.run_ms(500);
    world.events.clear();
    let mut offer = world.raw(who).offer();
    offer.fingerprint = Fingerprint::Sha256([7; 32]);
    world.offer_with(who, offer, vec![], vec![]);
    let refusals = world.refusals();
    assert!(refusals[0].0 == RefusalCode::BadOffer && refusals[0].1.contains("fingerprint"), "{refusals:?}");
    assert!(world.raw(who).connected && world.left(who).is_none());
}

#[test]
fn a_wrong_certificate_in_the_handshake_ends_that_client_alone() {
    let mut world = World::new(74);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let track = world.publish(alice, Opus);
    world.raw(bob).sections = vec![section("0", Opus, Direction::RecvOnly)];
    let mut offer = world.raw(bob).offer();
    offer.fingerprint = Fingerprint::Sha256([7; 32]);
    world.offer_with(bob, offer, vec![], vec![wants(&mid("0"), Some(&track))]);
    world.run_ms(25_000);
    assert!(!world.members[bob].got.iter().any(|_| true), "no media for a stranger");
    assert!(world.left(bob).is_some() && world.left(alice).is_none());
}

#[test]
fn an_offer_that_is_never_followed_by_a_handshake_ends_in_time() {
    let mut world = World::new(75);
    let who = world.join_raw("alice");
    world.raw(who).sections = vec![section("0", Opus, Direction::SendOnly)];
    world.offer(who, vec![sends("0")], vec![]);
    world.raw(who).out.clear();
    world.members[who].up.loss = 1.0;
    world.run_ms(19_000);
    assert!(world.left(who).is_none());
    world.run_ms(2_000);
    let words = format!("{:?}", world.left(who));
    assert!(words.contains("did not come up in time"), "{words}");
}

#[test]
fn each_section_of_an_answer_has_the_extensions_that_name_streams() {
    // RFC 8843 section 9.1: in every section of a bundle. Chromium leaves out of later offers what a section ended without.
    let mut world = World::new(77);
    let (alice, bob) = (world.join("alice"), world.join_raw("bob"));
    let track = world.publish(alice, Vp8);
    let mut received = simulcast("0", &[]);
    received.direction = Direction::RecvOnly;
    world.raw(bob).sections = vec![received, simulcast("1", &[]), simulcast("2", &[])];
    world.offer(bob, vec![sends("1")], vec![wants(&mid("0"), Some(&track))]);
    let answer = world.raw(bob).answer.clone().unwrap();
    for (section, expected) in
        answer.sections.iter().zip([Direction::SendOnly, Direction::RecvOnly, Direction::Inactive])
    {
        let AnswerSection::Accepted { direction, extensions, .. } = section else { panic!("{section:?}") };
        let names = [(MID_ID, Extension::Mid), (RID_ID, Extension::Rid), (REPAIRED_RID_ID, Extension::RepairedRid)];
        assert_eq!((*direction, &extensions[..]), (expected, &names[..]));
    }
}
