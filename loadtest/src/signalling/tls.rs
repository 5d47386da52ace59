//! Which servers are trusted.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_tungstenite::Connector;

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum TlsTrust {
    /// Those that the well-known authorities signed.
    WellKnown,
    /// Any: for tests against a server with a self-signed certificate.
    Anybody,
}

impl TlsTrust {
    /// For WebSockets; `None` is the library's own way, with the well-known authorities.
    pub(super) fn connector(&self) -> anyhow::Result<Option<Connector>> {
        let Self::Anybody = self else { return Ok(None) };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BelieveAnybody(provider)))
            .with_no_client_auth();
        Ok(Some(Connector::Rustls(Arc::new(config))))
    }

    pub(super) fn http_client(&self) -> anyhow::Result<reqwest::Client> {
        // Only the first call in a process decides; all calls decide the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().timeout(super::PATIENCE);
        let anybody = matches!(self, Self::Anybody);
        Ok(builder.tls_danger_accept_invalid_certs(anybody).build()?)
    }
}

#[derive(Debug)]
struct BelieveAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
