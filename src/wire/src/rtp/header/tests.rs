use bytes::Bytes;
use webrtc_util::marshal::{Marshal, Unmarshal};

use super::*;
use crate::rtp::random::Random;

fn their_header(random: &mut Random) -> rtp::header::Header {
    let profile = [0, 0xBEDE, 0x1000][random.below(3) as usize];
    let mut header = rtp::header::Header {
        version: 2,
        marker: random.one_in(2),
        payload_type: random.below(128) as u8,
        sequence_number: random.next() as u16,
        timestamp: random.next() as u32,
        ssrc: random.next() as u32,
        csrc: (0..random.below(16)).map(|_| random.next() as u32).collect(),
        extension: profile != 0,
        extension_profile: profile,
        ..Default::default()
    };
    if profile != 0 {
        for id in 1..1 + random.below(if profile == 0xBEDE { 14 } else { 40 }) {
            let longest = if profile == 0xBEDE { 16 } else { 50 };
            let len = 1 + random.below(longest) as usize;
            let payload = Bytes::from(random.bytes(len));
            header.extensions.push(rtp::header::Extension { id: id as u8, payload });
        }
    }
    header
}

#[test]
fn a_header_is_read_as_another_implementation_wrote_it() {
    let mut random = Random::new(1);
    for _ in 0..5_000 {
        let theirs = their_header(&mut random);
        let mut packet = theirs.marshal().unwrap().to_vec();
        let header_len = packet.len();
        packet.extend_from_slice(b"payload");
        let ours = Header::parse(&packet).unwrap();
        assert_eq!(
            (ours.marker, ours.payload_type.0, ours.sequence, ours.timestamp, ours.ssrc.0, ours.header_len),
            (theirs.marker, theirs.payload_type, theirs.sequence_number, theirs.timestamp, theirs.ssrc, header_len)
        );
        let elements: Vec<_> = ours.extensions(&packet).collect();
        let expected: Vec<_> = theirs.extensions.iter().map(|e| (e.id, &e.payload[..])).collect();
        assert_eq!(elements, expected);
        assert_eq!(&packet[ours.payload_range(&packet).unwrap()], b"payload");
    }
}

/// RFC 8285 section 4: the one-byte form carries ids 1 to 14 with 1 to 16 bytes; all elements share one form.
fn written_len(elements: &[(u8, &[u8])]) -> usize {
    let fits = |(id, value): &(u8, &[u8])| *id <= 14 && (1..=16).contains(&value.len());
    let prefix = if elements.iter().all(fits) { 1 } else { 2 };
    let block: usize = elements.iter().map(|(_, value)| prefix + value.len()).sum();
    if block == 0 { FIXED_LEN } else { FIXED_LEN + 4 + block.next_multiple_of(4) }
}

#[test]
fn a_written_header_is_read_alike_by_another_implementation() {
    let mut random = Random::new(2);
    let (mut one_byte, mut two_byte) = (0, 0);
    for _ in 0..5_000 {
        let fields = NewHeader {
            marker: random.one_in(2),
            payload_type: Pt(random.below(128) as u8),
            sequence: random.next() as u16,
            timestamp: random.next() as u32,
            ssrc: Ssrc(random.next() as u32),
        };
        let (ids, longest) = if random.one_in(2) { (14, 16) } else { (255, 40) };
        let values: Vec<_> = (0..random.below(6))
            .map(|_| {
                let len = 1 + random.below(longest) as usize;
                (1 + random.below(ids) as u8, random.bytes(len))
            })
            .collect();
        let elements: Vec<_> = values.iter().map(|(id, value)| (*id, &value[..])).collect();
        let mut out = [0xEE; 400];
        let len = write_header(&mut out, &fields, &elements);
        assert_eq!((len, out[len]), (written_len(&elements), 0xEE));

        let theirs = rtp::header::Header::unmarshal(&mut &out[..len]).unwrap();
        assert_eq!(
            (theirs.marker, theirs.payload_type, theirs.sequence_number, theirs.timestamp, theirs.ssrc),
            (fields.marker, fields.payload_type.0, fields.sequence, fields.timestamp, fields.ssrc.0)
        );
        assert_eq!(theirs.extensions.iter().map(|e| (e.id, &e.payload[..])).collect::<Vec<_>>(), elements);
        assert_eq!(Header::parse(&out[..len]).unwrap().extensions(&out).collect::<Vec<_>>(), elements);
        one_byte += u32::from(theirs.extension_profile == ONE_BYTE_PROFILE);
        two_byte += u32::from(theirs.extension_profile == TWO_BYTE_PROFILE);
    }
    assert!(one_byte > 1_000 && two_byte > 1_000, "{one_byte} {two_byte}");
}

#[test]
fn the_form_of_the_block_follows_from_its_elements() {
    let long = [1; 17];
    let huge = [1; 256];
    for (elements, profile, len) in [
        (&[][..], 0, 12),
        (&[(1, &[7u8][..])][..], ONE_BYTE_PROFILE, 20),
        (&[(14, &long[..16])], ONE_BYTE_PROFILE, 36),
        (&[(14, &long[..])], TWO_BYTE_PROFILE, 36),
        (&[(15, &[7])], TWO_BYTE_PROFILE, 20),
        (&[(1, &[])], TWO_BYTE_PROFILE, 20),
        (&[(0, &[7])], 0, 12),
        (&[(1, &huge[..]), (2, &[7])], ONE_BYTE_PROFILE, 20),
        (&[(1, &huge[..255])], TWO_BYTE_PROFILE, 276),
    ] {
        let fields = NewHeader { marker: false, payload_type: Pt(1), sequence: 2, timestamp: 3, ssrc: Ssrc(4) };
        let mut out = [0; 300];
        assert_eq!(write_header(&mut out, &fields, elements), len, "{elements:?}");
        assert_eq!(Header::parse(&out[..len]).unwrap().extension_profile, profile, "{elements:?}");
    }
}

/// The first 12 bytes with `first` in front, then `rest`.
fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    [&[first, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], rest].concat()
}

#[test]
fn a_broken_header_is_refused() {
    for (name, bytes) in [
        ("nothing", vec![]),
        ("eleven bytes", packet(0x80, &[])[..11].to_vec()),
        ("version 1", packet(0x40, &[])),
        ("version 3", packet(0xC0, &[])),
        ("a CSRC that is not there", packet(0x81, &[0; 3])),
        ("no room for the extension's head", packet(0x90, &[0xBE, 0xDE, 0])),
        ("an extension longer than the packet", packet(0x90, &[0xBE, 0xDE, 0, 2, 0, 0, 0, 0])),
    ] {
        assert_eq!(Header::parse(&bytes), Err(DropReason::RtpMalformed), "{name}");
    }
}

#[test]
fn padding_is_told_from_payload() {
    for (first, body, expected) in [
        (0x80, &[][..], Ok(12..12)),
        (0x80, &[1, 2, 3], Ok(12..15)),
        (0xA0, &[1, 2, 3], Ok(12..12)),
        (0xA0, &[1, 2, 1], Ok(12..14)),
        (0xA0, &[1, 2, 0], Err(DropReason::RtpMalformed)),
        (0xA0, &[1, 2, 4], Err(DropReason::RtpMalformed)),
        (0xA0, &[], Err(DropReason::RtpMalformed)),
    ] {
        let packet = packet(first, body);
        assert_eq!(Header::parse(&packet).unwrap().payload_range(&packet), expected, "{first:x} {body:?}");
    }
    let header = Header::parse(&packet(0x90, &[0xBE, 0xDE, 0, 0])).unwrap();
    assert_eq!(header.payload_range(&[0; 12]), Err(DropReason::RtpMalformed), "another, shorter packet");
    assert_eq!(header.extensions(&[0; 12]).count(), 0);
}

#[test]
fn padding_that_was_added_is_left_out_again() {
    for count in [1, 2, 255] {
        let mut packet = packet(0x80, b"payload");
        packet.resize(packet.len() + usize::from(count), 0xEE);
        pad(&mut packet, count);
        let theirs = rtp::packet::Packet::unmarshal(&mut &packet[..]).unwrap();
        assert_eq!(&theirs.payload[..], b"payload", "{count} bytes");
        assert_eq!(&packet[Header::parse(&packet).unwrap().payload_range(&packet).unwrap()], b"payload");
    }
}

/// (profile, extension block) in → elements out.
#[test]
fn extension_elements_end_where_the_rfc_says() {
    type Elements<'a> = &'a [(u8, &'a [u8])];
    let cases: [(&str, u16, &[u8], Elements<'_>); 9] = [
        ("padding between", 0xBEDE, &[0x10, 7, 0, 0, 0x20, 8, 0, 0], &[(1, &[7]), (2, &[8])]),
        ("id 15 stops", 0xBEDE, &[0x10, 7, 0xF0, 8, 0x20, 9, 0, 0], &[(1, &[7])]),
        ("id 0 with a length stops", 0xBEDE, &[0x10, 7, 0x01, 8, 0x20, 9, 0, 0], &[(1, &[7])]),
        ("a value past the end", 0xBEDE, &[0x10, 7, 0x22, 8], &[(1, &[7])]),
        ("two-byte form", 0x1000, &[1, 0, 200, 1, 9, 0, 0, 0], &[(1, &[]), (200, &[9])]),
        ("two-byte form, application bits", 0x100A, &[15, 2, 8, 9], &[(15, &[8, 9])]),
        ("two-byte form, no length", 0x1000, &[1, 1, 5, 7], &[(1, &[5])]),
        ("two-byte form, past the end", 0x1000, &[1, 3, 5, 7], &[]),
        ("another profile", 0xABAC, &[0x10, 7, 0, 0], &[]),
    ];
    for (name, profile, block, expected) in cases {
        let words = (block.len() / 4) as u8;
        let [a, b] = profile.to_be_bytes();
        let packet = packet(0x90, &[&[a, b, 0, words], block].concat());
        let elements: Vec<_> = Header::parse(&packet).unwrap().extensions(&packet).collect();
        assert_eq!(elements, expected, "{name}");
    }
}
