//! Which counters of a link were seen.

use crate::drops::DropReason;

/// Datagrams that may arrive late.
const WINDOW: u64 = 1_024;
const WORD: u64 = u64::BITS as u64;

/// The counter after the highest that was authenticated, and which of the [`WINDOW`] below it were seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    next: u64,
    /// Bit `counter % WINDOW`.
    seen: [u64; (WINDOW / WORD) as usize],
}

impl Window {
    /// Whether a datagram with this counter may still come.
    pub(super) fn check(&self, counter: u64) -> Result<(), DropReason> {
        match self.next.checked_sub(counter) {
            None | Some(0) => Ok(()),
            Some(late) if late > WINDOW => Err(DropReason::LinkTooOld),
            Some(_) if self.is_seen(counter) => Err(DropReason::LinkReplay),
            Some(_) => Ok(()),
        }
    }

    /// Notes an authenticated datagram that [`Window::check`] let pass.
    pub(super) fn mark(&mut self, counter: u64) {
        if counter >= self.next {
            if counter - self.next >= WINDOW {
                self.seen = [0; (WINDOW / WORD) as usize];
            } else {
                (self.next..counter).for_each(|skipped| *self.word(skipped) &= !bit(skipped));
            }
            self.next = counter + 1;
        }
        *self.word(counter) |= bit(counter);
    }

    fn is_seen(&self, counter: u64) -> bool {
        self.seen[(counter % WINDOW / WORD) as usize] & bit(counter) != 0
    }

    fn word(&mut self, counter: u64) -> &mut u64 {
        &mut self.seen[(counter % WINDOW / WORD) as usize]
    }
}

fn bit(counter: u64) -> u64 {
    1 << (counter % WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_passes_once_and_only_within_the_window() {
        use DropReason::{LinkReplay, LinkTooOld};
        let mut window = Window::default();
        for (counter, expected) in [
            (0, Ok(())),
            (0, Err(LinkReplay)),
            (5, Ok(())),
            (3, Ok(())),
            (3, Err(LinkReplay)),
            (5, Err(LinkReplay)),
            (1_028, Ok(())),
            (5, Err(LinkReplay)),
            (4, Err(LinkTooOld)),
            (6, Ok(())),
            (1_000_000, Ok(())),
            (1_000_000 - 1_023, Ok(())),
            (1_000_000 - 1_023, Err(LinkReplay)),
            (1_000_000 - 1_024, Err(LinkTooOld)),
            (1_000_001, Ok(())),
            (999_990, Ok(())),
            (u64::MAX >> 1, Ok(())),
            (1_000_001, Err(LinkTooOld)),
        ] {
            let outcome = window.check(counter);
            assert_eq!(outcome, expected, "{counter}");
            if outcome.is_ok() {
                window.mark(counter);
            }
        }
    }
}
