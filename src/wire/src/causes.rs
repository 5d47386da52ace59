//! Errors in words for people.

use std::error::Error;

/// An error and its causes in one line. Some libraries' errors say their cause in their own words and hand it out as well: it is told
/// once.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its words, and its cause.
    #[derive(Debug)]
    struct Made(&'static str, Option<Box<Made>>);

    impl std::fmt::Display for Made {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Made {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|made| made as &(dyn Error + 'static))
        }
    }

    #[test]
    fn each_cause_is_told_once() {
        for (chain, expected) in [
            (&["cannot connect"][..], "cannot connect"),
            (&["cannot connect", "refused"], "cannot connect: refused"),
            (&["IO error: refused", "refused"], "IO error: refused"),
            (&["no table", "timed out: refused", "refused"], "no table: timed out: refused"),
            (
                &["request: tcp: refused (now)", "tcp: refused", "refused", "os error"],
                "request: tcp: refused (now): os error",
            ),
            (&["cannot read", ""], "cannot read"),
        ] {
            let made = chain.iter().rev().fold(None, |cause, words| Some(Box::new(Made(words, cause))));
            assert_eq!(causes(&*made.unwrap()), expected);
        }
    }
}
