//! The way from the control plane to a shard: a bounded queue that is never waited for.

use std::fmt;
use std::sync::Arc;
#[cfg(test)]
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;

use moonring_core::command::Command;

/// The way to one shard.
#[derive(Clone)]
pub(crate) struct ShardHandle(Arc<dyn Fn(Command) -> Result<(), TrySendError<Command>> + Send + Sync>);

/// A shard takes no command: its queue is full, or it has ended.
#[derive(Debug, thiserror::Error)]
#[error("the server is overloaded")]
pub(crate) struct Full(
    /// What it did not take.
    pub Box<Command>,
);

impl ShardHandle {
    /// A handle over a shard's own sender, which never waits and wakes the shard.
    pub(crate) fn new(send: impl Fn(Command) -> Result<(), TrySendError<Command>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(send))
    }

    /// A handle over a bounded queue; `wake` is called after each command.
    #[cfg(test)]
    pub(crate) fn over(sender: SyncSender<Command>, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self::new(move |command| {
            sender.try_send(command)?;
            wake();
            Ok(())
        })
    }

    /// Queues a command and wakes the shard; never waits.
    pub(crate) fn send(&self, command: Command) -> Result<(), Full> {
        (self.0)(command)
            .map_err(|(TrySendError::Full(command) | TrySendError::Disconnected(command))| Full(Box::new(command)))
    }
}

impl fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardHandle")
    }
}
