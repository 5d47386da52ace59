//! The backtracking matcher: LuaJIT's algorithm, over slices, with a poll.

use super::class::{fits, in_set};
use super::{Capture, MAX_CAPTURES, Match, PatternError, ShouldStop};

const ESCAPE: u8 = b'%';
/// How deep an attempt may recurse: LuaJIT's `LJ_MAX_XLEVEL`. It bounds our stack as it does the C stack there.
const MAX_DEPTH: usize = 200;
/// Steps (about one per byte looked at) between two questions whether to go on: some microseconds.
const STEPS_PER_POLL: usize = 1_000;

type Attempt = Result<Option<usize>, PatternError>;

pub(super) struct Matcher<'a> {
    subject: &'a [u8],
    /// Without its anchor, and up to its first NUL: beyond its end one reads 0.
    pattern: &'a [u8],
    captures: [Capture; MAX_CAPTURES],
    level: usize,
    depth: usize,
    steps_left: usize,
    stop: ShouldStop<'a>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(subject: &'a [u8], pattern: &'a [u8], stop: ShouldStop<'a>) -> Self {
        let end = pattern.iter().position(|&byte| byte == 0).unwrap_or(pattern.len());
        Self {
            subject,
            pattern: &pattern[..end],
            captures: [Capture::Position(0); MAX_CAPTURES],
            level: 0,
            depth: 0,
            steps_left: STEPS_PER_POLL,
            stop,
        }
    }

    /// The first match at `from` or after it; at `from` only when `anchored`.
    pub(super) fn search(&mut self, from: usize, anchored: bool) -> Result<Option<Match>, PatternError> {
        let last = if anchored { from.min(self.subject.len()) } else { self.subject.len() };
        for start in from..=last {
            (self.level, self.depth) = (0, 0);
            if let Some(end) = self.attempt(start, 0)? {
                return Ok(Some(self.matched(start, end)));
            }
        }
        Ok(None)
    }

    /// The first place of `needle` at `from` or after it, byte for byte.
    pub(super) fn find_plain(&mut self, needle: &[u8], mut from: usize) -> Result<Option<Match>, PatternError> {
        let Some(last) = self.subject.len().checked_sub(needle.len()) else { return Ok(None) };
        let Some(&first) = needle.first() else {
            return Ok((from <= last).then(|| self.matched(from, from)));
        };
        while from <= last {
            let chunk = &self.subject[from..=last.min(from + STEPS_PER_POLL)];
            let skipped = chunk.iter().position(|&byte| byte == first);
            self.spend(skipped.unwrap_or(chunk.len()) + 1)?;
            from += skipped.unwrap_or(chunk.len());
            if skipped.is_some() {
                if self.subject[from..].starts_with(needle) {
                    return Ok(Some(self.matched(from, from + needle.len())));
                }
                self.spend(needle.len() / 8)?;
                from += 1;
            }
        }
        Ok(None)
    }

    /// Accounts for work done, and asks now and then whether to go on.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), PatternError> {
        if steps < self.steps_left {
            self.steps_left -= steps;
            return Ok(());
        }
        self.steps_left = STEPS_PER_POLL;
        if (self.stop)() { Err(PatternError::Interrupted) } else { Ok(()) }
    }

    fn matched(&self, start: usize, end: usize) -> Match {
        Match { start, end, captures: self.captures, count: self.level }
    }

    /// Matches the pattern from `p` on at `s`: where the match ends.
    fn attempt(&mut self, s: usize, p: usize) -> Attempt {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(PatternError::TooComplex);
        }
        let end = self.items(s, p)?;
        self.depth -= 1;
        Ok(end)
    }

    /// The loop over items that need no way back; the others recurse.
    fn items(&mut self, mut s: usize, mut p: usize) -> Attempt {
        loop {
            self.spend(1)?;
            let next = match (self.at(p), self.at(p + 1)) {
                (0, _) => return Ok(Some(s)),
                (b'(', b')') => return self.open_capture(s, p + 2, Capture::Position(s)),
                (b'(', _) => return self.open_capture(s, p + 1, Capture::Unfinished(s)),
                (b')', _) => return self.close_capture(s, p + 1),
                (b'$', 0) => return Ok((s == self.subject.len()).then_some(s)),
                (ESCAPE, b'b') => self.balanced(s, p + 2)?.map(|end| (end, p + 4)),
                (ESCAPE, b'f') => self.frontier(s, p + 2)?.map(|after| (s, after)),
                (ESCAPE, digit @ b'0'..=b'9') => self.back_reference(s, digit)?.map(|end| (end, p + 2)),
                _ => {
                    let end = self.item_end(p)?;
                    match self.at(end) {
                        b'*' => return self.longest_first(s, p, end),
                        b'+' if self.fits_at(s, p, end)? => return self.longest_first(s + 1, p, end),
                        b'+' => None,
                        b'-' => return self.shortest_first(s, p, end),
                        b'?' => {
                            if self.fits_at(s, p, end)?
                                && let Some(matched) = self.attempt(s + 1, end + 1)?
                            {
                                return Ok(Some(matched));
                            }
                            Some((s, end + 1))
                        }
                        _ => self.fits_at(s, p, end)?.then_some((s + 1, end)),
                    }
                }
            };
            match next {
                Some((matched, following)) => (s, p) = (matched, following),
                None => return Ok(None),
            }
        }
    }

    fn at(&self, p: usize) -> u8 {
        self.pattern.get(p).copied().unwrap_or(0)
    }

    /// Where the single-character item at `p` ends.
    fn item_end(&mut self, p: usize) -> Result<usize, PatternError> {
        match self.at(p) {
            ESCAPE if self.at(p + 1) == 0 => Err(PatternError::EndsWithEscape),
            ESCAPE => Ok(p + 2),
            b'[' => {
                let mut end = p + 1 + usize::from(self.at(p + 1) == b'^');
                // The first character of a set is a member even when it is `]`.
                loop {
                    let member = self.at(end);
                    if member == 0 {
                        return Err(PatternError::MissingBracket);
                    }
                    end += 1 + usize::from(member == ESCAPE && self.at(end + 1) != 0);
                    if self.at(end) == b']' {
                        self.spend(end - p)?;
                        return Ok(end + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    fn fits_at(&mut self, s: usize, p: usize, end: usize) -> Result<bool, PatternError> {
        // A long set costs its length.
        self.spend(end - p)?;
        Ok(self.subject.get(s).is_some_and(|&byte| fits(byte, &self.pattern[p..end])))
    }

    fn longest_first(&mut self, s: usize, p: usize, end: usize) -> Attempt {
        let mut count = 0;
        while self.fits_at(s + count, p, end)? {
            count += 1;
        }
        loop {
            if let Some(matched) = self.attempt(s + count, end + 1)? {
                return Ok(Some(matched));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    fn shortest_first(&mut self, mut s: usize, p: usize, end: usize) -> Attempt {
        loop {
            if let Some(matched) = self.attempt(s, end + 1)? {
                return Ok(Some(matched));
            }
            if !self.fits_at(s, p, end)? {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open_capture(&mut self, s: usize, p: usize, capture: Capture) -> Attempt {
        let slot = self.captures.get_mut(self.level).ok_or(PatternError::TooManyCaptures)?;
        *slot = capture;
        self.level += 1;
        let matched = self.attempt(s, p)?;
        if matched.is_none() {
            self.level -= 1;
        }
        Ok(matched)
    }

    fn close_capture(&mut self, s: usize, p: usize) -> Attempt {
        let open = self.captures[..self.level].iter().rposition(|capture| matches!(capture, Capture::Unfinished(_)));
        let Some(index) = open else { return Err(PatternError::InvalidCapture) };
        let Capture::Unfinished(start) = self.captures[index] else { return Err(PatternError::InvalidCapture) };
        self.captures[index] = Capture::Slice(start, s);
        let matched = self.attempt(s, p)?;
        if matched.is_none() {
            self.captures[index] = Capture::Unfinished(start);
        }
        Ok(matched)
    }

    /// `%bxy`: where the balanced run that begins at `s` ends.
    fn balanced(&mut self, s: usize, p: usize) -> Attempt {
        let (open, close) = (self.at(p), self.at(p + 1));
        if open == 0 || close == 0 {
            return Err(PatternError::Unbalanced);
        }
        if self.subject.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut nested = 1;
        for at in s + 1..self.subject.len() {
            self.spend(1)?;
            let byte = self.subject[at];
            if byte == close {
                nested -= 1;
                if nested == 0 {
                    return Ok(Some(at + 1));
                }
            } else if byte == open {
                nested += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: where the pattern goes on, when `s` is a border into the set. Both ends of the subject read as NUL.
    fn frontier(&mut self, s: usize, p: usize) -> Attempt {
        if self.at(p) != b'[' {
            return Err(PatternError::FrontierWithoutSet);
        }
        let end = self.item_end(p)?;
        self.spend(end - p)?;
        let set = &self.pattern[p..end - 1];
        let before = s.checked_sub(1).map_or(0, |at| self.subject[at]);
        let here = self.subject.get(s).copied().unwrap_or(0);
        Ok((!in_set(before, set) && in_set(here, set)).then_some(end))
    }

    /// `%1`: the text of an earlier capture again. A position capture has no text and fits nowhere.
    fn back_reference(&mut self, s: usize, digit: u8) -> Attempt {
        let index = usize::from(digit).checked_sub(usize::from(b'1')).ok_or(PatternError::InvalidCaptureIndex)?;
        match self.captures[..self.level].get(index) {
            None | Some(Capture::Unfinished(_)) => Err(PatternError::InvalidCaptureIndex),
            Some(Capture::Position(_)) => Ok(None),
            Some(&Capture::Slice(from, to)) => {
                self.spend((to - from) / 8)?;
                Ok(self.subject[s..].starts_with(&self.subject[from..to]).then_some(s + to - from))
            }
        }
    }
}
