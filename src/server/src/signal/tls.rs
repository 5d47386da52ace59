//! The certificate of HTTPS: the operator's, or a self-signed one that is generated once and kept.

mod generated;
pub(super) mod told;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
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

use crate::advice;
use crate::config::Config;
use crate::data_dir::{self, Readers};
use generated::Generated;
use moonring_wire::causes::causes;

const CERTIFICATE_FILE: &str = "self-signed.crt";
const KEY_FILE: &str = "self-signed.key";
/// What both forms of an encrypted key in PEM say of themselves.
const ENCRYPTED: &[u8] = b"ENCRYPTED";
/// How long a generated certificate is valid: what Apple's clients accept at most is 825 days.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
/// A generated certificate with less time left is replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often the certificate is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Allowance for clocks that are behind ours.
const BACKDATE: Duration = Duration::from_secs(24 * 3600);

/// Chooses ring for the whole process: two providers are compiled in, and rustls would panic at first use.
pub fn install_crypto_provider() {
    // An error says that one was chosen before.
    let _ = ring::default_provider().install_default();
}

/// The TLS settings of the listener, and what they are of.
pub(super) fn load(config: &Config, now: SystemTime) -> anyhow::Result<(RustlsConfig, Followed)> {
    let shared = |new| RustlsConfig::from_config(Arc::new(new));
    if config.tls_cert.as_os_str().is_empty() {
        let names = names(&config.announced_ip);
        let (certificate, key) = self_signed(&config.data_dir, &names, now)?;
        let data_dir = config.data_dir.display();
        let words = || format!("the generated certificate in {data_dir}: delete it to get a new one");
        let loaded = server_config(&certificate, &key).map(shared).with_context(words)?;
        let generated = Generated { data_dir: config.data_dir.clone(), names, certificate };
        return Ok((loaded, Followed::Generated(generated)));
    }
    let (certificate, key) = (config.tls_cert.clone(), config.tls_key.clone());
    let mut files = Files { certificate, key, seen: None, is_told: false };
    let (certificate, key) = files.read()?;
    let words = || format!("certificate {} with key {}", config.tls_cert.display(), config.tls_key.display());
    let loaded = server_config(&certificate, &key).map(shared).with_context(words)?;
    files.seen = Some((certificate, key));
    files.tell_of_validity(now);
    Ok((loaded, Followed::Files(files)))
}

/// Takes the operator's certificate anew whenever its files change, and replaces a generated one before it expires; what cannot
/// be used is logged, and the one before stays. Ends with the server.
pub(super) async fn follow(mut followed: Followed, tls: RustlsConfig) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (look, name) = match &mut followed {
            Followed::Files(files) => (files.look(), files.certificate.clone()),
            Followed::Generated(generated) => {
                (generated.renewed(SystemTime::now()), generated.data_dir.join(CERTIFICATE_FILE))
            }
        };
        let name = name.display();
        match look {
            None => {}
            Some(Ok(new)) => {
                tls.reload_from_config(Arc::new(new));
                tracing::info!(certificate = %name, "took the certificate's new version");
            }
            Some(Err(error)) => {
                tracing::error!(certificate = %name, "the new version cannot be used, the one before stays: {}", causes(error.as_ref()))
            }
        }
        if let Followed::Files(files) = &mut followed {
            files.tell_of_validity(SystemTime::now());
        }
    }
}

/// What the certificate in use is of.
#[derive(Debug)]
pub(super) enum Followed {
    /// The operator's files.
    Files(Files),
    /// Nobody has given one.
    Generated(Generated),
}

/// The files of the operator's certificate, as they were when they were last looked at.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// `None` when they could not be read.
    seen: Option<(Vec<u8>, Vec<u8>)>,
    /// Whether it was said of this version that clients refuse it.
    is_told: bool,
}

impl Files {
    fn read(&self) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        let read = |what: &str, path: &Path| {
            let why = || format!("{what} {}: cannot be read; check --tls-cert and --tls-key", path.display());
            fs::read(path).map_err(advice::on_reading).with_context(why)
        };
        Ok((read("certificate", &self.certificate)?, read("private key", &self.key)?))
    }

    /// What is new since the last look; an error, which is told once, says why it cannot be used.
    fn look(&mut self) -> Option<anyhow::Result<ServerConfig>> {
        match self.read() {
            Ok(files) if self.seen.as_ref() == Some(&files) => None,
            Ok(files) => {
                self.is_told = false;
                let (certificate, key) = self.seen.insert(files);
                Some(server_config(certificate, key))
            }
            Err(error) => self.seen.take().map(|_| Err(error)),
        }
    }
}

impl Files {
    /// Says once of each version that clients refuse it, when that is so from the start, and when it comes to be so. What it said.
    fn tell_of_validity(&mut self, now: SystemTime) -> Option<String> {
        let (certificate, _) = self.seen.as_ref().filter(|_| !self.is_told)?;
        let certificate = CertificateDer::from_pem_slice(certificate).ok()?;
        let words = told::of_validity(&certificate, now)?;
        tracing::warn!(certificate = %self.certificate.display(), "{words}");
        self.is_told = true;
        Some(words)
    }
}

pub(super) fn server_config(certificate: &[u8], key: &[u8]) -> anyhow::Result<ServerConfig> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(told::of_pem)
        .context("the certificate is not in PEM form")?;
    if chain.is_empty() {
        bail!("the certificate file has no CERTIFICATE block");
    }
    if key.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
        bail!("the private key is encrypted: openssl pkey takes the password off");
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(told::of_pem).context("the private key is not in PEM form")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|error| told::of_pair(error, &chain, key))?;
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

/// Whether the certificate is for these names, valid by now, and has more than [`RENEW_BEFORE`] left.
fn is_current(certificate: &[u8], names: &[String], now: SystemTime) -> bool {
    let Ok((_, pem)) = parse_x509_pem(certificate) else { return false };
    let Ok(certificate) = pem.parse_x509() else { return false };
    let at = |timestamp: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0));
    let validity = certificate.validity();
    let (from, left) = (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()).duration_since(now));
    let Ok(Some(listed)) = certificate.subject_alternative_name() else { return false };
    let listed: BTreeSet<String> = listed.value.general_names.iter().filter_map(name_text).collect();
    from <= now && left.is_ok_and(|left| left > RENEW_BEFORE) && listed == names.iter().cloned().collect()
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
    fn a_new_version_of_the_certificate_is_taken_and_one_that_cannot_be_used_is_told_of_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let write = |(certificate, key): &(Vec<u8>, Vec<u8>)| {
            fs::write(path("crt"), certificate).unwrap();
            fs::write(path("key"), key).unwrap();
        };
        let names = ["localhost".to_owned()];
        let [first, second, third] = [(); 3].map(|()| generate(&names, SystemTime::now()).unwrap());
        let config = Config { tls_cert: path("crt"), tls_key: path("key"), ..Config::default() };
        write(&first);
        let Followed::Files(mut files) = load(&config, SystemTime::now()).unwrap().1 else { panic!("of files") };
        // Before anybody looks for the first time.
        write(&second);
        let mut look = || files.look().map(|new| new.map(drop).map_err(|error| format!("{error:#}")));
        assert_eq!([look(), look()], [Some(Ok(())), None]);
        fs::remove_file(path("key")).unwrap();
        let told = look().unwrap().unwrap_err();
        assert!(told.contains("key: cannot be read") && told.contains("No such file"), "{told}");
        assert_eq!(look(), None, "once");
        fs::write(path("key"), &third.1).unwrap();
        assert!(look().unwrap().unwrap_err().contains("the key is not that of the certificate"));
        write(&third);
        assert_eq!([look(), look()], [Some(Ok(())), None]);
    }

    #[test]
    fn an_unusable_certificate_is_one_line_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (certificate, key) = generate(&["localhost".into()], SystemTime::now()).unwrap();
        let (authority, other) = generate(&["localhost".into()], SystemTime::now()).unwrap();
        fs::write(path("swapped.crt"), [&authority[..], &certificate[..]].concat()).unwrap();
        fs::write(path("cut.crt"), &certificate[..certificate.len() / 2]).unwrap();
        fs::write(path("short.key"), "-----BEGIN PRIVATE KEY-----\nMAAA\n-----END PRIVATE KEY-----\n").unwrap();
        fs::write(path("a.crt"), certificate).unwrap();
        fs::write(path("a.key"), key).unwrap();
        fs::write(path("other.key"), other).unwrap();
        fs::write(path("garbage"), "garbage").unwrap();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        fs::write(path("encrypted.key"), encrypted).unwrap();
        for (certificate, key, words) in [
            ("a.crt", "a.key", ""),
            ("absent", "a.key", "absent: cannot be read"),
            ("a.crt", "absent", "absent: cannot be read"),
            ("garbage", "a.key", "has no CERTIFICATE block"),
            ("a.crt", "garbage", "the private key is not in PEM form"),
            ("a.crt", "other.key", "the key is not that of the certificate: they are from two different requests"),
            (
                "swapped.crt",
                "a.key",
                "the key is that of certificate 2 in the file: the server's own comes first, then",
            ),
            ("cut.crt", "a.key", "PEM form: it is cut off: there is no line -----END CERTIFICATE-----"),
            ("a.crt", "short.key", "it has to be of P-256, P-384 or Ed25519, or RSA of at least 2,048 bits"),
            ("a.crt", "encrypted.key", "the private key is encrypted: openssl pkey takes the password off"),
        ] {
            let config = Config { tls_cert: path(certificate), tls_key: path(key), ..Config::default() };
            let error = load(&config, SystemTime::now()).err().map(|e| format!("{e:#}")).unwrap_or_default();
            assert!(error.contains(words) && error.is_empty() == words.is_empty(), "{certificate} {key}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_certificate_that_clients_refuse_for_its_time_is_told_of_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (year, now) = (VALIDITY, SystemTime::now());
        let (certificate, key) = generate(&["localhost".into()], now).unwrap();
        fs::write(path("crt"), certificate).unwrap();
        fs::write(path("key"), key).unwrap();
        let config = Config { tls_cert: path("crt"), tls_key: path("key"), ..Config::default() };
        for (at, words) in [
            (now, ""),
            (now + 2 * year, "the certificate has expired on "),
            (now - year, "the certificate is valid from "),
        ] {
            let Followed::Files(mut files) = load(&config, now).unwrap().1 else { panic!("of files") };
            let told = files.tell_of_validity(at).unwrap_or_default();
            assert!(told.starts_with(words) && told.is_empty() == words.is_empty(), "{told}");
            assert_eq!(files.tell_of_validity(at), None, "once");
        }
    }
}
