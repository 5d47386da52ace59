//! One str0m client with a socket, which sends made-up frames and takes down what it gets.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::format::{Codec, FormatParams};
use str0m::media::{Direction, Frequency, KeyframeRequestKind, MediaKind, MediaTime, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::server::{SECRET, TestServer};

const FRAME_TIME: Duration = Duration::from_millis(33);
/// Payload types of pictures, and of their retransmissions.
const VP8: Pt = Pt::new_with_value(96);
const RTX: Pt = Pt::new_with_value(97);
const SOUND_TIME: Duration = Duration::from_millis(20);

/// A frame received.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) counter: u64,
    pub(crate) is_key: bool,
    /// The filler is what was sent.
    pub(crate) intact: bool,
}

pub(crate) struct Client {
    rtc: Rtc,
    socket: UdpSocket,
    mids: Vec<(Mid, MediaKind)>,
    sends: bool,
    resource: String,
    frames: HashMap<Mid, Vec<Frame>>,
    next: [(Instant, u64); 2],
    key_wanted: bool,
    started: Instant,
    rtp: u64,
    pub(crate) connected: bool,
    pub(crate) key_frame_requests: u64,
    /// Of media datagrams: sent ones of a publisher, received ones of a receiver.
    pub(crate) lose_one_in: u64,
    pub(crate) lost: u64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<_> =
            self.mids.iter().map(|(mid, kind)| (kind, self.frames.get(mid).map_or(0, Vec::len))).collect();
        write!(f, "connected: {}, rtp: {}, received {counts:?}", self.connected, self.rtp)
    }
}

/// A reference as it stands to the path of the request (RFC 3986 section 5.2).
fn resolve(path: &str, reference: &str) -> String {
    let (folder, _) = path.rsplit_once('/').expect("an absolute path");
    let mut steps: Vec<&str> = folder.split('/').collect();
    for step in reference.split('/') {
        match step {
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    steps.join("/")
}

impl Client {
    pub(crate) fn publish(server: &TestServer, room: &str, kinds: &[MediaKind]) -> Self {
        Self::connect(server, &format!("/whip/{room}"), make(kinds, Direction::SendOnly, Some(RTX)))
    }

    pub(crate) fn receive(server: &TestServer, room: &str, kinds: &[MediaKind]) -> Self {
        Self::connect(server, &format!("/whep/{room}"), make(kinds, Direction::RecvOnly, Some(RTX)))
    }

    /// One that has no format for retransmissions (RFC 4588), and asks for what it misses all the same.
    pub(crate) fn receive_without_rtx(server: &TestServer, room: &str, kinds: &[MediaKind]) -> Self {
        let mut client = Self::connect(server, &format!("/whep/{room}"), make(kinds, Direction::RecvOnly, None));
        // By itself str0m does not ask where the sender has no RTX.
        for (mid, _) in client.mids.clone().into_iter().filter(|(_, kind)| *kind == MediaKind::Video) {
            let mut api = client.rtc.direct_api();
            api.stream_rx_by_mid(mid, None).expect("the answer names the stream").suppress_nack(false);
        }
        client
    }

    /// An offer of a client that never connects.
    pub(crate) fn offer_text(kinds: &[MediaKind]) -> String {
        make(kinds, Direction::SendOnly, Some(RTX)).offer
    }

    fn connect(server: &TestServer, path: &str, made: Made) -> Self {
        let Made { mut rtc, socket, mids, direction, pending, offer } = made;
        let response = server.request("POST", path, Some(SECRET), &offer);
        assert_eq!(response.status, 201, "{response:?}");
        let answer = SdpAnswer::from_sdp_string(&response.body).expect("str0m reads the answer");
        rtc.sdp_api().accept_answer(pending, answer).expect("str0m takes the answer");
        let now = Instant::now();
        Self {
            rtc,
            socket,
            mids,
            sends: direction == Direction::SendOnly,
            // RFC 9725 section 4.2.
            resource: resolve(path, &response.location.expect("a Location")),
            frames: HashMap::new(),
            next: [(now, 0); 2],
            key_wanted: true,
            started: now,
            rtp: 0,
            connected: false,
            key_frame_requests: 0,
            lose_one_in: u64::MAX,
            lost: 0,
        }
    }

    /// The status.
    pub(crate) fn delete(&self, server: &TestServer) -> u16 {
        server.request("DELETE", &self.resource, Some(SECRET), "").status
    }

    pub(crate) fn frames(&self, kind: MediaKind) -> &[Frame] {
        let mid = self.mids.iter().find(|(_, of)| *of == kind).map(|(mid, _)| mid);
        mid.and_then(|mid| self.frames.get(mid)).map_or(&[], Vec::as_slice)
    }

    /// Sends a PLI for the pictures it receives.
    pub(crate) fn ask_for_key_frame(&mut self) {
        let (mid, _) = *self.mids.iter().find(|(_, kind)| *kind == MediaKind::Video).expect("pictures");
        let mut writer = self.rtc.writer(mid).expect("a section");
        writer.request_keyframe(None, KeyframeRequestKind::Pli).expect("it can ask");
    }

    /// Everything that is due.
    pub(crate) fn step(&mut self) {
        self.take_datagrams();
        if self.rtc.is_alive() {
            self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        }
        self.drain();
        if self.sends && self.connected {
            self.send_media();
        }
    }

    /// True when this media datagram is to be lost.
    fn loses(&mut self, bytes: &[u8]) -> bool {
        let is_rtp = bytes.len() > 2 && (128..192).contains(&bytes[0]) && !(64..96).contains(&(bytes[1] & 0x7F));
        self.rtp += u64::from(is_rtp);
        let loses = is_rtp && self.rtp.is_multiple_of(self.lose_one_in);
        self.lost += u64::from(loses);
        loses
    }

    fn take_datagrams(&mut self) {
        let mut buf = [0; 2_000];
        loop {
            let (len, source) = match self.socket.recv_from(&mut buf) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            };
            if !self.sends && self.loses(&buf[..len]) {
                continue;
            }
            let destination = self.socket.local_addr().unwrap();
            let Ok(contents) = buf[..len].try_into() else { continue };
            let receive = Receive { proto: Protocol::Udp, source, destination, contents };
            if self.rtc.is_alive() {
                self.rtc.handle_input(Input::Receive(Instant::now(), receive)).unwrap();
                self.drain();
            }
        }
    }

    fn drain(&mut self) {
        while self.rtc.is_alive() {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(out) => {
                    if !(self.sends && self.loses(&out.contents)) {
                        self.socket.send_to(&out.contents, out.destination).unwrap();
                    }
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::KeyframeRequest(_)) => {
                    self.key_wanted = true;
                    self.key_frame_requests += 1;
                }
                Output::Event(Event::MediaData(data)) => {
                    let is_video = self.mids.iter().any(|(mid, kind)| *mid == data.mid && *kind == MediaKind::Video);
                    let frame = read(&data.data, is_video);
                    self.frames.entry(data.mid).or_default().push(frame);
                }
                Output::Event(_) => {}
            }
        }
    }

    fn send_media(&mut self) {
        let now = Instant::now();
        for (mid, kind) in self.mids.clone() {
            let (slot, step, rate) = match kind {
                MediaKind::Audio => (0, SOUND_TIME, 48_000),
                MediaKind::Video => (1, FRAME_TIME, 90_000),
            };
            let (due, counter) = self.next[slot];
            if due > now {
                continue;
            }
            self.next[slot] = (due.max(now - step) + step, counter + 1);
            let is_video = kind == MediaKind::Video;
            let data = frame(counter, is_video, is_video && std::mem::take(&mut self.key_wanted));
            let ticks = (now - self.started).as_micros() as u64 * rate / 1_000_000;
            let frequency = if is_video { Frequency::NINETY_KHZ } else { Frequency::FORTY_EIGHT_KHZ };
            // None once the server has said goodbye.
            let Some(writer) = self.rtc.writer(mid) else { return };
            let pt = writer.payload_params().next().expect("a codec").pt();
            writer.write(pt, now, MediaTime::new(ticks, frequency), data).unwrap();
            self.drain();
        }
    }
}

/// A client that has made its offer.
struct Made {
    rtc: Rtc,
    socket: UdpSocket,
    mids: Vec<(Mid, MediaKind)>,
    direction: Direction,
    pending: SdpPendingOffer,
    offer: String,
}

/// `rtx`: the payload type of its retransmissions, if it knows them.
fn make(kinds: &[MediaKind], direction: Direction, rtx: Option<Pt>) -> Made {
    str0m::crypto::from_feature_flags().install_process_default();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address: SocketAddr = socket.local_addr().unwrap();
    let mut config = RtcConfig::new().clear_codecs().enable_opus(true, false);
    let (clock_rate, format) = (Frequency::NINETY_KHZ, FormatParams::default());
    config.codec_config().add_config(VP8, rtx, Codec::Vp8, clock_rate, None, format);
    let mut rtc = config.build(Instant::now());
    rtc.add_local_candidate(Candidate::host(address, "udp").unwrap()).unwrap();
    let mut api = rtc.sdp_api();
    let mids = kinds.iter().map(|kind| (api.add_media(*kind, direction, None, None, None), *kind)).collect();
    let (offer, pending) = api.apply().expect("an offer");
    Made { rtc, socket, mids, direction, pending, offer: offer.to_sdp_string() }
}

/// A VP8 frame (RFC 6386 section 9.1) of some packets, or a packet of Opus, with a counter in it.
fn frame(counter: u64, is_video: bool, is_key: bool) -> Vec<u8> {
    let mut data = match (is_video, is_key) {
        (false, _) => vec![0xFC],
        (true, true) => vec![0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01],
        (true, false) => vec![0x11, 0, 0],
    };
    data.extend(counter.to_be_bytes());
    let filler = if is_video { 1_000 + (counter as usize * 37) % 4_000 } else { 120 };
    data.extend((0..filler).map(|n| (n as u64 ^ counter) as u8));
    data
}

fn read(data: &[u8], is_video: bool) -> Frame {
    let is_key = is_video && data[0] & 1 == 0;
    let start = if !is_video {
        1
    } else if is_key {
        10
    } else {
        3
    };
    let counter = u64::from_be_bytes(data[start..start + 8].try_into().expect("a counter"));
    Frame { counter, is_key, intact: data == frame(counter, is_video, is_key) }
}
