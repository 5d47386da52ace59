//! One peer on an engine, with what it publishes.

use std::net::SocketAddr;
use std::time::Instant;

use moonring_wire::id::Mid;
use moonring_wire::media::{CodecName, Kind};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::EngineConfig;
use super::net::Socket;
use super::snapshot::Snapshot;
use super::viewer::{Viewer, Viewing};
use crate::media::{AudioSource, Packet, VideoSource};
use crate::peer::{Outbox, Peer, PeerEvent, RtpReceived};

/// Frames that are sent together after a delay; what is due beyond them is left out, as a camera would.
const MAX_LATE_FRAMES: usize = 4;

/// See the module's words.
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) socket: Option<Socket>,
    pub(super) scheduled: Option<Instant>,
    pub(super) connected: bool,
    pub(super) ended: bool,
    /// It says goodbye.
    is_leaving: bool,
    /// Of a subscriber that is watched.
    pub(super) viewer: Option<Viewer>,
    began: Instant,
    has_picture: bool,
    /// It has been told to move: since when, and from where.
    moving: Option<(Instant, Option<SocketAddr>)>,
    rng: SmallRng,
    tracks: Vec<Track>,
}

struct Track {
    mid: Mid,
    codec: CodecName,
    /// One for each layer, from the lowest to the highest, once it sends.
    sources: Vec<Source>,
    /// The layers that somebody receives, once that was told.
    wanted: Option<Vec<u8>>,
}

/// Whether somebody receives a layer, as far as that was told.
fn is_wanted(wanted: Option<&[u8]>, layer: u8) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(&layer))
}

impl Track {
    fn want(&mut self, layers: Vec<u8>) {
        let before = self.wanted.replace(layers);
        for (source, layer) in self.sources.iter_mut().zip(0u8..) {
            if let Source::Video(video) = source
                && !is_wanted(before.as_deref(), layer)
                && is_wanted(self.wanted.as_deref(), layer)
            {
                video.request_key_frame();
            }
        }
    }
}

enum Source {
    Video(VideoSource),
    Audio(AudioSource),
}

impl Client {
    pub(super) fn new(
        config: &EngineConfig,
        index: usize,
        (socket, viewing): (Option<Socket>, Option<Viewing>),
        began: Instant,
    ) -> Self {
        let seed = config.seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            peer: Peer::new(config.peer.clone(), seed),
            socket,
            scheduled: None,
            connected: false,
            ended: false,
            is_leaving: false,
            viewer: viewing.map(Viewer::new),
            began,
            has_picture: false,
            moving: None,
            rng: SmallRng::seed_from_u64(!seed),
            tracks: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self, config: &EngineConfig, codec: CodecName) -> Mid {
        let layers = if codec.kind() == Kind::Video { config.layers } else { 1 };
        let mid = self.peer.publish_layers(codec, layers);
        self.tracks.push(Track { mid: mid.clone(), codec, sources: Vec::new(), wanted: None });
        mid
    }

    /// Sends only these layers of a section, each from a key frame on, as client.js does.
    pub(super) fn wanted(&mut self, mid: &Mid, layers: Vec<u8>) {
        let is_meant = |track: &&mut Track| track.mid == *mid && track.codec.kind() == Kind::Video;
        if let Some(track) = self.tracks.iter_mut().find(is_meant) {
            track.want(layers);
        }
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let media = self.tracks.iter().flat_map(|track| &track.sources).map(Source::next_at).min();
        [self.peer.poll_timeout(), media].into_iter().flatten().min()
    }

    /// True when what is scheduled is too late.
    pub(super) fn is_due_earlier(&self) -> bool {
        self.peer.poll_timeout().is_some_and(|at| self.scheduled.is_none_or(|known| at < known))
    }

    /// Does what is due.
    pub(super) fn run(&mut self, config: &EngineConfig, out: &mut Outbox, snapshot: &mut Snapshot) {
        let now = Instant::now();
        self.peer.handle_timeout(now, out);
        self.take_events(config, now, snapshot);
        let mut packets: Vec<Packet> = Vec::new();
        let sources = self.tracks.iter_mut().flat_map(|track| {
            let (mid, wanted) = (&track.mid, track.wanted.as_deref());
            track.sources.iter_mut().zip(0u8..).map(move |(source, layer)| (mid, source, is_wanted(wanted, layer)))
        });
        for (mid, source, is_received) in sources {
            let mut frames = 0;
            while source.next_at() <= now {
                packets.clear();
                source.make(now, &mut packets);
                frames += 1;
                if frames > MAX_LATE_FRAMES || !is_received {
                    continue;
                }
                let sent_at = Instant::now();
                for packet in &packets {
                    if !self.peer.send(sent_at, mid, packet, out) {
                        snapshot.send_refused += 1;
                    }
                }
            }
        }
    }

    /// Notes what a subscriber that is watched sees of a packet, and asks for the key frame that it needs.
    pub(super) fn watch(&mut self, now: Instant, received: &RtpReceived, datagram: &[u8], out: &mut Outbox) {
        let Some(viewer) = &mut self.viewer else { return };
        let is_picture = |ssrc| self.peer.streams().iter().any(|s| s.ssrc() == ssrc && s.kind() == Kind::Video);
        if !is_picture(received.ssrc) {
            return viewer.take_other(datagram);
        }
        if let Some(ssrc) = viewer.take(now, received, datagram) {
            self.peer.request_key_frame(ssrc, out);
        }
    }

    /// Adds this client, which is still there, to a snapshot.
    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        snapshot.connected += u64::from(self.connected && !self.ended);
        let streams = self.peer.streams().iter().filter(|stream| !stream.is_retransmissions());
        snapshot.streams += streams.count() as u64;
        snapshot.add(&self.peer);
    }

    /// Looks for another way to the server, or to another one.
    pub(super) fn restart_ice(&mut self) {
        self.peer.restart_ice();
        self.moving = Some((Instant::now(), self.peer.server()));
    }

    /// Takes what the peer tells.
    pub(super) fn take_events(&mut self, config: &EngineConfig, now: Instant, snapshot: &mut Snapshot) {
        let server = self.peer.server();
        if let Some((began, _)) = self.moving.take_if(|(_, from)| *from != server) {
            snapshot.moved(now.saturating_duration_since(began));
        }
        while let Some(event) = self.peer.poll_event() {
            match event {
                PeerEvent::Connected => {
                    self.connected = true;
                    self.viewer.iter_mut().for_each(|viewer| viewer.connected(now));
                    snapshot.joined(now.saturating_duration_since(self.began));
                    if !config.silent {
                        self.start_sources(config, now);
                    }
                }
                PeerEvent::KeyFrameRequested(mid, layer) => {
                    let track = self.tracks.iter_mut().find(|track| track.mid == mid);
                    let source = track.and_then(|track| track.sources.get_mut(usize::from(layer)));
                    if let Some(Source::Video(video)) = source {
                        video.request_key_frame();
                    }
                }
                PeerEvent::FirstKeyFrame(_) if !self.has_picture => {
                    self.has_picture = true;
                    snapshot.first_picture(now.saturating_duration_since(self.began));
                }
                PeerEvent::FirstKeyFrame(_) => {}
                PeerEvent::Failed(reason) | PeerEvent::Closed(reason) => {
                    self.ended = true;
                    self.tracks.clear();
                    if !self.is_leaving {
                        snapshot.fail(reason);
                    }
                }
            }
        }
    }

    /// It is about to say goodbye: the server may end it before this side does.
    pub(super) fn leaves(&mut self) {
        self.is_leaving = true;
    }

    /// Cameras don't run in step: each begins somewhere within its first frame's time.
    fn start_sources(&mut self, config: &EngineConfig, now: Instant) {
        for track in &mut self.tracks {
            let phase = |seconds: f64, rng: &mut SmallRng| {
                now + std::time::Duration::from_secs_f64(seconds * rng.random::<f64>())
            };
            let mut seed = SmallRng::seed_from_u64(self.rng.random());
            let mut rng = || SmallRng::seed_from_u64(seed.random());
            track.sources = match track.codec.kind() {
                Kind::Video => {
                    // One camera's picture, in all layers.
                    let start = phase(1.0 / config.video.fps, &mut self.rng);
                    let layers = (0..config.layers).map(|layer| config.video.of_layer(layer, config.layers));
                    layers.map(|settings| Source::Video(VideoSource::new(settings, start, rng()))).collect()
                }
                Kind::Audio => {
                    let start = phase(f64::from(config.audio.packet_ms) / 1_000.0, &mut self.rng);
                    vec![Source::Audio(AudioSource::new(config.audio.clone(), start, rng()))]
                }
            };
        }
    }
}

impl Source {
    fn next_at(&self) -> Instant {
        match self {
            Self::Video(video) => video.next_at(),
            Self::Audio(audio) => audio.next_at(),
        }
    }

    fn make(&mut self, now: Instant, out: &mut Vec<Packet>) {
        match self {
            Self::Video(video) => {
                video.frame(now, out);
            }
            Self::Audio(audio) => out.push(audio.packet()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::VideoSettings;

    #[test]
    fn a_layer_that_is_wanted_again_begins_with_a_key_frame() {
        let start = Instant::now();
        let source = |layer| {
            let settings = VideoSettings { layer, ..VideoSettings::default() };
            Source::Video(VideoSource::new(settings, start, SmallRng::seed_from_u64(1)))
        };
        let mid = Mid::parse("0").unwrap();
        let mut track = Track { mid, codec: CodecName::Vp8, sources: vec![source(0), source(1)], wanted: None };
        let frames = |track: &mut Track, after: u64| {
            let made = track.sources.iter_mut().map(|source| match source {
                Source::Video(video) => video.frame(start + Duration::from_secs(after), &mut Vec::new()),
                Source::Audio(_) => unreachable!("is a video"),
            });
            made.collect::<Vec<_>>()
        };
        assert_eq!(frames(&mut track, 0), [true, true]);
        for (after, layers, keys) in
            [(1, vec![0, 1], [false, false]), (2, vec![0], [false, false]), (3, vec![0, 1], [false, true])]
        {
            track.want(layers);
            assert_eq!(frames(&mut track, after), keys, "{after}");
        }
    }
}
