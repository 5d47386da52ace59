//! VP8 frames as libwebrtc's encoder and packetizer make them.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;

use super::Packet;

/// Ticks of a video time stamp in one second.
const CLOCK_RATE: u64 = 90_000;
/// A key frame is so many times as large as the others.
const KEY_FRAME_FACTOR: f64 = 5.0;
/// What a key frame took more than its share is saved over so many frames.
const REPAY_FRAMES: f64 = 30.0;
/// The smallest share of the average that a frame shrinks to while it is saved.
const SMALLEST: f64 = 0.25;
/// libwebrtc answers requests with a key frame this often at most.
const KEY_FRAME_PAUSE: Duration = Duration::from_millis(300);
/// Descriptor with a picture id of 15 bits (RFC 7741 section 4.2): X, then I, then M and the id.
const DESCRIPTOR_LEN: usize = 4;
/// Payload of the smallest packet: all it must carry.
const MIN_PAYLOAD: usize = 40;

/// What a camera's video is like.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSettings {
    /// The average.
    pub bitrate_bps: u64,
    /// Frames a second.
    pub fps: f64,
    /// Longest RTP payload; libwebrtc leaves about 1,180 of 1,200 bytes.
    pub max_payload_bytes: usize,
    /// Frames differ in size by up to this share of the average.
    pub variation: f64,
    /// Time between key frames that nobody asked for.
    pub key_frame_interval: Duration,
    /// Width and height, in pixels.
    pub size: (u16, u16),
    /// Its simulcast layer; 0 without simulcast.
    pub layer: u8,
}

impl Default for VideoSettings {
    fn default() -> Self {
        Self {
            bitrate_bps: 1_500_000,
            fps: 30.0,
            max_payload_bytes: 1_150,
            variation: 0.2,
            key_frame_interval: Duration::from_secs(30),
            size: (640, 480),
            layer: 0,
        }
    }
}

impl VideoSettings {
    /// Layer `layer` of `layers`, where these are the settings of the highest: each has a quarter of the next one's bits
    /// and half its width and height.
    pub fn of_layer(&self, layer: u8, layers: u8) -> Self {
        let below = u32::from(layers.saturating_sub(1).saturating_sub(layer));
        let size = (self.size.0.unbounded_shr(below).max(1), self.size.1.unbounded_shr(below).max(1));
        Self { bitrate_bps: self.bitrate_bps.unbounded_shr(2 * below), size, layer, ..self.clone() }
    }

    /// What it takes of a link, in bit/s, when each packet is `overhead_bytes` longer than its payload. Key frames come
    /// on top, for a moment.
    pub fn link_bps(&self, overhead_bytes: usize) -> u64 {
        let frame = self.bitrate_bps as f64 / 8.0 / self.fps;
        let packets = (frame / self.max_payload_bytes.max(1) as f64).ceil().max(1.0);
        self.bitrate_bps + (packets * self.fps * overhead_bytes as f64 * 8.0) as u64
    }
}

/// Makes one frame after another.
#[derive(Debug)]
pub struct VideoSource {
    settings: VideoSettings,
    rng: SmallRng,
    start: Instant,
    frames: u64,
    picture_id: u16,
    first_timestamp: u32,
    /// Bytes that key frames took too much.
    debt: f64,
    last_key: Option<Instant>,
    key_wanted: bool,
}

impl VideoSource {
    /// Begins at `start` with a key frame.
    pub fn new(settings: VideoSettings, start: Instant, mut rng: SmallRng) -> Self {
        let (picture_id, first_timestamp) = (rng.random::<u16>() & 0x7FFF, rng.random());
        Self {
            settings,
            rng,
            start,
            frames: 0,
            picture_id,
            first_timestamp,
            debt: 0.0,
            last_key: None,
            key_wanted: true,
        }
    }

    /// When the next frame is due.
    pub fn next_at(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.frames as f64 / self.settings.fps)
    }

    /// Somebody needs a key frame: the next frame is one, unless there was one just now.
    pub fn request_key_frame(&mut self) {
        self.key_wanted = true;
    }

    /// Makes the frame that is due: its packets, in order, are appended to `out`. True when it is a key frame.
    pub fn frame(&mut self, now: Instant, out: &mut Vec<Packet>) -> bool {
        let at = self.next_at();
        let key = self.is_key(now);
        let size = self.frame_bytes(key);
        let media_time = at.saturating_duration_since(self.start).as_micros() as u64 * CLOCK_RATE / 1_000_000;
        let timestamp = self.first_timestamp.wrapping_add(media_time as u32);
        self.frames += 1;
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7FFF;
        let [high, low] = self.picture_id.to_be_bytes();
        let room = self.settings.max_payload_bytes.max(MIN_PAYLOAD + DESCRIPTOR_LEN) - DESCRIPTOR_LEN;
        let (mut first, count) = (true, size.div_ceil(room));
        for (index, bytes) in split_about_equally(size, count).enumerate() {
            let mut header = [0; DESCRIPTOR_LEN + 10];
            header[..DESCRIPTOR_LEN].copy_from_slice(&[0x80 | u8::from(first) << 4, 0x80, 0x80 | high, low]);
            let rest = &mut header[DESCRIPTOR_LEN..];
            let header_len = DESCRIPTOR_LEN + if first { frame_header(key, self.settings.size, rest) } else { 0 };
            let last = index + 1 == count;
            let packet = Packet::new(&header[..header_len], bytes + DESCRIPTOR_LEN, timestamp, last);
            out.push(Packet { layer: self.settings.layer, ..packet });
            first = false;
        }
        key
    }

    fn is_key(&mut self, now: Instant) -> bool {
        let Some(last) = self.last_key else {
            (self.last_key, self.key_wanted) = (Some(now), false);
            return true;
        };
        let since = now.saturating_duration_since(last);
        let key = since >= self.settings.key_frame_interval || self.key_wanted && since >= KEY_FRAME_PAUSE;
        if key {
            (self.last_key, self.key_wanted) = (Some(now), false);
        }
        key
    }

    fn frame_bytes(&mut self, key: bool) -> usize {
        let average = self.settings.bitrate_bps as f64 / 8.0 / self.settings.fps;
        let variation = self.settings.variation.clamp(0.0, 1.0);
        let wanted = average * self.rng.random_range(1.0 - variation..=1.0 + variation);
        let size =
            if key { wanted * KEY_FRAME_FACTOR } else { (wanted - self.debt / REPAY_FRAMES).max(average * SMALLEST) };
        self.debt += size - average;
        (size as usize).max(MIN_PAYLOAD)
    }
}

/// libwebrtc's `SplitAboutEqually`: sizes differ by one byte at most, the smaller ones first.
fn split_about_equally(size: usize, count: usize) -> impl Iterator<Item = usize> {
    let (each, larger) = (size / count, size % count);
    (0..count).map(move |index| each + usize::from(index >= count - larger))
}

/// The VP8 payload header (RFC 7741 section 4.3, RFC 6386 section 9.1); returns its length.
fn frame_header(key: bool, (width, height): (u16, u16), out: &mut [u8]) -> usize {
    // Bit 0 is the inverse key frame flag, bit 4 says that the frame is shown.
    if !key {
        out[..3].copy_from_slice(&[0x11, 0, 0]);
        return 3;
    }
    out[..6].copy_from_slice(&[0x10, 0, 0, 0x9D, 0x01, 0x2A]);
    // 14 bits each, without scaling.
    out[6..8].copy_from_slice(&(width & 0x3FFF).to_le_bytes());
    out[8..10].copy_from_slice(&(height & 0x3FFF).to_le_bytes());
    10
}

#[cfg(test)]
mod tests {
    use moonring_wire::media::CodecName;
    use moonring_wire::rtp::codec::inspect;
    use rand::SeedableRng;

    use super::*;

    fn source(settings: VideoSettings) -> (VideoSource, Instant) {
        let now = Instant::now();
        (VideoSource::new(settings, now, SmallRng::seed_from_u64(1)), now)
    }

    fn payload(packet: &Packet) -> Vec<u8> {
        let mut bytes = vec![0; packet.payload_len()];
        packet.write(&mut bytes);
        bytes
    }

    #[test]
    fn bitrate_frame_rate_and_key_frames_are_as_asked_for() {
        for (bitrate_bps, fps, interval_s) in [(1_500_000, 30.0, 5), (300_000, 15.0, 10), (4_000_000, 60.0, 2)] {
            let settings = VideoSettings {
                bitrate_bps,
                fps,
                key_frame_interval: Duration::from_secs(interval_s),
                ..VideoSettings::default()
            };
            let (mut source, start) = source(settings);
            let (mut packets, mut frames, mut keys) = (Vec::new(), 0, 0);
            while source.next_at() < start + Duration::from_secs(60) {
                let now = source.next_at();
                keys += u64::from(source.frame(now, &mut packets));
                frames += 1;
            }
            let bits: usize = packets.iter().map(|p| p.payload_len() * 8).sum();
            let rate = bits as f64 / 60.0;
            assert!((rate / bitrate_bps as f64 - 1.0).abs() < 0.03, "{rate} instead of {bitrate_bps}");
            assert_eq!(frames, (60.0 * fps) as u64);
            assert_eq!(keys, 60 / interval_s);
            assert_eq!(packets.iter().filter(|p| p.marker).count(), frames as usize);
            assert!(packets.iter().all(|p| p.payload_len() <= 1_150));
        }
    }

    #[test]
    fn packets_of_a_frame_differ_by_one_byte_and_say_where_it_starts() {
        let (mut source, start) = source(VideoSettings::default());
        for frame in 0..10 {
            let mut packets = Vec::new();
            let key = source.frame(start, &mut packets);
            let lengths: Vec<_> = packets.iter().map(Packet::payload_len).collect();
            assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1, "{lengths:?}");
            assert_eq!(key, frame == 0);
            for (n, packet) in packets.iter().enumerate() {
                let info = inspect(CodecName::Vp8, &payload(packet), None);
                assert_eq!((info.frame_start, info.key_frame), (n == 0, n == 0 && key));
            }
        }
    }

    #[test]
    fn a_request_brings_a_key_frame_but_not_two_at_once() {
        let (mut source, start) = source(VideoSettings::default());
        let at = |ms| start + Duration::from_millis(ms);
        let mut packets = Vec::new();
        for (ms, request, expected) in [
            (0, false, true),
            (33, true, false),
            (66, false, false),
            (300, false, true),
            (600, false, false),
            (633, true, true),
        ] {
            if request {
                source.request_key_frame();
            }
            assert_eq!(source.frame(at(ms), &mut packets), expected, "{ms} ms");
        }
    }

    #[test]
    fn layers_have_a_quarter_of_the_bits_and_half_the_size_each() {
        let top = VideoSettings { bitrate_bps: 1_600_000, size: (960, 540), ..VideoSettings::default() };
        let of = |layer, layers| {
            let VideoSettings { bitrate_bps, size, layer, .. } = top.of_layer(layer, layers);
            (bitrate_bps, size, layer)
        };
        assert_eq!(
            [0, 1, 2].map(|layer| of(layer, 3)),
            [(100_000, (240, 135), 0), (400_000, (480, 270), 1), (1_600_000, (960, 540), 2)]
        );
        assert_eq!(of(0, 1), (1_600_000, (960, 540), 0));
        let (mut source, start) = source(top.of_layer(1, 3));
        let mut packets = Vec::new();
        source.frame(start, &mut packets);
        assert!(packets.iter().all(|packet| packet.layer == 1));
        assert_eq!(payload(&packets[0])[DESCRIPTOR_LEN + 6..][..4], [0xE0, 0x01, 0x0E, 0x01]);
    }

    #[test]
    fn a_link_carries_the_headers_of_each_packet_as_well() {
        let settings = VideoSettings { bitrate_bps: 480_000, fps: 20.0, ..VideoSettings::default() };
        // 3,000 bytes a frame are three packets.
        assert_eq!(settings.link_bps(50), 480_000 + 3 * 20 * 50 * 8);
        assert_eq!(settings.of_layer(0, 3).link_bps(50), 30_000 + 20 * 50 * 8);
    }
}
