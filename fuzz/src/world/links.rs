//! What another shard sends over its link: media and what is asked of it, authentic and never so meant.

use moonring_wire::link::{Frame, HEAD, MAX_LINK_DATAGRAM, Media, OVERHEAD, Stream};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::rtp::extension::KeptExtensions;

use super::{PANICS, POLICY, Parts, joined};
use crate::sim::World;
use crate::sim::places::{over_three_shards, sealer};

/// Datagrams of one input.
const MOST: usize = 40;
/// Datagrams that a shard has sent before, at most: numbers up to here count as replayed.
const BEFORE: usize = 4_000;

/// Ada publishes at shard 0, Bob at shard 1 and Carol at shard 2 receive that.
fn scene() -> World {
    over_three_shards();
    let mut world = World::ruled(1, POLICY);
    let members = ["ada", "bob", "carol"].map(|name| world.join(name));
    for codec in [Vp8, Opus] {
        let track = world.publish(members[0], codec);
        world.subscribe(members[1], &track, codec);
        world.subscribe(members[2], &track, codec);
    }
    world.run_ms(300);
    world
}

/// Steps, each behind a byte: frames go from Ada's shard to Bob's or the other way, in one datagram, or time passes. Nobody's
/// session ends, and all tables agree.
pub(super) fn links(bytes: &[u8]) {
    let mut world = scene();
    let mut sealers = [(0, 1), (1, 0)].map(|(from, to)| (from, to, sealer(from, to)));
    for (_, _, sealer) in &mut sealers {
        (0..BEFORE).for_each(|_| _ = sealer.seal(&mut [0; OVERHEAD], HEAD));
    }
    for part in Parts(bytes).take(MOST) {
        let Some((kind, frames)) = part.split_first() else { continue };
        let Some((from, to, sealer)) = sealers.get_mut(usize::from(*kind)) else {
            world.run_ms(u64::from(*kind));
            continue;
        };
        let mut datagram = vec![0; HEAD + frames.len() + OVERHEAD];
        datagram[HEAD..HEAD + frames.len()].copy_from_slice(frames);
        let len = sealer.seal(&mut datagram, HEAD + frames.len());
        world.inject_over_link(*from, *to, &datagram[..len]);
    }
    world.run_ms(300);
    for place in 0..3 {
        assert_eq!(world.shard_at(place).counters().panics, 0, "{PANICS}");
    }
    assert_eq!(world.audit(), Vec::<String>::new(), "the tables do not agree");
    assert!((0..3).all(|who| world.left(who).is_none()), "somebody's session ended");
}

pub(super) fn links_seeds() -> Vec<Vec<u8>> {
    // Keys of slots begin with generation 1 at place 1.
    let [video, sound] = [1, 2].map(|slot| Stream { handle: 1 << 32 | slot, layer: 0 });
    let kept = KeptExtensions { audio_level: Some(30), orientation: Some(1), playout_delay: Some([1, 2, 3]) };
    let media = Media {
        stream: video,
        restarts: 0,
        goes_on: true,
        again: false,
        marker: true,
        hop: false,
        is_red: false,
        index: 70_000,
        timestamp: 90_000,
        kept,
        descriptor: &[],
        payload: &[0x90, 0xE0, 0x81, 0x23, 5, 0x20, 0, 0, 0, 1, 2, 3],
    };
    let there = [
        Frame::Media(media),
        Frame::Media(Media { index: 70_001, restarts: 1, goes_on: false, ..media }),
        Frame::Media(Media { index: 70_009, again: true, descriptor: &[0x80, 0, 1], ..media }),
        Frame::Media(Media { stream: sound, index: 5, payload: &[0xFC, 1, 2, 3], ..media }),
        Frame::Media(Media {
            stream: sound,
            index: 6,
            is_red: true,
            payload: &[0xEF, 0x0F, 0, 2, 111, 1, 2, 7],
            ..media
        }),
        Frame::Clock { stream: video, ntp: 5 << 32, timestamp: 6, age_ms: 7 },
        Frame::Rates { handle: video.handle, kbps: [150, 500, 1_500, 0, 0, 0, 0, 0] },
    ];
    let back = [
        Frame::Want { handle: video.handle, layers: 1, useful: 1, room: 900 },
        Frame::Missing { stream: video, first: 10, others: 5 },
        Frame::Key(video),
        Frame::Want { handle: sound.handle, layers: 0, useful: 0, room: 0 },
        Frame::Stray { client: b"ada", is_selected: false, datagram: b"datagram" },
    ];
    let written = |kind: u8, frame: &Frame<'_>| {
        let mut buf = [0; MAX_LINK_DATAGRAM];
        let len = frame.write(&mut buf).expect("it fits");
        [&[kind], &buf[..len]].concat()
    };
    let there: Vec<_> = there.iter().map(|frame| written(0, frame)).collect();
    let back: Vec<_> = back.iter().map(|frame| written(1, frame)).collect();
    let both: Vec<_> = there.iter().zip(&back).flat_map(|(a, b)| [a.clone(), vec![40], b.clone()]).collect();
    [there, back, both].iter().map(|parts| joined(parts.iter().map(Vec::as_slice))).collect()
}
