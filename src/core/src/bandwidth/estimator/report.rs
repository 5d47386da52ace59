//! What one feedback told.

/// What a feedback told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Packets that arrived.
    pub received: u32,
    /// Packets that did not.
    pub lost: u32,
    /// Of those, while the path carried nothing at all.
    pub lost_in_outage: u32,
    /// Numbers that were never sent, were told of before, or are forgotten.
    pub unknown: u32,
}

/// The same, and what is concluded from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    pub(super) said: Acknowledged,
    pub(super) begun: bool,
    pub(super) over: bool,
    /// Of the received ones: reported lost before.
    pub(super) recovered: u32,
    pub(super) newest_sent: Option<i64>,
}

impl Report {
    /// Packets that were lost while others arrived.
    pub(super) fn lost_otherwise(&self) -> u32 {
        self.said.lost.saturating_sub(self.said.lost_in_outage)
    }

    /// Whether what is lost says something against the rate. Right behind an outage it does not: little is sent then.
    pub(super) fn lost_much(&self) -> bool {
        self.said.lost_in_outage == 0 && self.said.lost > self.said.received / 4
    }
}
