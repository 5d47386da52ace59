//! Makes the packets of streams with layers, as encoders do; each says in its payload of which frame it is.

use moonring_wire::media::CodecName;
use rand::Rng;
use rand::rngs::SmallRng;

/// Which layers a stream has, and how they depend on each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub(super) codec: CodecName,
    /// Simulcast.
    pub(super) encodings: usize,
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    /// Spatial layers refer to each other at key pictures only (`L3T3_KEY`).
    pub(super) independent: bool,
    /// With dependency descriptors.
    pub(super) described: bool,
    /// One in so many frames of layers that do not need each other is dropped, 0 for none: as of Chromium's VP9, the marker bit
    /// is that of the highest spatial layer, and goes with it.
    pub(super) drops_one_in: u32,
}

impl Mode {
    /// Temporal layers only: two for H.264, which marks no more, else three.
    pub(super) fn flat(codec: CodecName, encodings: usize, described: bool) -> Self {
        let temporal = if codec == CodecName::H264 { 2 } else { 3 };
        Self { codec, encodings, spatial: 1, temporal, independent: false, described, drops_one_in: 0 }
    }

    /// Three spatial layers with three temporal ones.
    pub(super) fn spatial(codec: CodecName, independent: bool, described: bool) -> Self {
        Self { codec, encodings: 1, spatial: 3, temporal: 3, independent, described, drops_one_in: 0 }
    }

    /// Independent spatial layers whose encoder has not bits enough for all frames.
    pub(super) fn short_of_bits(codec: CodecName) -> Self {
        Self { drops_one_in: 4, ..Self::spatial(codec, true, true) }
    }
}

/// A frame: one spatial layer of one picture.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Counts frames.
    pub(super) id: u64,
    /// Counts pictures.
    pub(super) picture: u64,
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    pub(super) is_key: bool,
    /// The frames that it needs.
    pub(super) needs: Vec<u64>,
    /// A receiver of its decode targets up to this temporal layer can begin here.
    switches: Vec<u8>,
    pub(super) packets: u8,
}

/// A packet.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) frame: u64,
    pub(super) about: Frame,
    pub(super) index: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) payload: Vec<u8>,
    pub(super) descriptor: Vec<u8>,
}

/// Where in a frame's number its encoding stands.
pub(super) const ENCODING_SHIFT: u32 = 48;
/// Bytes at the end of a payload that say which packet it is: the frame and the number in it.
pub(super) const MARK: usize = 9;

/// One encoding.
pub(super) struct Encoder {
    mode: Mode,
    index: u64,
    timestamp: u32,
    picture: u64,
    next_frame: u64,
    first_picture_id: u64,
    first_tl0: u8,
    tl0: u8,
    first_number: u64,
    /// Pictures since the key picture.
    age: u64,
    /// The last frame of each spatial and temporal layer.
    last: [[Option<u64>; 3]; 3],
}

impl Encoder {
    /// The encoding `n`; frames of all encodings have numbers of their own.
    pub(super) fn new(mode: Mode, n: usize, random: &mut SmallRng) -> Self {
        Self {
            mode,
            index: random.random_range(1..60_000),
            timestamp: random.random(),
            picture: 0,
            next_frame: (n as u64) << ENCODING_SHIFT,
            first_picture_id: random.random_range(0..0x8000),
            first_tl0: random.random(),
            tl0: 0,
            first_number: random.random_range(0..0x1_0000),
            age: 0,
            last: Default::default(),
        }
    }

    /// Its time stamps go on elsewhere.
    pub(super) fn jump(&mut self, ticks: i64) {
        self.timestamp = self.timestamp.wrapping_add(ticks as u32);
    }

    /// The packets of the next picture.
    pub(super) fn picture(&mut self, is_key_wanted: bool, packets: u8, random: &mut SmallRng) -> Vec<Sent> {
        let is_key = self.picture == 0 || is_key_wanted;
        if is_key {
            (self.age, self.last) = (0, Default::default());
        }
        let temporal = match (self.mode.temporal, self.age % 4) {
            (_, 0) => 0,
            (3, 2) => 1,
            (2, 2) => 0,
            (many, _) => many - 1,
        };
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let mut sent = Vec::new();
        let mut below = None;
        for spatial in 0..self.mode.spatial {
            let drops = self.mode.drops_one_in;
            if drops > 0 && !is_key && random.random_ratio(1, drops) {
                continue;
            }
            let frame = self.frame(spatial, temporal, below, packets);
            below = Some(frame.id);
            sent.extend(self.packets(&frame));
        }
        self.picture += 1;
        self.age += 1;
        self.timestamp = self.timestamp.wrapping_add(2_970);
        sent
    }

    fn frame(&mut self, spatial: u8, temporal: u8, below: Option<u64>, packets: u8) -> Frame {
        let is_key = self.age == 0;
        let id = self.next_frame;
        self.next_frame += 1;
        let last = &mut self.last[usize::from(spatial)];
        let mut needs = Vec::new();
        // Every other group of four pictures its higher temporal layers refer to lower ones only.
        let is_fresh = self.age % 8 < 4;
        match temporal {
            0 => needs.extend(last[0]),
            1 => {
                needs.extend(last[0]);
                needs.extend(last[1].filter(|_| !is_fresh && self.mode.codec != CodecName::H264));
            }
            // The first of the two in a group, and the second.
            _ if self.age % 4 == 1 => {
                needs.extend(last[0]);
                needs.extend(last[2].filter(|_| !is_fresh && self.mode.codec != CodecName::H264));
            }
            _ => needs.extend([last[0], last[1]].into_iter().flatten()),
        }
        if !self.mode.independent || is_key {
            needs.extend(below);
        }
        let switches = match temporal {
            0 if is_fresh => (0..self.mode.temporal).collect(),
            temporal if needs.iter().all(|need| Some(*need) == last[0] || Some(*need) == below) => vec![temporal],
            0 => vec![0],
            _ => vec![],
        };
        last[usize::from(temporal)] = Some(id);
        if temporal == 0 {
            (last[1], last[2]) = (last[1].filter(|_| !is_fresh), last[2].filter(|_| !is_fresh));
        }
        Frame { id, picture: self.picture, spatial, temporal, is_key, needs, switches, packets }
    }

    fn packets(&mut self, frame: &Frame) -> Vec<Sent> {
        let is_top = frame.spatial + 1 == self.mode.spatial;
        let packet = |n: u8| {
            let is_last = n + 1 == frame.packets;
            let mut payload = self.head(frame, n);
            payload.extend(frame.id.to_be_bytes());
            payload.push(n);
            Sent {
                frame: frame.id,
                about: frame.clone(),
                index: self.index + u64::from(n),
                timestamp: self.timestamp,
                marker: is_top && is_last,
                payload,
                descriptor: if self.mode.described { self.descriptor(frame, n) } else { Vec::new() },
            }
        };
        let sent: Vec<Sent> = (0..frame.packets).map(packet).collect();
        self.index += u64::from(frame.packets);
        sent
    }

    /// What stands in front of a payload.
    fn head(&self, frame: &Frame, n: u8) -> Vec<u8> {
        let (is_first, is_last) = (n == 0, n + 1 == frame.packets);
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let [high, low] = (((self.first_picture_id + frame.picture) % 0x8000) as u16 | 0x8000).to_be_bytes();
        let tl0 = self.first_tl0.wrapping_add(self.tl0);
        let refers_to_earlier = frame.needs.iter().any(|need| frame.id - need > u64::from(frame.spatial));
        let is_sync = frame.temporal > 0 && frame.switches.contains(&frame.temporal);
        match self.mode.codec {
            CodecName::Vp8 => {
                let layer = frame.temporal << 6 | bit(is_sync, 0x20);
                vec![0x80 | bit(is_first, 0x10), 0xE0, high, low, tl0, layer, bit(!frame.is_key, 1)]
            }
            CodecName::Vp9 => {
                let needs_below = frame.needs.contains(&frame.id.wrapping_sub(1)) && frame.spatial > 0;
                let flags = 0xA0 | bit(refers_to_earlier, 0x40) | bit(is_first, 0x08) | bit(is_last, 0x04);
                let layers = frame.temporal << 5 | bit(is_sync, 0x10) | frame.spatial << 1 | bit(needs_below, 1);
                vec![flags, high, low, layers, tl0]
            }
            CodecName::H264 => match (frame.is_key, frame.temporal) {
                (true, _) => vec![0x65, if is_first { 0x88 } else { 0x40 }],
                (false, 0) => vec![0x41, if is_first { 0x9A } else { 0x40 }],
                (false, _) => vec![0x01, if is_first { 0x9A } else { 0x40 }],
            },
            CodecName::Av1 | CodecName::Opus => vec![0x10, 0x30],
        }
    }

    /// Templates for each spatial and temporal layer, and as many decode targets; each frame says itself what it needs.
    fn descriptor(&self, frame: &Frame, n: u8) -> Vec<u8> {
        let (spatial, temporal) = (self.mode.spatial, self.mode.temporal);
        let number = (self.first_number + frame.id) % 0x1_0000;
        let template = u64::from(frame.spatial * temporal + frame.temporal);
        let has_structure = frame.is_key && frame.spatial == 0 && n == 0;
        let mut fields =
            vec![(u64::from(n == 0), 1), (u64::from(n + 1 == frame.packets), 1), (template, 6), (number, 16)];
        fields.extend([(u64::from(has_structure), 1), (0b0110, 4)]);
        let count = spatial * temporal;
        if has_structure {
            fields.extend([(0, 6), (u64::from(count - 1), 5)]);
            for n in 1..count {
                fields.push((if n % temporal == 0 { 2 } else { 1 }, 2));
            }
            fields.push((3, 2));
            for template in 0..count {
                for target in 0..count {
                    let is_in = template / temporal <= target / temporal && template % temporal <= target % temporal;
                    fields.push((if is_in { 3 } else { 0 }, 2));
                }
            }
            // No differences, no chains (a number below `count + 1`), no sizes.
            fields.extend(vec![(0, 1); usize::from(count)]);
            fields.push((0, (u8::BITS - (count + 1).leading_zeros()) as usize - 1));
            fields.push((0, 1));
        }
        for target in 0..count {
            let (s, t) = (target / temporal, target % temporal);
            let is_in = frame.temporal <= t && (frame.spatial == s || frame.spatial < s && !self.mode.independent);
            let is_switch = frame.spatial == s && frame.switches.contains(&t) || frame.is_key && frame.spatial <= s;
            fields.push((if is_switch { 2 } else { u64::from(is_in) * 3 }, 2));
        }
        for need in &frame.needs {
            fields.extend([(2, 2), (frame.id - need - 1, 8)]);
        }
        fields.push((0, 2));
        pack(&fields)
    }
}

/// Bytes of fields given as (value, bits).
fn pack(fields: &[(u64, usize)]) -> Vec<u8> {
    let bits: Vec<u8> =
        fields.iter().flat_map(|(value, count)| (0..*count).rev().map(move |n| (value >> n & 1) as u8)).collect();
    bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (n, bit)| sum | bit << (7 - n))).collect()
}
