//! Which packet indices of a stream were seen (RFC 3711 section 3.3.2).

use serde::{Deserialize, Serialize};

use crate::drops::DropReason;

/// Packets that may arrive late; RFC 3711 section 3.3.2 wants 64 at least.
pub(super) const WINDOW: u64 = 128;

/// The highest index that was authenticated, and which of the [`WINDOW`] up to it were seen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ReplayWindow {
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u128,
}

impl ReplayWindow {
    /// A window in which `index` was seen.
    pub(super) fn starting_with(index: u64) -> Self {
        Self { highest: index, seen: 1 }
    }

    /// The highest index seen.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a packet with this index may still come.
    pub(super) fn check(&self, index: u64) -> Result<(), DropReason> {
        match self.highest.checked_sub(index) {
            Some(late) if late >= WINDOW => Err(DropReason::SrtpTooOld),
            Some(late) if self.seen >> late & 1 == 1 => Err(DropReason::SrtpReplay),
            _ => Ok(()),
        }
    }

    /// Notes an authenticated packet that [`ReplayWindow::check`] let pass.
    pub(super) fn mark(&mut self, index: u64) {
        match index.checked_sub(self.highest) {
            Some(ahead) => {
                self.seen = if ahead >= WINDOW { 0 } else { self.seen << ahead };
                self.seen |= 1;
                self.highest = index;
            }
            None => self.seen |= 1 << (self.highest - index).min(WINDOW - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_passes_once_and_only_within_the_window() {
        use DropReason::{SrtpReplay, SrtpTooOld};
        let mut window = ReplayWindow::starting_with(1000);
        for (index, expected) in [
            (1000, Err(SrtpReplay)),
            (1001, Ok(())),
            (1001, Err(SrtpReplay)),
            (900, Ok(())),
            (900, Err(SrtpReplay)),
            (874, Ok(())),
            (873, Err(SrtpTooOld)),
            (0, Err(SrtpTooOld)),
            (1128, Ok(())),
            (1001, Err(SrtpReplay)),
            (1002, Ok(())),
            (1000, Err(SrtpTooOld)),
            (1_000_000, Ok(())),
            (1_000_000 - 127, Ok(())),
            (1128, Err(SrtpTooOld)),
            (u64::MAX >> 16, Ok(())),
        ] {
            let outcome = window.check(index);
            assert_eq!(outcome, expected, "{index}");
            if outcome.is_ok() {
                window.mark(index);
            }
        }
    }
}
