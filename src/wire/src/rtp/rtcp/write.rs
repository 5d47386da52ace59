//! Writing RTCP packets one after the other into a slice: together they are a compound packet.
//!
//! RFC 3550 section 6.1: a compound packet starts with a report and has an SDES with a CNAME. RFC 5506 lets feedback
//! leave without them ("reduced-size").

use super::{ReportBlock, format, kind};
use crate::id::Ssrc;

/// The count in a header has five bits.
const MAX_BLOCKS: usize = 31;
/// Of the mantissa of a REMB.
const MANTISSA_BITS: u32 = 18;

/// The slice has no room for the packet; nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for the RTCP packet")]
pub struct Full;

/// A sender's clock and counts (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// The stream.
    pub ssrc: Ssrc,
    /// NTP time of the report, 32.32 bits.
    pub ntp: u64,
    /// The same time in the stream's clock.
    pub rtp_time: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// Writes packets into a slice, one after the other.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes to `out` from its start.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written so far: the length of the compound packet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.out.len() - self.len
    }

    /// The compound packet so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.out[..self.len]
    }

    /// A receiver report; more than 31 blocks become more than one packet, no block one without.
    pub fn receiver_report(&mut self, reporter: Ssrc, blocks: &[ReportBlock]) -> Result<(), Full> {
        let packets = blocks.len().div_ceil(MAX_BLOCKS).max(1);
        self.atomically(packets * 8 + blocks.len() * 24, |w| {
            let (first, rest) = blocks.split_at(blocks.len().min(MAX_BLOCKS));
            w.receiver_report_of(reporter, first);
            for blocks in rest.chunks(MAX_BLOCKS) {
                w.receiver_report_of(reporter, blocks);
            }
        })
    }

    fn receiver_report_of(&mut self, reporter: Ssrc, blocks: &[ReportBlock]) {
        self.header(blocks.len() as u8, kind::RECEIVER_REPORT, 4 + blocks.len() * 24);
        self.u32(reporter.0);
        blocks.iter().for_each(|block| self.block(block));
    }

    /// A sender report; blocks beyond 31 are put into receiver reports after it.
    pub fn sender_report(&mut self, info: &SenderInfo, blocks: &[ReportBlock]) -> Result<(), Full> {
        let (first, rest) = blocks.split_at(blocks.len().min(MAX_BLOCKS));
        let packets = rest.len().div_ceil(MAX_BLOCKS);
        self.atomically(28 + packets * 8 + blocks.len() * 24, |w| {
            w.header(first.len() as u8, kind::SENDER_REPORT, 24 + first.len() * 24);
            w.u32(info.ssrc.0);
            w.u32((info.ntp >> 32) as u32);
            w.u32(info.ntp as u32);
            w.u32(info.rtp_time);
            w.u32(info.packets);
            w.u32(info.octets);
            first.iter().for_each(|block| w.block(block));
            for blocks in rest.chunks(MAX_BLOCKS) {
                w.receiver_report_of(info.ssrc, blocks);
            }
        })
    }

    /// A source description with a CNAME, of which at most 255 bytes are written.
    pub fn cname(&mut self, ssrc: Ssrc, cname: &str) -> Result<(), Full> {
        const CNAME: u8 = 1;
        let text = &cname.as_bytes()[..cname.floor_char_boundary(255)];
        // RFC 3550 section 6.5: items end with at least one null byte, up to the next word.
        let items = (2 + text.len() + 1).next_multiple_of(4);
        self.atomically(8 + items, |w| {
            w.header(1, kind::SOURCE_DESCRIPTION, 4 + items);
            w.u32(ssrc.0);
            w.bytes(&[CNAME, text.len() as u8]);
            w.bytes(text);
            w.bytes(&[0; 4][..items - 2 - text.len()]);
        })
    }

    /// Asks for a key frame (RFC 4585 section 6.3.1).
    pub fn pli(&mut self, sender: Ssrc, media: Ssrc) -> Result<(), Full> {
        self.atomically(12, |w| w.feedback_header(format::PLI, kind::PAYLOAD_FEEDBACK, 8, sender, media))
    }

    /// Asks for a key frame (RFC 5104 section 4.3.1); a new request has a new command number.
    pub fn fir(&mut self, sender: Ssrc, media: Ssrc, command_number: u8) -> Result<(), Full> {
        self.atomically(20, |w| {
            // "The SSRC of media source is not used and SHALL be set to 0."
            w.feedback_header(format::FIR, kind::PAYLOAD_FEEDBACK, 16, sender, Ssrc(0));
            w.u32(media.0);
            w.u32(u32::from(command_number) << 24);
        })
    }

    /// Asks for packets again (RFC 4585 section 6.2.1). `sequences` are in their order (over the wrap too); those of
    /// up to 17 in a row share four bytes. Nothing is written for no packets.
    pub fn nack(&mut self, sender: Ssrc, media: Ssrc, sequences: &[u16]) -> Result<(), Full> {
        let pairs = nack_pairs(sequences).count();
        if pairs == 0 {
            return Ok(());
        }
        self.atomically(12 + pairs * 4, |w| {
            w.feedback_header(format::NACK, kind::TRANSPORT_FEEDBACK, 8 + pairs * 4, sender, media);
            nack_pairs(sequences).for_each(|(packet, following)| w.u32(u32::from(packet) << 16 | u32::from(following)));
        })
    }

    /// Tells a bandwidth (draft-alvestrand-rmcat-remb); rounded down to 18 significant bits. At most 255 SSRCs.
    pub fn remb(&mut self, sender: Ssrc, bitrate_bps: u64, ssrcs: &[Ssrc]) -> Result<(), Full> {
        let ssrcs = &ssrcs[..ssrcs.len().min(255)];
        let exponent = (u64::BITS - bitrate_bps.leading_zeros()).saturating_sub(MANTISSA_BITS);
        let mantissa = (bitrate_bps >> exponent) as u32;
        self.atomically(20 + ssrcs.len() * 4, |w| {
            w.feedback_header(format::APPLICATION, kind::PAYLOAD_FEEDBACK, 16 + ssrcs.len() * 4, sender, Ssrc(0));
            w.bytes(b"REMB");
            w.u32((ssrcs.len() as u32) << 24 | exponent << 18 | mantissa);
            ssrcs.iter().for_each(|ssrc| w.u32(ssrc.0));
        })
    }

    /// Says that streams have ended (RFC 3550 section 6.6); at most 31.
    pub fn bye(&mut self, ssrcs: &[Ssrc]) -> Result<(), Full> {
        let ssrcs = &ssrcs[..ssrcs.len().min(MAX_BLOCKS)];
        self.atomically(4 + ssrcs.len() * 4, |w| {
            w.header(ssrcs.len() as u8, kind::BYE, ssrcs.len() * 4);
            ssrcs.iter().for_each(|ssrc| w.u32(ssrc.0));
        })
    }

    /// The fixed part of transport-wide feedback whose information is `information` bytes long, for `twcc`.
    pub(in crate::rtp) fn transport_feedback(
        &mut self,
        sender: Ssrc,
        media: Ssrc,
        information: usize,
        write: impl FnOnce(&mut Self),
    ) -> Result<(), Full> {
        self.atomically(12 + information, |w| {
            let body = 8 + information;
            w.feedback_header(format::TRANSPORT_WIDE, kind::TRANSPORT_FEEDBACK, body, sender, media);
            write(w);
        })
    }

    /// Runs `write`, which writes exactly `len` bytes, if they fit.
    fn atomically(&mut self, len: usize, write: impl FnOnce(&mut Self)) -> Result<(), Full> {
        if len > self.room() {
            return Err(Full);
        }
        let end = self.len + len;
        write(self);
        debug_assert_eq!(self.len, end, "an RTCP packet is as long as announced");
        Ok(())
    }

    fn header(&mut self, count: u8, kind: u8, body: usize) {
        self.bytes(&[0x80 | count, kind]);
        self.u16((body / 4) as u16);
    }

    fn feedback_header(&mut self, fmt: u8, kind: u8, body: usize, sender: Ssrc, media: Ssrc) {
        self.header(fmt, kind, body);
        self.u32(sender.0);
        self.u32(media.0);
    }

    fn block(&mut self, block: &ReportBlock) {
        self.u32(block.about.0);
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
        self.u32(u32::from(block.fraction_lost) << 24 | lost);
        self.u32(block.highest_sequence);
        self.u32(block.jitter);
        self.u32(block.last_sr);
        self.u32(block.delay_since_last_sr);
    }

    pub(in crate::rtp) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(in crate::rtp) fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// Packs sequence numbers into pairs of one packet and a mask of the 16 that follow it.
fn nack_pairs(sequences: &[u16]) -> impl Iterator<Item = (u16, u16)> {
    let mut rest = sequences;
    std::iter::from_fn(move || {
        let (first, mut after) = rest.split_first()?;
        let mut mask = 0;
        while let Some((next, following)) = after.split_first() {
            match next.wrapping_sub(*first) {
                0 => {}
                distance @ 1..=16 => mask |= 1 << (distance - 1),
                _ => break,
            }
            after = following;
        }
        rest = after;
        Some((*first, mask))
    })
}
