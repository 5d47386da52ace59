//! A server that is given too little to start with says what to raise.

use std::process::{Command, Stdio};

use crate::process::{Server, Setup};

/// Starts it in a shell with this limit; its exit code and the last line of its log.
fn started_within(limit: &str) -> (Option<i32>, String) {
    let setup = Setup::new();
    let command = setup.command(&[]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit} && exec {line}")]).current_dir(setup.path(""));
    let mut server = Server::spawn(&setup, shell.stdin(Stdio::null()).stderr(Stdio::piped()));
    server.read_log();
    let code = server.wait().code();
    (code, server.log().lines().last().unwrap_or_default().to_owned())
}

#[test]
fn too_few_descriptors_are_told_of_with_how_many_there_have_to_be() {
    for limit in [8, 12, 20, 41] {
        let (code, last) = started_within(&format!("ulimit -n {limit}"));
        let expected = format!(
            "moonring: 1 shards and the control plane open 42 files before anybody comes, {limit} are allowed: ulimit -n 50266, \
             LimitNOFILE=50266 or --ulimit nofile=50266"
        );
        assert_eq!((code, last), (Some(1), expected));
    }
}
