//! The table of crates in the documents says what is there.

use crate::files;

const DOCUMENT: &str = "docs/ARCHITECTURE.md";
/// By how much of it the number of lines that a document says may be wrong.
const TOLERANCE: f64 = 0.15;

#[test]
fn the_table_of_crates_says_how_large_they_are_and_how_many_dependencies_they_have() {
    let mut wrong = Vec::new();
    let document = files::read(DOCUMENT);
    let rows: Vec<Row<'_>> = document.lines().filter_map(Row::parse).collect();
    assert!(rows.len() >= 4, "{DOCUMENT} has no table of crates");
    for Row { folder, lines, dependencies } in rows {
        let sources = files::with_extension(&format!("{folder}/src"), "rs");
        let counted: usize = sources.iter().map(|path| files::read(path).lines().count()).sum();
        if (counted as f64 / lines as f64 - 1.0).abs() > TOLERANCE {
            wrong.push(format!("{DOCUMENT}: {folder} has {counted} lines, not about {lines}"));
        }
        let listed = direct(&files::read(&format!("{folder}/Cargo.toml")));
        if dependencies.is_some_and(|said| said != listed) {
            wrong.push(format!("{DOCUMENT}: {folder} has {listed} direct dependencies"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

struct Row<'a> {
    folder: &'a str,
    lines: usize,
    /// `None`: in words.
    dependencies: Option<usize>,
}

impl<'a> Row<'a> {
    /// `| crate | folder | what it is | lines | direct dependencies | may import |` of a crate with `src`.
    fn parse(line: &'a str) -> Option<Self> {
        let cells: Vec<&str> = line.strip_prefix("| moonring")?.split('|').map(str::trim).collect();
        let &[_, folder, _, lines, dependencies, ..] = &cells[..] else { return None };
        let folder = folder.trim_matches('`');
        let lines = lines.replace(',', "").parse().ok()?;
        let has_src = folder.starts_with("src/") || folder == "loadtest";
        has_src.then_some(Self { folder, lines, dependencies: dependencies.parse().ok() })
    }
}

/// How many packages a manifest depends on, but for tests.
fn direct(manifest: &str) -> usize {
    let section = manifest.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    section
        .take_while(|line| !line.starts_with('['))
        .filter(|line| line.contains('=') && !line.starts_with('#'))
        .count()
}

#[test]
fn rows_and_manifests_are_read() {
    let row = Row::parse("| moonring-x | `src/x` | what, it is | 13,100 | 22 | wire |").unwrap();
    assert_eq!((row.folder, row.lines, row.dependencies), ("src/x", 13_100, Some(22)));
    assert!(Row::parse("| moonring-y | `tests/y` | tests | 500 | | all |").is_none());
    assert_eq!(direct("[dependencies]\na = 1\nb.workspace = true\n# c = 1\n\n[dev-dependencies]\nd = 1\n"), 2);
}
