//! The command lines of the documents are ones that the program takes.

use std::path::Path;

use super::*;

/// What the documents' own words stand for.
const WORDS: &[(&str, &str)] = &[("JSON", "{}"), ("N", "1"), ("SOURCES", "camera"), ("BOOL", "true")];

/// A file of this repository, and its text.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let in_docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = in_docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let paths = pages.chain(["README.md", "docker/compose.yaml"].map(|name| root.join(name)));
    paths.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The commands of the program in a shell's lines.
fn commands(shell: &str) -> Vec<Vec<String>> {
    let joined = shell.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim_start_matches("$ ").split(" #").next().unwrap_or_default());
    let parts = lines.flat_map(|line| line.split(['|', '&', ';', '>']));
    // In brackets is what may be left out.
    let word = |word: &str| match word.trim_matches(['"', '\'']) {
        address if address.contains("::") => address.to_owned(),
        word => word.trim_matches(['[', ']']).to_owned(),
    };
    let words = |part: &str| part.split_whitespace().map(word).collect();
    let mut commands: Vec<Vec<String>> = parts.map(words).collect();
    commands.retain_mut(|words| {
        let start = words.iter().rposition(|word| word == "moonring" || word.ends_with("/bin/moonring"));
        // What is before it starts it: sudo, docker run and so on; `ExecStart=` of a unit.
        let starts = |word: &str| !["install", "cp", "mkdir", "systemctl", "curl", "-f"].contains(&word);
        let is_command = start.is_some_and(|start| words[..start].iter().all(|word| starts(word)));
        start.into_iter().for_each(|start| drop(words.drain(..start)));
        is_command
    });
    commands
}

/// Blocks of a shell, and code within a text.
fn shells(document: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut blocks, mut spans) = (Vec::new(), Vec::new());
    for (n, part) in document.split("\n```").enumerate() {
        match part.split_once('\n') {
            Some((language, block)) if n % 2 == 1 && ["sh", "console", "ini"].contains(&language) => blocks.push(block),
            _ if n % 2 == 1 => {}
            _ => spans.extend(part.split('`').skip(1).step_by(2).filter(|span| span.starts_with("moonring "))),
        }
    }
    (blocks, spans)
}

fn parsed(words: &[String]) -> Result<Cli, clap::Error> {
    let said = |word: &String| match WORDS.iter().find(|(name, _)| name == word) {
        Some((_, value)) => (*value).to_owned(),
        // The variable of a loop.
        None => word.replace("${n}", "1").replace("$n", "1"),
    };
    Cli::from_arg_matches(&command_line().try_get_matches_from(words.iter().map(said))?)
}

#[test]
fn every_command_of_the_documents_is_one_that_the_program_takes() {
    let (mut wrong, mut of_blocks, mut of_spans) = (Vec::new(), 0, 0);
    for (name, text) in documents() {
        let (blocks, spans) = shells(&text);
        // In Docker's commands it is the name of the image, which names the program itself.
        let of_image = |block: &str| block.contains("docker run");
        for (words, of_image) in
            blocks.into_iter().flat_map(|block| commands(block).into_iter().map(move |words| (words, of_image(block))))
        {
            of_blocks += 1;
            match parsed(&words) {
                Ok(Cli { command: None, .. }) if !of_image => {
                    wrong.push(format!("{name}: {}: it names no command", words.join(" ")))
                }
                Ok(_) => {}
                Err(error) => wrong.push(format!("{name}: {}: {error}", words.join(" "))),
            }
        }
        for words in spans.into_iter().flat_map(commands) {
            of_spans += 1;
            use clap::error::ErrorKind::{DisplayHelp, DisplayVersion, MissingRequiredArgument, MissingSubcommand};
            // A text may name a command without what goes with it.
            let may_lack = [DisplayHelp, DisplayVersion, MissingRequiredArgument, MissingSubcommand];
            if let Err(error) = parsed(&words)
                && !may_lack.contains(&error.kind())
                && !error.to_string().contains("none was supplied")
            {
                wrong.push(format!("{name}: {}: {error}", words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(of_blocks > 15 && of_spans > 50, "{of_blocks} in blocks, {of_spans} in texts");
}
