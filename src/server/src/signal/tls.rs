//! The certificate of HTTPS: the operator's, or a self-signed one that is generated once and kept.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use crate::config::Config;
use crate::data_dir::{self, Readers};

const CERTIFICATE_FILE: &str = "self-signed.crt";
const KEY_FILE: &str = "self-signed.key";
/// How long a generated certificate is valid: what Apple's clients accept at most is 825 days.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
/// A certificate with less time left is replaced at start.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often the files of the operator's certificate are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Allowance for clocks that are behind ours.
const BACKDATE: Duration = Duration::from_secs(24 * 3600);

/// Chooses ring for the whole process: two providers are compiled in, and rustls would panic at first use.
pub fn install_crypto_provider() {
    // An error says that one was chosen before.
    let _ = ring::default_provider().install_default();
}

/// The TLS settings of the listener.
pub(super) fn load(config: &Config, now: SystemTime) -> anyhow::Result<RustlsConfig> {
    let (certificate, key) = if config.tls_cert.as_os_str().is_empty() {
        self_signed(&config.data_dir, &names(&config.announced_ip), now)?
    } else {
        let advice = |what: &str, path: &Path| {
            format!("{what} {}: cannot be read; check --tls-cert and --tls-key", path.display())
        };
        let certificate = fs::read(&config.tls_cert).with_context(|| advice("certificate", &config.tls_cert))?;
        let key = fs::read(&config.tls_key).with_context(|| advice("private key", &config.tls_key))?;
        (certificate, key)
    };
    server_config(&certificate, &key).map(|c| RustlsConfig::from_config(Arc::new(c))).with_context(|| {
        if config.tls_cert.as_os_str().is_empty() {
            format!("the generated certificate in {}: delete it to get a new one", config.data_dir.display())
        } else {
            format!("certificate {} with key {}", config.tls_cert.display(), config.tls_key.display())
        }
    })
}

/// Takes the operator's certificate anew whenever its files change; what cannot be used is logged, and the one before
/// stays. Ends with the server.
pub(super) async fn follow(config: Config, tls: RustlsConfig) {
    let read = || Some((fs::read(&config.tls_cert).ok()?, fs::read(&config.tls_key).ok()?));
    let mut seen = read();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let files = read();
        if files == seen {
            continue;
        }
        let Some((certificate, key)) = &files else { continue };
        let name = config.tls_cert.display();
        match server_config(certificate, key) {
            Ok(new) => {
                tls.reload_from_config(Arc::new(new));
                tracing::info!(certificate = %name, "took the certificate's new version");
            }
            Err(error) => {
                tracing::error!(certificate = %name, "the new version cannot be used, the one before stays: {error:#}")
            }
        }
        seen = files;
    }
}

pub(super) fn server_config(certificate: &[u8], key: &[u8]) -> anyhow::Result<ServerConfig> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .context("the certificate is not in PEM form")?;
    if chain.is_empty() {
        bail!("the certificate file has no CERTIFICATE block");
    }
    let key = PrivateKeyDer::from_pem_slice(key).context("the private key is not in PEM form")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // A WebSocket upgrade is HTTP/1.1's.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The names of the generated certificate.
fn names(announced: &[IpAddr]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_name =
        |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if is_name(host.trim()) {
        names.push(host.trim().to_owned());
    }
    names.extend(announced.iter().map(IpAddr::to_string));
    names.sort();
    names.dedup();
    names
}

/// The kept certificate and key, or new ones when there are none, or they are for other names or about to expire. With an empty
/// `dir` nothing is kept.
fn self_signed(dir: &Path, names: &[String], now: SystemTime) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let generate = || generate(names, now).context("generating a certificate");
    if dir.as_os_str().is_empty() {
        return generate();
    }
    let (certificate_path, key_path) = (dir.join(CERTIFICATE_FILE), dir.join(KEY_FILE));
    if let (Ok(certificate), Ok(key)) = (fs::read(&certificate_path), fs::read(&key_path))
        && is_current(&certificate, names, now)
    {
        return Ok((certificate, key));
    }
    let (certificate, key) = generate()?;
    let advice = || format!("data folder {}: cannot be written; choose another with --data-dir", dir.display());
    data_dir::replace(&key_path, Readers::Owner, &key).with_context(advice)?;
    data_dir::replace(&certificate_path, Readers::All, &certificate).with_context(advice)?;
    tracing::info!(certificate = %certificate_path.display(), ?names, "generated a self-signed certificate");
    Ok((certificate, key))
}

/// Whether the certificate is for these names and has more than [`RENEW_BEFORE`] left.
fn is_current(certificate: &[u8], names: &[String], now: SystemTime) -> bool {
    let Ok((_, pem)) = parse_x509_pem(certificate) else { return false };
    let Ok(certificate) = pem.parse_x509() else { return false };
    let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    let left = (UNIX_EPOCH + Duration::from_secs(until)).duration_since(now);
    let Ok(Some(listed)) = certificate.subject_alternative_name() else { return false };
    let listed: BTreeSet<String> = listed.value.general_names.iter().filter_map(name_text).collect();
    left.is_ok_and(|left| left > RENEW_BEFORE) && listed == names.iter().cloned().collect()
}

/// A name as [`names`] has it.
fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn generate(names: &[String], now: SystemTime) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "moonring self-signed");
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + VALIDITY).into();
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem().into_bytes(), key.serialize_pem().into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_generated_certificate_is_kept_until_it_is_old_or_for_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 3600);
        let names = |extra: &str| vec!["localhost".to_owned(), extra.to_owned()];
        let first = self_signed(dir.path(), &names("::1"), now).unwrap();
        server_config(&first.0, &first.1).unwrap();
        assert_eq!(self_signed(dir.path(), &names("::1"), now + 334 * day).unwrap(), first);
        let renewed = self_signed(dir.path(), &names("::1"), now + 336 * day).unwrap();
        assert_ne!(renewed, first);
        let renamed = self_signed(dir.path(), &names("192.0.2.1"), now + 336 * day).unwrap();
        assert_ne!(renamed, renewed);
        fs::write(dir.path().join(CERTIFICATE_FILE), "garbage").unwrap();
        assert_ne!(self_signed(dir.path(), &names("192.0.2.1"), now).unwrap(), renamed);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_a_data_folder_a_certificate_is_generated_and_kept_nowhere() {
        let before = Path::new(CERTIFICATE_FILE).exists();
        let config = Config { data_dir: PathBuf::new(), ..Config::default() };
        load(&config, SystemTime::now()).map(drop).unwrap();
        assert_eq!((before, Path::new(CERTIFICATE_FILE).exists()), (false, false));
    }

    #[test]
    fn an_unusable_certificate_is_one_line_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (certificate, key) = generate(&["localhost".into()], SystemTime::now()).unwrap();
        let other = generate(&["localhost".into()], SystemTime::now()).unwrap().1;
        fs::write(path("a.crt"), certificate).unwrap();
        fs::write(path("a.key"), key).unwrap();
        fs::write(path("other.key"), other).unwrap();
        fs::write(path("garbage"), "garbage").unwrap();
        for (certificate, key, words) in [
            ("a.crt", "a.key", ""),
            ("absent", "a.key", "absent: cannot be read"),
            ("a.crt", "absent", "absent: cannot be read"),
            ("garbage", "a.key", "has no CERTIFICATE block"),
            ("a.crt", "garbage", "the private key is not in PEM form"),
            ("a.crt", "other.key", "KeyMismatch"),
        ] {
            let config = Config { tls_cert: path(certificate), tls_key: path(key), ..Config::default() };
            let error = load(&config, SystemTime::now()).err().map(|e| format!("{e:#}")).unwrap_or_default();
            assert!(error.contains(words) && error.is_empty() == words.is_empty(), "{certificate} {key}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
