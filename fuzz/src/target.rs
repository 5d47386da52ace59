//! What a fuzz target is. Each takes any bytes, and must not panic, run on, or take memory without bound.

/// A function that is fuzzed.
pub struct Target {
    /// Its program below `fuzz_targets/`.
    pub name: &'static str,
    /// Takes an input.
    pub run: fn(&[u8]),
    /// Well-formed inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Takes an input apart: each part stands behind its length in two bytes, and the last may be shorter than that.
pub struct Parts<'a>(pub &'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        self.0 = rest;
        Some(part)
    }
}

/// Writes what [`Parts`] takes apart.
pub fn joined<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let with_length = |part: &[u8]| [&(part.len() as u16).to_be_bytes(), part].concat();
    parts.into_iter().flat_map(with_length).collect()
}
