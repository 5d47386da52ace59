//! Bits of a byte string, from the highest of the first byte on.

/// Reads them one field after the other.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// Begins at bit `at`.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The next `count` bits; of more than 64 the last ones. `None` when the string ends before.
    pub(super) fn read(&mut self, count: usize) -> Option<u64> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u64::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// `count` fields of two bits, the first in the lowest bits; at most 32.
    pub(super) fn read_pairs(&mut self, count: usize) -> Option<u64> {
        let mut pairs = 0;
        for n in 0..count.min(32) {
            pairs |= self.read(2)? << (2 * n);
        }
        Some(pairs)
    }

    /// A number below `bound`, in as few bits as it takes (AV1 section 4.10.7, `ns(n)`).
    pub(super) fn read_below(&mut self, bound: u64) -> Option<u64> {
        let width = (u64::BITS - bound.leading_zeros()) as usize;
        let short = (1 << width) - bound;
        let value = self.read(width.saturating_sub(1))?;
        if value < short { Some(value) } else { Some((value << 1) - short + self.read(1)?) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_below_a_bound_takes_as_few_bits_as_it_needs() {
        // Section 4.10.7's example: n = 5.
        for (bits, expected) in
            [(0b0000_0000, 0), (0b0100_0000, 1), (0b1000_0000, 2), (0b1100_0000, 3), (0b1110_0000, 4)]
        {
            assert_eq!(Bits::new(&[bits], 0).read_below(5), Some(expected), "{bits:#b}");
        }
        assert_eq!(Bits::new(&[], 0).read_below(1), Some(0));
        assert_eq!(Bits::new(&[], 0).read_below(2), None);
    }
}
