//! Numbers that wrap, made to count on.

/// True when sequence number `a` is later than `b` (RFC 1982, with the undefined half-way case decided).
pub fn newer(a: u16, b: u16) -> bool {
    match a.wrapping_sub(b) {
        0x8000 => a > b,
        distance => (1..0x8000).contains(&distance),
    }
}

/// Extends a stream's 16-bit sequence numbers to indices that never wrap. The first one gets an index of 65,536 or
/// more, so that packets from before it have one too; the low 16 bits of an index are the sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extender {
    highest: Option<u64>,
}

impl Extender {
    /// Goes on behind `highest`, where something has come.
    pub fn resumed(highest: Option<u64>) -> Self {
        // The first round is there for what comes late.
        Self { highest: highest.map(|highest| highest.max(1 << 16)) }
    }

    /// The index of `sequence`: the one nearest to the highest so far.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let index = self.peek(sequence);
        self.highest = self.highest.max(Some(index));
        index
    }

    /// The index that `sequence` would get, without counting it as seen.
    pub fn peek(&self, sequence: u16) -> u64 {
        nearest(self.highest, u64::from(sequence), 16)
    }

    /// The highest index so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Goes on at `index`, further ahead than a sequence number can tell.
    pub fn jump(&mut self, index: u64) {
        self.highest = self.highest.max(Some(index));
    }
}

/// Extends a stream's 32-bit time stamps, as [`Extender`] does sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampExtender {
    highest: Option<u64>,
}

impl TimestampExtender {
    /// The time stamp without wraps: the one nearest to the highest so far.
    pub fn extend(&mut self, timestamp: u32) -> u64 {
        let extended = nearest(self.highest, u64::from(timestamp), 32);
        self.highest = self.highest.max(Some(extended));
        extended
    }

    /// The highest so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

/// The number nearest to `reference` whose low `bits` bits are `low`. `reference` is at least one round, and what is
/// found at most half a round below it, so that nothing underflows.
fn nearest(reference: Option<u64>, low: u64, bits: u32) -> u64 {
    let round = 1 << bits;
    let Some(reference) = reference else { return round + low };
    let forward = low.wrapping_sub(reference) & (round - 1);
    if forward < round / 2 { reference + forward } else { reference + forward - round }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_compares_over_the_wrap() {
        for (a, b, expected) in [
            (1, 0, true),
            (0, 1, false),
            (0, 65535, true),
            (65535, 0, false),
            (7, 7, false),
            (0x7FFF, 0, true),
            (0x8000, 0, true),
            (0, 0x8000, false),
            (0x8001, 0, false),
        ] {
            assert_eq!(newer(a, b), expected, "{a} after {b}");
        }
    }

    #[test]
    fn indices_go_on_over_wraps_and_back_for_late_packets() {
        const R: u64 = 65_536;
        for (sequences, expected) in [
            (&[0u16, 1, 2][..], &[R, R + 1, R + 2][..]),
            (&[65535, 0, 65534, 1], &[2 * R - 1, 2 * R, 2 * R - 2, 2 * R + 1]),
            (&[0, 65535, 1], &[R, R - 1, R + 1]),
            (&[10, 32_777, 32_778], &[R + 10, R + 32_777, R + 32_778]),
            (&[10, 32_778], &[R + 10, 32_778]),
            (&[0, 30_000, 60_000, 24_464, 24_463], &[R, R + 30_000, R + 60_000, 2 * R + 24_464, 2 * R + 24_463]),
        ] {
            let mut extender = Extender::default();
            let indices: Vec<u64> = sequences.iter().map(|s| extender.extend(*s)).collect();
            assert_eq!(indices, expected, "{sequences:?}");
        }
    }

    #[test]
    fn time_stamps_go_on_over_wraps() {
        let mut extender = TimestampExtender::default();
        let first = extender.extend(u32::MAX - 10);
        assert_eq!(extender.extend(20) - first, 31);
        assert_eq!(extender.extend(u32::MAX - 11), first - 1);
        assert_eq!(extender.highest(), Some(first + 31));
    }
}
