//! Frames and datagrams, there and back, and what is not believed.

use super::*;
use crate::drops::DropReason;
use crate::rtp::extension::KeptExtensions;

const SECRET: [u8; 32] = [7; 32];
const A: Place = Place { run: 1, shard: 0 };
const B: Place = Place { run: 1, shard: 1 };
const STREAM: Stream = Stream { handle: 1 << 33 | 5, layer: 2 };

fn media(payload: &[u8]) -> Media<'_> {
    Media {
        stream: STREAM,
        restarts: 3,
        goes_on: false,
        again: true,
        marker: true,
        hop: false,
        is_red: true,
        index: (1 << 48) - 2,
        timestamp: 90_000,
        kept: KeptExtensions { audio_level: Some(30), orientation: None, playout_delay: Some([1, 2, 3]) },
        descriptor: &[9, 8],
        payload,
    }
}

fn frames() -> [Frame<'static>; 9] {
    [
        Frame::Media(media(b"payload")),
        Frame::Media(Media { kept: KeptExtensions::default(), descriptor: &[], hop: true, ..media(b"") }),
        Frame::Missing { stream: STREAM, first: 70_000, others: 1 << 63 | 1 },
        Frame::Want { handle: 4, layers: 0b101, useful: 0b111, room: 700 },
        Frame::Key(STREAM),
        Frame::Clock { stream: STREAM, ntp: 5 << 32, timestamp: 6, age_ms: 700 },
        Frame::Rates { handle: 4, kbps: [0, 150, 500, 1_500, 0, 0, 0, u32::MAX] },
        Frame::Stray { client: b"ada", is_selected: true, datagram: &[0x80, 96, 0, 1] },
        Frame::Alive { sent: 1 << 40, at: 7, echo: u32::MAX, held: 9 },
    ]
}

/// A datagram with these frames.
fn sealed(sealer: &mut Sealer, frames: &[Frame<'_>]) -> Vec<u8> {
    let mut buf = vec![0; MAX_LINK_DATAGRAM];
    let mut end = HEAD;
    for frame in frames {
        end += frame.write(&mut buf[end..]).unwrap();
    }
    let len = sealer.seal(&mut buf, end);
    buf.truncate(len);
    buf
}

#[test]
fn several_frames_share_a_datagram_with_padding_between_them() {
    let mut bytes = vec![0; 3];
    for frame in frames() {
        let mut buf = [0; 200];
        let len = frame.write(&mut buf).unwrap();
        bytes.extend_from_slice(&buf[..len]);
        bytes.extend_from_slice(&[0; 2]);
        assert_eq!(frame.write(&mut buf[..len - 1]), None, "it is not written where it does not fit");
    }
    let read: Vec<_> = Frames(&bytes).map(Result::unwrap).collect();
    assert_eq!(read, frames());
}

#[test]
fn what_is_no_frame_is_named_and_ends_the_datagram() {
    let body = |kind: u8, bytes: usize| {
        let mut frame = vec![kind];
        frame.extend_from_slice(&(bytes as u16).to_be_bytes());
        frame.resize(3 + bytes, 1);
        frame
    };
    let key_of_layer_8 = [&[4, 0, 9][..], &[0; 8], &[8]].concat();
    for (bytes, expected) in [
        (vec![1], FrameError::Short(1)),
        (vec![1, 0], FrameError::Short(2)),
        (vec![1, 0, 9, 1], FrameError::Short(4)),
        (body(7, 1), FrameError::Length { kind: 7, bytes: 1 }),
        (vec![7, 0, 3, 1, 2, 9], FrameError::Length { kind: 7, bytes: 3 }),
        (body(8, 19), FrameError::Length { kind: 8, bytes: 19 }),
        (body(8, 21), FrameError::Length { kind: 8, bytes: 21 }),
        (body(9, 4), FrameError::UnknownKind(9)),
        (body(1, 21), FrameError::Length { kind: 1, bytes: 21 }),
        (body(2, 22), FrameError::Length { kind: 2, bytes: 22 }),
        (body(2, 24), FrameError::Length { kind: 2, bytes: 24 }),
        (body(3, 8), FrameError::Length { kind: 3, bytes: 8 }),
        (body(6, 41), FrameError::Length { kind: 6, bytes: 41 }),
        (key_of_layer_8, FrameError::Layer(8)),
    ] {
        let mut frames = Frames(&bytes);
        assert_eq!(frames.next(), Some(Err(expected)), "{bytes:?}");
        assert_eq!(frames.next(), None);
    }
}

#[test]
fn a_datagram_opens_once_at_the_place_that_it_is_for() {
    let (mut sealer, mut opener) = (Sealer::new(&SECRET, A, B), Opener::new(&SECRET, A, B));
    let first = sealed(&mut sealer, &frames());
    let second = sealed(&mut sealer, &frames()[3..]);
    assert_ne!(first[HEAD..], sealed(&mut sealer, &frames())[HEAD..]);
    let mut open = |datagram: &[u8]| {
        let mut datagram = datagram.to_vec();
        opener.open(&mut datagram).map(|frames| Frames(frames).filter(Result::is_ok).count())
    };
    assert_eq!(open(&second), Ok(6));
    assert_eq!(open(&first), Ok(9));
    assert_eq!(open(&first), Err(DropReason::LinkReplay));
}

#[test]
fn a_datagram_with_another_key_run_direction_or_byte_does_not_open_and_leaves_no_trace() {
    let good = sealed(&mut Sealer::new(&SECRET, A, B), &frames());
    let mut opener = Opener::new(&SECRET, A, B);
    let older = Place { run: 0, ..A };
    for (what, mut datagram, expected) in [
        ("another secret", sealed(&mut Sealer::new(&[8; 32], A, B), &frames()), DropReason::LinkBadTag),
        ("an older run", sealed(&mut Sealer::new(&SECRET, older, B), &frames()), DropReason::LinkBadTag),
        ("the way back", sealed(&mut Sealer::new(&SECRET, B, A), &frames()), DropReason::LinkBadTag),
        ("cut short", good[..good.len() - 1].to_vec(), DropReason::LinkBadTag),
        ("without frames or tag", good[..OVERHEAD - 1].to_vec(), DropReason::LinkMalformed),
        ("nothing", Vec::new(), DropReason::LinkMalformed),
        ("enormous", [&good[..], &[0; 65_000]].concat(), DropReason::LinkBadTag),
        ("another epoch", [&[MARK, 2][..], &good[2..]].concat(), DropReason::LinkBadTag),
        ("another counter", [&good[..11], &[9], &good[12..]].concat(), DropReason::LinkBadTag),
    ] {
        assert_eq!(opener.open(&mut datagram).unwrap_err(), expected, "{what}");
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(opener.open(&mut changed).is_err(), "byte {at}");
    }
    assert!(opener.open(&mut good.clone()).is_ok());
}

#[test]
fn a_link_opens_what_either_of_two_secrets_has_sealed_and_each_datagram_once() {
    let (old, new) = ([1; 32], [2; 32]);
    // How many of three datagrams, of a secret that is known and of a strange one in turn, open; and again.
    let opens = |secret: &[u8; 32], further: &[[u8; 32]], sealed_with: &[u8; 32]| {
        let (mut sealer, mut stranger) = (Sealer::new(sealed_with, A, B), Sealer::new(&[3; 32], A, B));
        let mut opener = Opener::believing(secret, further, A, B);
        let datagrams = [0; 3].map(|_| [sealed(&mut stranger, &frames()), sealed(&mut sealer, &frames())]);
        let mut open = |datagram: &Vec<u8>| {
            let mut datagram = datagram.clone();
            opener.open(&mut datagram).is_ok_and(|opened| Frames(opened).filter(Result::is_ok).count() == 9)
        };
        let mut all = || datagrams.iter().flatten().filter(|datagram| open(datagram)).count();
        (all(), all())
    };
    for (secret, further, sealed_with, expected) in [
        (&old, &[][..], &old, 3),
        (&old, &[new][..], &old, 3),
        (&old, &[new][..], &new, 3),
        (&new, &[old][..], &old, 3),
        (&new, &[old][..], &new, 3),
        (&new, &[][..], &new, 3),
        (&new, &[][..], &old, 0),
        (&old, &[][..], &new, 0),
    ] {
        let said = (secret[0], further.len(), sealed_with[0]);
        assert_eq!(opens(secret, further, sealed_with), (expected, 0), "{said:?}");
    }
}
