//! The known name that a misspelt one is meant to be.

/// The nearest of `known`, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let enough = name.len().div_ceil(4).clamp(1, 4);
    let distances = known.into_iter().map(|other| (distance(name.as_bytes(), other.as_bytes()), other));
    distances.filter(|(distance, _)| *distance <= enough).min().map(|(_, other)| other)
}

/// Letters to add, take away or change (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
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
            ("x", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
