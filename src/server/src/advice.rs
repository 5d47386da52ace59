//! What to do about a file that cannot be read.

use std::io::{Error, ErrorKind};

/// The error with what to do about it, if that is known.
pub(crate) fn on_reading(error: Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::NotFound => "look at the name: nothing is there",
        ErrorKind::PermissionDenied => "let the user of this process read it, and enter the folders above",
        ErrorKind::IsADirectory => "name a file in it: this is a folder",
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_a_file_that_cannot_be_read_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        for (path, expected) in [
            (folder.path().join("absent"), "(os error 2); look at the name: nothing is there"),
            (folder.path().to_owned(), "(os error 21); name a file in it: this is a folder"),
        ] {
            let error = on_reading(std::fs::read(&path).unwrap_err()).to_string();
            assert!(error.ends_with(expected), "{error}");
        }
        let error = on_reading(ErrorKind::PermissionDenied.into()).to_string();
        assert!(error.starts_with("permission denied; let the user of this process read it"), "{error}");
    }
}
