//! Reading compound RTCP packets, without copying them.

use super::{ReportBlock, format, kind};
use crate::drops::DropReason;
use crate::id::Ssrc;
use crate::rtp::{u16_at, u32_at};

/// Bytes of a packet's header.
const HEADER_LEN: usize = 4;
/// Bytes of a report block.
const BLOCK_LEN: usize = 24;

/// One thing that an RTCP packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RtcpMessage<'a> {
    /// A sender's clock and counts.
    SenderReport {
        /// The stream.
        ssrc: Ssrc,
        /// NTP time of the report, 32.32 bits.
        ntp: u64,
        /// The same time in the stream's clock.
        rtp_time: u32,
        /// Packets sent.
        packets: u32,
        /// Payload bytes sent.
        octets: u32,
    },
    /// One block of a sender or receiver report.
    ReportBlock {
        /// Who reports.
        reporter: Ssrc,
        /// What.
        block: ReportBlock,
    },
    /// Please a key frame (RFC 4585 section 6.3.1).
    Pli {
        /// The stream.
        media: Ssrc,
    },
    /// Please a key frame (RFC 5104 section 4.3.1), once for each command number.
    Fir {
        /// The stream.
        media: Ssrc,
        /// Repeated when the request is repeated, changed for a new one.
        command_number: u8,
    },
    /// Please these packets again (RFC 4585 section 6.2.1).
    Nack {
        /// The stream.
        media: Ssrc,
        /// Their sequence numbers; the same can come twice.
        sequences: Nacks<'a>,
    },
    /// An estimate of the bandwidth towards the sender of this message (draft-alvestrand-rmcat-remb).
    Remb {
        /// In bit/s.
        bitrate_bps: u64,
        /// The streams that share it.
        ssrcs: Ssrcs<'a>,
        /// Who sends it: a receiver may have several estimators.
        sender: Ssrc,
    },
    /// Transport-wide feedback: the packet whole, with its header.
    TransportFeedback {
        /// The bytes.
        packet: &'a [u8],
    },
    /// These streams have ended.
    Bye {
        /// Which.
        ssrcs: Ssrcs<'a>,
    },
}

/// The sequence numbers of a NACK, at most 17 for each four bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nacks<'a> {
    pairs: &'a [u8],
    next: u16,
    /// Bit 0 says whether `next` is asked for.
    bits: u32,
}

impl<'a> Nacks<'a> {
    fn new(pairs: &'a [u8]) -> Self {
        Self { pairs, next: 0, bits: 0 }
    }
}

impl Iterator for Nacks<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.bits == 0 {
            let ([a, b, c, d], rest) = self.pairs.split_first_chunk()?;
            self.pairs = rest;
            self.next = u16::from_be_bytes([*a, *b]);
            // RFC 4585 section 6.2.1: bit i of BLP (from the least significant, 1) is packet PID + i.
            self.bits = u32::from(u16::from_be_bytes([*c, *d])) << 1 | 1;
        }
        let skip = self.bits.trailing_zeros();
        let sequence = self.next.wrapping_add(skip as u16);
        self.bits = self.bits >> skip >> 1;
        self.next = sequence.wrapping_add(1);
        Some(sequence)
    }
}

/// A list of SSRCs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssrcs<'a>(&'a [u8]);

impl Iterator for Ssrcs<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        let (ssrc, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(Ssrc(u32::from_be_bytes(*ssrc)))
    }
}

/// Reads a decrypted compound packet, reduced-size (RFC 5506) or not, and gives each message to `sink`. SDES, APP, XR
/// and unknown types are skipped. At the first malformed packet it stops; what came before is in the sink.
pub fn parse(compound: &[u8], sink: &mut impl FnMut(RtcpMessage<'_>)) -> Result<(), DropReason> {
    let mut rest = compound;
    loop {
        let after = parse_one(rest, sink).ok_or(DropReason::RtcpMalformed)?;
        if after.is_empty() {
            return Ok(());
        }
        rest = after;
    }
}

/// Reads the first packet of `bytes` and returns what comes after it.
///
/// ```text
/// |V=2|P| count/FMT |  packet type  |  length in words - 1  |
/// ```
fn parse_one<'a>(bytes: &'a [u8], sink: &mut impl FnMut(RtcpMessage<'_>)) -> Option<&'a [u8]> {
    let head = *bytes.first_chunk::<HEADER_LEN>()?;
    if head[0] >> 6 != 2 {
        return None;
    }
    let len = HEADER_LEN + usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
    let (packet, after) = bytes.split_at_checked(len)?;
    let body = without_padding(packet, head[0] & 0x20 != 0)?;
    let count = head[0] & 0x1F;
    match head[1] {
        kind::SENDER_REPORT => sender_report(body, count, sink)?,
        kind::RECEIVER_REPORT => report_blocks(Ssrc(u32_at(body, 0)?), body.get(4..)?, count, sink)?,
        kind::BYE => sink(RtcpMessage::Bye { ssrcs: Ssrcs(body.get(..usize::from(count) * 4)?) }),
        kind::TRANSPORT_FEEDBACK => transport_feedback(packet, body, count, sink)?,
        kind::PAYLOAD_FEEDBACK => payload_feedback(body, count, sink)?,
        _ => {}
    }
    Some(after)
}

/// The bytes between header and padding. RFC 3550 section 6.4.1 wants padding in whole words and on the last packet
/// only; libwebrtc's transport feedback and others don't keep to it, and nothing depends on it.
fn without_padding(packet: &[u8], padded: bool) -> Option<&[u8]> {
    let body = &packet[HEADER_LEN..];
    let padding = if padded { usize::from(*body.last()?) } else { 0 };
    let valid = !padded || padding > 0;
    valid.then(|| body.get(..body.len().checked_sub(padding)?)).flatten()
}

fn sender_report(body: &[u8], count: u8, sink: &mut impl FnMut(RtcpMessage<'_>)) -> Option<()> {
    let ssrc = Ssrc(u32_at(body, 0)?);
    let blocks = body.get(24..)?;
    if blocks.len() < usize::from(count) * BLOCK_LEN {
        return None;
    }
    sink(RtcpMessage::SenderReport {
        ssrc,
        ntp: u64::from(u32_at(body, 4)?) << 32 | u64::from(u32_at(body, 8)?),
        rtp_time: u32_at(body, 12)?,
        packets: u32_at(body, 16)?,
        octets: u32_at(body, 20)?,
    });
    report_blocks(ssrc, blocks, count, sink)
}

/// The report blocks at the start of `bytes`; what comes after them (profile-specific extensions) is skipped.
fn report_blocks(reporter: Ssrc, bytes: &[u8], count: u8, sink: &mut impl FnMut(RtcpMessage<'_>)) -> Option<()> {
    let bytes = bytes.get(..usize::from(count) * BLOCK_LEN)?;
    for b in bytes.chunks_exact(BLOCK_LEN) {
        let lost = u32_at(b, 4)?;
        let block = ReportBlock {
            about: Ssrc(u32_at(b, 0)?),
            fraction_lost: (lost >> 24) as u8,
            cumulative_lost: (lost << 8) as i32 >> 8,
            highest_sequence: u32_at(b, 8)?,
            jitter: u32_at(b, 12)?,
            last_sr: u32_at(b, 16)?,
            delay_since_last_sr: u32_at(b, 20)?,
        };
        sink(RtcpMessage::ReportBlock { reporter, block });
    }
    Some(())
}

/// Feedback has the SSRCs of its sender and of the media in front (RFC 4585 section 6.1).
fn transport_feedback(packet: &[u8], body: &[u8], fmt: u8, sink: &mut impl FnMut(RtcpMessage<'_>)) -> Option<()> {
    let (media, information) = (Ssrc(u32_at(body, 4)?), &body[8..]);
    match fmt {
        format::NACK if information.is_empty() => return None,
        format::NACK => sink(RtcpMessage::Nack { media, sequences: Nacks::new(information) }),
        format::TRANSPORT_WIDE => sink(RtcpMessage::TransportFeedback { packet }),
        _ => {}
    }
    Some(())
}

fn payload_feedback(body: &[u8], fmt: u8, sink: &mut impl FnMut(RtcpMessage<'_>)) -> Option<()> {
    let (media, information) = (Ssrc(u32_at(body, 4)?), &body[8..]);
    match fmt {
        format::PLI => sink(RtcpMessage::Pli { media }),
        format::FIR if information.is_empty() || information.len() % 8 != 0 => return None,
        format::FIR => {
            for entry in information.chunks_exact(8) {
                sink(RtcpMessage::Fir { media: Ssrc(u32_at(entry, 0)?), command_number: entry[4] });
            }
        }
        format::APPLICATION if information.starts_with(b"REMB") => {
            remb(Ssrc(u32_at(body, 0)?), &information[4..], sink)?;
        }
        _ => {}
    }
    Some(())
}

/// ```text
/// |  Num SSRC     | BR Exp (6) |  BR Mantissa (18)             |
/// |   SSRCs ...
/// ```
fn remb(sender: Ssrc, bytes: &[u8], sink: &mut impl FnMut(RtcpMessage<'_>)) -> Option<()> {
    let count = usize::from(*bytes.first()?);
    let exponent = u32::from(*bytes.get(1)? >> 2);
    let mantissa = u64::from(bytes[1] & 0x03) << 16 | u64::from(u16_at(bytes, 2)?);
    let ssrcs = Ssrcs(bytes.get(4..4 + count * 4)?);
    // More than 64 bits is no bandwidth.
    let bitrate_bps = if mantissa.leading_zeros() < exponent { u64::MAX } else { mantissa << exponent };
    sink(RtcpMessage::Remb { bitrate_bps, ssrcs, sender });
    Some(())
}
