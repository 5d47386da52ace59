//! A received stream: what came, what is missing, what came late.

use std::ops::Range;
use std::time::{Duration, Instant};

use moonring_wire::drops::DropReason;
use moonring_wire::id::Ssrc;
use moonring_wire::media::{CodecName, Kind};
use moonring_wire::rtp::codec;
use moonring_wire::rtp::header::Header;
use moonring_wire::rtp::receive::ReceiveStats;
use moonring_wire::rtp::rtcp::ReportBlock;
use moonring_wire::rtp::sequence::Extender;

use super::RtpReceived;
use super::section::{Sections, codec_of};
use crate::media::Stamp;

/// Packets that duplicates are told from: those before are counted as received for the first time.
const WINDOW: u64 = 512;
const WORDS: usize = (WINDOW / 64) as usize;
/// Packets asked for again at a time.
const MAX_MISSING: usize = 500;
/// A packet is missed when this many later ones came, or after this time.
const REORDER_PACKETS: u64 = 3;
const NACK_INTERVAL: Duration = Duration::from_millis(30);
const MAX_TRIES: u8 = 10;
/// Time without a key frame after which one is asked for, and asked for again.
const KEY_FRAME_PATIENCE: Duration = Duration::from_millis(500);

/// What came of one stream, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Packets received once, repaired ones too.
    pub received: u64,
    /// Sequence numbers from the first to the highest.
    pub expected: u64,
    /// The publisher's packets from the first to the last that was opened.
    pub published: u64,
    /// Packets received up to that last one: what lacks to `published` was lost or left out.
    pub received_of_published: u64,
    /// Packets that came after a later one, without retransmissions.
    pub reordered: u64,
    /// Packets that came as retransmissions.
    pub repaired: u64,
    /// Packets that came again.
    pub duplicates: u64,
}

impl std::ops::AddAssign for StreamCounts {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.expected += other.expected;
        self.published += other.published;
        self.received_of_published += other.received_of_published;
        self.reordered += other.reordered;
        self.repaired += other.repaired;
        self.duplicates += other.duplicates;
    }
}

/// One stream.
#[derive(Clone, Debug)]
pub struct Stream {
    ssrc: Ssrc,
    codec: CodecName,
    /// Of retransmissions: the stream that they repair.
    repairs: Option<Ssrc>,
    stats: ReceiveStats,
    sequences: Extender,
    first: u64,
    /// Which of the last [`WINDOW`] indices came.
    seen: [u64; WORDS],
    missing: Vec<Missing>,
    run: Option<LayerRun>,
    counts: StreamCounts,
    first_at: Option<Instant>,
    /// When the newest packet came.
    last_at: Option<Instant>,
    /// The longest time between two packets, until somebody asked.
    longest_gap: Duration,
    first_key_at: Option<Instant>,
    asked_key_at: Option<Instant>,
}

/// Since when packets come of one layer, by the publisher's counter.
#[derive(Clone, Copy, Debug)]
struct LayerRun {
    layer: u8,
    first: u64,
    /// [`StreamCounts::published`] of the runs before.
    before: u64,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    index: u64,
    tries: u8,
    due: Instant,
}

/// The stream of a packet; a new one is taken when its payload type is known.
pub(super) fn find_or_add<'a>(
    streams: &'a mut Vec<Stream>,
    sections: &Sections,
    header: &Header,
    max: usize,
) -> Result<&'a mut Stream, DropReason> {
    let known = streams.iter().position(|stream| stream.ssrc == header.ssrc);
    let at = match known {
        Some(at) => at,
        None if streams.len() >= max => return Err(DropReason::RtpTooManySsrcs),
        None => {
            let (codec, is_rtx) = codec_of(header.payload_type).ok_or(DropReason::RtpMalformed)?;
            let announced = sections.announced(header.ssrc);
            let codec = announced.map_or(codec, |(codec, _)| codec);
            let repairs = announced.and_then(|(_, media)| media).filter(|_| is_rtx);
            if is_rtx && repairs.is_none() {
                return Err(DropReason::RtpMalformed);
            }
            streams.push(Stream::new(header.ssrc, codec, repairs));
            streams.len() - 1
        }
    };
    // Retransmissions are counted where they belong.
    let at = match streams[at].repairs {
        Some(media) => streams.iter().position(|stream| stream.ssrc == media).unwrap_or(at),
        None => at,
    };
    Ok(&mut streams[at])
}

impl Stream {
    fn new(ssrc: Ssrc, codec: CodecName, repairs: Option<Ssrc>) -> Self {
        Self {
            ssrc,
            codec,
            repairs,
            stats: ReceiveStats::new(codec.clock_rate()),
            sequences: Extender::default(),
            first: 0,
            seen: [0; WORDS],
            missing: Vec::new(),
            run: None,
            counts: StreamCounts::default(),
            first_at: None,
            last_at: None,
            longest_gap: Duration::ZERO,
            first_key_at: None,
            asked_key_at: None,
        }
    }

    /// The stream's SSRC.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// True for retransmissions that came before what they repair; those that come after are counted there.
    pub fn is_retransmissions(&self) -> bool {
        self.repairs.is_some()
    }

    /// Sound or pictures.
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }

    /// What came.
    pub fn counts(&self) -> StreamCounts {
        self.counts
    }

    /// The longest time between two packets since the last call.
    pub fn take_longest_gap(&mut self) -> Duration {
        std::mem::take(&mut self.longest_gap)
    }

    /// When the first packet came.
    pub fn first_at(&self) -> Option<Instant> {
        self.first_at
    }

    /// When the first key frame began, of video.
    pub fn first_key_at(&self) -> Option<Instant> {
        self.first_key_at
    }

    /// True for a stream of retransmissions that came before what it repairs.
    pub(super) fn is_repair(&self, header: &Header) -> bool {
        header.ssrc != self.ssrc || self.repairs.is_some()
    }

    /// A packet need not be opened when nothing more than its number is wanted.
    pub(super) fn may_stay_closed(&self) -> bool {
        self.repairs.is_none() && (self.kind() == Kind::Audio || self.first_key_at.is_some())
    }

    /// Counts a packet by its header.
    pub(super) fn count_closed(&mut self, header: &Header, now: Instant) -> RtpReceived {
        let duplicate = !self.count_index(header, now);
        received(header, self.ssrc, header.sequence, duplicate)
    }

    /// Counts an opened packet. True as well when it starts the stream's first key frame.
    pub(super) fn count(
        &mut self,
        header: &Header,
        bytes: &[u8],
        payload: Range<usize>,
        now: Instant,
    ) -> (RtpReceived, bool) {
        let duplicate = !self.count_index(header, now);
        let content = &bytes[payload.clone()];
        let stamp = Stamp::find(content);
        let is_newest = self.sequences.highest().is_some_and(|highest| highest as u16 == header.sequence);
        self.count_stamp(stamp, is_newest);
        let first_key = self.kind() == Kind::Video
            && self.first_key_at.is_none()
            && codec::inspect(self.codec, content, None).key_frame;
        if first_key {
            self.first_key_at = Some(now);
        }
        (RtpReceived { payload, stamp, ..received(header, self.ssrc, header.sequence, duplicate) }, first_key)
    }

    /// Counts the packet that a retransmission holds.
    pub(super) fn count_repair(
        &mut self,
        header: &Header,
        sequence: u16,
        bytes: &[u8],
        payload: Range<usize>,
    ) -> RtpReceived {
        // Before the first packet of the stream itself nothing can be missing.
        let index = self.sequences.peek(sequence);
        let duplicate = self.first_at.is_none() || index < self.first || !self.mark(index);
        if duplicate {
            self.counts.duplicates += 1;
        } else {
            self.counts.received += 1;
            self.counts.repaired += 1;
            self.expect();
        }
        self.missing.retain(|missing| missing.index != index);
        let stamp = Stamp::find(&bytes[payload.clone()]);
        let received = received(header, self.ssrc, sequence, duplicate);
        RtpReceived { payload, stamp, repaired: true, ..received }
    }

    /// A packet of padding, with which bandwidth is probed.
    pub(super) fn count_padding(&mut self, header: &Header) -> RtpReceived {
        received(header, self.ssrc, header.sequence, true)
    }

    /// The report block; `None` before the first packet.
    pub(super) fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        self.first_at.and_then(|_| self.stats.report(self.ssrc, now))
    }

    pub(super) fn sender_report(&mut self, ntp: u64, now: Instant) {
        self.stats.sender_report(ntp, now);
    }

    /// True when a key frame is to be asked for.
    pub(super) fn wants_key_frame(&mut self, now: Instant) -> bool {
        let Some(first_at) = self.first_at else { return false };
        let since = self.asked_key_at.unwrap_or(first_at);
        let wants = self.kind() == Kind::Video && self.first_key_at.is_none() && now >= since + KEY_FRAME_PATIENCE;
        if wants {
            self.asked_key_at = Some(now);
        }
        wants
    }

    /// When [`Stream::missing`] has something to say.
    pub(super) fn next_nack(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.due).min()
    }

    /// Appends the sequence numbers to ask for now, in their order.
    pub(super) fn missing(&mut self, now: Instant, out: &mut Vec<u16>) {
        self.missing.retain(|missing| missing.tries < MAX_TRIES || missing.due > now);
        for missing in self.missing.iter_mut().filter(|missing| missing.due <= now) {
            missing.tries += 1;
            missing.due = now + NACK_INTERVAL * u32::from(missing.tries);
            out.push(missing.index as u16);
        }
    }

    /// Counts a sequence number; false when it came before.
    fn count_index(&mut self, header: &Header, now: Instant) -> bool {
        let previous = self.sequences.highest();
        let index = self.sequences.extend(header.sequence);
        if let Some(last) = self.last_at.replace(now) {
            self.longest_gap = self.longest_gap.max(now.saturating_duration_since(last));
        }
        if self.first_at.is_none() {
            self.first_at = Some(now);
            self.first = index;
        }
        match previous {
            Some(highest) if index <= highest => {
                if index + WINDOW <= highest || !self.mark(index) {
                    self.counts.duplicates += 1;
                    return false;
                }
                self.counts.reordered += 1;
                self.first = self.first.min(index);
                self.missing.retain(|missing| missing.index != index);
            }
            Some(highest) => {
                self.advance(highest, index);
                self.miss(highest, index, now);
            }
            None => {
                self.mark(index);
            }
        }
        self.stats.received(header.sequence, header.timestamp, now);
        self.counts.received += 1;
        self.expect();
        true
    }

    /// Forgets what leaves the window when the highest index becomes `index`, and marks it.
    fn advance(&mut self, highest: u64, index: u64) {
        if index - highest >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for passed in highest + 1..=index {
                self.seen[slot(passed).0] &= !slot(passed).1;
            }
        }
        self.mark(index);
    }

    /// True when it was not marked.
    fn mark(&mut self, index: u64) -> bool {
        let (word, bit) = slot(index);
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }

    fn miss(&mut self, highest: u64, index: u64, now: Instant) {
        // Later packets make those missing due; what is in order costs nothing.
        if !self.missing.is_empty() {
            let overdue = self.missing.iter_mut().filter(|m| m.tries == 0 && m.index + REORDER_PACKETS <= index);
            overdue.for_each(|missing| missing.due = now);
        }
        // Sound is not repaired.
        if index - highest > 1 && self.kind() == Kind::Video {
            let room = MAX_MISSING.saturating_sub(self.missing.len());
            let due = now + NACK_INTERVAL / 3;
            self.missing.extend((highest + 1..index).take(room).map(|index| Missing { index, tries: 0, due }));
        }
    }

    /// `is_newest`: no later packet came before it, which may be of the next layer already.
    fn count_stamp(&mut self, stamp: Option<Stamp>, is_newest: bool) {
        let Some(Stamp { counter, layer, .. }) = stamp.filter(|_| is_newest) else { return };
        let new = LayerRun { layer, first: counter, before: self.counts.published };
        let run = *self.run.get_or_insert(new);
        let run = if run.layer == layer { run } else { *self.run.insert(new) };
        if counter >= run.first && run.before + counter - run.first + 1 > self.counts.published {
            self.counts.published = run.before + counter - run.first + 1;
            self.counts.received_of_published = self.counts.received;
        }
    }

    fn expect(&mut self) {
        self.counts.expected = self.sequences.highest().map_or(0, |highest| highest - self.first + 1);
    }
}

fn slot(index: u64) -> (usize, u64) {
    ((index / 64) as usize % WORDS, 1 << (index % 64))
}

fn received(header: &Header, ssrc: Ssrc, sequence: u16, duplicate: bool) -> RtpReceived {
    RtpReceived {
        ssrc,
        sequence,
        timestamp: header.timestamp,
        marker: header.marker,
        payload: 0..0,
        stamp: None,
        duplicate,
        repaired: false,
    }
}
