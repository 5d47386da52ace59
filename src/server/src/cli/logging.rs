//! The log of a server: what is in it, in which form, and what becomes of panics.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, stderr};
use std::panic::{self, PanicHookInfo};
use std::thread;

use tracing::Level;
use tracing_subscriber::EnvFilter;

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
    let filter = filter_of(&config.log_filter)?;
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

fn filter_of(text: &str) -> anyhow::Result<EnvFilter> {
    let filter = EnvFilter::try_new(text)
        // Its words have those of its source in them.
        .map_err(|error| anyhow::anyhow!("log_filter {text:?}: {error}"))?;
    // NATS' client tells of each attempt to connect, which is made every second, and of what comes of it; the cluster says that,
    // with what to do, and once.
    Ok(match text.contains("async_nats") {
        true => filter,
        false => filter.add_directive("async_nats=off".parse()?),
    })
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

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn what_the_client_of_nats_says_of_each_attempt_is_shown_to_who_asks_for_it() {
        for (text, expected) in [("info", false), ("debug", false), ("info,async_nats=error", true)] {
            let subscriber = tracing_subscriber::registry().with(filter_of(text).unwrap());
            tracing::subscriber::with_default(subscriber, || {
                let is_shown = tracing::enabled!(target: "async_nats::connector", Level::ERROR);
                let is_own = tracing::enabled!(target: "moonring::cluster", Level::WARN);
                assert_eq!((is_shown, is_own), (expected, true), "{text}");
            });
        }
    }
}
