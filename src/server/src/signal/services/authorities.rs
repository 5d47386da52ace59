//! Certificate authorities of the operator's own, which `sfu.http` trusts beside the machine's.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::advice;
use crate::signal::tls::told::of_pem;

/// The certificates of `http_ca`.
#[derive(Clone, Debug, Default)]
pub(in crate::signal) struct Authorities(Vec<Certificate>);

impl Authorities {
    /// Reads a PEM file; no path: none. An error is one line that names the file.
    pub(in crate::signal) fn load(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let pem = fs::read(path)
            .map_err(advice::on_reading)
            .with_context(|| format!("http_ca {}: cannot be read", path.display()))?;
        Self::of_pem(&pem).with_context(|| format!("http_ca {}", path.display()))
    }

    pub(super) fn of_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(of_pem)
            .context("the file is no PEM")?;
        if chain.is_empty() {
            bail!("the file has no CERTIFICATE");
        }
        // The HTTP client would find out too, but at the first request.
        let mut roots = RootCertStore::empty();
        for certificate in &chain {
            roots.add(certificate.clone()).context("a certificate in it is none of an authority")?;
        }
        let certificates = chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<_, _>>();
        Ok(Self(certificates?))
    }

    /// For the HTTP client.
    pub(super) fn certificates(&self) -> impl Iterator<Item = Certificate> {
        self.0.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::signal::http::Listeners;

    #[test]
    fn an_unusable_file_of_authorities_is_one_line_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let good = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        for (name, content, words) in [
            ("good.pem", good.cert.pem(), ""),
            ("two.pem", good.cert.pem().repeat(2), ""),
            ("empty.pem", String::new(), "empty.pem: the file has no CERTIFICATE"),
            ("key.pem", good.signing_key.serialize_pem(), "key.pem: the file has no CERTIFICATE"),
            ("cut.pem", good.cert.pem()[..100].to_owned(), "cut.pem: the file is no PEM"),
            (
                "odd.pem",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
                "none of an authority",
            ),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
            let error = Authorities::load(&dir.path().join(name)).err().map(|e| format!("{e:#}")).unwrap_or_default();
            assert!(error.contains(words) && error.is_empty() == words.is_empty(), "{name}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let absent = format!("{:#}", Authorities::load(&dir.path().join("absent")).unwrap_err());
        assert!(absent.contains("absent: cannot be read: "), "{absent}");
        assert_eq!(Authorities::load(Path::new("")).unwrap().certificates().count(), 0);
    }

    #[test]
    fn the_server_does_not_start_without_the_authorities_that_it_is_told_to_trust() {
        let any = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            listen: any,
            admin_listen: any,
            insecure_http: true,
            http_ca: "absent.pem".into(),
            ..Config::default()
        };
        let error = format!("{:#}", Listeners::open(&config).unwrap_err());
        assert!(error.starts_with("http_ca absent.pem: cannot be read: "), "{error}");
    }
}
