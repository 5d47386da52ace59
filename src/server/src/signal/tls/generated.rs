//! The generated certificate is replaced before it expires also while the server runs: one that is started a month before is not
//! started again in time.

use std::path::PathBuf;
use std::time::SystemTime;

use moonring_wire::causes::causes;
use rustls::ServerConfig;

use super::{generate, is_current, self_signed, server_config};

/// The generated certificate that is in use.
#[derive(Debug)]
pub(in crate::signal) struct Generated {
    pub(super) data_dir: PathBuf,
    pub(super) names: Vec<String>,
    pub(super) certificate: Vec<u8>,
}

impl Generated {
    /// The next one when this one is about to expire, or is not valid as the clock was set.
    pub(super) fn renewed(&mut self, now: SystemTime) -> Option<anyhow::Result<ServerConfig>> {
        let is_to_be_replaced = !is_current(&self.certificate, &self.names, now);
        is_to_be_replaced.then(|| self.renew(now))
    }

    fn renew(&mut self, now: SystemTime) -> anyhow::Result<ServerConfig> {
        let kept = self_signed(&self.data_dir, &self.names, now);
        let (certificate, key) = kept.or_else(|error| {
            tracing::error!("the next start makes another certificate: {}", causes(error.as_ref()));
            generate(&self.names, now)
        })?;
        let config = server_config(&certificate, &key)?;
        self.certificate = certificate;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use super::super::{CERTIFICATE_FILE, Followed, load};
    use super::*;
    use crate::config::Config;

    fn loaded(data_dir: &Path, now: SystemTime) -> Generated {
        let config = Config { data_dir: data_dir.to_owned(), ..Config::default() };
        match load(&config, now).unwrap().1 {
            Followed::Generated(generated) => generated,
            Followed::Files(files) => panic!("{files:?}"),
        }
    }

    #[test]
    fn a_server_that_is_not_restarted_renews_its_generated_certificate_and_keeps_it() {
        let (dir, now, day) = (tempfile::tempdir().unwrap(), SystemTime::now(), Duration::from_secs(24 * 3600));
        for (folder, is_kept) in [(dir.path(), true), (Path::new(""), false), (Path::new("/dev/null/data"), false)] {
            let mut generated = match folder.starts_with("/dev") {
                true => Generated { data_dir: folder.to_owned(), ..loaded(Path::new(""), now) },
                false => loaded(folder, now),
            };
            let first = generated.certificate.clone();
            let mut replaced = |at: SystemTime| generated.renewed(at).map(|new| new.is_ok());
            let (before, after) = (now + 334 * day, now + 336 * day);
            let seen = [now, before, after, after, now + 600 * day].map(&mut replaced);
            assert_eq!(seen, [None, None, Some(true), None, None], "{folder:?}");
            assert_eq!(replaced(now - 30 * day), Some(true), "the clock was a month ahead");
            assert_ne!(generated.certificate, first);
            assert_eq!(fs::read(folder.join(CERTIFICATE_FILE)).ok() == Some(generated.certificate), is_kept);
        }
    }
}
