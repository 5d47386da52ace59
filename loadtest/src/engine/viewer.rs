//! What a subscriber behind a link sees: pictures when they are complete and can be decoded, their layer, freezes.

use std::time::{Duration, Instant};

use moonring_wire::id::Ssrc;
use moonring_wire::media::CodecName;
use moonring_wire::rtp::codec;

use super::screen::{Piece, STAYS, Screen, Watch};
use crate::peer::RtpReceived;

/// Streams of pictures that one subscriber watches; of more nothing is told.
const MAX_SCREENS: usize = 256;

/// Where a subscriber is, and what it should get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewing {
    /// Its link, by number.
    pub link: usize,
    /// Videos that it receives.
    pub pictures: usize,
    /// The highest layer of all of them that the link carries; `None` when not even the lowest fits.
    pub right: Option<u8>,
    /// The highest layer there is, which is the right one without a limit.
    pub top: u8,
}

/// What one subscriber saw while its link was limited, or after that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct View {
    /// How long that was, from the connection on.
    pub time: Duration,
    /// Until all its videos had the right layer, or a higher one, and kept it for three seconds without a freeze.
    pub reached: Option<Duration>,
    /// Share of the time from then on with that layer and no freeze, from 0 to 1.
    pub stayed: f64,
    /// Share of the time frozen, from 0 to 1.
    pub frozen: f64,
    /// Bytes of media that came, as UDP payload.
    pub bytes: u64,
    /// Those of retransmissions; probes for bandwidth go out as such, too.
    pub resent_bytes: u64,
}

/// See the module's words.
#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) viewing: Viewing,
    screens: Vec<Screen>,
    now: Option<Phase>,
    past: Vec<View>,
}

/// A part of the run.
#[derive(Clone, Copy, Debug)]
struct Phase {
    began: Instant,
    right: Option<u8>,
    bytes: u64,
    resent_bytes: u64,
}

impl Viewer {
    pub(super) fn new(viewing: Viewing) -> Self {
        Self { viewing, screens: Vec::new(), now: None, past: Vec::new() }
    }

    /// Media can flow.
    pub(super) fn connected(&mut self, at: Instant) {
        if self.now.is_none() {
            self.begin(at, self.viewing.right);
        }
    }

    /// The links' limits are lifted.
    pub(super) fn lift(&mut self, at: Instant) {
        self.past.push(self.now.map_or_else(View::default, |phase| self.view(phase, at)));
        self.viewing.right = Some(self.viewing.top);
        if self.now.is_some() {
            self.begin(at, self.viewing.right);
        }
    }

    fn begin(&mut self, at: Instant, right: Option<u8>) {
        self.now = Some(Phase { began: at, right, bytes: 0, resent_bytes: 0 });
        self.screens.iter_mut().for_each(|screen| screen.watch = Watch::new(at, right));
    }

    /// Takes a packet that passed the link at `at`. The stream to ask a key frame of, when one is needed to go on.
    pub(super) fn take(&mut self, at: Instant, received: &RtpReceived, datagram: &[u8]) -> Option<Ssrc> {
        let phase = self.now.as_mut()?;
        phase.bytes += datagram.len() as u64;
        if received.repaired {
            phase.resent_bytes += datagram.len() as u64;
        }
        let stamp = received.stamp.filter(|_| !received.duplicate)?;
        let key_frame_start = codec::inspect(CodecName::Vp8, datagram.get(received.payload.clone())?, None).key_frame;
        let known = self.screens.iter().position(|screen| screen.ssrc == received.ssrc);
        let place = known.unwrap_or(self.screens.len());
        if known.is_none() {
            if place == MAX_SCREENS {
                return None;
            }
            self.screens.push(Screen::new(received.ssrc, at, Watch::new(phase.began, phase.right)));
        }
        let screen = &mut self.screens[place];
        screen.take(at, received.sequence, Piece { layer: stamp.layer, key_frame_start, end: received.marker });
        screen.take_key_frame_request(at).then_some(screen.ssrc)
    }

    /// Takes a packet of sound.
    pub(super) fn take_other(&mut self, datagram: &[u8]) {
        self.now.iter_mut().for_each(|phase| phase.bytes += datagram.len() as u64);
    }

    /// What was seen in each phase so far: limited, and lifted. Of one before the connection nothing.
    pub(super) fn views(&self, at: Instant) -> Vec<View> {
        let now = self.now.map(|phase| self.view(phase, at));
        self.past.iter().copied().chain(now).collect()
    }

    fn view(&self, phase: Phase, at: Instant) -> View {
        let time = at.saturating_duration_since(phase.began);
        let seconds = time.as_secs_f64().max(1e-9);
        let watches: Vec<Watch> = self.screens.iter().map(|screen| screen.watched(at)).collect();
        let pictures = self.viewing.pictures.max(watches.len()).max(1);
        // Of a video of which nothing came, nothing was seen.
        let missing = (pictures - watches.len()) as f64;
        let frozen: f64 = watches.iter().map(|watch| watch.frozen.as_secs_f64() / seconds).sum();
        let reached: Option<Vec<Instant>> = watches.iter().map(|watch| watch.reached).collect();
        let reached = reached.filter(|all| all.len() == pictures).and_then(|all| all.into_iter().max());
        let stayed = reached.map_or(0.0, |since| {
            let since = at.saturating_duration_since(since).as_secs_f64().max(STAYS.as_secs_f64());
            watches.iter().map(|watch| (watch.stayed.as_secs_f64() / since).min(1.0)).sum::<f64>() / pictures as f64
        });
        View {
            time,
            reached: reached.map(|since| since.saturating_duration_since(phase.began)),
            stayed,
            frozen: ((frozen + missing) / pictures as f64).min(1.0),
            bytes: phase.bytes,
            resent_bytes: phase.resent_bytes,
        }
    }
}
