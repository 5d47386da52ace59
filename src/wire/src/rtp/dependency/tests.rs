use super::*;
use crate::rtp::codec::PayloadInfo;

/// Bytes of fields given as (value, bits).
fn pack(fields: &[(u64, usize)]) -> Vec<u8> {
    let bits: Vec<u8> =
        fields.iter().flat_map(|(value, count)| (0..*count).rev().map(move |n| (value >> n & 1) as u8)).collect();
    bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (n, bit)| sum | bit << (7 - n))).collect()
}

/// L2T2: templates (S0 T0), (S0 T1), (S1 T0), (S1 T1), ids from 60 on; targets S0T0, S0T1, S1T0, S1T1; two chains; 320x180
/// and 640x360. The frames of a picture follow each other, pictures of T0 are two apart.
fn key_frame(flags: u64, rest: &[(u64, usize)]) -> Vec<u8> {
    let mut fields = vec![(1, 1), (0, 1), (60, 6), (1, 16), (0b10000 | flags, 5), (60, 6), (3, 5)];
    fields.extend([(1, 2), (2, 2), (1, 2), (3, 2)]);
    for indications in [[2, 2, 3, 3], [0, 1, 0, 3], [0, 0, 2, 2], [0, 0, 0, 1]] {
        fields.extend(indications.map(|i| (i, 2)));
    }
    let differences: [&[u64]; 4] = [&[4], &[2], &[4, 1], &[2, 1]];
    for list in differences {
        fields.extend(list.iter().map(|difference| (1 << 4 | (difference - 1), 5)));
        fields.push((0, 1));
    }
    // ns(5) of 2 is "10"; ns(2) is one bit.
    fields.extend([(0b10, 2), (0, 1), (0, 1), (1, 1), (1, 1)]);
    fields.extend([(4, 4); 8]);
    fields.extend([(1, 1), (319, 16), (179, 16), (639, 16), (359, 16)]);
    fields.extend(rest);
    pack(&fields)
}

fn structure() -> Box<Structure> {
    Frame::parse(&key_frame(0, &[]), None).unwrap().structure.unwrap()
}

#[test]
fn a_structure_is_read_whole() {
    let structure = structure();
    assert_eq!((structure.decode_targets(), structure.chains()), (4, 2));
    assert_eq!([0, 1, 2].map(|s| structure.height(s)), [Some(180), Some(360), None]);
    for (active, expected) in [(0b1111, (2, 2)), (0b0011, (1, 2)), (0b0101, (2, 1)), (1, (1, 1)), (0, (1, 1))] {
        assert_eq!(structure.layers(active), expected, "{active:#b}");
    }
    assert_eq!(Structure::parse(&key_frame(0, &[])).as_ref(), Some(&*structure));
}

#[test]
fn a_frame_is_what_its_template_says() {
    let structure = structure();
    let short = |template: u64| pack(&[(1, 1), (1, 1), (template, 6), (7, 16)]);
    for (template, expected) in [
        (60, Some((0, 0, 0b11, 0b1000, false))),
        (61, Some((0, 1, 0, 0b10, false))),
        (62, Some((1, 0, 0b11, 0b1001, false))),
        (63, Some((1, 1, 0, 0b11, true))),
        (0, None),
        (59, None),
    ] {
        let frame = Frame::parse(&short(template), Some(&structure));
        let found = frame.map(|f| (f.spatial, f.temporal, f.links.switches, f.links.needs, f.discardable));
        assert_eq!(found, expected, "template {template}");
    }
    assert_eq!(Frame::parse(&short(60), None), None, "without a structure");
    let mut info = PayloadInfo { key_frame: true, ..PayloadInfo::default() };
    info.complete(&Frame::parse(&short(63), Some(&structure)).unwrap());
    assert_eq!((info.spatial, info.temporal, info.key_frame), (Some(1), Some(1), false));
    assert_eq!((info.switching_point, info.discardable), (false, true));
}

#[test]
fn a_frame_can_differ_from_its_template() {
    let structure = structure();
    for (name, flags, rest, expected) in [
        ("active targets", 0b01000, &[(0b0011, 4)][..], (Some(0b0011), 0, 0b11)),
        ("own indications", 0b00100, &[(0, 2), (0, 2), (2, 2), (2, 2)], (None, 0b11, 0b11)),
        ("own differences", 0b00010, &[(1, 2), (4, 4), (2, 2), (63, 8), (0, 2)], (None, 0, 1 << 63 | 1 << 4)),
        ("a difference of more than 64", 0b00010, &[(3, 2), (4_095, 12), (0, 2)], (None, 0, 0)),
        ("own chains", 0b00001, &[(1, 8), (2, 8)], (None, 0, 0b11)),
        ("all", 0b01111, &[(15, 4), (0, 4), (2, 2), (3, 2), (0, 2), (9, 16)], (Some(15), 0b01, 0)),
        ("own chains that are cut", 0b00001, &[(1, 3)], (Some(99), 0, 0)),
        ("differences without an end", 0b00010, &[(1, 2), (4, 4), (1, 2)], (Some(99), 0, 0)),
    ] {
        let mut fields = vec![(1, 1), (1, 1), (63, 6), (7, 16), (flags, 5)];
        fields.extend(rest);
        let frame = Frame::parse(&pack(&fields), Some(&structure));
        let found = frame.map(|f| (f.active_targets, f.links.switches, f.links.needs));
        assert_eq!(found.unwrap_or((Some(99), 0, 0)), expected, "{name}");
    }
    // With a structure of its own, too.
    let frame = Frame::parse(&key_frame(0b01010, &[(0b0001, 4), (0, 2)]), None).unwrap();
    assert_eq!((frame.active_targets, frame.links.needs, frame.links.number), (Some(1), 0, 1));
}

#[test]
fn a_descriptor_without_a_whole_structure_has_none() {
    let whole = key_frame(0, &[]);
    for len in 0..whole.len() {
        assert_eq!(Frame::parse(&whole[..len], None), None, "{len} bytes");
    }
    assert!(Frame::parse(&whole, None).is_some());
}

#[test]
fn absurd_structures_are_refused() {
    let head = [(1, 1), (0, 1), (0, 6), (1, 16), (0b10000, 5), (0, 6), (31, 5)];
    let with = |layers: &[(u64, usize)]| {
        let mut fields = head.to_vec();
        fields.extend(layers);
        fields.extend([(u64::MAX, 64); 60]);
        pack(&fields)
    };
    for (name, layers) in [
        ("65 templates", [(0, 64), (0, 64), (0, 64)]),
        ("nine temporal layers", [(0b0101_0101_0101_0101, 16), (0b11, 2), (0, 0)]),
        ("five spatial layers", [(0b10101010, 8), (0b11, 2), (0, 0)]),
        ("endless differences", [(0b11, 2), (0, 64), (u64::MAX, 64)]),
    ] {
        assert_eq!(Frame::parse(&with(&layers), None), None, "{name}");
    }
}

#[test]
fn frame_numbers_are_shifted_over_their_wrap_and_nothing_else_is() {
    let mut descriptor = [0xC1, 0xFF, 0xFF, 0x08, 0x30];
    shift_frame_number(&mut descriptor, 3);
    assert_eq!(descriptor, [0xC1, 0x00, 0x02, 0x08, 0x30]);
    shift_frame_number(&mut descriptor[..2], 3);
    assert_eq!(descriptor, [0xC1, 0x00, 0x02, 0x08, 0x30]);
}
