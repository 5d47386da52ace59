use ::stun::attributes::{ATTR_UNKNOWN_ATTRIBUTES, ATTR_USERNAME};
use ::stun::error_code::ErrorCodeAttribute;
use ::stun::fingerprint::FINGERPRINT;
use ::stun::integrity::MessageIntegrity;
use ::stun::message::{Getter, Message, Setter};
use ::stun::textattrs::TextAttribute;
use ::stun::uattrs::UnknownAttributes;
use ::stun::xoraddr::XorMappedAddress;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// RFC 5769 section 2.1.
fn sample_request() -> Vec<u8> {
    let text = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff
        80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
        80280004e57a3bcf";
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_request_of_rfc_5769_is_read_and_verified() {
    let bytes = sample_request();
    let request = parse(&bytes).unwrap();
    assert_eq!((request.local_ufrag(), request.remote_ufrag()), (&b"evtj"[..], &b"h6vY"[..]));
    assert_eq!(request.priority(), Some(0x6e00_01ff));
    assert!(request.is_controlled() && !request.use_candidate());
    assert!(request.unknown_attributes().is_empty());
    assert!(request.verify(&StunKey::new(PASSWORD)));
    assert!(!request.verify(&StunKey::new("another password of 22")));
}

#[test]
fn addresses_are_written_as_in_rfc_5769() {
    let bytes = sample_request();
    for (address, expected) in [
        ("192.0.2.1:32853", &[0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43][..]),
        (
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
            &[
                0, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4,
                0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
            ][..],
        ),
    ] {
        let mut out = [0; MAX_RESPONSE];
        let len = parse(&bytes).unwrap().respond(&StunKey::new(PASSWORD), address.parse().unwrap(), &mut out);
        assert_eq!(&out[HEADER..HEADER + expected.len()], expected);

        let mut response = their_reading(&out[..len]);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&response).unwrap();
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), address.parse::<SocketAddr>().unwrap());
        MessageIntegrity::new_short_term_integrity(PASSWORD.into()).check(&mut response).unwrap();
        FINGERPRINT.check(&response).unwrap();
    }
}

#[test]
fn refusals_are_read_by_the_stun_crate() {
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(::stun::message::BINDING_REQUEST),
        Box::new(::stun::agent::TransactionId::new()),
        Box::new(TextAttribute::new(ATTR_USERNAME, "a:b".into())),
        Box::new(Raw(0xC057)),
    ];
    (0x31..0x3F).for_each(|kind| setters.push(Box::new(Raw(kind))));
    setters.push(Box::new(MessageIntegrity::new_short_term_integrity(PASSWORD.into())));
    setters.push(Box::new(FINGERPRINT));
    let mut request = Message::new();
    request.build(&setters).unwrap();

    let parsed = parse(&request.raw).unwrap();
    assert!(parsed.verify(&StunKey::new(PASSWORD)));
    for (error, code) in [(StunError::UnknownAttribute, 420), (StunError::RoleConflict, 487)] {
        let mut out = [0; MAX_RESPONSE];
        let len = parsed.refuse(&StunKey::new(PASSWORD), error, &mut out);
        let mut response = their_reading(&out[..len]);
        assert_eq!(response.transaction_id, request.transaction_id);
        let mut read = ErrorCodeAttribute::default();
        read.get_from(&response).unwrap();
        assert_eq!(read.code.0, code);
        let mut unknown = UnknownAttributes(Vec::new());
        let listed = unknown.get_from(&response).is_ok();
        assert_eq!(listed, response.contains(ATTR_UNKNOWN_ATTRIBUTES));
        let expected = if code == 420 { (0x31..0x39).collect() } else { vec![] };
        assert_eq!(unknown.0.iter().map(|kind| kind.0).collect::<Vec<u16>>(), expected);
        MessageIntegrity::new_short_term_integrity(PASSWORD.into()).check(&mut response).unwrap();
        FINGERPRINT.check(&response).unwrap();
    }
}

#[test]
fn what_is_not_a_whole_request_has_its_own_reason() {
    use DropReason::{StunBadIntegrity, StunMalformed, StunNotRequest};
    let good = sample_request();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    for (bytes, expected) in [
        (vec![], StunMalformed),
        (good[..20].to_vec(), StunMalformed),
        (good[..good.len() - 4].to_vec(), StunMalformed),
        (changed(4, 0), StunMalformed),
        (changed(3, 0x5C), StunMalformed),
        (changed(0, 0x40), StunMalformed),
        (changed(0, 1), StunNotRequest),
        (changed(1, 0x11), StunNotRequest),
        (changed(23, 0xFF), StunMalformed),
        (changed(good.len() - 1, 0), StunBadIntegrity),
        (changed(30, 0), StunBadIntegrity),
        // USERNAME without a colon, or of another type.
        (changed(68, b'x'), StunMalformed),
        (changed(61, 0x22), StunMalformed),
    ] {
        assert_eq!(parse(&bytes).map(|_| ()), Err(expected), "{bytes:02x?}");
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut rng = StdRng::seed_from_u64(4);
    let key = StunKey::new(PASSWORD);
    let (mut read, mut out) = (0, [0; MAX_RESPONSE]);
    for _ in 0..200_000 {
        let mut bytes = sample_request();
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        if rng.random_bool(0.5) {
            // A fingerprint that holds lets the rest be reached.
            let at = bytes.len() - 8;
            let value = fingerprint(&bytes[..at]);
            bytes[at + 4..].copy_from_slice(&value);
        }
        if let Ok(request) = parse(&bytes) {
            read += 1;
            let _ = (request.verify(&key), request.local_ufrag(), request.remote_ufrag());
            request.respond(&key, "[::1]:1".parse().unwrap(), &mut out);
            request.refuse(&key, StunError::UnknownAttribute, &mut out);
        }
    }
    assert!(read > 10_000, "{read}");
}

fn their_reading(bytes: &[u8]) -> Message {
    let mut message = Message::new();
    message.unmarshal_binary(bytes).unwrap();
    message
}

/// An attribute of a type that nobody knows.
struct Raw(u16);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> Result<(), ::stun::Error> {
        message.add(::stun::attributes::AttrType(self.0), &[1, 2, 3]);
        Ok(())
    }
}
