//! The server's binary: wiring only.

use std::process::ExitCode;

use clap::Parser;
use moonring::Cli;

fn main() -> ExitCode {
    moonring::run(Cli::parse())
}
