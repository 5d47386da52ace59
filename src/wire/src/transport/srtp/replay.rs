//! Which packet indices of a stream were seen (RFC 3711 section 3.3.2).

use serde::{Deserialize, Serialize};

use crate::drops::DropReason;

/// Packets of media that may arrive late. Without RTX a packet that is asked for again comes under its own number, and a
/// second of pictures may have come meanwhile. libwebrtc takes as many.
const WINDOW: u64 = 1_024;
const WORDS: usize = (WINDOW / 64) as usize;
/// Other packets that may arrive late; RFC 3711 section 3.3.2 wants 64 at least.
const SHORT: u64 = 128;

/// The highest index that was authenticated, and which of the [`WINDOW`] up to it were seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayWindow {
    highest: u64,
    /// Bit `index % WINDOW`.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// A window in which `index` was seen.
    pub(super) fn starting_with(index: u64) -> Self {
        let mut window = Self { highest: index, seen: [0; WORDS] };
        window.set(index, true);
        window
    }

    /// The highest index seen.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a packet with this index may still come.
    pub(super) fn check(&self, index: u64) -> Result<(), DropReason> {
        match self.highest.checked_sub(index) {
            Some(late) if late >= WINDOW => Err(DropReason::SrtpTooOld),
            Some(_) if self.is_seen(index) => Err(DropReason::SrtpReplay),
            _ => Ok(()),
        }
    }

    /// Notes an authenticated packet that [`ReplayWindow::check`] let pass.
    pub(super) fn mark(&mut self, index: u64) {
        if let Some(ahead) = index.checked_sub(self.highest) {
            if ahead >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                (self.highest + 1..index).for_each(|skipped| self.set(skipped, false));
            }
            self.highest = index;
        }
        self.set(index, true);
    }

    fn set(&mut self, index: u64, to: bool) {
        let (word, bit) = place(index);
        self.seen[word] = if to { self.seen[word] | bit } else { self.seen[word] & !bit };
    }

    fn is_seen(&self, index: u64) -> bool {
        let (word, bit) = place(index);
        self.seen[word] & bit != 0
    }
}

fn place(index: u64) -> (usize, u64) {
    ((index % WINDOW / 64) as usize, 1 << (index % 64))
}

/// The same with the last [`SHORT`] only: for reports, and for a stream that is out of use or goes on elsewhere, of which a
/// client may have many. What is older counts as seen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ShortWindow {
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u128,
}

impl ShortWindow {
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
            Some(late) if late >= SHORT => Err(DropReason::SrtpTooOld),
            Some(late) if self.seen >> late & 1 == 1 => Err(DropReason::SrtpReplay),
            _ => Ok(()),
        }
    }

    /// Notes an authenticated packet that [`ShortWindow::check`] let pass.
    pub(super) fn mark(&mut self, index: u64) {
        match index.checked_sub(self.highest) {
            Some(ahead) => {
                self.seen = if ahead >= SHORT { 0 } else { self.seen << ahead };
                self.seen |= 1;
                self.highest = index;
            }
            None => self.seen |= 1 << (self.highest - index).min(SHORT - 1),
        }
    }
}

impl From<&ReplayWindow> for ShortWindow {
    fn from(window: &ReplayWindow) -> Self {
        let late = 0..SHORT.min(window.highest + 1);
        let seen = late.filter(|late| window.is_seen(window.highest - late)).fold(0, |bits, late| bits | 1 << late);
        Self { highest: window.highest, seen }
    }
}

impl From<&ShortWindow> for ReplayWindow {
    fn from(short: &ShortWindow) -> Self {
        let mut window = Self { highest: short.highest, seen: [u64::MAX; WORDS] };
        let late = 0..SHORT.min(short.highest + 1);
        late.for_each(|late| window.set(short.highest - late, short.seen >> late & 1 == 1));
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DropReason::{SrtpReplay, SrtpTooOld};

    #[test]
    fn an_index_passes_once_and_only_within_the_window() {
        for size in [SHORT, WINDOW] {
            let (mut short, mut long) = (ShortWindow::starting_with(10_000), ReplayWindow::starting_with(10_000));
            for (index, expected) in [
                (10_000, Err(SrtpReplay)),
                (10_001, Ok(())),
                (10_001, Err(SrtpReplay)),
                (9_950, Ok(())),
                (9_950, Err(SrtpReplay)),
                (10_002 - size, Ok(())),
                (10_001 - size, Err(SrtpTooOld)),
                (0, Err(SrtpTooOld)),
                (10_000 + size, Ok(())),
                (10_001, Err(SrtpReplay)),
                (10_002, Ok(())),
                (10_000, Err(SrtpTooOld)),
                (1_000_000, Ok(())),
                (1_000_001 - size, Ok(())),
                (10_000 + size, Err(SrtpTooOld)),
                (1_000_050, Ok(())),
                (1_000_049, Ok(())),
                (1_000_000, Err(SrtpReplay)),
                (u64::MAX >> 16, Ok(())),
            ] {
                let is_short = size == SHORT;
                let outcome = if is_short { short.check(index) } else { long.check(index) };
                assert_eq!(outcome, expected, "{index} of {size}");
                match outcome {
                    Ok(()) if is_short => short.mark(index),
                    Ok(()) => long.mark(index),
                    Err(_) => {}
                }
            }
        }
    }

    #[test]
    fn a_window_that_was_put_away_lets_in_nothing_that_it_had_seen() {
        for highest in [0, 1, 70, 127, 128, 1_023, 5_000, u64::MAX >> 16] {
            let mut window = ReplayWindow::starting_with(highest);
            let some = (1..WINDOW.min(highest + 1)).filter(|late| late % 3 == 1);
            some.for_each(|late| window.mark(highest - late));
            let back = ReplayWindow::from(&ShortWindow::from(&window));
            assert_eq!(back.highest(), highest);
            for late in 0..=highest.min(1_500) {
                let (before, after) = (window.check(highest - late), back.check(highest - late));
                let expected = if late < SHORT { after == before } else { after.is_err() };
                assert!(expected, "{highest} - {late}: {before:?}, {after:?}");
            }
        }
    }
}
