//! One peer on an engine, with what it publishes.

use std::time::Instant;

use moonring_wire::id::Mid;
use moonring_wire::media::{CodecName, Kind};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::EngineConfig;
use super::net::Socket;
use super::snapshot::Snapshot;
use crate::media::{AudioSource, Packet, VideoSource};
use crate::peer::{Outbox, Peer, PeerEvent};

/// Frames that are sent together after a delay; what is due beyond them is left out, as a camera would.
const MAX_LATE_FRAMES: usize = 4;

/// See the module's words.
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) socket: Option<Socket>,
    pub(super) scheduled: Option<Instant>,
    pub(super) connected: bool,
    pub(super) ended: bool,
    began: Instant,
    has_picture: bool,
    rng: SmallRng,
    tracks: Vec<Track>,
}

struct Track {
    mid: Mid,
    codec: CodecName,
    source: Option<Source>,
}

enum Source {
    Video(VideoSource),
    Audio(AudioSource),
}

impl Client {
    pub(super) fn new(config: &EngineConfig, index: usize, socket: Option<Socket>, began: Instant) -> Self {
        let seed = config.seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            peer: Peer::new(config.peer.clone(), seed),
            socket,
            scheduled: None,
            connected: false,
            ended: false,
            began,
            has_picture: false,
            rng: SmallRng::seed_from_u64(!seed),
            tracks: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self, codec: CodecName) -> Mid {
        let mid = self.peer.publish(codec);
        self.tracks.push(Track { mid: mid.clone(), codec, source: None });
        mid
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let media = self.tracks.iter().filter_map(|track| track.source.as_ref().map(Source::next_at)).min();
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
        for track in &mut self.tracks {
            let Some(source) = &mut track.source else { continue };
            let mut frames = 0;
            while source.next_at() <= now {
                packets.clear();
                source.make(now, &mut packets);
                frames += 1;
                if frames > MAX_LATE_FRAMES {
                    continue;
                }
                let sent_at = Instant::now();
                for packet in &packets {
                    if !self.peer.send(sent_at, &track.mid, packet, out) {
                        snapshot.send_refused += 1;
                    }
                }
            }
        }
    }

    /// Adds this client, which is still there, to a snapshot.
    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        snapshot.connected += u64::from(self.connected && !self.ended);
        snapshot.streams += self.peer.streams().len() as u64;
        snapshot.add(&self.peer);
    }

    /// Takes what the peer tells.
    pub(super) fn take_events(&mut self, config: &EngineConfig, now: Instant, snapshot: &mut Snapshot) {
        while let Some(event) = self.peer.poll_event() {
            match event {
                PeerEvent::Connected => {
                    self.connected = true;
                    snapshot.joined(now.saturating_duration_since(self.began));
                    if !config.silent {
                        self.start_sources(config, now);
                    }
                }
                PeerEvent::KeyFrameRequested(mid) => {
                    let track = self.tracks.iter_mut().find(|track| track.mid == mid);
                    if let Some(Source::Video(video)) = track.and_then(|track| track.source.as_mut()) {
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
                    snapshot.fail(reason);
                }
            }
        }
    }

    /// Cameras don't run in step: each begins somewhere within its first frame's time.
    fn start_sources(&mut self, config: &EngineConfig, now: Instant) {
        for track in &mut self.tracks {
            let rng = SmallRng::seed_from_u64(self.rng.random());
            let phase = |seconds: f64, rng: &mut SmallRng| {
                now + std::time::Duration::from_secs_f64(seconds * rng.random::<f64>())
            };
            track.source = Some(match track.codec.kind() {
                Kind::Video => {
                    let start = phase(1.0 / config.video.fps, &mut self.rng);
                    Source::Video(VideoSource::new(config.video.clone(), start, rng))
                }
                Kind::Audio => {
                    let start = phase(f64::from(config.audio.packet_ms) / 1_000.0, &mut self.rng);
                    Source::Audio(AudioSource::new(config.audio.clone(), start, rng))
                }
            });
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
