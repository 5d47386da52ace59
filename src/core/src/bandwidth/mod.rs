//! How much may be sent to one receiver: bandwidth estimation at the sender from transport-wide congestion control
//! feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01), and a pacer that keeps to it. No I/O and no clock:
//! time comes in as an argument.
//!
//! Feedback says when each packet arrived. [`estimator::Estimator`] looks up when it was sent ([`sent`]) and hands the
//! pair to four observers, each in a file of its own:
//!
//! - [`delay`]: is a queue growing? (groups of packets, a trend line, a threshold that adapts), and how long is it?
//! - [`throughput`]: how much arrives?
//! - [`loss`]: is more lost than this path loses anyway?
//! - [`probe`]: what did the last probe get through, and when is the next one due?
//!
//! Receivers behind one access line are told of each other: [`sharing`].
//!
//! [`rate`] makes one number of what they say. Nothing the receiver reports can harm anybody but itself: every count
//! is bounded, every time is clamped, and a rate is never taken for higher than what was really sent.

mod delay;
mod estimator;
mod feedback;
mod loss;
mod pacer;
mod probe;
mod rate;
mod sent;
pub mod sharing;
mod throughput;

pub use estimator::{Acknowledged, BUCKET_BYTES, Estimator, NARROW_BPS, Settings};
pub use feedback::{Arrival, Feedback, FeedbackError};
pub use pacer::{MAX_QUEUE_TIME, MAX_RUN, PACE_PER_TARGET, Pacer};
pub use probe::{Probe, ProbeId};
