//! Reads transport-wide congestion control feedback without copying it
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).
//!
//! ```text
//! |V=2|P|  FMT=15 |    PT=205     |           length              |
//! |                     SSRC of packet sender                     |
//! |                      SSRC of media source                     |
//! |      base sequence number     |      packet status count      |
//! |            reference time (64 ms)             | fb pkt. count |
//! |          packet chunk         |         packet chunk ...      |
//! |  recv delta   |  recv delta (250 us; one or two bytes) ...    |
//! ```

use std::fmt;

/// Bytes before the chunks.
const FIXED_LEN: usize = 20;
/// Most packets that one feedback may tell of. What was sent longer ago is forgotten anyway, and 30 bytes could
/// otherwise ask for 65,535 look-ups.
pub(super) const MAX_STATUSES: u16 = 8192;
/// Ticks of 250 us in a unit of the reference time.
const TICKS_PER_REFERENCE: u32 = 256;

/// Why a feedback packet was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedbackError {
    /// Not an RTCP packet of type 205, format 15.
    NotTransportFeedback,
    /// The packet ends before what its counts promise.
    Truncated,
    /// It tells of no packet, or of more than can be in flight.
    BadCount,
    /// It comes after more statuses than there were packets to tell of.
    TooMuch,
}

impl fmt::Display for FeedbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTransportFeedback => "not a transport-wide feedback packet",
            Self::Truncated => "the feedback is shorter than its counts say",
            Self::BadCount => "the feedback's packet status count is out of range",
            Self::TooMuch => "more feedback than packets sent",
        })
    }
}

impl std::error::Error for FeedbackError {}

/// What a feedback packet says about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The transport-wide sequence number.
    pub sequence: u16,
    /// When it arrived by the receiver's clock, in ticks of 250 us that wrap at 2^32; `None`: not received so far.
    pub at: Option<u32>,
}

/// A feedback packet whose lengths have been checked. Iterates over what it says, in the order of sequence numbers.
#[derive(Clone, Debug)]
pub struct Feedback<'a> {
    chunks: Chunks<'a>,
    deltas: &'a [u8],
    sequence: u16,
    ticks: u32,
}

impl<'a> Feedback<'a> {
    /// How many packets a whole RTCP packet says that it tells of, 1 to 8,192: more costs more to read.
    pub fn count(packet: &[u8]) -> Result<u16, FeedbackError> {
        count_in(head(packet)?)
    }

    /// Checks a whole RTCP packet, from its header on. What follows it in a compound is ignored.
    pub fn parse(packet: &'a [u8]) -> Result<Self, FeedbackError> {
        let head = head(packet)?;
        let count = count_in(head)?;
        let len = 4 + usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
        let body = packet.get(FIXED_LEN..len).ok_or(FeedbackError::Truncated)?;
        let chunks = Chunks { bytes: body, left: count, chunk: 0, in_chunk: 0 };
        let deltas = deltas_behind(chunks.clone())?;
        let reference = u32::from_be_bytes([0, head[16], head[17], head[18]]);
        let sequence = u16::from_be_bytes([head[12], head[13]]);
        Ok(Self { chunks, deltas, sequence, ticks: reference.wrapping_mul(TICKS_PER_REFERENCE) })
    }
}

fn head(packet: &[u8]) -> Result<&[u8; FIXED_LEN], FeedbackError> {
    let head = packet.first_chunk::<FIXED_LEN>().ok_or(FeedbackError::Truncated)?;
    let is_feedback = head[0] >> 6 == 2 && head[0] & 0x1F == 15 && head[1] == 205;
    if is_feedback { Ok(head) } else { Err(FeedbackError::NotTransportFeedback) }
}

fn count_in(head: &[u8; FIXED_LEN]) -> Result<u16, FeedbackError> {
    match u16::from_be_bytes([head[14], head[15]]) {
        count @ 1..=MAX_STATUSES => Ok(count),
        _ => Err(FeedbackError::BadCount),
    }
}

impl Iterator for Feedback<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let symbol = self.chunks.next()?;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let delta = match symbol {
            SMALL => {
                let (delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                i32::from(*delta)
            }
            LARGE => {
                let (delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                i32::from(i16::from_be_bytes(*delta))
            }
            _ => return Some(Arrival { sequence, at: None }),
        };
        self.ticks = self.ticks.wrapping_add_signed(delta);
        Some(Arrival { sequence, at: Some(self.ticks) })
    }
}

/// Section 3.1.1: received, with a delta of one byte.
const SMALL: u8 = 1;
/// Received, with a delta of two bytes.
const LARGE: u8 = 2;

/// The symbols of a feedback's chunks. Symbol 3 is reserved and taken for "not received".
#[derive(Clone, Debug)]
struct Chunks<'a> {
    bytes: &'a [u8],
    /// Symbols still to come.
    left: u16,
    chunk: u16,
    /// Symbols still to come from `chunk`.
    in_chunk: u16,
}

impl Iterator for Chunks<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.left == 0 {
            return None;
        }
        if self.in_chunk == 0 {
            let (chunk, rest) = self.bytes.split_first_chunk()?;
            (self.bytes, self.chunk) = (rest, u16::from_be_bytes(*chunk));
            self.in_chunk = match self.chunk >> 14 {
                0b10 => 14,
                0b11 => 7,
                _ => self.chunk & 0x1FFF,
            };
            if self.in_chunk == 0 {
                // A run of nothing: whoever writes that has written no chunk we could rely on.
                self.left = 0;
                return None;
            }
        }
        self.in_chunk -= 1;
        self.left -= 1;
        Some(match self.chunk >> 14 {
            0b10 => (self.chunk >> self.in_chunk & 1) as u8,
            0b11 => (self.chunk >> (self.in_chunk * 2) & 3) as u8,
            _ => (self.chunk >> 13 & 3) as u8,
        })
    }
}

/// Walks the chunks and returns the bytes behind them, when they hold all the deltas.
fn deltas_behind(mut chunks: Chunks<'_>) -> Result<&[u8], FeedbackError> {
    let (mut needed, mut seen, count) = (0, 0, chunks.left);
    for symbol in chunks.by_ref() {
        seen += 1;
        needed += match symbol {
            SMALL => 1,
            LARGE => 2,
            _ => 0,
        };
    }
    let complete = seen == count && chunks.bytes.len() >= needed;
    complete.then_some(chunks.bytes).ok_or(FeedbackError::Truncated)
}

#[cfg(test)]
mod tests;
