//! The known name that a misspelt one is meant to be.

/// The nearest of `known`, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let enough = name.len().div_ceil(4).clamp(1, 4);
    let distances = known.into_iter().map(|other| (distance(name.as_bytes(), other.as_bytes()), other));
    distances.filter(|(distance, _)| *distance <= enough).min().map(|(_, other)| other)
}

/// How this Lua calls what other languages, and later versions of it, call otherwise.
pub(super) fn in_lua(name: &str) -> Option<&'static str> {
    Some(match name {
        "null" | "NULL" | "None" | "undefined" => "nil",
        "True" | "TRUE" => "true",
        "False" | "FALSE" => "false",
        "table.unpack" => "unpack",
        "math.round" => "math.floor(x + 0.5)",
        "table.pack" => "{ ... }",
        _ => return None,
    })
}

/// Letters to add, take away, change or swap with the next one (optimal string alignment).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = rows[i][j] + usize::from(x != y);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_meaning_and_another_word_does_not() {
        let known = ["on_client_connect", "on_message", "on_load", "on_init"];
        for (name, expected) in [
            ("on_client_conect", Some("on_client_connect")),
            ("on_messages", Some("on_message")),
            ("on_loaded", Some("on_load")),
            ("on_client_join", None),
            ("no_load", Some("on_load")),
            ("x", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
