//! Whether this node is being drained: what goes on until it is called off.

use std::sync::{Mutex, PoisonError};

use tokio::task::AbortHandle;

/// The draining that goes on, if one does.
#[derive(Debug, Default)]
pub(super) struct Draining(Mutex<Option<Task>>);

/// It; dropping this calls it off.
#[derive(Debug)]
pub(super) struct Task(AbortHandle);

impl Task {
    pub(super) fn new(task: AbortHandle) -> Self {
        Self(task)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Draining {
    /// Another one goes on from now on, or none.
    pub(super) fn set(&self, task: Option<Task>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }
}
