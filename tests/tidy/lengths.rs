//! Files are short.

use crate::files;

/// Most lines of a file, unless [`LONG_FILES`] lists it.
const MAX_LINES: usize = 400;
/// Files that were longer when the rule came. A number here may only get smaller; a file that fits leaves the list.
const LONG_FILES: &[(&str, usize)] = &[];
/// How far below its number a listed file may be before the number has to follow.
const SLACK: usize = 20;

#[test]
fn files_are_short_and_the_long_ones_only_shrink() {
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    let sources = ["rs", "js", "mjs"].map(|extension| files::with_extension("", extension));
    for path in sources.concat() {
        let lines = files::read(&path).lines().count();
        let listed = LONG_FILES.iter().find(|(file, _)| *file == path).map(|(_, max)| *max);
        seen.push(path.clone());
        match listed {
            Some(max) if lines > max => found.push(format!("{path} has {lines} lines, it may only shrink from {max}")),
            Some(_) if lines <= MAX_LINES => {
                found.push(format!("{path} fits now ({lines} lines): take it off the list"))
            }
            Some(max) if lines + SLACK < max => found.push(format!("{path} has {lines} lines now: lower its {max}")),
            None if lines > MAX_LINES => {
                found.push(format!("{path} has {lines} lines, at most {MAX_LINES} are allowed"))
            }
            _ => {}
        }
    }
    let stale = LONG_FILES.iter().filter(|(file, _)| !seen.iter().any(|path| path == file));
    found.extend(stale.map(|(file, _)| format!("{file} is listed as long, and is not there")));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}
