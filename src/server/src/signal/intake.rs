//! How much has come over a connection since the last message that was whole: so much is held for it, as a message is put together
//! in memory, frame by frame, before anybody looks at it.
//!
//! The bytes are counted where they come in, below TLS; who takes the messages says when one was whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a small frame has around it: its head, and a record of TLS.
const AROUND_FRAME: usize = 64;

/// Shared by both; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Intake(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    /// The most of them; 0: no bound, as those of HTTP hold.
    most: AtomicUsize,
}

impl Intake {
    /// Counts from here on, up to so many bytes.
    pub(super) fn bound(&self, most: usize) {
        self.0.bytes.store(0, Ordering::Relaxed);
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// A message was whole.
    pub(super) fn taken(&self) {
        self.0.bytes.store(0, Ordering::Relaxed);
    }

    /// A control frame was whole, between those of a message perhaps.
    pub(super) fn passed(&self, payload: usize) {
        let left = |bytes: usize| Some(bytes.saturating_sub(payload + AROUND_FRAME));
        // It always changes something.
        let _ = self.0.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }

    /// Bytes have come; false when they are more than may be held.
    pub(super) fn add(&self, bytes: usize) -> bool {
        let most = self.0.most.load(Ordering::Relaxed);
        most == 0 || self.0.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_counted_from_the_bound_on_until_a_message_is_whole() {
        let intake = Intake::default();
        assert!(intake.add(usize::MAX / 2), "a request");
        intake.bound(1_000);
        let half = |intake: &Intake| intake.add(600);
        assert_eq!([half(&intake), half(&intake)], [true, false]);
        intake.taken();
        assert!(half(&intake));
        // Frames of control, also many, neither end a message nor count as one.
        for _ in 0..100 {
            assert!(intake.add(125 + AROUND_FRAME));
            intake.passed(125);
        }
        assert!(!half(&intake));
    }
}
