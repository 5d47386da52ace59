//! The RTP header (RFC 3550 section 5.1) and its extension block (RFC 8285), read in place and written afresh.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |           synchronization source (SSRC) identifier            |
//! |            contributing source (CSRC) identifiers, CC times   |
//! |      profile (X = 1)          |   length in words             |
//! |                    extension elements ...                     |
//! ```

use std::ops::Range;

use super::{u16_at, u32_at};
use crate::drops::DropReason;
use crate::id::{Pt, Ssrc};

/// Bytes of a header without CSRCs and extensions.
pub const FIXED_LEN: usize = 12;
/// RFC 8285 section 4.2.
const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// RFC 8285 section 4.3; the low four bits are the application's.
const TWO_BYTE_PROFILE: u16 = 0x1000;
/// Longest value of one element, in bytes (two-byte form).
const MAX_VALUE: usize = 255;

/// What a packet's header says. Sizes and offsets count from the packet's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The marker bit.
    pub marker: bool,
    /// The payload type.
    pub payload_type: Pt,
    /// The sequence number.
    pub sequence: u16,
    /// The time stamp, in the codec's clock.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: Ssrc,
    /// Bytes of the header with CSRCs and extension block: SRTP encrypts what comes after.
    pub header_len: usize,
    /// The padding bit. How long the padding is, is part of what SRTP encrypts: see [`Header::payload_range`].
    pub has_padding: bool,
    /// The extension block's "defined by profile" field; 0 without extension block.
    pub extension_profile: u16,
    extension_start: usize,
}

impl Header {
    /// Reads the header of a packet, encrypted or not.
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        Self::read(packet).ok_or(DropReason::RtpMalformed)
    }

    fn read(packet: &[u8]) -> Option<Self> {
        let fixed = packet.first_chunk::<FIXED_LEN>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut header_len = FIXED_LEN + usize::from(fixed[0] & 0x0F) * 4;
        let (mut extension_profile, mut extension_start) = (0, header_len);
        if fixed[0] & 0x10 != 0 {
            extension_profile = u16_at(packet, header_len)?;
            // RFC 3550 section 5.3.1: the length counts 32-bit words after these four bytes.
            let words = u16_at(packet, header_len + 2)?;
            extension_start = header_len + 4;
            header_len = extension_start + usize::from(words) * 4;
        }
        (header_len <= packet.len()).then_some(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: Pt(fixed[1] & 0x7F),
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32_at(fixed, 4)?,
            ssrc: Ssrc(u32_at(fixed, 8)?),
            header_len,
            has_padding: fixed[0] & 0x20 != 0,
            extension_profile,
            extension_start,
        })
    }

    /// Where the payload of the decrypted `packet` lies: after the header, before the padding. It can be empty
    /// (libwebrtc probes with packets of nothing but padding).
    pub fn payload_range(&self, packet: &[u8]) -> Result<Range<usize>, DropReason> {
        let body = packet.get(self.header_len..).ok_or(DropReason::RtpMalformed)?;
        let padding = match (self.has_padding, body.last()) {
            (false, _) => 0,
            // RFC 3550 section 5.1: "The last octet of the padding contains a count of how many padding octets should
            // be ignored, including itself."
            (true, Some(count)) if *count > 0 && usize::from(*count) <= body.len() => usize::from(*count),
            (true, _) => return Err(DropReason::RtpMalformed),
        };
        Ok(self.header_len..packet.len() - padding)
    }

    /// Where the extension elements lie; empty without extension block.
    pub fn extension_range(&self) -> Range<usize> {
        self.extension_start..self.header_len
    }

    /// The extension elements of `packet`, whose header this is: (id, value). Ends at the first element that is
    /// broken or that RFC 8285 says to stop at; a block of another profile has none.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let form = match self.extension_profile {
            ONE_BYTE_PROFILE => Form::OneByte,
            profile if profile & 0xFFF0 == TWO_BYTE_PROFILE => Form::TwoByte,
            _ => return Extensions { rest: &[], form: Form::OneByte },
        };
        Extensions { rest: packet.get(self.extension_range()).unwrap_or_default(), form }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

/// The elements of an extension block.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    form: Form,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.read();
        if element.is_none() {
            self.rest = &[];
        }
        element
    }
}

impl<'a> Extensions<'a> {
    fn read(&mut self) -> Option<(u8, &'a [u8])> {
        while let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest; // padding
        }
        let (id, len, body) = match self.form {
            Form::OneByte => {
                let (first, body) = self.rest.split_first()?;
                (first >> 4, usize::from(first & 0x0F) + 1, body)
            }
            Form::TwoByte => {
                let ([id, len], body) = self.rest.split_first_chunk()?;
                (*id, usize::from(*len), body)
            }
        };
        // RFC 8285 section 4.2: id 15, and id 0 with a length: "processing of the entire extension MUST terminate at
        // that point".
        if self.form == Form::OneByte && matches!(id, 0 | 15) {
            return None;
        }
        let (value, rest) = body.split_at_checked(len)?;
        self.rest = rest;
        Some((id, value))
    }
}

/// The fields of a header to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHeader {
    /// The marker bit.
    pub marker: bool,
    /// The payload type.
    pub payload_type: Pt,
    /// The sequence number.
    pub sequence: u16,
    /// The time stamp.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: Ssrc,
}

/// Writes a header without CSRCs and padding, and an extension block of `elements` (id, value), if there are any.
/// Returns its length. Elements that no form can carry (id 0, more than 255 bytes) are left out. `out` must have room
/// for 16 bytes, two and its value for each element, and three more.
pub fn write_header(out: &mut [u8], fields: &NewHeader, elements: &[(u8, &[u8])]) -> usize {
    write_header_with(out, fields, |writer| elements.iter().for_each(|(id, value)| writer.add(*id, value)))
}

/// The same, of the elements that `add` gives the writer, each time that it is called: it is called again when one of them
/// does not fit the one-byte form.
#[inline]
pub fn write_header_with(out: &mut [u8], fields: &NewHeader, mut add: impl FnMut(&mut ElementWriter<'_>)) -> usize {
    out[0] = 0x80;
    out[1] = u8::from(fields.marker) << 7 | fields.payload_type.0 & 0x7F;
    out[2..4].copy_from_slice(&fields.sequence.to_be_bytes());
    out[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    out[8..12].copy_from_slice(&fields.ssrc.0.to_be_bytes());
    let mut writer = ElementWriter { out, at: FIXED_LEN + 4, form: Form::OneByte, fits: true };
    loop {
        add(&mut writer);
        if writer.fits {
            return writer.finish();
        }
        (writer.at, writer.form, writer.fits) = (FIXED_LEN + 4, Form::TwoByte, true);
    }
}

/// Writes the elements of an extension block behind a header (RFC 8285): all in one form.
pub struct ElementWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    form: Form,
    fits: bool,
}

impl ElementWriter<'_> {
    /// Writes one; what no form can carry is left out.
    #[inline]
    pub fn add(&mut self, id: u8, value: &[u8]) {
        if id == 0 || value.len() > MAX_VALUE {
            return;
        }
        let Self { out, at, .. } = self;
        if self.form == Form::OneByte {
            if !fits_one_byte(id, value) {
                self.fits = false;
                return;
            }
            out[*at] = id << 4 | (value.len() - 1) as u8;
            *at += 1;
        } else {
            out[*at..*at + 2].copy_from_slice(&[id, value.len() as u8]);
            *at += 2;
        }
        out[*at..*at + value.len()].copy_from_slice(value);
        *at += value.len();
    }

    /// Writes what is in front of them, and the zeros behind; the header's length.
    #[inline]
    fn finish(self) -> usize {
        let Self { out, mut at, form, .. } = self;
        if at == FIXED_LEN + 4 {
            return FIXED_LEN;
        }
        while !at.is_multiple_of(4) {
            out[at] = 0;
            at += 1;
        }
        out[0] |= 0x10;
        let profile = if form == Form::OneByte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE };
        out[12..14].copy_from_slice(&profile.to_be_bytes());
        out[14..16].copy_from_slice(&(((at - FIXED_LEN - 4) / 4) as u16).to_be_bytes());
        at
    }
}

/// Makes the last `count` bytes of a packet, which come after its payload, padding (RFC 3550 section 5.1): so that
/// packets of one frame get one length and leave in one send. `count` is not 0 and not longer than what follows the
/// header.
pub fn pad(packet: &mut [u8], count: u8) {
    let start = packet.len() - usize::from(count);
    packet[start..].fill(0);
    if let Some(last) = packet.last_mut() {
        *last = count;
    }
    packet[0] |= 0x20;
}

/// The one-byte form carries ids 1 to 14 with 1 to 16 bytes (RFC 8285 section 4.2).
fn fits_one_byte(id: u8, value: &[u8]) -> bool {
    id <= 14 && (1..=16).contains(&value.len())
}

#[cfg(test)]
mod tests;
