//! What a feedback has told.

use crate::bandwidth::Acknowledged;

/// What a feedback told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// How the path is.
    News,
    /// It carries something again, and has lost all for a while.
    Outage,
}

impl Told {
    /// `was_silent`: none came before it for a while.
    pub(super) fn of(said: Acknowledged, was_silent: bool) -> Self {
        match said.received + said.lost {
            0 => Self::Nothing,
            _ if was_silent && said.lost_in_outage > 0 => Self::Outage,
            _ => Self::News,
        }
    }
}
