//! A publisher of layers, a forward that is told again and again to forward others of them, and a decoder that knows what
//! each frame needs. `LAYER_SWITCHES=1000000 cargo test --workspace layers_are_switched` goes on for longer.

mod decoder;
mod encoder;

use std::time::{Duration, Instant};

use decoder::Decoder;
use encoder::{Encoder, Mode, Sent};
use moonring_wire::id::{ClientId, ClientKey, Mid, Pt, RoomKey, Ssrc, TrackId, TrackKey};
use moonring_wire::media::{Codec, CodecName, Source, TrackInfo};
use moonring_wire::negotiate::{AnswerCodec, Feedback};
use moonring_wire::rtp::codec::inspect;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::forward::{Forward, OutgoingStream};
use super::super::history::{HistoryLimits, Packet};
use super::super::layering::Point;
use super::super::track::{Publication, Track};
use super::marker::SAME_PICTURE;

/// Time from one picture to the next.
const PICTURE: Duration = Duration::from_millis(33);

/// How packets get from the publisher to the server.
#[derive(Clone, Copy, Debug)]
struct Uplink {
    /// One in so many comes late, or not at all; 0 for none.
    late_one_in: u32,
    lost_one_in: u32,
}

const GOOD: Uplink = Uplink { late_one_in: 0, lost_one_in: 0 };
const BAD: Uplink = Uplink { late_one_in: 20, lost_one_in: 0 };
const LOSSY: Uplink = Uplink { late_one_in: 20, lost_one_in: 200 };

pub(in crate::room) fn track(codec: CodecName, encodings: usize) -> Track {
    let info = TrackInfo {
        id: TrackId::parse("t").unwrap(),
        client: ClientId::parse("alice").unwrap(),
        kind: codec.kind(),
        source: Source::Camera,
        codec,
        layers: encodings as u8,
        temporal_layers: 1,
        muted: false,
    };
    let codec = AnswerCodec {
        pt: Pt(96),
        codec: Codec { name: codec, fmtp: String::new() },
        rtx: None,
        feedback: Feedback::default(),
    };
    let publication = Publication {
        info,
        room: RoomKey::default(),
        owner: ClientKey::default(),
        mid: Mid::parse("0").unwrap(),
        codec: &codec,
        answered: vec![codec.clone()],
        layers: encodings,
        rids: &[],
        ssrcs: &[],
    };
    Track::new(publication, HistoryLimits { age: Duration::from_secs(1), bytes: 1 << 20 })
}

/// The scene.
struct Scene {
    mode: Mode,
    uplink: Uplink,
    track: Track,
    forward: Forward,
    encoders: Vec<Encoder>,
    decoder: Decoder,
    random: SmallRng,
    now: Instant,
    /// Packets that come later: the picture at which they do, the encoding, and the packet.
    late: Vec<(u64, usize, Sent)>,
    picture: u64,
    switches: usize,
    /// Packets that came and packets that left.
    came: usize,
    sent: usize,
}

impl Scene {
    fn new(mode: Mode, uplink: Uplink, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let track = track(mode.codec, mode.encodings);
        let stream = OutgoingStream::new(Ssrc(9), Pt(96));
        let first = u64::from(random.random_range(0..1_u16 << 15));
        let forward = Forward::new((TrackKey::default(), &track), Mid::parse("0").unwrap(), stream, first);
        let encoders = (0..mode.encodings).map(|n| Encoder::new(mode, n, &mut random)).collect();
        let decoder = Decoder::new(mode);
        let now = Instant::now();
        Self {
            mode,
            uplink,
            track,
            forward,
            encoders,
            decoder,
            random,
            now,
            late: vec![],
            picture: 0,
            switches: 0,
            came: 0,
            sent: 0,
        }
    }

    /// The publisher makes a picture, and what has come of it and of earlier ones is forwarded.
    fn picture(&mut self) {
        self.picture += 1;
        self.now += PICTURE;
        let waits = self.forward.waits_for_key_frame() || self.forward.waits_for_spatial_layer(&self.track);
        for n in 0..self.encoders.len() {
            let is_asked = n == usize::from(self.forward.target()) && waits && self.random.random_ratio(1, 2);
            let packets = self.random.random_range(1..3);
            let sent = self.encoders[n].picture(is_asked, packets, &mut self.random);
            self.decoder.knows(&sent);
            for packet in sent {
                let Uplink { late_one_in, lost_one_in } = self.uplink;
                if lost_one_in > 0 && self.random.random_ratio(1, lost_one_in) {
                    self.decoder.lost(packet.frame);
                    continue;
                }
                if late_one_in > 0 && self.random.random_ratio(1, late_one_in) {
                    let at = self.picture + self.random.random_range(1..8);
                    self.late.push((at, n, packet));
                    continue;
                }
                self.receive(n, &packet);
            }
        }
        let (due, rest) = std::mem::take(&mut self.late).into_iter().partition(|(at, _, _)| *at <= self.picture);
        self.late = rest;
        let due: Vec<(u64, usize, Sent)> = due;
        for (_, n, packet) in due {
            self.receive(n, &packet);
        }
    }

    fn receive(&mut self, n: usize, sent: &Sent) {
        self.came += 1;
        let mut packet = Packet::new(self.now);
        (packet.index, packet.timestamp, packet.marker) = (sent.index, sent.timestamp, sent.marker);
        let descriptor = (!sent.descriptor.is_empty()).then_some(&sent.descriptor[..]);
        packet.info = inspect(self.mode.codec, &sent.payload, descriptor);
        let layer = &mut self.track.layers[n];
        layer.count(self.now, sent.payload.len());
        layer.look_inside(&mut packet, &sent.descriptor, sent.payload.len());
        layer.history.push(packet, &sent.descriptor, &sent.payload);
        // Sometimes several packets wait, sometimes one.
        if self.random.random_ratio(1, 3) {
            self.forward();
        }
    }

    fn forward(&mut self) {
        while let Some((history, packet, outgoing)) = self.forward.next((self.now, true), &self.track) {
            let mut payload = history.payload(packet).to_vec();
            let mut descriptor = history.descriptor(packet).to_vec();
            outgoing.pictures.apply(self.mode.codec, &mut payload);
            outgoing.pictures.apply_to_descriptor(&mut descriptor);
            self.sent += 1;
            self.decoder.take(&outgoing, &payload, &descriptor);
            let again = self.forward.find_sent(&self.track, outgoing.index as u16);
            assert_eq!(again.map(|(_, _, again)| again), Some(outgoing), "as it would be sent again");
        }
    }

    /// Nothing comes for so long that nothing waits for it any more.
    fn forward_what_waits(&mut self) {
        self.now += SAME_PICTURE;
        self.forward();
    }

    /// Another choice of layers.
    fn switch(&mut self) {
        let spatial = self.random.random_range(0..self.mode.spatial);
        let temporal = self.random.random_range(0..self.mode.temporal);
        let open = |n: u8, of: u8| if n + 1 == of { u8::MAX } else { n };
        let point = Point { spatial: open(spatial, self.mode.spatial), temporal: open(temporal, self.mode.temporal) };
        let layer = self.random.random_range(0..self.mode.encodings) as u8;
        if (layer, point) != (self.forward.target(), self.forward.point()) {
            self.forward.set_target(&self.track, layer);
            self.forward.set_point(point);
            self.switches += 1;
        }
    }
}

fn switches() -> usize {
    std::env::var("LAYER_SWITCHES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// Switches layers as often as is asked for, a picture or some after the other, and has the decoder look at what came.
fn check(mode: Mode, uplink: Uplink) {
    let mut scene = Scene::new(mode, uplink, 7);
    let wanted = switches();
    while scene.switches < wanted {
        for _ in 0..scene.random.random_range(1..8) {
            scene.picture();
            scene.forward();
        }
        scene.switch();
        scene.decoder.check_old();
    }
    scene.decoder.check_variety(wanted);
    // A packet that comes late may be the one that would have said that it is the last.
    let tolerated = if uplink.late_one_in > 0 { wanted / 200 } else { 0 };
    assert!(scene.decoder.without_marker <= tolerated, "{}", scene.decoder.without_marker);
    // A choice takes effect: everything comes, and then no more than the lowest layers.
    for temporal in [u8::MAX, 0] {
        scene.uplink = GOOD;
        scene.forward.set_point(Point { spatial: temporal, temporal });
        for n in 0..40 {
            scene.picture();
            scene.forward();
            if n == 20 {
                scene.forward_what_waits();
                scene.decoder.check_all();
                scene.decoder.seen.clear();
            }
        }
        scene.forward_what_waits();
        scene.decoder.check_all();
        let highest = scene.decoder.seen.keys().max().copied();
        let (s, t) = if temporal == 0 { (0, 0) } else { (scene.mode.spatial - 1, scene.mode.temporal - 1) };
        assert_eq!(highest, Some((s, t)), "{:?}", scene.decoder.seen);
    }
}

macro_rules! layers_are_switched_without_a_gap_that_breaks_decoding {
    ($($name:ident: $mode:expr, $uplink:expr;)*) => {
        mod layers_are_switched_without_a_gap_that_breaks_decoding {
            use super::*;

            $(#[test]
            fn $name() {
                check($mode, $uplink);
            })*
        }
    };
}

layers_are_switched_without_a_gap_that_breaks_decoding! {
    vp8: Mode::flat(CodecName::Vp8, 2, false), GOOD;
    vp8_with_late_packets: Mode::flat(CodecName::Vp8, 1, false), BAD;
    vp9: Mode::spatial(CodecName::Vp9, false, false), GOOD;
    vp9_with_late_packets: Mode::spatial(CodecName::Vp9, false, false), BAD;
    vp9_whose_layers_are_independent: Mode::spatial(CodecName::Vp9, true, false), GOOD;
    vp9_with_descriptors: Mode::spatial(CodecName::Vp9, true, true), BAD;
    vp9_with_dropped_frames: Mode::short_of_bits(CodecName::Vp9), GOOD;
    vp9_with_dropped_frames_and_late_packets: Mode::short_of_bits(CodecName::Vp9), BAD;
    vp9_with_dropped_frames_and_lost_packets: Mode::short_of_bits(CodecName::Vp9), LOSSY;
    av1: Mode::spatial(CodecName::Av1, false, true), GOOD;
    av1_whose_layers_are_independent: Mode::spatial(CodecName::Av1, true, true), BAD;
    av1_simulcast: Mode::flat(CodecName::Av1, 3, true), GOOD;
    h264: Mode::flat(CodecName::H264, 2, false), GOOD;
    h264_with_late_packets: Mode::flat(CodecName::H264, 1, false), BAD;
    vp8_with_lost_packets: Mode::flat(CodecName::Vp8, 1, false), LOSSY;
    av1_with_lost_packets: Mode::spatial(CodecName::Av1, false, true), LOSSY;
}

#[test]
fn an_encoding_is_forwarded_as_it_is_while_everything_is_wanted() {
    for mode in [Mode::flat(CodecName::Vp8, 1, false), Mode::spatial(CodecName::Vp9, true, false)] {
        let mut scene = Scene::new(mode, GOOD, 3);
        for _ in 0..200 {
            scene.picture();
            scene.forward();
        }
        scene.decoder.check_all();
        assert_eq!(scene.sent, scene.came);
    }
}

#[test]
fn a_packet_that_came_too_late_to_be_left_out_without_a_gap_leaves_empty() {
    let mut scene = Scene::new(Mode::flat(CodecName::Vp8, 1, false), GOOD, 4);
    for _ in 0..8 {
        scene.picture();
        scene.forward();
    }
    scene.forward.set_point(Point { spatial: 0, temporal: 0 });
    scene.uplink = BAD;
    for _ in 0..400 {
        scene.picture();
        scene.forward();
    }
    assert!(scene.decoder.fillers > 5, "{}", scene.decoder.fillers);
    scene.decoder.check_all();
}

#[test]
fn a_choice_takes_effect_after_the_publishers_time_stamps_have_jumped() {
    for hours in [-1, 10] {
        let mut scene = Scene::new(Mode::flat(CodecName::Vp8, 1, false), GOOD, 5);
        let pictures = |scene: &mut Scene| {
            for _ in 0..40 {
                scene.picture();
                scene.forward();
            }
        };
        pictures(&mut scene);
        scene.encoders[0].jump(hours * 3_600 * 90_000);
        scene.decoder.forget_time();
        for temporal in [0, u8::MAX] {
            scene.forward.set_point(Point { spatial: 0, temporal });
            pictures(&mut scene);
            scene.decoder.check_all();
            scene.decoder.seen.clear();
            pictures(&mut scene);
            scene.decoder.check_all();
            let highest = scene.decoder.seen.keys().max().copied();
            assert_eq!(highest, Some((0, temporal.min(2))), "{hours} h: {:?}", scene.decoder.seen);
        }
    }
}

#[test]
fn time_stamps_go_on_behind_a_pause_of_any_length() {
    for hours in [1, 10, 14, 100] {
        let mut scene = Scene::new(Mode::flat(CodecName::Vp8, 1, false), GOOD, 6);
        scene.picture();
        scene.forward();
        let before = scene.forward.last_timestamp().unwrap();
        scene.now += Duration::from_secs(hours * 3_600);
        scene.forward.restart(&scene.track);
        let sent = scene.encoders[0].picture(true, 1, &mut scene.random);
        sent.iter().for_each(|packet| scene.receive(0, packet));
        scene.forward();
        let after = scene.forward.last_timestamp().unwrap();
        assert_eq!(after.wrapping_sub(before), (hours * 3_600 * 90_000) as u32, "{hours} h");
    }
}
