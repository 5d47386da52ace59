//! Which steps of a replay wait for their place in the recording.

use std::collections::{HashMap, HashSet};

use crate::tape::line::Of;

/// See the module.
#[derive(Default)]
pub(super) struct Steps {
    /// Steps that the recording has further down.
    pub(super) reserved: HashSet<Of>,
    /// Timers that are due, of which the recording has no step: something stopped them there, perhaps.
    pub(super) reluctant: HashSet<Of>,
    /// Events and answers that came, and waited for their turn until the recording ended.
    pub(super) left_over: HashSet<Of>,
    /// Lines of deadlines that are still to come.
    pub(super) dues: HashMap<i64, usize>,
}

impl Steps {
    /// Something has come that the recording has as well, with its step or without.
    pub(super) fn place(&mut self, of: Of, has_step: bool) {
        if has_step { &mut self.reserved } else { &mut self.left_over }.insert(of);
    }
}
