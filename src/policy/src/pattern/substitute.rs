//! `string.gsub` with a string as the replacement.

use super::matcher::Matcher;
use super::{Capture, Match, PatternError, ShouldStop, split_anchor};

const ESCAPE: u8 = b'%';

/// Replaces up to `limit` matches by `replacement` (`%0`–`%9`, `%%`): the new text, at most `max_bytes` long, and how many were replaced.
pub fn substitute(
    subject: &[u8],
    pattern: &[u8],
    replacement: &[u8],
    limit: usize,
    max_bytes: usize,
    stop: ShouldStop<'_>,
) -> Result<(Vec<u8>, usize), PatternError> {
    let (anchored, pattern) = split_anchor(pattern);
    let mut matcher = Matcher::new(subject, pattern, stop);
    let mut output = Output { bytes: Vec::new(), max_bytes };
    let (mut from, mut count) = (0, 0);
    while count < limit {
        let Some(found) = matcher.search(from, anchored)? else { break };
        count += 1;
        output.push(&subject[from..found.start])?;
        output.expand(subject, &found, replacement, &mut matcher)?;
        from = found.end;
        if found.start == found.end {
            let Some(byte) = subject.get(from..=from) else { break };
            output.push(byte)?;
            from += 1;
        }
        if anchored {
            break;
        }
    }
    output.push(&subject[from..])?;
    Ok((output.bytes, count))
}

struct Output {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Output {
    fn push(&mut self, bytes: &[u8]) -> Result<(), PatternError> {
        if bytes.len() > self.max_bytes - self.bytes.len() {
            return Err(PatternError::TooLarge);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn expand(
        &mut self,
        subject: &[u8],
        found: &Match,
        mut replacement: &[u8],
        matcher: &mut Matcher<'_>,
    ) -> Result<(), PatternError> {
        while let Some(at) = replacement.iter().position(|&byte| byte == ESCAPE) {
            matcher.spend(at + 1)?;
            self.push(&replacement[..at])?;
            // LuaJIT reads the terminating NUL after a last `%`, and writes it out.
            match replacement.get(at + 1).copied().unwrap_or(0) {
                b'0' => self.push(&subject[found.range()])?,
                digit @ b'1'..=b'9' => match found.capture(usize::from(digit - b'1'))? {
                    Capture::Slice(from, to) => self.push(&subject[from..to])?,
                    Capture::Position(at) | Capture::Unfinished(at) => self.push((at + 1).to_string().as_bytes())?,
                },
                other => self.push(&[other])?,
            }
            replacement = replacement.get(at + 2..).unwrap_or(&[]);
        }
        matcher.spend(replacement.len() / 8)?;
        self.push(replacement)
    }
}
