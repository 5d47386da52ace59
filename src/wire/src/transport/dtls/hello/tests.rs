use super::*;
use crate::negotiate::Fingerprint;
use crate::transport::dtls::DtlsRole;
use SrtpProfile::{AeadAes128Gcm as Gcm128, AeadAes256Gcm as Gcm256, Aes128CmHmacSha1_80 as Cm};

/// A ClientHello with these extensions.
fn message(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut all = vec![];
    for (kind, data) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend((data.len() as u16).to_be_bytes());
        all.extend(*data);
    }
    let mut message = vec![0xFE, 0xFD];
    message.extend([7; 32]);
    message.extend([0, 0, 0, 2, 0xC0, 0x2B, 1, 0]);
    message.extend((all.len() as u16).to_be_bytes());
    message.extend(all);
    message
}

/// Chromium 156's: AES-CM first, DTLS 1.3 and 1.2.
fn chromium() -> Vec<u8> {
    message(&[(51, &[0; 1_258]), (14, &[0, 6, 0, 1, 0, 8, 0, 7, 0]), (43, &[4, 0xFE, 0xFC, 0xFE, 0xFD])])
}

/// A datagram with the part of `message` that begins at `offset`.
fn datagram(message: &[u8], offset: usize, len: usize) -> Vec<u8> {
    let u24 = |n: usize| [(n >> 16) as u8, (n >> 8) as u8, n as u8];
    let mut bytes = vec![22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(((12 + len) as u16).to_be_bytes());
    bytes.push(CLIENT_HELLO);
    bytes.extend(u24(message.len()));
    bytes.extend([0, 0]);
    bytes.extend(u24(offset));
    bytes.extend(u24(len));
    bytes.extend(&message[offset..offset + len]);
    bytes
}

fn hello(offers_1_3: bool, profiles: &[SrtpProfile]) -> Hello {
    Hello { random: [7; 32], cookie: vec![], offers_1_3, profiles: profiles.to_vec() }
}

/// What comes of a datagram of a client that was not asked for a cookie.
fn push(collector: &mut HelloCollector, datagram: &[u8]) -> Result<Option<Hello>, DropReason> {
    Ok(collector.push(datagram, false)?.map(|whole| whole.hello))
}

#[test]
fn a_client_hello_in_parts_is_read_in_any_order_and_with_repetitions() {
    let (message, expected) = (chromium(), hello(true, &[Cm, Gcm256, Gcm128]));
    let parts = [(0, 500), (500, 500), (900, message.len() - 900)].map(|(at, len)| datagram(&message, at, len));
    for order in [&[0, 1, 2][..], &[2, 1, 0], &[1, 1, 0, 1, 2], &[2, 0, 2, 1]] {
        let mut collector = HelloCollector::default();
        let (last, first) = order.split_last().unwrap();
        for part in first {
            assert_eq!(push(&mut collector, &parts[*part]), Ok(None));
        }
        let whole = collector.push(&parts[*last], false).unwrap().unwrap();
        assert_eq!(
            (&whole.hello, whole.is_second, whole.datagrams.len()),
            (&expected, false, order.len()),
            "{order:?}"
        );
    }
    let whole = [datagram(&message, 0, 700), datagram(&message, 700, message.len() - 700)].concat();
    assert_eq!(push(&mut HelloCollector::default(), &whole), Ok(Some(expected)));
}

#[test]
fn a_second_client_hello_is_taken_of_a_client_that_may_have_been_asked_for_a_cookie() {
    let message = chromium();
    let second = |offset, len| {
        let mut bytes = datagram(&message, offset, len);
        bytes[18] = 1;
        bytes
    };
    let (one, two) = (second(0, 800), second(800, message.len() - 800));
    let mut collector = HelloCollector::default();
    assert_eq!(collector.push(&one, false), Err(DropReason::Dtls));
    // Parts of the first one are no parts of the second.
    for part in [&datagram(&message, 800, message.len() - 800), &one] {
        assert_eq!(collector.push(part, true), Ok(None));
    }
    let whole = collector.push(&two, true).unwrap().unwrap();
    assert_eq!((whole.is_second, whole.datagrams.len()), (true, 2));
    assert_eq!(whole.hello, hello(true, &[Cm, Gcm256, Gcm128]));
}

#[test]
fn parts_of_another_client_hello_do_not_keep_the_true_one_out() {
    let message = chromium();
    let (one, two) = (datagram(&message, 0, 800), datagram(&message, 800, message.len() - 800));
    let mut collector = HelloCollector::default();
    for _ in 0..40 {
        assert_eq!(push(&mut collector, &datagram(&[9; 300], 0, 10)), Ok(None));
    }
    assert!(collector.datagrams.len() <= MAX_DATAGRAMS);
    assert_eq!(push(&mut collector, &one), Ok(None));
    assert!(matches!(push(&mut collector, &two), Ok(Some(_))));
}

#[test]
fn what_is_not_a_client_hello_is_refused() {
    let message = chromium();
    let mut second = datagram(&message, 0, message.len());
    second[18] = 1; // the number of the message
    let mut finished = datagram(&message, 0, message.len());
    finished[13] = 20;
    let mut encrypted = datagram(&message, 0, message.len());
    encrypted[4] = 1; // the epoch
    let huge = vec![0; MAX_HELLO + 1];
    for wrong in [second, finished, encrypted, datagram(&huge, 0, 100), vec![21; 30], vec![]] {
        assert_eq!(push(&mut HelloCollector::default(), &wrong), Err(DropReason::Dtls));
    }
    for cut in 1..message.len() {
        let short = &message[..cut];
        let read = push(&mut HelloCollector::default(), &datagram(short, 0, cut));
        // Without extensions it is one of a client that does not want SRTP.
        assert!(read == Err(DropReason::Dtls) || (cut == 42 && read == Ok(Some(hello(false, &[])))), "{cut} {read:?}");
    }
}

#[test]
fn the_library_is_chosen_by_versions_and_profiles() {
    let fingerprint = Fingerprint::sha256(b"");
    let chromium = hello(true, &[Cm, Gcm256, Gcm128]);
    let firefox = hello(true, &[Gcm128, Gcm256, Cm]);
    let openssl = hello(false, &[Cm, Gcm256]);
    let everything = &SrtpProfile::ALL[..];
    let (none, fast, always) = (DtlsVersions::V12, DtlsVersions::V13IfFast, DtlsVersions::V13IfOffered);
    for (hello, accepted, versions, expected) in [
        (&chromium, everything, fast, Some(Choice::Dimpl12)),
        (&chromium, everything, always, Some(Choice::Dimpl13)),
        (&chromium, everything, none, Some(Choice::Rtc(Gcm256))),
        (&chromium, &[Gcm128][..], always, Some(Choice::Rtc(Gcm128))),
        (&chromium, &[Gcm128, Gcm256], fast, Some(Choice::Rtc(Gcm128))),
        (&chromium, &[Cm], fast, Some(Choice::Dimpl13)),
        (&firefox, everything, fast, Some(Choice::Dimpl13)),
        (&firefox, everything, none, Some(Choice::Rtc(Gcm256))),
        (&openssl, everything, always, Some(Choice::Rtc(Gcm256))),
        (&openssl, &[Cm], fast, Some(Choice::Rtc(Cm))),
        (&openssl, &[Gcm128], fast, None),
        (&hello(true, &[]), everything, fast, None),
    ] {
        let terms = DtlsTerms { role: DtlsRole::Server, versions, profiles: accepted.to_vec(), fingerprint };
        assert_eq!(choose(hello, &terms), expected, "{hello:?} {accepted:?} {versions:?}");
    }
}
