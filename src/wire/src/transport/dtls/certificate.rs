//! This server's certificate and key, in the form that each library wants.

use std::sync::Arc;

use dimpl::DtlsCertificate;
use rtc_crypto::providers::RingProvider;
use rtc_crypto::{RTCCryptoProvider, SignatureScheme};
use rtc_dtls::crypto::Certificate as RtcCertificate;

use super::{FIRST_RETRY, HANDSHAKE_TIMEOUT, MTU, RETRIES};
use crate::negotiate::Fingerprint;

const CERTIFICATE_TAG: &str = "CERTIFICATE";
const KEY_TAG: &str = "PRIVATE KEY";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No key pair, or no signature.
    #[error("cannot generate a DTLS certificate: {0}")]
    Generation(dimpl::certificate::CertificateError),
    /// Not PEM at all.
    #[error("the DTLS certificate is not in PEM form: {0}")]
    Pem(pem::PemError),
    /// PEM, but not one certificate and one key.
    #[error(
        "the DTLS certificate file needs one CERTIFICATE and one PRIVATE KEY (PKCS #8) block; delete it for a new one"
    )]
    Blocks,
    /// A key of another kind, or broken.
    #[error("the DTLS certificate's key is not an ECDSA P-256 key in PKCS #8 form; delete the file for a new one")]
    Key,
    /// Key and certificate do not belong together.
    #[error("the DTLS certificate was not made for the key beside it; delete the file for a new one")]
    Mismatch,
    /// The library refuses its configuration.
    #[error("cannot configure DTLS: {0}")]
    Config(String),
}

/// This server's certificate and what all its handshakes have in common. Cheap to clone, shared by all shards.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    fingerprint: Fingerprint,
    dimpl: DtlsCertificate,
    dimpl_config: Arc<dimpl::Config>,
    rtc: RtcCertificate,
    rtc_provider: Arc<dyn RTCCryptoProvider>,
}

impl Certificate {
    /// Makes an ECDSA P-256 key and a certificate for it (RFC 8827 section 6.5). Takes its randomness and date from
    /// the system, so it is called outside of the core.
    pub fn generate() -> Result<Self, CertificateError> {
        let made = dimpl::certificate::generate_self_signed_certificate().map_err(CertificateError::Generation)?;
        Self::new(made)
    }

    /// Reads what [`Certificate::to_pem`] wrote: one certificate and its ECDSA P-256 key in PKCS #8 form, in any order.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let blocks = pem::parse_many(text).map_err(CertificateError::Pem)?;
        let only = |tag| {
            let mut found = blocks.iter().filter(|block| block.tag() == tag);
            found.next().filter(|_| found.next().is_none()).map(|block| block.contents().to_vec())
        };
        match (only(CERTIFICATE_TAG), only(KEY_TAG)) {
            (Some(certificate), Some(private_key)) => Self::new(DtlsCertificate { certificate, private_key }),
            _ => Err(CertificateError::Blocks),
        }
    }

    /// The certificate and its private key as text. Whoever has it can pose as this server: the file is for the
    /// server's user alone.
    pub fn to_pem(&self) -> String {
        let DtlsCertificate { certificate, private_key } = &self.0.dimpl;
        let blocks = [(CERTIFICATE_TAG, certificate), (KEY_TAG, private_key)];
        pem::encode_many(&blocks.map(|(tag, der)| pem::Pem::new(tag, der.clone())))
    }

    /// The `a=fingerprint` of the answer.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    fn new(made: DtlsCertificate) -> Result<Self, CertificateError> {
        let rtc_provider: Arc<dyn RTCCryptoProvider> = Arc::new(RingProvider::new());
        let key = rtc_provider
            .crypto()
            .import_signing_key(SignatureScheme::EcdsaP256Sha256, &made.private_key)
            .map_err(|_| CertificateError::Key)?;
        // The public key stands in the certificate as it is: an uncompressed point of 65 bytes.
        let point = key.public_key().bytes.to_vec();
        if !made.certificate.windows(point.len()).any(|part| part == point) {
            return Err(CertificateError::Mismatch);
        }
        let rtc = RtcCertificate::from_signing_key(vec![made.certificate.clone().into()], key);
        let dimpl_config = dimpl::Config::builder()
            .mtu(MTU)
            .require_client_certificate(true)
            // ICE has proven the client's address already: a cookie would cost a round trip and prove nothing more.
            .use_server_cookie(false)
            .flight_start_rto(FIRST_RETRY)
            .flight_retries(RETRIES)
            // Longer than that of this side, which says what it was waited for.
            .handshake_timeout(2 * HANDSHAKE_TIMEOUT)
            .build()
            .map_err(|error| CertificateError::Config(error.to_string()))?;
        let fingerprint = Fingerprint::sha256(&made.certificate);
        let dimpl_config = Arc::new(dimpl_config);
        Ok(Self(Arc::new(Inner { fingerprint, dimpl: made, dimpl_config, rtc, rtc_provider })))
    }

    pub(super) fn for_dimpl(&self) -> (Arc<dimpl::Config>, DtlsCertificate) {
        (self.0.dimpl_config.clone(), self.0.dimpl.clone())
    }

    pub(super) fn for_rtc(&self) -> (Arc<dyn RTCCryptoProvider>, RtcCertificate) {
        (self.0.rtc_provider.clone(), self.0.rtc.clone())
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificate").field(&self.0.fingerprint).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_the_same_after_saving_and_loading() {
        let made = Certificate::generate().unwrap();
        let text = made.to_pem();
        let loaded = Certificate::from_pem(&text).unwrap();
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        assert_eq!(loaded.to_pem(), text);
        let (certificate, key) = text.split_once("-----BEGIN PRIVATE KEY").unwrap();
        let swapped = format!("-----BEGIN PRIVATE KEY{key}{certificate}");
        assert_eq!(Certificate::from_pem(&swapped).unwrap().fingerprint(), made.fingerprint());
    }

    #[test]
    fn a_file_that_is_not_this_kind_of_certificate_says_what_is_wrong() {
        let text = Certificate::generate().unwrap().to_pem();
        let other = Certificate::generate().unwrap().to_pem();
        let block = |text: &str, tag: &str| {
            let all = pem::parse_many(text).unwrap();
            pem::encode(all.iter().find(|block| block.tag() == tag).unwrap())
        };
        let broken_key = pem::encode(&pem::Pem::new(KEY_TAG, vec![1; 138]));
        for (input, expected) in [
            (String::new(), "one CERTIFICATE and one PRIVATE KEY"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".into(), "not in PEM form"),
            (block(&text, CERTIFICATE_TAG), "one CERTIFICATE and one PRIVATE KEY"),
            ([text.as_str(), other.as_str()].concat(), "one CERTIFICATE and one PRIVATE KEY"),
            (block(&text, CERTIFICATE_TAG) + &broken_key, "not an ECDSA P-256 key"),
            (block(&text, CERTIFICATE_TAG) + &block(&other, KEY_TAG), "not made for the key"),
        ] {
            let error = Certificate::from_pem(&input).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_private_key_is_not_shown() {
        let certificate = Certificate::generate().unwrap();
        let shown = format!("{certificate:?}");
        assert!(shown.starts_with("Certificate(Fingerprint(sha-256 ") && shown.len() < 150, "{shown}");
    }
}
