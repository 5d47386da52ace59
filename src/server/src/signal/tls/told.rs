//! What is wrong with a certificate or its key, in words for whoever has written the files.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::pem;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::parse_x509_certificate;

/// Why a file is not PEM: the library shows lines as lists of bytes.
pub(in crate::signal) fn of_pem(error: pem::Error) -> anyhow::Error {
    let text = |line: &[u8]| String::from_utf8_lossy(line).trim().to_owned();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            anyhow::anyhow!("it is cut off: there is no line -----END {}-----", text(&end_marker))
        }
        pem::Error::IllegalSectionStart { line } => anyhow::anyhow!("no block begins with the line {:?}", text(&line)),
        pem::Error::NoItemsFound => anyhow::anyhow!("it has no such block"),
        other => other.into(),
    }
}

/// Why a chain and a key do not go together.
pub(super) fn of_pair(error: Error, chain: &[CertificateDer<'static>], key: PrivateKeyDer<'static>) -> anyhow::Error {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => match place_of(chain, key) {
            Some(place) => anyhow::anyhow!(
                "the key is that of certificate {place} in the file: the server's own comes first, then those of its authorities"
            ),
            None => anyhow::anyhow!("the key is not that of the certificate: they are from two different requests"),
        },
        Error::General(why) => anyhow::anyhow!(
            "the private key cannot be used: it has to be of P-256, P-384 or Ed25519, or RSA of at least 2,048 bits ({why})"
        ),
        other => other.into(),
    }
}

/// Which certificate of a chain, from 1 on, is that of the key.
fn place_of(chain: &[CertificateDer<'static>], key: PrivateKeyDer<'static>) -> Option<usize> {
    let key = ring::default_provider().key_provider.load_private_key(key).ok()?;
    let fits = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&key)).keys_match().is_ok()
    };
    chain.iter().position(fits).map(|at| at + 1)
}

/// Why clients refuse a certificate at this time, whose file can be used otherwise.
pub(super) fn of_validity(certificate: &CertificateDer<'_>, now: SystemTime) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let at = |timestamp: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0));
    let validity = certificate.validity();
    let (from, until) = (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()));
    if now > until {
        return Some(format!(
            "the certificate has expired on {}: browsers refuse it; replace its files",
            validity.not_after
        ));
    }
    (now < from).then(|| {
        format!(
            "the certificate is valid from {} on: until then browsers refuse it; is the clock right?",
            validity.not_before
        )
    })
}
