//! What is written to a terminal: strangers' words are in it (what members say, what scripts answer them), and a terminal obeys
//! control characters: it would rename itself, change what stands above, or put something on the clipboard.

use std::io::{self, Write};

/// Writes text for people, or JSON, with control characters but line breaks and tabs as JSON has them, `\u001b`.
pub(super) struct Shown<W>(pub(super) W);

impl<W: Write> Write for Shown<W> {
    /// Called with whole characters.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut shown = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            match (first, behind) {
                (b'\n' | b'\t', _) => shown.push(*first),
                (0..0x20 | 0x7F, _) => write!(shown, "\\u{first:04x}")?,
                // U+0080 to U+009F: what ESC and one more byte mean, in one character (ECMA-48 section 5.3).
                (0xC2, [second @ 0x80..0xA0, behind @ ..]) => {
                    write!(shown, "\\u{second:04x}")?;
                    rest = behind;
                }
                _ => shown.push(*first),
            }
        }
        self.0.write_all(&shown)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut out = Vec::new();
        Shown(&mut out).write_all(text.as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        for (text, expected) in [
            ("ada, 192.0.2.7\n\tä 日本 🙂\n", "ada, 192.0.2.7\n\tä 日本 🙂\n"),
            ("\u{1b}]0;root\u{7}", r"\u001b]0;root\u0007"),
            ("one\rtwo\u{8}\0", r"one\u000dtwo\u0008\u0000"),
            ("\u{9b}2J\u{90}\u{7f}\u{a0}", "\\u009b2J\\u0090\\u007f\u{a0}"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "name": "\u{1b}\u{7f}\u{9b}\u{c2}\n", "ä": [1] });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown(&value.to_string())).unwrap(), value);
    }
}
