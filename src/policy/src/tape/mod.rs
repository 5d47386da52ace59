//! What happens in a room's policy, line by line, for who watches it or records it.
//!
//! A tape writes lines ([`line::Line`]) into a [`Sink`] that the control plane has made; it never waits. A trace
//! tells of what happens. A recording also tells of everything that a replay needs: where it starts from, the clock,
//! where random numbers come from, what came from outside. Secrets are left out of both ([`secrets`]).

mod alike;
pub mod line;
pub(crate) mod secrets;
mod seen;
pub(crate) mod words;
mod write;

use std::fmt;
use std::time::{Duration, Instant};

pub(crate) use write::{Beginning, Ran, Tapes};

/// Who takes the lines of one watcher. It is called on the shard and never waits.
pub struct Sink {
    take: Box<dyn FnMut(Vec<u8>) -> Delivery + Send>,
    is_gone: Box<dyn Fn() -> bool + Send>,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is on its way.
    Taken,
    /// The watcher is too slow: the line is lost.
    Full,
    /// Nobody watches any more.
    Gone,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What happens, for people.
    Trace,
    /// Everything that a replay needs.
    Recording,
}

/// Tapes of one room.
pub const MAX_TAPES: usize = 4;

impl Sink {
    /// A sink of lines, each with its line feed.
    pub fn new(take: impl FnMut(Vec<u8>) -> Delivery + Send + 'static) -> Self {
        Self { take: Box::new(take), is_gone: Box::new(|| false) }
    }

    /// The same, of a watcher that may go while there is nothing to hand over: in a quiet room no line would find that out.
    #[must_use]
    pub fn until(self, is_gone: impl Fn() -> bool + Send + 'static) -> Self {
        Self { is_gone: Box::new(is_gone), ..self }
    }

    /// Whether nobody watches any more, as far as is known without a line.
    pub(crate) fn is_gone(&self) -> bool {
        (self.is_gone)()
    }

    /// Hands a line over, unless nobody watches any more.
    pub fn put(&mut self, line: Vec<u8>) -> Delivery {
        if self.is_gone() { Delivery::Gone } else { (self.take)(line) }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// A duration in nanoseconds, as far as the format goes: 584 years.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A moment on the clock that began at `start`, in nanoseconds; negative before it.
pub(crate) fn on_clock(start: Instant, at: Instant) -> i64 {
    let signed = |time| i64::try_from(nanoseconds(time)).unwrap_or(i64::MAX);
    match at.checked_duration_since(start) {
        Some(after) => signed(after),
        None => -signed(start.saturating_duration_since(at)),
    }
}
