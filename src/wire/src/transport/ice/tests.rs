use std::net::SocketAddr;

use ::stun::agent::TransactionId;
use ::stun::attributes::ATTR_USERNAME;
use ::stun::fingerprint::FINGERPRINT;
use ::stun::integrity::MessageIntegrity;
use ::stun::message::{BINDING_REQUEST, Message, Setter};
use ::stun::textattrs::TextAttribute;
use rand::SeedableRng;
use rand::rngs::StdRng;
use webrtc_ice::control::{AttrControlled, AttrControlling};
use webrtc_ice::priority::PriorityAttr;
use webrtc_ice::use_candidate::UseCandidateAttr;

use super::*;
use crate::packet::Local;
use crate::transport::stun;
use crate::transport::stun::check as stun_check;

/// A request as webrtc-ice's agent builds it.
fn check(username: &str, password: &str, more: Vec<Box<dyn Setter>>) -> Vec<u8> {
    let mut message = Message::new();
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(TextAttribute::new(ATTR_USERNAME, username.into())),
    ];
    setters.push(Box::new(PriorityAttr(1)));
    setters.extend(more);
    setters.push(Box::new(MessageIntegrity::new_short_term_integrity(password.into())));
    setters.push(Box::new(FINGERPRINT));
    message.build(&setters).unwrap();
    message.raw
}

fn plain_check(username: &str, password: &str) -> Vec<u8> {
    check(username, password, vec![Box::new(AttrControlling(7))])
}

pub(in crate::transport) fn nomination(username: &str, password: &str) -> Vec<u8> {
    check(username, password, vec![Box::new(AttrControlling(7)), Box::new(UseCandidateAttr)])
}

fn credentials(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.into(), pwd: format!("password of {ufrag} -------") }
}

fn ice(now: Instant) -> IceLite {
    IceLite::new(now, credentials("here"), credentials("there"))
}

fn handle(ice: &mut IceLite, now: Instant, port: u16, bytes: &[u8]) -> Result<IceEvent, DropReason> {
    handle_from(ice, now, address(port), bytes)
}

fn handle_from(ice: &mut IceLite, now: Instant, from: AddressPair, bytes: &[u8]) -> Result<IceEvent, DropReason> {
    ice.handle_request(now, from, &stun::parse(bytes)?, &mut [0; MAX_RESPONSE]).map(|(len, event)| {
        assert!(len > 20);
        event
    })
}

fn address(port: u16) -> AddressPair {
    SocketAddr::from(([192, 0, 2, 1], port)).into()
}

#[test]
fn the_first_validated_address_is_used_until_the_client_nominates() {
    let now = Instant::now();
    let mut ice = ice(now);
    let password = credentials("here").pwd;
    let (plain, nominating) = (plain_check("here:there", &password), nomination("here:there", &password));
    assert_eq!(ice.selected(), None);
    for (port, bytes, expected, selected) in [
        (1, &plain, IceEvent::Selected(address(1)), 1),
        (2, &plain, IceEvent::Validated(address(2)), 1),
        (2, &plain, IceEvent::Nothing, 1),
        (2, &nominating, IceEvent::Selected(address(2)), 2),
        (2, &nominating, IceEvent::Nothing, 2),
        (1, &plain, IceEvent::Nothing, 2),
        (3, &nominating, IceEvent::Selected(address(3)), 3),
    ] {
        assert_eq!(handle(&mut ice, now, port, bytes), Ok(expected));
        assert_eq!(ice.selected(), Some(address(selected)));
    }
    assert_eq!(ice.validated().map(|a| a.remote.port()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn an_unauthenticated_request_changes_nothing_and_is_not_answered() {
    let now = Instant::now();
    let later = now + Duration::from_secs(5);
    let mut ice = ice(now);
    for (username, password, expected) in [
        ("here:there", "not the password here", DropReason::StunBadIntegrity),
        ("elsewhere:there", &credentials("here").pwd, DropReason::StunUnknownUser),
        ("her:there", &credentials("here").pwd, DropReason::StunUnknownUser),
    ] {
        assert_eq!(handle(&mut ice, later, 1, &nomination(username, password)), Err(expected));
        assert!(!ice.is_validated(address(1)));
        assert_eq!((ice.selected(), ice.last_heard()), (None, now));
    }
}

#[test]
fn validated_addresses_are_bounded_and_the_selected_one_stays() {
    let now = Instant::now();
    let mut ice = ice(now);
    let plain = plain_check("here:there", &credentials("here").pwd);
    for port in 1..=20 {
        let at = now + Duration::from_secs(u64::from(port));
        handle(&mut ice, at, port, &plain).unwrap();
        ice.heard_media(at, address(1));
    }
    assert_eq!(ice.validated().map(|a| a.remote.port()).collect::<Vec<_>>(), [1, 14, 15, 16, 17, 18, 19, 20]);
    assert_eq!(ice.selected(), Some(address(1)));
}

#[test]
fn a_restart_keeps_the_old_credentials_until_the_new_ones_are_used() {
    let now = Instant::now();
    let mut ice = ice(now);
    let old = nomination("here:there", &credentials("here").pwd);
    let new = nomination("new:newer", &credentials("new").pwd);
    let unused = nomination("unused:x", &credentials("unused").pwd);
    assert_eq!(handle(&mut ice, now, 1, &new), Err(DropReason::StunUnknownUser));
    handle(&mut ice, now, 1, &old).unwrap();

    ice.restart(credentials("unused"), credentials("x"));
    ice.restart(credentials("new"), credentials("newer"));
    assert_eq!((ice.local().ufrag.as_str(), ice.previous_ufrag()), ("new", Some("here")));
    assert_eq!(handle(&mut ice, now, 2, &old), Ok(IceEvent::Selected(address(2))));
    assert_eq!(handle(&mut ice, now, 2, &unused), Err(DropReason::StunUnknownUser));
    assert_eq!(handle(&mut ice, now, 3, &new), Ok(IceEvent::Selected(address(3))));
    assert_eq!(ice.previous_ufrag(), None);
    assert_eq!(handle(&mut ice, now, 2, &old), Err(DropReason::StunUnknownUser));
    assert!(ice.is_validated(address(1)), "media of before the restart is still taken");
}

#[test]
fn a_client_that_believes_to_be_controlled_is_told_and_not_believed() {
    let now = Instant::now();
    let mut ice = ice(now);
    let password = credentials("here").pwd;
    let bytes = check("here:there", &password, vec![Box::new(AttrControlled(7)), Box::new(UseCandidateAttr)]);
    let mut out = [0; MAX_RESPONSE];
    let (len, event) = ice.handle_request(now, address(1), &stun::parse(&bytes).unwrap(), &mut out).unwrap();
    assert_eq!((event, ice.selected()), (IceEvent::Nothing, None));
    assert_eq!(out[..2], [0x01, 0x11]);
    assert!(out[..len].windows(17).any(|window| window == [&[0, 0, 4, 87][..], b"Role Conflict"].concat()));
}

#[test]
fn consent_times_out_from_the_last_valid_request() {
    let now = Instant::now();
    let limit = Duration::from_secs(30);
    let mut ice = ice(now);
    let plain = plain_check("here:there", &credentials("here").pwd);
    handle(&mut ice, now + Duration::from_secs(20), 1, &plain).unwrap();
    for (seconds, expected) in [(0, false), (49, false), (50, true)] {
        assert_eq!(ice.timed_out(now + Duration::from_secs(seconds), limit), expected, "{seconds} s");
    }
}

#[test]
fn credentials_are_long_enough_made_of_ice_chars_and_repeatable() {
    let make = |seed| generate_credentials(&mut StdRng::seed_from_u64(seed));
    let made = make(1);
    assert_eq!((made.ufrag.len(), made.pwd.len()), (UFRAG_LEN, PWD_LEN));
    assert!(made.ufrag.bytes().chain(made.pwd.bytes()).all(|byte| ICE_CHARS.contains(&byte)));
    assert_eq!(made, make(1));
    assert_ne!(made, make(2));
}

#[test]
fn an_address_that_is_heard_takes_the_place_of_one_that_fell_silent_without_being_nominated() {
    let t0 = Instant::now();
    let mut ice = ice(t0);
    let (nominated, plain) =
        (nomination("here:there", &credentials("here").pwd), plain_check("here:there", &credentials("here").pwd));
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    assert_eq!(handle(&mut ice, at(0), 1, &nominated), Ok(IceEvent::Selected(address(1))));
    assert_eq!(handle(&mut ice, at(100), 2, &plain), Ok(IceEvent::Validated(address(2))));
    ice.heard_media(at(1_000), address(1));
    assert_eq!(handle(&mut ice, at(3_000), 2, &plain), Ok(IceEvent::Nothing));
    assert_eq!(handle(&mut ice, at(3_500), 2, &plain), Ok(IceEvent::Selected(address(2))));
    // One that nobody has authenticated is not taken for heard.
    ice.heard_media(at(9_000), address(3));
    assert_eq!(ice.selected(), Some(address(2)));
}

#[test]
fn of_two_pairs_nominated_in_turn_the_one_of_higher_priority_is_used() {
    let t0 = Instant::now();
    let mut ice = ice(t0);
    let of = |priority: u32| {
        let more: Vec<Box<dyn Setter>> =
            vec![Box::new(AttrControlling(7)), Box::new(UseCandidateAttr), Box::new(PriorityAttr(priority))];
        check("here:there", &credentials("here").pwd, more)
    };
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    assert_eq!(handle(&mut ice, at(0), 1, &of(900)), Ok(IceEvent::Selected(address(1))));
    assert_eq!(handle(&mut ice, at(50), 2, &of(100)), Ok(IceEvent::Validated(address(2))));
    assert_eq!(handle(&mut ice, at(500), 2, &of(100)), Ok(IceEvent::Nothing));
    assert_eq!(handle(&mut ice, at(600), 3, &of(950)), Ok(IceEvent::Selected(address(3))));
    // The client has changed its mind: the other pair alone is nominated now.
    assert_eq!(handle(&mut ice, at(3_000), 2, &of(100)), Ok(IceEvent::Selected(address(2))));
}

#[test]
fn after_a_restart_a_silent_address_gives_way_at_once_and_one_that_is_heard_does_not() {
    let t0 = Instant::now();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    for (heard_until, checked, expected) in [
        (1_000, 1_400, IceEvent::Validated(address(2))),
        (1_000, 1_500, IceEvent::Selected(address(2))),
        (3_000, 3_100, IceEvent::Validated(address(2))),
    ] {
        let mut ice = ice(t0);
        let old = nomination("here:there", &credentials("here").pwd);
        assert_eq!(handle(&mut ice, at(0), 1, &old), Ok(IceEvent::Selected(address(1))));
        ice.restart(credentials("new"), credentials("newer"));
        ice.heard_media(at(heard_until), address(1));
        let new = plain_check("new:newer", &credentials("new").pwd);
        assert_eq!(handle(&mut ice, at(checked), 2, &new), Ok(expected), "{heard_until} {checked}");
    }
}

/// Found with Chromium after an outage of two seconds: it checked a new address with its new credentials and the server's old ones,
/// paired before the answer to its restart came and kept after that, and refused the server's checks, which had the new
/// ones. It was sent to the old address for ten seconds, and its feedback from the new one did not count.
#[test]
fn an_address_is_proven_in_the_credentials_that_the_client_names_after_a_restart() {
    let t0 = Instant::now();
    let at = |ms: u64| t0 + Duration::from_millis(ms);
    for (named, expected) in
        [("here:newer", ("newer", "here")), ("new:newer", ("newer", "new")), ("here:there", ("there", "here"))]
    {
        let mut ice = ice(t0);
        let old = nomination("here:there", &credentials("here").pwd);
        assert_eq!(handle(&mut ice, at(0), 1, &old), Ok(IceEvent::Selected(address(1))));
        ice.settle(Some(address(1)));
        ice.restart(credentials("new"), credentials("newer"));
        let (ours, _) = named.split_once(':').unwrap();
        let request = nomination(named, &credentials(ours).pwd);
        assert_eq!(handle(&mut ice, at(100), 2, &request), Ok(IceEvent::Validated(address(2))), "not proven yet");

        let mut out = [0; MAX_CHECK];
        let len = ice.check(at(100), address(2), [7; 12], &mut out).unwrap();
        let check = stun::parse(&out[..len]).unwrap();
        let (theirs, ours) = expected;
        assert_eq!((check.local_ufrag(), check.remote_ufrag()), (theirs.as_bytes(), ours.as_bytes()), "{named}");
        let key = StunKey::new(&credentials(theirs).pwd);
        assert!(check.verify(&key), "{named}");
        let mut response = [0; MAX_RESPONSE];
        let len = check.respond(&key, address(9).remote, &mut response);
        let answer = stun_check::read(&response[..len]).unwrap();
        assert_eq!(ice.handle_answer(at(120), address(2), &answer), Ok(IceEvent::Selected(address(2))), "{named}");
        assert_eq!(ice.selected(), Some(address(2)), "{named}");
    }
}

#[test]
fn a_connection_does_not_go_on_in_another_process_and_addresses_do() {
    let now = Instant::now();
    let connection = AddressPair { local: Local::Connection(7), ..address(1) };
    let moved = |nominated: AddressPair| {
        let mut ice = ice(now);
        for from in [connection, address(2)] {
            handle_from(&mut ice, now, from, &plain_check("here:there", &credentials("here").pwd)).unwrap();
        }
        ice.settle(Some(nominated));
        handle_from(&mut ice, now, nominated, &nomination("here:there", &credentials("here").pwd)).unwrap();
        assert_eq!(ice.selected(), Some(nominated));
        IceLite::take_over(now, (credentials("here"), credentials("there")), ice.state(now)).unwrap()
    };
    let ice = moved(connection);
    assert_eq!((ice.selected(), ice.validated().collect::<Vec<_>>()), (None, vec![address(2)]));
    assert_eq!(moved(address(2)).selected(), Some(address(2)));
}

#[test]
fn a_client_goes_from_datagrams_to_a_connection_to_another_one_and_back_as_it_nominates() {
    let t0 = Instant::now();
    let mut ice = ice(t0);
    let (udp, one, two) = (address(1), Local::Connection(7), Local::Connection(8));
    // From the very same address and port: the connection makes it another way.
    let (one, two) = (AddressPair { local: one, ..udp }, AddressPair { local: two, ..udp });
    let password = credentials("here").pwd;
    let (plain, nominated) = (plain_check("here:there", &password), nomination("here:there", &password));
    for (seconds, from, bytes, expected) in [
        (0, udp, &nominated, udp),
        // Kept in reserve, as browsers do.
        (1, one, &plain, udp),
        (5, one, &nominated, one),
        (6, udp, &plain, one),
        (10, two, &nominated, two),
        // The first connection has ended, and its number names nothing any more.
        (20, udp, &nominated, udp),
        (21, two, &plain, udp),
        // And again without a word where datagrams are lost for a while.
        (24, two, &plain, two),
    ] {
        let at = t0 + Duration::from_secs(seconds);
        ice.heard_media(at, from);
        handle_from(&mut ice, at, from, bytes).unwrap();
        assert_eq!(ice.selected(), Some(expected), "after {seconds} s");
    }
    assert_eq!(ice.validated().collect::<Vec<_>>(), [udp, one, two]);
}
