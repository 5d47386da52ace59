//! H.264 payloads (RFC 6184): single NAL units, STAP-A, FU-A; the other aggregations are for modes WebRTC doesn't use.

use super::PayloadInfo;
use crate::rtp::u16_at;

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SEI: u8 = 6;
pub(super) const SPS: u8 = 7;
const PPS: u8 = 8;
const AUD: u8 = 9;
pub(super) const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// SEI payload type of a recovery point (H.264 section D.1).
const RECOVERY_POINT: usize = 6;

/// What a payload says of its frame. A key frame is announced by its SPS or the first slice of an IDR picture: the
/// first of them that comes is where a receiver begins. Encoders with open GOPs or with intra refresh send no IDR
/// picture after the first; with them a recovery point, or an I picture, is as good a beginning as there will be.
pub fn inspect(payload: &[u8]) -> PayloadInfo {
    let Some(first) = payload.first() else { return PayloadInfo::default() };
    let mut seen = Seen::default();
    match first & 0x1F {
        STAP_A => units(&payload[1..]).for_each(|unit| seen.add_unit(unit)),
        // RFC 6184 section 5.8: NRI in the first byte, start bit and type in the second.
        FU_A => {
            if let Some(head) = payload.get(1) {
                let starts = head & 0x80 != 0;
                let body = &payload[2..];
                seen.add(head & 0x1F, first >> 5 & 0x03, (starts && !body.is_empty()).then_some(body));
            }
        }
        _ => seen.add_unit(payload),
    }
    let key_frame = seen.key_frame;
    // What nobody refers to is a temporal layer of its own, that can be taken or left at any picture: H.264 marks no others
    // in what WebRTC sends.
    let discardable = seen.unreferenced && !seen.referenced;
    PayloadInfo {
        key_frame,
        frame_start: seen.frame_start,
        frame_end: None,
        temporal: discardable.then_some(1),
        spatial: None,
        switching_point: key_frame || discardable,
        discardable,
        ..PayloadInfo::default()
    }
}

/// Whether a payload has a sequence parameter set: nothing that its picture needs comes before it.
pub fn has_parameters(payload: &[u8]) -> bool {
    let is_sps = |head: u8| head & 0x1F == SPS;
    payload.first().is_some_and(|head| match head & 0x1F {
        STAP_A => units(&payload[1..]).any(|unit| unit.first().copied().is_some_and(is_sps)),
        // What begins a unit that is cut.
        FU_A => payload.get(1).is_some_and(|head| head & 0x80 != 0 && is_sps(*head)),
        _ => is_sps(*head),
    })
}

/// The NAL units of a STAP-A behind its first byte, each with its size in 16 bits in front (RFC 6184 section 5.7.1), up to one
/// that is cut.
pub(super) fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (unit, after) = rest.get(2..)?.split_at_checked(u16_at(rest, 0)?.into())?;
        rest = after;
        Some(unit)
    })
}

/// What the NAL units of one packet are.
#[derive(Default)]
struct Seen {
    key_frame: bool,
    frame_start: bool,
    referenced: bool,
    unreferenced: bool,
}

impl Seen {
    fn add_unit(&mut self, unit: &[u8]) {
        if let Some(head) = unit.first() {
            // An empty body still counts as begun: it has no first slice bit.
            self.add(head & 0x1F, head >> 5 & 0x03, Some(&unit[1..]));
        }
    }

    /// Takes note of a NAL unit of `kind`. `body` is what follows its header; `None` when this is a later part of a
    /// unit that began in another packet.
    fn add(&mut self, kind: u8, reference: u8, body: Option<&[u8]>) {
        match kind {
            SLICE..=IDR => {
                let head = body.and_then(|body| body.first()).copied().unwrap_or(0);
                // first_mb_in_slice is the first thing in a slice header, and ue(0) is a single 1 bit.
                let first_slice = head & 0x80 != 0;
                self.frame_start |= first_slice && matches!(kind, SLICE..=2 | IDR);
                self.key_frame |= first_slice && kind == IDR;
                self.key_frame |= kind == SLICE && reference != 0 && starts_i_picture(head);
                // nal_ref_idc 0: "not used for inter prediction" (H.264 section 7.4.1).
                self.unreferenced |= reference == 0;
                self.referenced |= reference != 0;
            }
            SPS => {
                self.frame_start |= body.is_some();
                self.key_frame |= body.is_some();
                self.referenced = true;
            }
            PPS => {
                self.frame_start |= body.is_some();
                self.referenced = true;
            }
            SEI => {
                self.frame_start |= body.is_some();
                self.key_frame |= body.is_some_and(has_recovery_point);
            }
            AUD => self.frame_start |= body.is_some(),
            _ => {}
        }
    }
}

/// True for the first byte of a slice header with first_mb_in_slice 0 and slice_type 2 or 7, which are I: ue(0) is
/// "1", ue(2) "011", ue(7) "0001000" (H.264 sections 7.3.3 and 9.1).
fn starts_i_picture(head: u8) -> bool {
    head & 0xF0 == 0b1011_0000 || head == 0b1000_1000
}

/// Looks through the messages of an SEI unit (H.264 section 7.3.2.3.1), as far as they are here.
fn has_recovery_point(body: &[u8]) -> bool {
    let mut bytes = Rbsp::new(body);
    // The trailing bits, 0x80, look like a message without a size.
    while let (Some(kind), Some(size)) = (sei_number(&mut bytes), sei_number(&mut bytes)) {
        if kind == RECOVERY_POINT {
            return true;
        }
        if size > 0 && bytes.nth(size - 1).is_none() {
            break;
        }
    }
    false
}

/// A number in an SEI message's head: bytes of 255 and a last smaller one are added up.
fn sei_number(bytes: &mut Rbsp<'_>) -> Option<usize> {
    let mut sum = 0;
    loop {
        let byte = bytes.next()?;
        sum += usize::from(byte);
        if byte != 0xFF {
            return Some(sum);
        }
    }
}

/// The bytes of a unit without the emulation prevention bytes: the 3 in 0, 0, 3 (H.264 section 7.4.1.1).
pub(super) struct Rbsp<'a> {
    bytes: &'a [u8],
    zeros: u8,
}

impl<'a> Rbsp<'a> {
    /// Of what follows a unit's header.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, zeros: 0 }
    }
}

impl Iterator for Rbsp<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (mut first, mut rest) = self.bytes.split_first()?;
        if self.zeros >= 2 && *first == 3 {
            (first, rest) = rest.split_first()?;
            self.zeros = 0;
        }
        self.zeros = if *first == 0 { self.zeros.saturating_add(1) } else { 0 };
        self.bytes = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_frame() {
        let none = PayloadInfo::default();
        let start = PayloadInfo { frame_start: true, ..none };
        let key = PayloadInfo { key_frame: true, switching_point: true, ..start };
        let discardable = PayloadInfo { discardable: true, temporal: Some(1), switching_point: true, ..start };
        for (name, payload, expected) in [
            ("empty", &[][..], none),
            ("SPS", &[0x67, 0x42], key),
            ("PPS", &[0x68, 0xCE], start),
            ("IDR, first slice", &[0x65, 0x88], key),
            ("IDR, second slice", &[0x65, 0x40], none),
            ("slice, first", &[0x41, 0x9A], start),
            ("slice, second", &[0x41, 0x40], none),
            ("slice that nobody refers to", &[0x01, 0x9A], discardable),
            ("AUD", &[0x09, 0xF0], start),
            ("I slice, first", &[0x61, 0x88], key),
            ("I slice among others, first", &[0x61, 0xB2], key),
            ("I slice, second", &[0x61, 0x40], none),
            ("I slice that nobody refers to", &[0x01, 0x88], discardable),
            ("B slice, first", &[0x41, 0xA8], start),
            ("FU-A, start of an I slice", &[0x7C, 0x81, 0x88], key),
            ("FU-A, middle of an I slice", &[0x7C, 0x01, 0x88], none),
            ("SEI of a recovery point", &[0x06, 0x06, 0x01, 0xC4, 0x80], key),
            ("SEI of a picture timing, then a recovery point", &[0x06, 0x01, 0x02, 9, 9, 0x06, 0x01, 0xC4, 0x80], key),
            ("SEI with its sizes behind emulation prevention", &[0x06, 5, 3, 0, 0, 3, 1, 6, 1, 0xC4, 0x80], key),
            ("SEI of user data in which a 6 stands", &[0x06, 0x05, 0x02, 0x06, 0x01, 0x80], start),
            ("SEI of a long user data, cut", &[0x06, 0x05, 0xFF, 0xFF, 0x10, 0x06, 0x06], start),
            ("SEI of type 261", &[0x06, 0xFF, 0x06, 0x00, 0x80], start),
            ("STAP-A of a recovery point and a slice", &[0x78, 0, 4, 6, 6, 1, 0xC4, 0, 2, 0x41, 0x9A], key),
            ("STAP-A of SPS and PPS", &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE], key),
            ("STAP-A of SEI and IDR", &[0x78, 0, 2, 0x06, 0x05, 0, 2, 0x65, 0x88], key),
            ("STAP-A of SEI and a slice", &[0x78, 0, 2, 0x06, 0x05, 0, 2, 0x41, 0x9A], start),
            ("STAP-A, the second unit cut", &[0x78, 0, 2, 0x06, 0x05, 0, 3, 0x65, 0x88], start),
            ("STAP-A of nothing", &[0x78], none),
            ("STAP-A, an empty unit in front", &[0x78, 0, 0, 0, 2, 0x67, 0x42], key),
            ("FU-A, start of an IDR", &[0x7C, 0x85, 0x88], key),
            ("FU-A, start of a later slice of an IDR", &[0x7C, 0x85, 0x40], none),
            ("FU-A, middle of an IDR", &[0x7C, 0x05, 0x88], none),
            ("FU-A, end of an IDR", &[0x7C, 0x45, 0x88], none),
            ("FU-A, start of a slice", &[0x5C, 0x81, 0x9A], start),
            ("FU-A, start of an unreferenced slice", &[0x1C, 0x81, 0x9A], discardable),
            (
                "FU-A, middle of an unreferenced slice",
                &[0x1C, 0x01, 0x9A],
                PayloadInfo { frame_start: false, ..discardable },
            ),
            ("FU-A, cut", &[0x7C], none),
            ("reserved", &[0x1F, 0xFF], none),
        ] {
            assert_eq!(inspect(payload), expected, "{name}");
        }
    }

    #[test]
    fn a_payload_tells_whether_it_has_the_parameters_of_its_pictures() {
        for (payload, expected) in [
            (&[][..], false),
            (&[0x67, 0x42], true),
            (&[0x68, 0xCE], false),
            (&[0x65, 0x88], false),
            (&[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE], true),
            (&[0x78, 0, 1, 9, 0, 2, 0x67, 0x42], true),
            (&[0x78, 0, 2, 0x06, 0x05, 0, 2, 0x65, 0x88], false),
            (&[0x7C, 0x87, 0x42], true),
            (&[0x7C, 0x07, 0x42], false),
            (&[0x7C, 0x85, 0x88], false),
            (&[0x7C], false),
        ] {
            assert_eq!(has_parameters(payload), expected, "{payload:x?}");
        }
    }
}
