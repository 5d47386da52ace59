//! The server's binary: wiring only.

use std::process::ExitCode;

use clap::Parser;
use moonring::Cli;

fn main() -> ExitCode {
    match moonring::run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("moonring: {error:#}");
            ExitCode::FAILURE
        }
    }
}
