//! The queues between a shard and the control plane, bounded in number and in bytes. Neither side ever waits for room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;

use tokio::sync::mpsc;

use moonring_core::command::{Command, Event};

/// Bytes of commands, about, that may wait for one shard beside one: what thousands of clients can send in a moment.
const COMMAND_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of events, about, that may wait for the control plane beside one.
const EVENT_BYTES: usize = 32 * 1024 * 1024;

/// What waits, in bytes; clones are the same count.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Counts `bytes` in, if they fit or nothing waits.
    fn add(&self, bytes: usize, most: usize) -> bool {
        let fits = |waiting: usize| (waiting == 0 || waiting + bytes <= most).then_some(waiting + bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Where commands go in, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct CommandQueue {
    queue: blocking::SyncSender<(Command, usize)>,
    waiting: Waiting,
}

/// Where a shard takes its commands from.
#[derive(Debug)]
pub(crate) struct Commands {
    queue: blocking::Receiver<(Command, usize)>,
    waiting: Waiting,
}

/// A queue for so many commands.
pub(crate) fn command_queue(capacity: usize) -> (CommandQueue, Commands) {
    let (sender, receiver) = blocking::sync_channel(capacity);
    let waiting = Waiting::default();
    (CommandQueue { queue: sender, waiting: waiting.clone() }, Commands { queue: receiver, waiting })
}

impl CommandQueue {
    /// Queues a command, or gives it back.
    pub(crate) fn try_send(&self, command: Command) -> Result<(), blocking::TrySendError<Command>> {
        let bytes = command.bytes();
        if !self.waiting.add(bytes, COMMAND_BYTES) {
            return Err(blocking::TrySendError::Full(command));
        }
        self.queue.try_send((command, bytes)).map_err(|error| {
            self.waiting.remove(bytes);
            match error {
                blocking::TrySendError::Full((command, _)) => blocking::TrySendError::Full(command),
                blocking::TrySendError::Disconnected((command, _)) => blocking::TrySendError::Disconnected(command),
            }
        })
    }
}

impl Commands {
    /// The next command, if there is one.
    pub(crate) fn try_recv(&self) -> Result<Command, blocking::TryRecvError> {
        let (command, bytes) = self.queue.try_recv()?;
        self.waiting.remove(bytes);
        Ok(command)
    }
}

/// Where a shard's events go in.
#[derive(Clone, Debug)]
pub struct EventSender {
    queue: mpsc::Sender<(Event, usize)>,
    waiting: Waiting,
}

/// Where the control plane takes a shard's events from.
#[derive(Debug)]
pub struct EventReceiver {
    queue: mpsc::Receiver<(Event, usize)>,
    waiting: Waiting,
}

/// A queue for so many events.
pub fn event_queue(capacity: usize) -> (EventSender, EventReceiver) {
    let (sender, receiver) = mpsc::channel(capacity);
    let waiting = Waiting::default();
    (EventSender { queue: sender, waiting: waiting.clone() }, EventReceiver { queue: receiver, waiting })
}

impl EventSender {
    /// Queues an event, or gives it back when there is no room for it. One that nobody will take any more is dropped.
    pub fn try_send(&self, event: Event) -> Result<(), Box<Event>> {
        let bytes = event.share();
        if !self.waiting.add(bytes, EVENT_BYTES) {
            return Err(Box::new(event));
        }
        match self.queue.try_send((event, bytes)) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full((event, _))) => {
                self.waiting.remove(bytes);
                Err(Box::new(event))
            }
        }
    }
}

impl EventReceiver {
    /// The next event; `None` when the shard has ended.
    pub async fn recv(&mut self) -> Option<Event> {
        let (event, bytes) = self.queue.recv().await?;
        self.waiting.remove(bytes);
        Some(event)
    }

    /// The same, for a thread that may wait.
    #[cfg(test)]
    pub(crate) fn blocking_recv(&mut self) -> Option<Event> {
        let (event, bytes) = self.queue.blocking_recv()?;
        self.waiting.remove(bytes);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::ClientId;
    use serde_json::{Value, json};

    fn client() -> ClientId {
        ClientId::parse("c").unwrap()
    }

    #[test]
    fn commands_are_refused_beyond_their_number_and_beyond_their_bytes() {
        let message = |value: &Value| Command::Message { client: client(), value: value.clone() };
        for (value, most) in [(json!(1), 4_096), (json!("x".repeat(64 * 1024)), 1_024)] {
            let (queue, commands) = command_queue(4_096);
            let taken = (0..10_000).take_while(|_| queue.try_send(message(&value)).is_ok()).count();
            assert!(taken <= most && taken > most - 10, "{taken} of {most}");
            commands.try_recv().unwrap();
            assert!(queue.try_send(message(&value)).is_ok(), "what was taken no longer counts");
            while commands.try_recv().is_ok() {}
            assert_eq!(commands.waiting.0.load(Ordering::Relaxed), 0);
        }
    }

    #[tokio::test]
    async fn events_are_given_back_beyond_their_number_and_beyond_their_bytes() {
        let message = |value: &Value| Event::message(client(), value.clone());
        for (value, most) in [(json!(1), 16_384), (json!("x".repeat(64 * 1024)), 512)] {
            let (sender, mut receiver) = event_queue(16_384);
            let taken = (0..20_000).take_while(|_| sender.try_send(message(&value)).is_ok()).count();
            assert!(taken <= most && taken > most - 10, "{taken} of {most}");
            receiver.recv().await.unwrap();
            assert!(sender.try_send(message(&value)).is_ok(), "what was taken no longer counts");
        }
    }

    #[test]
    fn alone_a_command_of_any_size_is_taken() {
        let (queue, _commands) = command_queue(9);
        let message = |bytes| Command::Message { client: client(), value: json!("x".repeat(bytes)) };
        assert!(queue.try_send(message(2 * COMMAND_BYTES)).is_ok());
        assert!(queue.try_send(message(1)).is_err());
    }
}
