//! Datagrams between shards.

use moonring_wire::link::{Frame, Frames, HEAD, MAX_LINK_DATAGRAM, Media, OVERHEAD, Opener, Place, Sealer, Stream};
use moonring_wire::rtp::extension::KeptExtensions;

const SECRET: [u8; 32] = [7; 32];
const A: Place = Place { run: 1, shard: 0 };
const B: Place = Place { run: 1, shard: 1 };

/// Frames, opened; each that is read is written as it was. And the same bytes as a datagram of a stranger's.
pub(super) fn link(bytes: &[u8]) {
    let mut opener = Opener::new(&SECRET, A, B);
    assert!(opener.open(&mut bytes.to_vec()).is_err(), "nobody else has the key");
    let mut frames = Vec::new();
    for frame in Frames(bytes) {
        let Ok(frame) = frame else { break };
        let mut written = vec![0; bytes.len()];
        let len = frame.write(&mut written).expect("it fits where it was");
        assert_eq!(Frames(&written[..len]).next(), Some(Ok(frame)));
        frames.push(frame);
    }
    assert!(frames.len() <= bytes.len());
    let mut sealer = Sealer::new(&SECRET, A, B);
    let mut datagram = vec![0; bytes.len() + OVERHEAD];
    datagram[HEAD..HEAD + bytes.len()].copy_from_slice(bytes);
    let len = sealer.seal(&mut datagram, HEAD + bytes.len());
    let opened = opener.open(&mut datagram[..len]).expect("it is the sender's");
    assert_eq!(opened, bytes);
}

pub(super) fn link_seeds() -> Vec<Vec<u8>> {
    let stream = Stream { handle: 1 << 32 | 3, layer: 2 };
    let kept = KeptExtensions { audio_level: Some(30), orientation: Some(1), playout_delay: Some([1, 2, 3]) };
    let media = Media {
        stream,
        restarts: 1,
        goes_on: false,
        again: true,
        marker: true,
        hop: false,
        is_red: false,
        index: 70_000,
        timestamp: 90_000,
        kept,
        descriptor: &[0x80, 0, 1],
        payload: b"payload",
    };
    let all = [
        Frame::Media(media),
        Frame::Media(Media { kept: KeptExtensions::default(), descriptor: &[], payload: &[], ..media }),
        Frame::Missing { stream, first: 70_000, others: 5 },
        Frame::Want { handle: 3, layers: 5, useful: 7, room: 900 },
        Frame::Key(stream),
        Frame::Clock { stream, ntp: 5 << 32, timestamp: 6, age_ms: 7 },
        Frame::Rates { handle: 3, kbps: [150, 500, 1_500, 0, 0, 0, 0, 0] },
        Frame::Stray { client: b"ada", is_selected: false, datagram: b"datagram" },
    ];
    let mut written = Vec::new();
    for frame in &all {
        let mut buf = [0; MAX_LINK_DATAGRAM];
        let len = frame.write(&mut buf).expect("it fits");
        written.push(buf[..len].to_vec());
    }
    let together = written.join(&[0, 0][..]);
    written.push(together);
    written
}
