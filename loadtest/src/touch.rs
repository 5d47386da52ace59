//! A file that is written anew, as an editor would.

use std::io;
use std::path::Path;
use std::time::SystemTime;

/// Writes a script anew with what is in it and a comment that changes.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    const MARK: &str = "-- touched by moonring-loadtest";
    let text = std::fs::read_to_string(path)?;
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(MARK)).collect();
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    std::fs::write(path, format!("{}\n{MARK} {time}\n", kept.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_a_script_changes_one_comment() {
        let path = std::env::temp_dir().join(format!("moonring-loadtest-touch-{}", std::process::id()));
        std::fs::write(&path, "a = 1\nb = 2\n").unwrap();
        touch(&path).unwrap();
        touch(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((&lines[..2], lines.len()), (&["a = 1", "b = 2"][..], 3));
    }
}
