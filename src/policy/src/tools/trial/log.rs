//! What scripts and the engine write to the log while a test runs, kept for the test.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::failure::{BEGINS_ANEW, FAILED, NO_CHECKPOINT};

/// The module of `sfu.log_*`.
const SCRIPTS: &str = "api::log";
/// The crate that is listened to.
const ENGINE: &str = env!("CARGO_CRATE_NAME");

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// `debug`, `info`, `warn`, `error`; of a failed hook: `failure`.
    pub(super) level: &'static str,
    pub(super) message: String,
    /// The hook that wrote it, or that failed.
    pub(super) hook: String,
    /// Not the script's own word, but a warning of the engine about it.
    pub(super) of_engine: bool,
}

/// Collects lines. It is shared with tracing, which wants it to be `Sync`; one thread uses it.
#[derive(Clone, Debug, Default)]
pub(super) struct Collector {
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Collector {
    /// The lines since the last time.
    pub(super) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Not `is_event`: `tracing::enabled!` asks about a hint.
        !metadata.is_span() && metadata.target().starts_with(ENGINE)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { level: word(*event.metadata().level()), ..Line::default() };
        event.record(&mut line);
        if let Some(message) = line.message.strip_prefix(FAILED) {
            line = Line { level: "failure", message: message.to_owned(), ..line };
        } else if [NO_CHECKPOINT, BEGINS_ANEW].iter().any(|begins| line.message.starts_with(begins)) {
            line.level = "failure";
        } else if !event.metadata().target().ends_with(SCRIPTS) {
            if *event.metadata().level() > Level::WARN {
                return;
            }
            line.of_engine = true;
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            "hook" => self.hook = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        if write!(text, "{value:?}").is_ok() {
            self.record_str(field, &text);
        }
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}
