//! What entries of a store take.

/// Entries, and bytes of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl Taken {
    /// One entry more.
    pub(super) fn add(&mut self, bytes: usize) {
        (self.entries, self.bytes) = (self.entries + 1, self.bytes + bytes);
    }

    /// One entry less.
    pub(super) fn remove(&mut self, bytes: usize) {
        (self.entries, self.bytes) = (self.entries - 1, self.bytes - bytes);
    }
}
