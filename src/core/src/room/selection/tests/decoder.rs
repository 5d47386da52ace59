//! Looks at what a forward sends as a receiver does, and knows besides what each frame needs.

use std::collections::{BTreeMap, HashMap, HashSet};

use moonring_wire::media::CodecName;
use moonring_wire::rtp::codec::{vp8, vp9};
use moonring_wire::rtp::dependency::Mandatory;

use super::encoder::{ENCODING_SHIFT, Frame, MARK, Mode, Sent};
use crate::room::forward::Outgoing;

/// A packet that came.
#[derive(Clone, Copy, Debug)]
struct Got {
    timestamp: u32,
    marker: bool,
    /// The frame, its packet, and the picture's numbers; `None` for an empty packet.
    content: Option<(u64, u8, Numbers)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    picture_id: Option<u16>,
    tl0: Option<u8>,
    frame: Option<u16>,
}

/// How far behind the newest packet nothing comes any more.
const OLD: u64 = 400;

/// What came of a frame.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: u64,
    packets: u8,
    numbers: Numbers,
    timestamp: u32,
    marker: bool,
    /// Empty packets before it.
    fillers: usize,
}

/// See the module's words.
pub(super) struct Decoder {
    mode: Mode,
    frames: HashMap<u64, Frame>,
    /// Frames that lost a packet before the server, and those that need one of them.
    broken: HashSet<u64>,
    got: BTreeMap<u64, Got>,
    newest: u64,
    decoded: HashSet<u64>,
    /// The packet expected next.
    expected: Option<u64>,
    open: Option<Open>,
    last_picture: Option<Open>,
    fillers_since: usize,
    /// Pictures whose last packet does not say so.
    pub(super) without_marker: usize,
    pub(super) fillers: usize,
    /// Pictures by their highest spatial layer and their temporal one.
    pub(super) seen: BTreeMap<(u8, u8), usize>,
}

impl Decoder {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            frames: HashMap::new(),
            broken: HashSet::new(),
            got: BTreeMap::new(),
            newest: 0,
            decoded: HashSet::new(),
            expected: None,
            open: None,
            last_picture: None,
            fillers_since: 0,
            without_marker: 0,
            fillers: 0,
            seen: BTreeMap::new(),
        }
    }

    /// What the publisher sent.
    pub(super) fn knows(&mut self, sent: &[Sent]) {
        for packet in sent {
            self.frames.entry(packet.frame).or_insert_with(|| packet.about.clone());
        }
    }

    /// A packet of the frame never comes.
    pub(super) fn lost(&mut self, frame: u64) {
        self.broken.insert(frame);
    }

    /// Whether anything was lost before the server.
    fn is_lossy(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Takes a packet.
    pub(super) fn take(&mut self, outgoing: &Outgoing, payload: &[u8], descriptor: &[u8]) {
        let (head, mark) = payload.split_at(payload.len() - MARK);
        let content = (!outgoing.is_filler).then(|| {
            let ids = match self.mode.codec {
                CodecName::Vp8 => vp8::Descriptor::parse(head).map(|d| d.ids),
                CodecName::Vp9 => vp9::Descriptor::parse(head).map(|d| d.ids),
                _ => None,
            };
            let picture_id = ids.and_then(|ids| ids.picture_id).map(|id| id.value);
            let tl0 = ids.and_then(|ids| ids.tl0_picture).map(|(tl0, _)| tl0);
            let frame = Mandatory::parse(descriptor).map(|mandatory| mandatory.frame_number);
            (u64::from_be_bytes(*mark.first_chunk().unwrap()), mark[8], Numbers { picture_id, tl0, frame })
        });
        self.fillers += usize::from(outgoing.is_filler);
        self.newest = self.newest.max(outgoing.index);
        let got = Got { timestamp: outgoing.timestamp, marker: outgoing.marker, content };
        assert!(self.got.insert(outgoing.index, got).is_none(), "a number is used once");
    }

    /// Its time goes on elsewhere.
    pub(super) fn forget_time(&mut self) {
        self.check_all();
        self.last_picture = None;
    }

    /// Decodes what nothing comes before any more.
    pub(super) fn check_old(&mut self) {
        self.check_below(self.newest.saturating_sub(OLD));
        // Of what is behind, nothing is asked again.
        if self.decoded.len() > 20_000 {
            let limit = self.open.map_or(0, |open| open.id).saturating_sub(1_000);
            let is_recent = |id: &u64| self.mode.encodings > 1 || *id >= limit;
            self.decoded.retain(is_recent);
            self.frames.retain(|id, _| is_recent(id));
            self.broken.retain(|id| *id + 5_000 >= limit);
        }
    }

    /// Decodes everything.
    pub(super) fn check_all(&mut self) {
        self.check_below(u64::MAX);
    }

    fn check_below(&mut self, end: u64) {
        while let Some((index, got)) = self.got.first_key_value().map(|(index, got)| (*index, *got)) {
            if index >= end {
                return;
            }
            self.got.remove(&index);
            let expected = self.expected.replace(index + 1).unwrap_or(index);
            assert!(index == expected || self.is_lossy(), "{index} after {expected}: a gap");
            match got.content {
                Some((id, packet, numbers)) => self.packet((id, packet, numbers), &got),
                None => self.fillers_since += 1,
            }
        }
        if end == u64::MAX {
            self.finish(None);
        }
    }

    fn packet(&mut self, (id, packet, numbers): (u64, u8, Numbers), got: &Got) {
        match &mut self.open {
            Some(open) if open.id == id => {
                assert!(packet == open.packets || self.broken.contains(&id), "packet {packet} of frame {id}");
                assert!(!open.marker && open.numbers == numbers && open.timestamp == got.timestamp, "frame {id}");
                (open.packets, open.marker) = (packet + 1, got.marker);
            }
            _ => {
                let fillers = std::mem::take(&mut self.fillers_since);
                self.finish(Some(id));
                assert!(packet == 0 || self.broken.contains(&id), "frame {id} begins with packet {packet}");
                let (timestamp, marker) = (got.timestamp, got.marker);
                self.open = Some(Open { id, packets: packet + 1, numbers, timestamp, marker, fillers });
            }
        }
    }

    /// The open frame is over: `next` follows.
    fn finish(&mut self, next: Option<u64>) {
        let Some(open) = self.open.take() else { return };
        let frame = self.frames[&open.id].clone();
        let next = next.map(|id| self.frames[&id].clone());
        let is_switch = next.as_ref().is_some_and(|next| next.id >> ENCODING_SHIFT != open.id >> ENCODING_SHIFT);
        assert!(!is_switch || next.as_ref().is_some_and(|next| next.is_key), "a switch is at a key frame");
        if open.packets != frame.packets && !self.broken.contains(&open.id) {
            assert!(is_switch || next.is_none(), "frame {frame:?} is cut after packet {}", open.packets);
            self.last_picture = Some(open);
            return;
        }
        for need in &frame.needs {
            assert!(self.decoded.contains(need) || self.broken.contains(need), "{need}: needed by {frame:?}");
            if self.broken.contains(need) {
                self.broken.insert(open.id);
            }
        }
        self.decoded.insert(open.id);
        let ends = next.as_ref().is_none_or(|next| next.picture != frame.picture || is_switch);
        if next.is_some() && !self.is_lossy() {
            assert!(ends || !open.marker, "the marker of {frame:?} before {next:?}");
            self.without_marker += usize::from(ends && !open.marker);
        }
        if ends {
            *self.seen.entry((frame.spatial, frame.temporal)).or_default() += 1;
            self.check_numbers(&frame, open);
        }
    }

    /// The numbers of a picture follow those of the one before.
    fn check_numbers(&mut self, frame: &Frame, open: Open) {
        let fillers = open.fillers;
        let Some(last) = self.last_picture.replace(open) else { return };
        let is_switch = last.id >> ENCODING_SHIFT != open.id >> ENCODING_SHIFT;
        let (before, now) = (last.numbers, open.numbers);
        let known = self.frames.get(&last.id).map(|last| frame.picture - last.picture).filter(|_| !is_switch);
        if let (Some(before), Some(now)) = (before.picture_id, now.picture_id) {
            let step = now.wrapping_sub(before) % 0x8000;
            match self.mode.codec {
                CodecName::Vp9 => assert!(known.is_none_or(|known| u64::from(step) == known), "{step}: {frame:?}"),
                _ => assert!(step == 1 || fillers > 0 || self.is_lossy(), "{step} pictures on: {frame:?}"),
            }
        }
        if let (Some(before), Some(now)) = (before.tl0, now.tl0) {
            let step = now.wrapping_sub(before);
            let is_whole = !self.is_lossy() && self.mode.drops_one_in == 0;
            assert!(step == u8::from(frame.temporal == 0) || !is_whole, "TL0PICIDX {step} on: {frame:?}");
        }
        if let (Some(before), Some(now)) = (before.frame, now.frame) {
            let step = if is_switch { 1 } else { (open.id - last.id) as u16 };
            assert_eq!(now.wrapping_sub(before), step, "frame number of {frame:?}");
        }
        let step = open.timestamp.wrapping_sub(last.timestamp);
        assert!((1..900_000).contains(&step), "time goes on by {step}: {frame:?}");
    }

    /// Every layer was the highest that came for a while.
    pub(super) fn check_variety(&self, switches: usize) {
        for spatial in 0..self.mode.spatial {
            for temporal in 0..self.mode.temporal {
                let count = self.seen.get(&(spatial, temporal)).copied().unwrap_or(0);
                assert!(count > switches / 50, "({spatial}, {temporal}): {:?}", self.seen);
            }
        }
    }
}
