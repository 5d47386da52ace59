//! Frames as bytes.

use super::error::FrameError;
use crate::rtp::extension::KeptExtensions;

/// Encodings of a track that a link tells apart.
pub const MAX_LAYERS: usize = 8;
/// Bytes of kind and length.
const FRAME_HEAD: usize = 3;
/// Longest body: what the length can say.
const MAX_BODY: usize = u16::MAX as usize;
/// Handle, flags, restarts, index, time stamp and the descriptor's length.
const MEDIA_FIXED: usize = 8 + 2 + 1 + 6 + 4 + 1;
/// Most bytes of kept header extensions.
const MEDIA_KEPT: usize = 1 + 1 + 3;
/// Most bytes of a frame of media in front of its payload.
pub const MAX_MEDIA_HEAD: usize = FRAME_HEAD + MEDIA_FIXED + MEDIA_KEPT + u8::MAX as usize;
/// Highest index of an SRTP stream (48 bits).
const MAX_INDEX: u64 = (1 << 48) - 1;

const PADDING: u8 = 0;
const MEDIA: u8 = 1;
const MISSING: u8 = 2;
const WANT: u8 = 3;
const KEY: u8 = 4;
const CLOCK: u8 = 5;
const RATES: u8 = 6;
const STRAY: u8 = 7;
const ALIVE: u8 = 8;

const LAYER: u16 = 7;
const AGAIN: u16 = 1 << 3;
const MARKER: u16 = 1 << 4;
const HOP: u16 = 1 << 5;
const RED: u16 = 1 << 6;
const LEVEL: u16 = 1 << 7;
const ORIENTATION: u16 = 1 << 8;
const DELAY: u16 = 1 << 9;
const GOES_ON: u16 = 1 << 10;

/// One encoding of a track, as both ends of a link know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// The track, in the numbers of the shard that has its publisher.
    pub handle: u64,
    /// The encoding, 0 the lowest; below [`MAX_LAYERS`].
    pub layer: u8,
}

/// One packet of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// Of what.
    pub stream: Stream,
    /// How often the publisher has begun this encoding anew, modulo 256: its indexes count from there.
    pub restarts: u8,
    /// The last time it was the same stream that went on, behind a gap in its indexes; what is not told of that has begun anew.
    pub goes_on: bool,
    /// It was asked for again.
    pub again: bool,
    /// RTP's marker.
    pub marker: bool,
    /// It has come over a link before: it is not passed on.
    pub hop: bool,
    /// It has packets of the past in it (RFC 2198).
    pub is_red: bool,
    /// Its index in the publisher's stream, 48 bits.
    pub index: u64,
    /// The publisher's time stamp.
    pub timestamp: u32,
    /// Header extensions that are passed on.
    pub kept: KeptExtensions,
    /// Its dependency descriptor; empty without one; at most 255 bytes.
    pub descriptor: &'a [u8],
    /// What it carries.
    pub payload: &'a [u8],
}

/// What is said over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A packet.
    Media(Media<'a>),
    /// Packets that have not come: `first`, and `first + 1 + n` for each bit `n`.
    Missing {
        /// Of what.
        stream: Stream,
        /// The index of the first.
        first: u64,
        /// Which of the 64 after it.
        others: u64,
    },
    /// What is wanted of a track from now on: bit `n` is layer `n`.
    Want {
        /// The track.
        handle: u64,
        /// The encodings that are to be sent.
        layers: u8,
        /// The layers that receivers would have use for if their paths carried them, as clients are told of layers.
        useful: u8,
        /// What the best of the receivers' paths has room for of the track, in kbit/s; the highest bit is set where one gets all.
        /// 0 while nothing is known.
        room: u32,
    },
    /// A key frame is wanted.
    Key(Stream),
    /// The publisher's clock, from its last sender report.
    Clock {
        /// Of what.
        stream: Stream,
        /// NTP, 32.32 bits.
        ntp: u64,
        /// The RTP time stamp of the same moment.
        timestamp: u32,
        /// Milliseconds since the report came.
        age_ms: u16,
    },
    /// How much comes of each encoding of a track, in kbit/s, so that receivers can choose among those that they do not
    /// get; 0 of one that is not sent, 1 of one of which it is not known yet.
    Rates {
        /// The track.
        handle: u64,
        /// Each encoding's.
        kbps: [u32; MAX_LAYERS],
    },
    /// A client's datagram that has come to a shard where the client is not, or not yet.
    Stray {
        /// The client's id; at most 255 bytes.
        client: &'a [u8],
        /// It has come from where the client is sent to.
        is_selected: bool,
        /// As it came.
        datagram: &'a [u8],
    },
    /// The sender lives: what its peer needs to tell how much is lost on the way, and how long it is.
    Alive {
        /// Datagrams that it has sent on this link, this one not counted.
        sent: u64,
        /// Microseconds on the sender's own clock, modulo 2^32.
        at: u32,
        /// `at` of the last such frame that it has got; 0 before the first.
        echo: u32,
        /// Microseconds since that came.
        held: u32,
    },
}

impl Frame<'_> {
    /// Writes the frame to the beginning of `buf`; its length, or `None` when it does not fit.
    pub fn write(&self, buf: &mut [u8]) -> Option<usize> {
        let mut writer = Writer { buf, at: FRAME_HEAD };
        let kind = match self {
            Self::Media(media) => {
                writer.media(media)?;
                MEDIA
            }
            Self::Missing { stream, first, others } => {
                writer.stream(*stream)?;
                writer.put(&first.to_be_bytes()[2..])?;
                writer.put(&others.to_be_bytes())?;
                MISSING
            }
            Self::Want { handle, layers, useful, room } => {
                writer.put(&handle.to_be_bytes())?;
                writer.put(&[*layers, *useful])?;
                writer.put(&room.to_be_bytes())?;
                WANT
            }
            Self::Key(stream) => {
                writer.stream(*stream)?;
                KEY
            }
            Self::Clock { stream, ntp, timestamp, age_ms } => {
                writer.stream(*stream)?;
                writer.put(&ntp.to_be_bytes())?;
                writer.put(&timestamp.to_be_bytes())?;
                writer.put(&age_ms.to_be_bytes())?;
                CLOCK
            }
            Self::Rates { handle, kbps } => {
                writer.put(&handle.to_be_bytes())?;
                for rate in kbps {
                    writer.put(&rate.to_be_bytes())?;
                }
                RATES
            }
            Self::Stray { client, is_selected, datagram } => {
                writer.put(&[u8::from(*is_selected), u8::try_from(client.len()).ok()?])?;
                writer.put(client)?;
                writer.put(datagram)?;
                STRAY
            }
            Self::Alive { sent, at, echo, held } => {
                writer.put(&sent.to_be_bytes())?;
                for word in [at, echo, held] {
                    writer.put(&word.to_be_bytes())?;
                }
                ALIVE
            }
        };
        let (end, body) = (writer.at, writer.at - FRAME_HEAD);
        let length = u16::try_from(body).ok()?;
        buf[0] = kind;
        buf[1..FRAME_HEAD].copy_from_slice(&length.to_be_bytes());
        Some(end)
    }
}

struct Writer<'b> {
    buf: &'b mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        self.buf.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    fn stream(&mut self, stream: Stream) -> Option<()> {
        self.put(&stream.handle.to_be_bytes())?;
        self.put(&[stream.layer])
    }

    fn media(&mut self, media: &Media<'_>) -> Option<()> {
        let descriptor_len = u8::try_from(media.descriptor.len()).ok()?;
        let bit = |is: bool, bit: u16| if is { bit } else { 0 };
        let kept = &media.kept;
        let flags = u16::from(media.stream.layer) & LAYER
            | bit(media.goes_on, GOES_ON)
            | bit(media.again, AGAIN)
            | bit(media.marker, MARKER)
            | bit(media.hop, HOP)
            | bit(media.is_red, RED)
            | bit(kept.audio_level.is_some(), LEVEL)
            | bit(kept.orientation.is_some(), ORIENTATION)
            | bit(kept.playout_delay.is_some(), DELAY);
        self.put(&media.stream.handle.to_be_bytes())?;
        self.put(&flags.to_be_bytes())?;
        self.put(&[media.restarts])?;
        self.put(&media.index.to_be_bytes()[2..])?;
        self.put(&media.timestamp.to_be_bytes())?;
        for byte in [kept.audio_level, kept.orientation].into_iter().flatten() {
            self.put(&[byte])?;
        }
        if let Some(delay) = &kept.playout_delay {
            self.put(delay)?;
        }
        self.put(&[descriptor_len])?;
        self.put(media.descriptor)?;
        self.put(media.payload)
    }
}

/// The frames of a datagram, in order; an error is the last that comes.
#[derive(Clone, Debug)]
pub struct Frames<'a>(pub &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.0.iter().position(|byte| *byte != PADDING)?;
        let frame = &self.0[start..];
        self.0 = &[];
        let Some((head, rest)) = frame.split_first_chunk::<FRAME_HEAD>() else {
            return Some(Err(FrameError::Short(frame.len())));
        };
        let [kind, length @ ..] = *head;
        let Some((body, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(length))) else {
            return Some(Err(FrameError::Short(frame.len())));
        };
        let read = read(kind, body);
        if read.is_ok() {
            self.0 = rest;
        }
        Some(read)
    }
}

fn read(kind: u8, body: &[u8]) -> Result<Frame<'_>, FrameError> {
    debug_assert!(body.len() <= MAX_BODY);
    let wrong_length = FrameError::Length { kind, bytes: body.len() };
    let mut reader = Reader(body);
    let frame = match kind {
        MEDIA => reader.media().ok_or(wrong_length).map(Frame::Media),
        MISSING => (|| {
            let (stream, first) = (reader.stream()?, reader.index()?);
            Some(Frame::Missing { stream, first, others: u64::from_be_bytes(reader.take()?) })
        })()
        .ok_or(wrong_length),
        WANT => (|| {
            let handle = u64::from_be_bytes(reader.take()?);
            let [layers, useful] = reader.take()?;
            Some(Frame::Want { handle, layers, useful, room: u32::from_be_bytes(reader.take()?) })
        })()
        .ok_or(wrong_length),
        KEY => reader.stream().map(Frame::Key).ok_or(wrong_length),
        CLOCK => (|| {
            let (stream, ntp) = (reader.stream()?, u64::from_be_bytes(reader.take()?));
            let (timestamp, age_ms) = (u32::from_be_bytes(reader.take()?), u16::from_be_bytes(reader.take()?));
            Some(Frame::Clock { stream, ntp, timestamp, age_ms })
        })()
        .ok_or(wrong_length),
        RATES => (|| {
            let handle = u64::from_be_bytes(reader.take()?);
            let mut kbps = [0; MAX_LAYERS];
            for rate in &mut kbps {
                *rate = u32::from_be_bytes(reader.take()?);
            }
            Some(Frame::Rates { handle, kbps })
        })()
        .ok_or(wrong_length),
        STRAY => (|| {
            let [is_selected, length] = reader.take()?;
            let (client, datagram) = std::mem::take(&mut reader.0).split_at_checked(length.into())?;
            Some(Frame::Stray { client, is_selected: is_selected != 0, datagram })
        })()
        .ok_or(wrong_length),
        ALIVE => (|| {
            let sent = u64::from_be_bytes(reader.take()?);
            let [at, echo, held] = [reader.take()?, reader.take()?, reader.take()?].map(u32::from_be_bytes);
            Some(Frame::Alive { sent, at, echo, held })
        })()
        .ok_or(wrong_length),
        kind => Err(FrameError::UnknownKind(kind)),
    }?;
    let layer = match &frame {
        Frame::Media(media) => media.stream.layer,
        Frame::Missing { stream, .. } | Frame::Key(stream) | Frame::Clock { stream, .. } => stream.layer,
        Frame::Want { .. } | Frame::Rates { .. } | Frame::Stray { .. } | Frame::Alive { .. } => 0,
    };
    if usize::from(layer) >= MAX_LAYERS {
        return Err(FrameError::Layer(layer));
    }
    if reader.0.is_empty() { Ok(frame) } else { Err(wrong_length) }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn stream(&mut self) -> Option<Stream> {
        let handle = u64::from_be_bytes(self.take()?);
        let [layer] = self.take()?;
        Some(Stream { handle, layer })
    }

    fn index(&mut self) -> Option<u64> {
        let [a, b, c, d, e, f] = self.take()?;
        Some(u64::from_be_bytes([0, 0, a, b, c, d, e, f]) & MAX_INDEX)
    }

    fn media(&mut self) -> Option<Media<'a>> {
        let handle = u64::from_be_bytes(self.take()?);
        let flags = u16::from_be_bytes(self.take()?);
        let [restarts] = self.take()?;
        let (index, timestamp) = (self.index()?, u32::from_be_bytes(self.take()?));
        let mut kept = KeptExtensions::default();
        if flags & LEVEL != 0 {
            let [level] = self.take()?;
            kept.audio_level = Some(level);
        }
        if flags & ORIENTATION != 0 {
            let [orientation] = self.take()?;
            kept.orientation = Some(orientation);
        }
        if flags & DELAY != 0 {
            kept.playout_delay = Some(self.take()?);
        }
        let [descriptor_len] = self.take()?;
        let (descriptor, payload) = self.0.split_at_checked(usize::from(descriptor_len))?;
        self.0 = &[];
        Some(Media {
            stream: Stream { handle, layer: (flags & LAYER) as u8 },
            restarts,
            goes_on: flags & GOES_ON != 0,
            again: flags & AGAIN != 0,
            marker: flags & MARKER != 0,
            hop: flags & HOP != 0,
            is_red: flags & RED != 0,
            index,
            timestamp,
            kept,
            descriptor,
            payload,
        })
    }
}
