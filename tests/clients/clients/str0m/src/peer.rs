//! One str0m client with a socket.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, Frequency, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::Options;
use crate::frames::{self, Writer};

const SOUND_TIME: Duration = Duration::from_millis(20);
/// What follows a pause is not sent in a burst.
const MAX_LATE: Duration = Duration::from_millis(200);

/// Where a section's frames come from or go to.
enum Media {
    Source { frames: Vec<Vec<u8>>, sent: u64, due: Instant, step: Duration },
    Sink(Writer),
}

struct Section {
    mid: Mid,
    kind: MediaKind,
    media: Media,
}

impl Section {
    fn count(&self) -> u64 {
        match &self.media {
            Media::Source { sent, .. } => *sent,
            Media::Sink(writer) => writer.frames,
        }
    }
}

pub(crate) struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    offer: String,
    pending: Option<SdpPendingOffer>,
    sections: Vec<Section>,
    connected: bool,
    started: Instant,
}

impl Peer {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        str0m::crypto::from_feature_flags().install_process_default();
        let socket = UdpSocket::bind((local_address(options)?, 0))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let mut rtc = with_codec(options.video.as_deref())?.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, "udp")?).context("the candidate")?;
        let direction = if options.publishes() { Direction::SendOnly } else { Direction::RecvOnly };
        let mut api = rtc.sdp_api();
        let mut sections = Vec::new();
        if options.audio {
            let mid = api.add_media(MediaKind::Audio, direction, None, None, None);
            sections.push(Section { mid, kind: MediaKind::Audio, media: media(options, MediaKind::Audio)? });
        }
        if options.video.is_some() {
            let mid = api.add_media(MediaKind::Video, direction, None, None, None);
            sections.push(Section { mid, kind: MediaKind::Video, media: media(options, MediaKind::Video)? });
        }
        let (offer, pending) = api.apply().context("nothing to offer")?;
        let (offer, pending) = (offer.to_sdp_string(), Some(pending));
        Ok(Self { rtc, socket, address, offer, pending, sections, connected: false, started: Instant::now() })
    }

    pub(crate) fn offer(&self) -> &str {
        &self.offer
    }

    pub(crate) fn accept(&mut self, answer: &str) -> anyhow::Result<()> {
        let answer = SdpAnswer::from_sdp_string(answer).context("str0m cannot read the answer")?;
        let pending = self.pending.take().context("a second answer")?;
        self.rtc.sdp_api().accept_answer(pending, answer).context("str0m refuses the answer")
    }

    pub(crate) fn connected(&self) -> bool {
        self.connected
    }

    /// Frames of sound and of pictures, sent or received.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [MediaKind::Audio, MediaKind::Video]
            .map(|kind| self.sections.iter().filter(|section| section.kind == kind).map(Section::count).sum())
    }

    /// Does all that is due; sends frames if `running`.
    pub(crate) fn step(&mut self, running: bool) -> anyhow::Result<()> {
        self.take_datagrams()?;
        if !self.rtc.is_alive() {
            bail!("str0m has ended the connection");
        }
        self.rtc.handle_input(Input::Timeout(Instant::now()))?;
        self.drain()?;
        if self.connected {
            self.send_frames(running)?;
        }
        Ok(())
    }

    fn take_datagrams(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 2_000];
        loop {
            let (length, source) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let Ok(contents) = buffer[..length].try_into() else { continue };
            let receive = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
            self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
            self.drain()?;
        }
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        while self.rtc.is_alive() {
            match self.rtc.poll_output()? {
                Output::Timeout(_) => return Ok(()),
                Output::Transmit(out) => {
                    self.socket.send_to(&out.contents, out.destination)?;
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::IceConnectionStateChange(state)) => eprintln!("ICE: {state:?}"),
                Output::Event(Event::MediaData(data)) => {
                    let section = self.sections.iter_mut().find(|section| section.mid == data.mid);
                    if let Some(Section { media: Media::Sink(writer), .. }) = section {
                        writer.write(&data.data)?;
                    }
                }
                Output::Event(_) => {}
            }
        }
        Ok(())
    }

    fn send_frames(&mut self, running: bool) -> anyhow::Result<()> {
        let now = Instant::now();
        for index in 0..self.sections.len() {
            let Section { mid, kind, media } = &mut self.sections[index];
            let Media::Source { frames, sent, due, step } = media else { continue };
            if !running {
                *due = now;
            }
            if !running || *due > now {
                continue;
            }
            let at = (*due).max(now - MAX_LATE);
            *due = at + *step;
            let frame = frames[(*sent % frames.len() as u64) as usize].clone();
            *sent += 1;
            let frequency = if *kind == MediaKind::Video { Frequency::NINETY_KHZ } else { Frequency::FORTY_EIGHT_KHZ };
            let ticks = (at - self.started).as_micros() as u64 * u64::from(frequency.get()) / 1_000_000;
            let writer = self.rtc.writer(*mid).context("the section does not send")?;
            let payload_type = writer.payload_params().next().context("the answer has no codec")?.pt();
            writer.write(payload_type, now, MediaTime::new(ticks, frequency), frame)?;
            self.drain()?;
        }
        Ok(())
    }
}

/// The address from which the server is reached: nothing is sent for that.
fn local_address(options: &Options) -> anyhow::Result<IpAddr> {
    let host = options.url.split('/').nth(2).context("the URL has no host")?;
    let probe = UdpSocket::bind("0.0.0.0:0")?;
    probe.connect(host)?;
    Ok(probe.local_addr()?.ip())
}

fn with_codec(video: Option<&str>) -> anyhow::Result<RtcConfig> {
    let config = RtcConfig::new().clear_codecs().enable_opus(true, false);
    Ok(match video {
        None => config,
        Some("vp8") => config.enable_vp8(true),
        Some("vp9") => config.enable_vp9(true),
        Some("av1") => config.enable_av1(true),
        Some("h264") => config.enable_h264(true),
        Some(codec) => bail!("there is no {codec}"),
    })
}

fn media(options: &Options, kind: MediaKind) -> anyhow::Result<Media> {
    let is_video = kind == MediaKind::Video;
    let file = if is_video { &options.files().video } else { &options.files().audio };
    let file = file.as_deref().context("no file for the frames")?;
    if options.publishes() {
        let frames = frames::read(file)?;
        if frames.is_empty() {
            bail!("{file} has no frames");
        }
        let step = if is_video { Duration::from_secs(1) / options.fps } else { SOUND_TIME };
        return Ok(Media::Source { frames, sent: 0, due: Instant::now(), step });
    }
    let codec = options.video.as_deref().filter(|_| is_video).unwrap_or("opus");
    Ok(Media::Sink(Writer::create(file, codec, options.fps)?))
}
