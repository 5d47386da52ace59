//! Which extended sequence numbers of an outgoing stream were used.

use serde::{Deserialize, Serialize};

/// Indexes remembered as used, so that none is ever sealed twice.
const WINDOW: u64 = 512;

/// The outgoing indexes of one stream: the next one, and which of those shortly before it were used. An SRTP index must
/// never seal two different packets (RFC 7714 section 8.1: the IV would repeat).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SentIndexes {
    next: u64,
    used: [u64; (WINDOW / 64) as usize],
}

impl SentIndexes {
    /// Nothing is used yet; the first index is `first`.
    pub fn new(first: u64) -> Self {
        Self { next: first, used: [0; (WINDOW / 64) as usize] }
    }

    /// The index behind the highest that was used.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Reads what the next index touches.
    pub(super) fn glance(&self) -> u64 {
        self.next ^ self.used[((self.next % WINDOW) / 64) as usize]
    }

    /// Whether an index was used, or is too old to know.
    pub fn is_used(&self, index: u64) -> bool {
        let (word, bit) = (((index % WINDOW) / 64) as usize, 1u64 << (index % 64));
        index < self.next && (self.next - index > WINDOW || self.used[word] & bit != 0)
    }

    /// Marks an index as used; false when it was, or is too old to know.
    pub fn mark(&mut self, index: u64) -> bool {
        let place = |index: u64| (((index % WINDOW) / 64) as usize, 1u64 << (index % 64));
        if index >= self.next {
            if index - self.next >= WINDOW {
                self.used = [0; (WINDOW / 64) as usize];
            } else {
                for skipped in self.next..index {
                    let (word, bit) = place(skipped);
                    self.used[word] &= !bit;
                }
            }
            self.next = index + 1;
        } else {
            let (word, bit) = place(index);
            if self.next - index > WINDOW || self.used[word] & bit != 0 {
                return false;
            }
        }
        let (word, bit) = place(index);
        self.used[word] |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_used_once_also_behind_the_newest_and_never_when_it_is_too_old_to_know() {
        let mut indexes = SentIndexes::new(100);
        for (index, expected) in [
            (100, true),
            (100, false),
            (103, true),
            (101, true),
            (101, false),
            (102, true),
            (5_000, true),
            (103, false),
            (5_000 - 511, true),
            (5_000 - 511, false),
            (5_000 - 512, false),
        ] {
            assert_eq!(indexes.mark(index), expected, "{index}");
        }
        assert_eq!(indexes.next(), 5_001);
    }
}
