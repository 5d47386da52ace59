//! The file with the cluster's secrets: one on each line, of which the first one seals.

use anyhow::{Context, ensure};

use super::seal::{MIN_SECRET, Seal};

/// Most secrets: the one of now, the next one, and one to spare.
const MOST: usize = 3;
/// What a line may be that is not a secret, and what to do.
const BROKEN: &str = "each line is a secret of its own; one that was broken over several lines has to be joined to one line, by which it is another one";

/// The seal that the text of the file makes; an error names the line, and no secret.
pub(super) fn seal_of(text: &str) -> anyhow::Result<Seal> {
    let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty());
    let lines: Vec<(usize, &str)> = lines.collect();
    for (n, (number, line)) in lines.iter().enumerate() {
        let bytes = line.len();
        let hint = if lines.len() > 1 { format!("; {BROKEN}") } else { String::new() };
        ensure!(
            bytes >= MIN_SECRET,
            "line {number}: a secret has {MIN_SECRET} bytes or more, this one has {bytes}{hint}"
        );
        if let Some((before, _)) = lines[..n].iter().find(|(_, before)| before == line) {
            anyhow::bail!("line {number}: it is the same secret as that of line {before}");
        }
        ensure!(n < MOST, "line {number}: there are {MOST} secrets before it, which is the most; {BROKEN}");
    }
    let (_, first) = lines.first().context("there is no secret in it")?;
    let mut further: Vec<&[u8]> = lines[1..].iter().map(|(_, line)| line.as_bytes()).collect();
    if !further.is_empty() {
        tracing::info!(
            secrets = lines.len(),
            "cluster_secret_file has several secrets: this node seals with the first one, and believes all"
        );
        // What such a file meant before its lines were secrets of their own. Nothing is sealed with it any more.
        further.push(text.as_bytes());
    }
    Ok(Seal::of(first.as_bytes(), further))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789abcdef";
    const NEW: &str = "fedcba9876543210";

    #[test]
    fn each_line_is_a_secret_and_the_first_one_seals() {
        let alone = |secret: &str| Seal::new(secret.as_bytes());
        // With which it seals, and which it believes: the old one, the new one, and the whole text as one.
        for (text, seals, believes) in [
            (OLD.to_owned(), OLD, [true, false, true]),
            (format!("{OLD}\n{NEW}"), OLD, [true, true, true]),
            (format!("{NEW}\n{OLD}"), NEW, [true, true, true]),
            (format!("{NEW}\r\n\n \t\n  {OLD} "), NEW, [true, true, true]),
            (format!("{NEW}\n{}", OLD.repeat(2)), NEW, [false, true, true]),
            // White space within a line is part of it.
            (format!("{OLD} {NEW}"), "0123456789abcdef fedcba9876543210", [false, false, true]),
        ] {
            let seal = seal_of(&text).unwrap();
            assert_eq!(alone(seals).open("beat", &seal.close("beat", &7_u8)), Ok(7), "{text:?}");
            let opens = |secret: &str| seal.open("beat", &alone(secret).close("beat", &7_u8)) == Ok(7);
            assert_eq!([OLD, NEW, &text].map(opens), believes, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_names_the_line_and_no_secret() {
        let third = "a third one, which is long";
        for (text, words) in [
            (String::new(), "there is no secret in it"),
            ("0123456789abcde".into(), "line 1: a secret has 16 bytes or more, this one has 15"),
            (format!("{OLD}\n\nshort"), "line 3: a secret has 16 bytes or more, this one has 5; each line is a secret"),
            (format!("{NEW}\n{OLD}\n{NEW}"), "line 3: it is the same secret as that of line 1"),
            (format!("{NEW}\n{OLD}\n{third}\n{third}4"), "line 4: there are 3 secrets before it, which is the most"),
        ] {
            let error = format!("{:#}", seal_of(&text).unwrap_err());
            assert!(error.starts_with(words), "{error}");
            assert!(![OLD, NEW, third, "short"].iter().any(|secret| error.contains(secret)), "{error}");
        }
        assert!(seal_of(&format!("{NEW}\n{OLD}\n{third}")).is_ok());
    }
}
