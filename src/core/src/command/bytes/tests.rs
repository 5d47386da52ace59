//! Messages there and back, in pieces, and what is refused.

use super::*;
use crate::command::{
    ClientInfo, Command, ExpectedClient, FarCall, ForMoved, HomeMessage, Member, MovedClient, News, RoomEnd, SeatGiven,
    TrafficFigures,
};
use moonring_policy::client::{Announced, Connection, RightsChange};
use moonring_policy::hook::{Action, Outcome, Verdict};
use moonring_wire::id::{ClientId, Pt, TrackId};
use moonring_wire::media::{Codec, CodecName, Kind, Source, TrackInfo};
use moonring_wire::negotiate::{AnswerCodec, Feedback, IceCredentials};
use moonring_wire::rights::Rights;
use moonring_wire::shared::{Shared, SharedValue};
use serde_json::{Value, json};

fn room() -> RoomId {
    RoomId::parse("demo").unwrap()
}

fn client(name: &str) -> ClientId {
    ClientId::parse(name).unwrap()
}

fn info() -> TrackInfo {
    TrackInfo {
        id: TrackId::parse("t1").unwrap(),
        client: client("ada"),
        kind: Kind::Video,
        source: Source::Camera,
        codec: CodecName::Vp8,
        layers: 3,
        temporal_layers: 2,
        muted: false,
    }
}

fn track(place: u16) -> FarTrack {
    let codec = Codec { name: CodecName::Vp8, fmtp: "max-fs=12288".to_owned() };
    let codec = AnswerCodec { pt: Pt(96), codec, rtx: Some(Pt(97)), feedback: Feedback::default() };
    FarTrack { info: info(), place: PlaceId(place), handle: 1 << 40 | 7, codec, encodings: 3, moves: 1 }
}

fn who(name: &str) -> ClientInfo {
    let metadata = SharedValue::from(json!({ "name": name, "deep": [[[1, 2.5, null]]] }));
    ClientInfo { client: client(name), metadata, attributes: SharedValue::empty_object() }
}

fn outcome() -> Outcome {
    let id = || client("ada");
    let actions = vec![
        Action::Kick { client: id(), reason: "Out".to_owned() },
        Action::Send { client: id(), value: deep(100) },
        Action::Broadcast { value: json!("\u{1F600}"), except: Some(id()) },
        Action::SetRights { client: id(), change: RightsChange::default(), reason: String::new() },
        Action::SetAudioLastN { n: None },
        Action::Announce { who: Announced::Publishers },
    ];
    let verdict = Verdict::Reject("No".to_owned());
    Outcome { verdict, actions, failed: false, missing: true, refused: None, answer: Some(json!(1)) }
}

/// So many lists in each other: as deep as a message of a client may be.
fn deep(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| json!([inner]))
}

/// One of each, and the places that they name.
pub(super) fn all() -> Vec<PlaceMessage> {
    let connect = FarCall::Connect {
        client: client("ada"),
        connection: Box::new(Connection::from([192, 0, 2, 1])),
        metadata: json!({ "name": "Ada" }).into(),
        auth_token: "secret".to_owned(),
    };
    let roster = Roster {
        clients: vec![who("ada"), who("bob")],
        tracks: vec![track(2), track(0)],
        announcing: Some(Announced::All),
        loudest: Some(vec![info().id]),
        speakers: vec![client("bob")],
    };
    let seat = Some(SeatGiven { identity: Some("Ada".to_owned()), came_early: true });
    let messages = vec![
        PlaceMessage::Attach { home: None, anew: false },
        PlaceMessage::Attach { home: Some(PlaceId(2)), anew: true },
        PlaceMessage::Asked { ticket: Some(u64::MAX), call: Box::new(connect) },
        PlaceMessage::Asked { ticket: None, call: Box::new(FarCall::Published(info())) },
        PlaceMessage::Asked {
            ticket: Some(1),
            call: Box::new(FarCall::Message { client: client("ada"), message: deep(120) }),
        },
        PlaceMessage::Traffic(vec![(client("ada"), TrafficFigures::default())]),
        PlaceMessage::Loudness(vec![(info().id, 101.25)]),
        PlaceMessage::Gone(client("ada")),
        PlaceMessage::Detach,
        PlaceMessage::Roster(Box::new(roster)),
        PlaceMessage::Decided { ticket: 7, outcome: Box::new(outcome()), seat, full: None },
        PlaceMessage::Act(outcome().actions),
        PlaceMessage::Loudest(None),
        PlaceMessage::Ended(RoomEnd::Closed("closed".to_owned())),
        PlaceMessage::News(Shared::new(News::ClientJoined(who("eve")))),
        PlaceMessage::News(Shared::new(News::Message(deep(100).into()))),
        PlaceMessage::Track(Box::new(track(1))),
        PlaceMessage::Lost,
        PlaceMessage::Members(Box::new(Members { clients: vec![member("ada")], tracks: vec![track(3)] })),
        PlaceMessage::Whole,
    ];
    let homes = [
        HomeMessage::Prepare,
        HomeMessage::Ready,
        HomeMessage::Take((0..=255).collect::<Vec<u8>>().into()),
        HomeMessage::Taken,
        HomeMessage::Refused("no".to_owned()),
        HomeMessage::Cancelled,
        HomeMessage::Part(vec![1, 2, 3].into()),
        HomeMessage::Moved(PlaceId(3)),
        HomeMessage::Left,
    ];
    let messages = messages.into_iter().chain(homes.map(PlaceMessage::Home));
    messages.chain(moves().into_iter().map(PlaceMessage::Move)).collect()
}

/// What is said of a client that moves.
fn moves() -> Vec<MoveMessage> {
    let ice = |ufrag: &str| IceCredentials { ufrag: ufrag.to_owned(), pwd: "secret".to_owned() };
    let expected = ExpectedClient {
        client: client("ada"),
        home: PlaceId(1),
        lead: None,
        local: ice("here"),
        remote: ice("there"),
        receives: vec![(info().id, vec![vec![1, 255], vec![]])],
    };
    let moved = MovedClient {
        client: client("ada"),
        receivers: vec![(info().id, PlaceId(1), 7, 3), (info().id, PlaceId(0), 1, 1)],
        state: (0..=255).collect::<Vec<u8>>().into(),
        stay: vec![7; 9].into(),
    };
    let message = Command::Message { client: client("ada"), value: deep(120) };
    vec![
        MoveMessage::Expect(Box::new(expected)),
        MoveMessage::Freeze(client("ada")),
        MoveMessage::Moved(Box::new(moved)),
        MoveMessage::Departed { client: client("ada"), from: PlaceId(2) },
        MoveMessage::Arrived(client("ada")),
        MoveMessage::Noted { client: client("ada"), from: PlaceId(2) },
        MoveMessage::Passed(Box::new(ForMoved::Command(Box::new(message)))),
        MoveMessage::Passed(Box::new(ForMoved::Action(Action::Send { client: client("ada"), value: deep(100) }))),
        MoveMessage::Complete(client("ada")),
    ]
}

fn member(name: &str) -> Member {
    let connection = Connection::from([192, 0, 2, 1]);
    let rights = Rights::default();
    Member { info: who(name), connection, identity: None, rights, is_hidden: false, is_announced: true }
}

fn name(id: PlaceId) -> Option<Place> {
    (id.0 < 9).then_some(Place { run: u128::MAX - 1, shard: id.0 })
}

fn written(messages: Vec<PlaceMessage>) -> Vec<Vec<u8>> {
    let (pieces, errors) = write_places(messages.into_iter().map(|message| (room(), message)).collect(), &name);
    assert!(errors.is_empty(), "{errors:?}");
    pieces
}

fn text(messages: &[(RoomId, PlaceMessage)]) -> Vec<String> {
    messages.iter().map(|(room, message)| format!("{room} {message:?}")).collect()
}

#[test]
fn every_message_is_read_as_it_was_written_with_the_readers_own_numbers_of_places() {
    let pieces = written(all());
    assert_eq!(pieces.len(), 1);
    let same = read_places(&pieces[0], &mut |place| Some(PlaceId(place.shard))).unwrap();
    let expected: Vec<_> = all().into_iter().map(|message| (room(), message)).collect();
    assert_eq!(text(&same), text(&expected));
    let other = read_places(&pieces[0], &mut |place| Some(PlaceId(place.shard + 100))).unwrap();
    let PlaceMessage::Roster(roster) = &other[9].1 else { panic!("{other:?}") };
    assert_eq!(roster.tracks.iter().map(|track| track.place.0).collect::<Vec<_>>(), [102, 100]);
    assert!(matches!(other[1].1, PlaceMessage::Attach { home: Some(PlaceId(102)), .. }));
}

#[test]
fn the_state_of_a_client_comes_as_it_was_and_unknown_receivers_of_its_tracks_are_left_out() {
    let moved = |shift: u16, lost: u16| {
        let pieces = written(moves().into_iter().map(PlaceMessage::Move).collect());
        let mut find = |place: Place| (place.shard != lost).then_some(PlaceId(place.shard + shift));
        let mut messages = read_places(&pieces[0], &mut find).unwrap_or_default().into_iter();
        messages.find_map(|(_, message)| match message {
            PlaceMessage::Move(MoveMessage::Moved(moved)) => Some(moved),
            _ => None,
        })
    };
    let places = |moved: &MovedClient| moved.receivers.iter().map(|(_, place, ..)| place.0).collect::<Vec<_>>();
    let whole = moved(50, 9).expect("it is there");
    assert_eq!((&whole.state[..], &whole.stay[..]), (&(0..=255).collect::<Vec<u8>>()[..], &[7; 9][..]));
    assert_eq!(places(&whole), [51, 50]);
    assert_eq!(places(&moved(0, 0).expect("it is there")), [1]);
    let offer = Command::CloseIfEmpty { room: room(), gives_way: false };
    let passed = PlaceMessage::Move(MoveMessage::Passed(Box::new(ForMoved::Command(Box::new(offer)))));
    let (pieces, errors) = write_places(vec![(room(), passed)], &name);
    assert!(pieces.is_empty() && matches!(errors[..], [BytesError::Malformed(_)]), "{errors:?}");
}

#[test]
fn the_state_of_a_room_goes_in_parts_that_add_up() {
    for bytes in [0, 1, 256 * 1024, 256 * 1024 + 1, 3 << 20] {
        let state: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
        let message = PlaceMessage::Home(HomeMessage::Take(state.clone().into()));
        let (pieces, errors) = write_places(vec![(room(), message)], &name);
        assert!(errors.is_empty(), "{errors:?}");
        let (mut read, mut ends) = (Vec::new(), 0);
        for (_, message) in pieces.iter().flat_map(|piece| read_places(piece, &mut |_| None).unwrap()) {
            let (part, is_last) = match message {
                PlaceMessage::Home(HomeMessage::Part(part)) => (part, false),
                PlaceMessage::Home(HomeMessage::Take(part)) => (part, true),
                other => panic!("{other:?}"),
            };
            assert_eq!(ends, 0, "nothing comes behind the last part");
            read.extend_from_slice(&part);
            ends += usize::from(is_last);
        }
        assert!(read == state && ends == 1, "{bytes}");
    }
}

#[test]
fn what_is_no_piece_is_refused_with_the_reason() {
    let piece = written(all()).remove(0);
    let mut other = piece.clone();
    other[0] = 9;
    let find = |place: Place| Some(PlaceId(place.shard));
    for (bytes, expected) in [
        (vec![], "messages between shards have version 0, this node reads version 4"),
        (other, "messages between shards have version 9, this node reads version 4"),
        (vec![4], "messages between shards cannot be read: EOF"),
        (piece[..piece.len() - 1].to_vec(), "messages between shards cannot be read: EOF"),
        (vec![4; MAX_PLACE_BYTES + 1], "messages between shards have 524289 bytes"),
        (
            b"\x04{\"places\":[],\"messages\":[[\"demo\",{\"Attach\":{\"home\":3,\"anew\":false}}]]}".to_vec(),
            "messages between shards name the place 3",
        ),
        (b"\x04{\"places\":[],\"messages\":[[\"a b\",\"Detach\"]]}".to_vec(), "messages between shards cannot be read"),
        (
            b"\x04{\"places\":[],\"messages\":[[\"demo\",{\"Move\":{}}]]}".to_vec(),
            "messages between shards cannot be read",
        ),
    ] {
        let words = read_places(&bytes, &mut find.clone()).unwrap_err().to_string();
        assert!(words.starts_with(expected), "{words}");
    }
    let unknown = read_places(&piece, &mut |place| (place.shard != 2).then_some(PlaceId(0))).unwrap_err();
    assert!(matches!(unknown, BytesError::UnknownPlace(PlaceId(2))), "{unknown}");
    assert_eq!(read_places(&empty_piece(), &mut find.clone()).unwrap().len(), 0, "it says nothing");
}

#[test]
fn a_large_roster_leaves_in_parts_and_what_is_too_long_is_told_of_and_stops_nothing() {
    let large = |n: usize| {
        let metadata = SharedValue::from(json!("x".repeat(20_000)));
        ClientInfo { client: client(&format!("c{n}")), metadata, attributes: SharedValue::empty_object() }
    };
    let clients = (0..100).map(large).collect();
    let tracks = (0..40).map(|n| track(n % 3)).collect();
    let roster = PlaceMessage::Roster(Box::new(Roster { clients, tracks, ..Roster::default() }));
    let pieces = written(vec![roster, PlaceMessage::Detach]);
    assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.len() <= MAX_PLACE_BYTES), "{}", pieces.len());
    let read = |piece: &Vec<u8>| read_places(piece, &mut |place| Some(PlaceId(place.shard))).unwrap();
    let (mut clients, mut tracks) = (0, 0);
    for (_, message) in pieces.iter().flat_map(read) {
        if let PlaceMessage::Roster(part) = message {
            (clients, tracks) = (clients + part.clients.len(), tracks + part.tracks.len());
        }
    }
    assert_eq!((clients, tracks), (100, 40));
    let clients = (0..40).map(|n| Member { info: large(n), ..member("ada") }).collect();
    let members = Members { clients, tracks: (0..40).map(|n| track(n % 3)).collect() };
    let pieces = written(vec![PlaceMessage::Members(Box::new(members)), PlaceMessage::Whole]);
    let (mut clients, mut tracks, mut last) = (0, 0, false);
    for (_, message) in pieces.iter().flat_map(read) {
        if let PlaceMessage::Members(part) = &message {
            (clients, tracks) = (clients + part.clients.len(), tracks + part.tracks.len());
        }
        last = matches!(message, PlaceMessage::Whole);
    }
    assert_eq!((clients, tracks, last), (40, 40, true));
    let long = PlaceMessage::News(Shared::new(News::Message(json!("x".repeat(MAX_PLACE_BYTES)).into())));
    let unknown = PlaceMessage::Track(Box::new(track(9)));
    let messages = [long, unknown, PlaceMessage::Detach].map(|message| (room(), message)).into();
    let (pieces, errors) = write_places(messages, &name);
    assert!(matches!(errors[..], [BytesError::Message { .. }, BytesError::UnknownPlace(PlaceId(9))]), "{errors:?}");
    assert!(matches!(read(&pieces[0])[..], [(_, PlaceMessage::Detach)]));
}
