//! The server's binary: wiring only.

use std::process::ExitCode;

use moonring::Cli;

fn main() -> ExitCode {
    moonring::run(Cli::from_command_line())
}
