//! A switch to a layer whose encoder makes no pictures for a while behind a key frame, as those of browsers do.

use std::time::{Duration, Instant};

use moonring_wire::id::{Mid, Pt, Ssrc, TrackKey};
use moonring_wire::media::CodecName;

use super::track;
use crate::room::forward::{Forward, OutgoingStream};
use crate::room::history::Packet;
use crate::room::track::{SenderClock, Track};

/// Time from one picture to the next.
const PICTURE_MS: u64 = 100;
/// In units of time stamps.
const TICKS: u32 = 9_000;
/// When both layers begin, the higher one is wanted, and both begin anew.
const BEGIN_MS: u64 = 1_000;
const SWITCH_MS: u64 = 3_000;
const END_MS: u64 = 6_000;

/// How long the lower and the higher layer pause behind their key frames.
type Pauses = (u64, u64);

/// A picture as it left: when, of which layer, with which number and time stamp.
#[derive(Clone, Copy, Debug)]
struct Left {
    at: u64,
    layer: u8,
    index: u64,
    timestamp: u32,
}

struct Scene {
    t0: Instant,
    track: Track,
    forward: Forward,
    left: Vec<Left>,
}

impl Scene {
    fn new(has_clocks: bool) -> Self {
        let (t0, mut track) = (Instant::now(), track(CodecName::Vp8, 2));
        for layer in track.layers.iter_mut().filter(|_| has_clocks) {
            layer.clock = Some(SenderClock { ntp: 1 << 40, timestamp: 0, at: t0 });
        }
        let stream = OutgoingStream { ssrc: Ssrc(9), pt: Pt(96), rtx: None, numbered: false, nack: false, red: None };
        let mut forward = Forward::new((TrackKey::default(), &track), Mid::parse("0").unwrap(), stream, 500);
        forward.set_target(&track, 0);
        Self { t0, track, forward, left: vec![] }
    }

    /// A picture of one packet of a layer comes.
    fn picture(&mut self, at: u64, layer: u8, is_key: bool) {
        let mut packet = Packet::new(self.t0 + Duration::from_millis(at));
        let n = at / PICTURE_MS;
        (packet.index, packet.timestamp, packet.marker) = (n, n as u32 * TICKS, true);
        (packet.info.key_frame, packet.info.frame_start) = (is_key, true);
        let history = &mut self.track.layers[usize::from(layer)].history;
        // Numbers without holes: what was not made has none.
        packet.index = history.end();
        history.push(packet, &[], &[layer; 20]);
    }

    fn forward(&mut self, at: u64) {
        let now = self.t0 + Duration::from_millis(at);
        while let Some((history, packet, outgoing)) = self.forward.next(now, &self.track) {
            let layer = history.payload(packet)[0];
            self.left.push(Left { at, layer, index: outgoing.index, timestamp: outgoing.timestamp });
        }
    }

    /// Both layers for a while, with key frames at the begin and when the higher one is wanted.
    fn run(&mut self, before: Pauses, now: Pauses) {
        for at in (BEGIN_MS..END_MS).step_by(PICTURE_MS as usize) {
            let (since, (low, high)) = match at.checked_sub(SWITCH_MS) {
                None => (at - BEGIN_MS, before),
                Some(since) => (since, now),
            };
            if at == SWITCH_MS {
                self.forward.set_target(&self.track, 1);
            }
            for (layer, pause) in [(0, low), (1, high)] {
                if since == 0 || since >= pause {
                    self.picture(at, layer, since == 0);
                }
            }
            self.forward(at);
        }
    }
}

#[test]
fn the_layer_below_goes_on_while_an_encoder_pauses_behind_its_key_frame() {
    for (before, now, expected) in [
        // Until it goes on, whether it is known to pause or not.
        ((100, 700), (100, 500), 500),
        ((200, 700), (200, 700), 700),
        ((700, 700), (100, 500), 500),
        ((100, 100), (100, 500), 500),
        ((100, 100), (100, 100), 100),
        // Or for no longer than its key frame is sure to be here.
        ((100, 700), (100, 2_000), 800),
        // The one below is known to pause for longer, or does so this time.
        ((900, 700), (100, 500), 0),
        ((100, 700), (900, 500), 300),
    ] {
        let mut scene = Scene::new(true);
        scene.run(before, now);
        let first = scene.left.iter().find(|left| left.layer == 1).expect("a switch");
        assert_eq!(first.at - SWITCH_MS, expected, "{before:?} {now:?}");
        let indexes: Vec<u64> = scene.left.iter().map(|left| left.index).collect();
        assert_eq!(indexes, (500..500 + indexes.len() as u64).collect::<Vec<_>>(), "{before:?} {now:?}");
        let forwards = scene.left.windows(2).all(|two| two[0].timestamp < two[1].timestamp);
        assert!(forwards, "{before:?} {now:?}: {:?}", scene.left);
        let last = scene.left.last().expect("a picture");
        assert_eq!(u64::from(last.timestamp) / u64::from(TICKS), last.at / PICTURE_MS, "time stamps are right again");
    }
}

#[test]
fn without_the_publishers_clocks_a_switch_is_at_the_key_frame() {
    let mut scene = Scene::new(false);
    scene.run((100, 700), (100, 700));
    assert_eq!(scene.left.iter().find(|left| left.layer == 1).map(|left| left.at), Some(SWITCH_MS));
}
