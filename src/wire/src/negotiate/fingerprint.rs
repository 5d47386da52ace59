//! `a=fingerprint` (RFC 8122 section 5): the hash of a certificate, which makes a self-signed one trustworthy.

use std::fmt;

use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

/// Hash of a certificate in DER form, by one of the functions that this server takes for safe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fingerprint {
    /// `sha-256`, which every WebRTC endpoint knows (RFC 8827 section 6.5).
    Sha256([u8; 32]),
    /// `sha-384`.
    Sha384([u8; 48]),
    /// `sha-512`.
    Sha512([u8; 64]),
}

/// A fingerprint of a known hash function that is not as long as its hash, or not in pairs of hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed fingerprint")]
pub struct MalformedFingerprint;

impl Fingerprint {
    /// The SHA-256 fingerprint of a certificate.
    pub fn sha256(der: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(der).into())
    }

    /// Reads the value of the attribute, `sha-256 AB:CD:...`; `None` for other hash functions.
    pub fn parse(value: &str) -> Result<Option<Self>, MalformedFingerprint> {
        let (hash, digits) = value.trim().split_once(' ').ok_or(MalformedFingerprint)?;
        // RFC 8122 section 5: hash function names are compared without case.
        let named = |name: &str| hash.eq_ignore_ascii_case(name);
        match () {
            () if named("sha-256") => octets(digits).map(|bytes| Some(Self::Sha256(bytes))),
            () if named("sha-384") => octets(digits).map(|bytes| Some(Self::Sha384(bytes))),
            () if named("sha-512") => octets(digits).map(|bytes| Some(Self::Sha512(bytes))),
            () => Ok(None),
        }
    }

    /// Whether it is that of this certificate.
    pub fn matches(&self, der: &[u8]) -> bool {
        match self {
            Self::Sha256(bytes) => Sha256::digest(der).ct_eq(bytes).into(),
            Self::Sha384(bytes) => Sha384::digest(der).ct_eq(bytes).into(),
            Self::Sha512(bytes) => Sha512::digest(der).ct_eq(bytes).into(),
        }
    }

    /// The hash function's name.
    pub fn hash(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha-256",
            Self::Sha384(_) => "sha-384",
            Self::Sha512(_) => "sha-512",
        }
    }

    /// The hash.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha384(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }
}

/// The attribute's value.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash())?;
        for (index, byte) in self.bytes().iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Pairs of hexadecimal digits between colons, as many as there are bytes.
fn octets<const N: usize>(digits: &str) -> Result<[u8; N], MalformedFingerprint> {
    let mut octets = digits.trim().split(':');
    let mut bytes = [0; N];
    for byte in &mut bytes {
        let octet = octets.next().filter(|o| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = octet.and_then(|o| u8::from_str_radix(o, 16).ok()).ok_or(MalformedFingerprint)?;
    }
    if octets.next().is_some() { Err(MalformedFingerprint) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256, SHA-384 and SHA-512 of "abc" (FIPS 180-4).
    const OF_ABC: [&str; 3] = [
        "sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD",
        "sha-384 CB:00:75:3F:45:A3:5E:8B:B5:A0:3D:69:9A:C6:50:07:27:2C:32:AB:0E:DE:D1:63:1A:8B:60:5A:43:FF:5B:ED:\
         80:86:07:2B:A1:E7:CC:23:58:BA:EC:A1:34:C8:25:A7",
        "sha-512 DD:AF:35:A1:93:61:7A:BA:CC:41:73:49:AE:20:41:31:12:E6:FA:4E:89:A9:7E:A2:0A:9E:EE:E6:4B:55:D3:9A:\
         21:92:99:2A:27:4F:C1:A8:36:BA:3C:23:A3:FE:EB:BD:45:4D:44:23:64:3C:E8:0E:2A:9A:C9:4F:A5:4C:A4:9F",
    ];

    #[test]
    fn the_three_hash_functions_are_read_written_and_compared() {
        for text in OF_ABC {
            let read = Fingerprint::parse(text).unwrap().unwrap();
            assert_eq!(read.to_string(), text);
            assert_eq!(Fingerprint::parse(&format!(" {} ", text.to_lowercase())), Ok(Some(read)));
            assert!(read.matches(b"abc") && !read.matches(b"abd"), "{text}");
        }
        assert_eq!(Fingerprint::parse(OF_ABC[0]), Ok(Some(Fingerprint::sha256(b"abc"))));
    }

    #[test]
    fn other_hash_functions_are_passed_over_and_malformed_values_refused() {
        for (value, expected) in [
            ("sha-1 AB:CD", Ok(None)),
            ("md5 x", Ok(None)),
            ("sha-256", Err(MalformedFingerprint)),
            ("sha-256 AB:CD", Err(MalformedFingerprint)),
            (&OF_ABC[0].replace("BA:78", "BA78"), Err(MalformedFingerprint)),
            (&OF_ABC[0].replace("BA", "+A"), Err(MalformedFingerprint)),
            (&OF_ABC[1].replace("384", "256"), Err(MalformedFingerprint)),
            (&OF_ABC[1].replace("384", "512"), Err(MalformedFingerprint)),
            (&format!("{}:00", OF_ABC[2]), Err(MalformedFingerprint)),
        ] {
            assert_eq!(Fingerprint::parse(value), expected, "{value}");
        }
    }
}
