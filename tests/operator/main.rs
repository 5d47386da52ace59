//! The server as its operators have it: a process with settings, files, signals and a standard error output.

#![allow(missing_docs, reason = "tests")]

mod data_dir;
mod limits;
mod log;
mod process;
mod settings;
