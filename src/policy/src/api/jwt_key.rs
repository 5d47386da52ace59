//! The kinds of keys of JSON Web Tokens, told from the key's own bytes.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;

use crate::tape::secrets;

/// Bytes of a key, or of a set of keys.
pub(super) const MAX_KEY: usize = 64 * 1024;
/// Bits of an RSA key that verifies, and of its exponent: what aws-lc takes, whose longest takes a tenth of a step.
const VERIFYING_BITS: RangeInclusive<usize> = 2048..=8192;
const MAX_EXPONENT_BITS: usize = 33;
/// The beginning of every PEM section (RFC 7468).
const PEM: &[u8] = b"-----BEGIN";
/// Byte order marks of UTF-8 and UTF-16.
const MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];
/// Object identifiers in DER: rsaEncryption, the curves P-256 and P-384, Ed25519.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// What a key can be used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// The algorithms that a key may be used with; the first is the default.
pub(super) fn algorithms_of(kind: KeyKind) -> &'static [Algorithm] {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    match kind {
        KeyKind::Secret => &[HS256, HS384, HS512],
        KeyKind::Rsa => &[RS256, RS384, RS512, PS256, PS384, PS512],
        KeyKind::P256 => &[ES256],
        KeyKind::P384 => &[ES384],
        KeyKind::Ed25519 => &[EdDSA],
    }
}

/// The name of an algorithm (RFC 7518 section 3.1).
pub(super) fn name_of(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

/// The kind of a key. What looks like PEM, JSON or a page, also behind a byte order mark or in UTF-16, or is a key in DER
/// or its base64, is never a secret: its text may be public.
pub(super) fn kind_of(key: &[u8]) -> Result<KeyKind, String> {
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    let narrow: Vec<u8> = key.iter().copied().filter(|byte| *byte != 0).collect();
    if let Some(at) = find(&narrow, PEM) {
        let is_plain = narrow.len() == key.len() && narrow[..at].iter().all(u8::is_ascii_whitespace);
        if !is_plain {
            return Err("the key is PEM with other bytes before it (a byte order mark?): save it as plain text".into());
        }
        return pem_kind(&narrow[at..])
            .ok_or_else(|| "the key is not an RSA, P-256, P-384 or Ed25519 key in PEM".into());
    }
    let text = MARKS.iter().find_map(|mark| narrow.strip_prefix(*mark)).unwrap_or(&narrow).trim_ascii();
    // Random bytes begin with one of these, too, now and then, and are no text.
    let is_text = std::str::from_utf8(text).is_ok();
    match text.first() {
        Some(b'{') if find(text, b"\"kty\"").is_some() => Err("the key is a JWK: give it in PEM".into()),
        Some(b'{' | b'[') if is_text && !is_placeholder(text) => Err("the key is JSON, and no set of keys".into()),
        Some(b'<') if is_text => Err("the key is a page (HTML or XML)".into()),
        _ if is_der(key) || is_base64_of_der(text) => Err("the key is DER: give it in PEM".into()),
        _ => Ok(KeyKind::Secret),
    }
}

/// True for what stands in a recording in the place of a secret.
fn is_placeholder(text: &[u8]) -> bool {
    let number =
        text.strip_prefix(secrets::OPEN.as_bytes()).and_then(|rest| rest.strip_suffix(secrets::CLOSE.as_bytes()));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// True for what is one sequence in DER and nothing else, as keys and certificates are: it begins with a further
/// sequence (SPKI, X.509) or a number (PKCS #1, PKCS #8).
fn is_der(bytes: &[u8]) -> bool {
    let (length, body) = match bytes {
        [0x30, 0x81, length, body @ ..] => (usize::from(*length), body),
        [0x30, 0x82, high, low, body @ ..] => (usize::from(*high) << 8 | usize::from(*low), body),
        [0x30, length @ ..=0x7f, body @ ..] => (usize::from(*length), body),
        _ => return false,
    };
    body.len() == length && matches!(body, [0x30 | 0x02, ..])
}

fn is_base64_of_der(text: &[u8]) -> bool {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=').collect();
    let decoded = STANDARD_NO_PAD.decode(&text).or_else(|_| URL_SAFE_NO_PAD.decode(&text));
    decoded.is_ok_and(|bytes| is_der(&bytes))
}

/// True for the PEM of a public key, with which nothing can be signed.
pub(super) fn is_public(key: &[u8]) -> bool {
    find(key, b"PUBLIC KEY-----").is_some()
}

/// The label and the content of the first section of a PEM.
fn section(pem: &[u8]) -> Option<(&str, Vec<u8>)> {
    let text = std::str::from_utf8(pem).ok()?;
    let (label, rest) = text.split_once("-----BEGIN ")?.1.split_once("-----")?;
    let (body, _) = rest.split_once("-----END")?;
    let body: String = body.split_ascii_whitespace().collect();
    Some((label, STANDARD.decode(body).ok()?))
}

/// The sizes of an RSA key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RsaSize {
    /// Bits of its modulus (n), in whole bytes.
    pub(super) modulus: usize,
    /// Bits of its public exponent (e).
    exponent: usize,
}

impl RsaSize {
    /// From both numbers, in big-endian bytes.
    fn of(modulus: &[u8], exponent: &[u8]) -> Self {
        let zeros = exponent.iter().take_while(|byte| **byte == 0).count();
        let exponent = &exponent[zeros..];
        let spare = exponent.first().map_or(0, |byte| byte.leading_zeros() as usize);
        Self { modulus: modulus.strip_prefix(&[0]).unwrap_or(modulus).len() * 8, exponent: exponent.len() * 8 - spare }
    }

    /// The same of a key in a set (RFC 7518 section 6.3.1).
    pub(super) fn of_jwk(modulus: &str, exponent: &str) -> Option<Self> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        Some(Self::of(&bytes(modulus)?, &bytes(exponent)?))
    }

    /// The same of a key in PEM, as far as it can be found.
    pub(super) fn of_pem(pem: &[u8]) -> Option<Self> {
        let (_, der) = section(pem)?;
        // The number before them is the version of a private key.
        let mut numbers = integers(&der).skip_while(|number| number.len() <= 1);
        Some(Self::of(numbers.next()?, numbers.next().unwrap_or_default()))
    }

    /// Why no signature is checked with such a key; the library would only say that none holds.
    pub(super) fn why_not_verified(self) -> Option<String> {
        let Self { modulus, exponent } = self;
        match () {
            () if !VERIFYING_BITS.contains(&modulus) => {
                let (least, most) = (VERIFYING_BITS.start(), VERIFYING_BITS.end());
                Some(format!("is an RSA key of {modulus} bits: signatures are checked with keys of {least} to {most}"))
            }
            () if exponent > MAX_EXPONENT_BITS => Some(format!(
                "is an RSA key whose exponent (e) has {exponent} bits: signatures are checked with {MAX_EXPONENT_BITS} at most"
            )),
            () => None,
        }
    }
}

/// The whole numbers in DER, in their order, whatever sequences and strings they are in, up to what is none of these.
fn integers(mut der: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let [tag, first, rest @ ..] = der else { return None };
            let (length, content) = match first {
                0x81..=0x84 => {
                    let (length, content) = rest.split_at_checked(usize::from(first & 0x7f))?;
                    (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), content)
                }
                _ => (usize::from(*first), rest),
            };
            match tag {
                // SEQUENCE and OCTET STRING: on within it.
                0x30 | 0x04 => der = content,
                // BIT STRING: behind the number of its unused bits.
                0x03 => der = content.get(1..)?,
                // INTEGER
                0x02 => {
                    let (number, behind) = content.split_at_checked(length)?;
                    der = behind;
                    return Some(number);
                }
                // NULL and OBJECT IDENTIFIER
                0x05 | 0x06 => der = content.get(length..)?,
                _ => return None,
            }
        }
    })
}

fn pem_kind(pem: &[u8]) -> Option<KeyKind> {
    let (label, der) = section(pem)?;
    let has = |identifier: &[u8]| find(&der, identifier).is_some();
    // PKCS #1 has no identifier of the algorithm.
    if label.starts_with("RSA ") || has(RSA) {
        Some(KeyKind::Rsa)
    } else if has(P256) {
        Some(KeyKind::P256)
    } else if has(P384) {
        Some(KeyKind::P384)
    } else if has(ED25519) {
        Some(KeyKind::Ed25519)
    } else {
        None
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_public_is_never_a_secret() {
        const PUBLIC: &str = include_str!("../tests/data/rs256.pub.pem");
        let utf16: Vec<u8> = PUBLIC.bytes().flat_map(|byte| [byte, 0]).collect();
        let body: String = PUBLIC.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n");
        let marked = [b"\xef\xbb\xbf", PUBLIC.as_bytes()].concat();
        for (key, expected) in [
            (b"s3cret".to_vec(), Ok(KeyKind::Secret)),
            (b"[secret 12]".to_vec(), Ok(KeyKind::Secret)),
            (b"[secret ]".to_vec(), Err("is JSON")),
            (b"{\xc3\x28\x9e\xff\x01\xe2".to_vec(), Ok(KeyKind::Secret)),
            (b"<\xc3\x28\x9e\xff\x01\xe2".to_vec(), Ok(KeyKind::Secret)),
            (vec![0, 1, 2, 255], Ok(KeyKind::Secret)),
            (PUBLIC.into(), Ok(KeyKind::Rsa)),
            (format!("\n  {PUBLIC}").into(), Ok(KeyKind::Rsa)),
            (include_bytes!("../tests/data/rs256.pkcs1.pub.pem").to_vec(), Ok(KeyKind::Rsa)),
            (marked, Err("other bytes before it")),
            (utf16, Err("other bytes before it")),
            (format!("x{PUBLIC}").into(), Err("other bytes before it")),
            (b"-----BEGIN PUBLIC KEY-----\nx".to_vec(), Err("is not an RSA")),
            (b" {\"kty\":\"oct\",\"k\":\"AAAA\"}".to_vec(), Err("is a JWK")),
            (b"\xef\xbb\xbf{\"keys\":[]}".to_vec(), Err("is JSON")),
            (b"\xff\xfe{\0\"\0".to_vec(), Err("is JSON")),
            (b" [{\"kid\":\"a\"}]".to_vec(), Err("is JSON")),
            (b"\n<html>maintenance</html>".to_vec(), Err("is a page")),
            (body.clone().into(), Err("is DER")),
            (body.replace('+', "-").replace('/', "_").into(), Err("is DER")),
            (STANDARD.decode(body.replace('\n', "")).unwrap(), Err("is DER")),
            (b"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0".to_vec(), Ok(KeyKind::Secret)),
            (Vec::new(), Err("is empty")),
        ] {
            let found = kind_of(&key);
            match (&found, expected) {
                (Ok(kind), Ok(expected)) => assert_eq!(*kind, expected),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                _ => panic!("{found:?}, not {expected:?}"),
            }
        }
    }
}
