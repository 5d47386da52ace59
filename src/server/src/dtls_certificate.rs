//! The certificate that clients know this server's media by, kept over a restart: a new one each time would make every
//! client that comes back do without what it negotiated.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;

use crate::data_dir::{self, Readers};
use moonring_wire::transport::dtls::Certificate;

const FILE: &str = "dtls.pem";

/// The certificate kept in `folder`, or a new one that is kept there; with an empty `folder` a new one each time. An
/// error says that the kept one cannot be used.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Certificate> {
    let generate = || Certificate::generate().context("cannot make the certificate for DTLS");
    if folder.as_os_str().is_empty() {
        return generate();
    }
    let path = folder.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Certificate::from_pem(&text).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let certificate = generate()?;
            if let Err(error) = data_dir::replace(&path, Readers::Owner, certificate.to_pem().as_bytes()) {
                let path = path.display();
                tracing::warn!(%path, %error, "the DTLS certificate cannot be kept: choose another --data-dir");
            }
            Ok(certificate)
        }
        Err(error) => {
            Err(error).with_context(|| format!("{}: cannot be read; choose another --data-dir", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_certificate_is_the_same_after_a_restart_and_its_key_is_the_servers_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let first = load(&folder).unwrap().fingerprint();
        assert_eq!(load(&folder).unwrap().fingerprint(), first);
        assert_eq!(fs::metadata(folder.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(load(Path::new("")).unwrap().fingerprint(), first);
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_named_and_one_that_cannot_be_kept_is_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "garbage").unwrap();
        let error = format!("{:#}", load(folder.path()).unwrap_err());
        assert!(error.contains("dtls.pem: ") && !error.contains('\n'), "{error}");
        let below_a_file = folder.path().join(FILE).join("folder");
        assert!(format!("{:#}", load(&below_a_file).unwrap_err()).contains("cannot be read"));
        assert!(load(Path::new("/proc/no such folder")).is_ok());
    }
}
