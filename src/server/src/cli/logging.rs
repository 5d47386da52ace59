//! The log of a server: what is in it, in which form, and what becomes of panics.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, stderr};
use std::panic::{self, PanicHookInfo};
use std::thread;

use tracing::Level;

use crate::config::{Config, LogFormat};
use crate::log_lines::LogLines;
use crate::log_queue;

/// Dropped at the end of the process, a panic's too: the last lines are written.
pub(super) struct Finish;

impl Drop for Finish {
    fn drop(&mut self) {
        log_queue::finish();
    }
}

/// Lets the log begin. Its lines wait for [`log_queue::start`].
pub(super) fn start(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_filter)
        // Its words have those of its source in them.
        .map_err(|error| anyhow::anyhow!("log_filter {:?}: {error}", config.log_filter))?;
    // NATS' client tells of each attempt to connect; the cluster says what comes of them.
    let filter = match config.log_filter.contains("async_nats") {
        true => filter,
        false => filter.add_directive("async_nats=error".parse()?),
    };
    let lines = LogLines(log_queue::queue_of_the_log);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    // Colours are for eyes: a file or the journal has the plain text.
    let builder = if stderr().is_terminal() { builder } else { builder.with_ansi(false) };
    match config.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The usual hook writes to the standard error output itself, and would wait there for who reads it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let current = thread::current();
    let thread = current.name().unwrap_or("without a name");
    let message = panic.payload_as_str().unwrap_or("a value that is not text");
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    if tracing::enabled!(Level::ERROR) {
        tracing::error!(thread, at, backtrace, "panicked: {message}");
    } else {
        let line = format!("thread {thread} panicked at {at}: {message}\n");
        log_queue::queue_of_the_log().say(line.into_bytes());
    }
    log_queue::finish_line_of_panic();
}
