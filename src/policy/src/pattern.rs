//! Lua patterns that can be interrupted: what `string.find` and its kin do in LuaJIT, in safe Rust.
//!
//! LuaJIT's own matcher is a C loop that no hook can stop, and some patterns take exponential time. This one asks every
//! thousand steps or so whether to go on. Results and messages are LuaJIT's, quirks included: a NUL byte ends a pattern,
//! mistakes in a pattern show only when matching reaches them, `^` is an anchor for `find`, `match` and `gsub` only.

use std::ops::Range;

use thiserror::Error;

use self::matcher::Matcher;
pub use self::substitute::substitute;

mod class;
pub mod lua;
mod matcher;
#[cfg(test)]
mod measure;
mod substitute;
#[cfg(test)]
mod tests;

/// The most captures one pattern may have (`LUA_MAXCAPTURES`).
pub const MAX_CAPTURES: usize = 32;

/// Asked every thousand steps or so whether to give up.
pub type ShouldStop<'a> = &'a mut dyn FnMut() -> bool;

/// Why matching ended without an answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// The pattern ends with `%`.
    #[error("malformed pattern (ends with '%')")]
    EndsWithEscape,
    /// A set is not closed.
    #[error("malformed pattern (missing ']')")]
    MissingBracket,
    /// `%b` without its two characters.
    #[error("unbalanced pattern")]
    Unbalanced,
    /// `%f` without its set.
    #[error("missing '[' after '%f' in pattern")]
    FrontierWithoutSet,
    /// `)` without `(`.
    #[error("invalid pattern capture")]
    InvalidCapture,
    /// `%n` for a capture that does not exist (yet).
    #[error("invalid capture index")]
    InvalidCaptureIndex,
    /// More than [`MAX_CAPTURES`].
    #[error("too many captures")]
    TooManyCaptures,
    /// `(` without `)`.
    #[error("unfinished capture")]
    UnfinishedCapture,
    /// Nested too deeply for the C stack that LuaJIT would use.
    #[error("pattern too complex")]
    TooComplex,
    /// The result of a substitution is longer than its bound.
    #[error("resulting string too large")]
    TooLarge,
    /// The caller said stop.
    #[error("interrupted")]
    Interrupted,
}

/// What one capture holds; offsets are zero-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// `()`: where it stands.
    Position(usize),
    /// `(…)`: from, to (exclusive).
    Slice(usize, usize),
    /// `(` never closed: an error for whoever asks for it, and for nobody else.
    Unfinished(usize),
}

/// A match and its captures; offsets are zero-based, `end` is exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    captures: [Capture; MAX_CAPTURES],
    count: usize,
}

impl Match {
    /// The number of captures in the pattern.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The number of values that `match` and `gmatch` return: the captures, or else the whole match.
    pub fn values(&self) -> usize {
        self.count.max(1)
    }

    /// Capture `index` from 0; in a pattern without captures number 0 is the whole match.
    pub fn capture(&self, index: usize) -> Result<Capture, PatternError> {
        if index == 0 && self.count == 0 {
            return Ok(Capture::Slice(self.start, self.end));
        }
        match self.captures[..self.count].get(index) {
            None => Err(PatternError::InvalidCaptureIndex),
            Some(Capture::Unfinished(_)) => Err(PatternError::UnfinishedCapture),
            Some(&capture) => Ok(capture),
        }
    }

    /// The whole match.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// `string.find`: from offset `init` on, `plain` or as a pattern.
pub fn find(
    subject: &[u8],
    pattern: &[u8],
    init: usize,
    plain: bool,
    stop: ShouldStop<'_>,
) -> Result<Option<Match>, PatternError> {
    if plain || !has_specials(pattern) {
        return Matcher::new(subject, b"", stop).find_plain(pattern, init);
    }
    search(subject, pattern, init, stop)
}

/// `string.match`: from offset `init` on, where a leading `^` anchors.
pub fn search(
    subject: &[u8],
    pattern: &[u8],
    init: usize,
    stop: ShouldStop<'_>,
) -> Result<Option<Match>, PatternError> {
    let (anchored, pattern) = split_anchor(pattern);
    match_at(subject, pattern, init, anchored, stop)
}

/// One step of `gmatch` or `gsub`: the first match at `from` or after it, only at `from` when `anchored`. `^` is a plain character here.
pub fn match_at(
    subject: &[u8],
    pattern: &[u8],
    from: usize,
    anchored: bool,
    stop: ShouldStop<'_>,
) -> Result<Option<Match>, PatternError> {
    Matcher::new(subject, pattern, stop).search(from, anchored)
}

/// Whether the pattern begins with the anchor, and what follows it.
pub fn split_anchor(pattern: &[u8]) -> (bool, &[u8]) {
    match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    }
}

fn has_specials(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte))
}
