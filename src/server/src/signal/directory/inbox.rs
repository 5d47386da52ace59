//! The events that wait for one connection: bounded in number, in bytes, and in bytes of the whole room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use moonring_core::command::Event;

/// Events that may wait for one connection: a join of a big room is followed by a burst.
pub(crate) const CLIENT_QUEUE: usize = 512;
/// Bytes of events that may wait for one connection, beside one: `joined` of a room of 500 has 8 MB of metadata. Twice
/// what one hook of a script may send.
pub(crate) const CLIENT_QUEUE_BYTES: usize = 2 * 1024 * 1024;
/// Bytes that may wait for all clients of a room, where what is broadcast counts once. Beyond it, whoever has more
/// than [`FAIR_BYTES`] waiting is ended; who is away loses the oldest of it.
pub(crate) const ROOM_QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// See [`ROOM_QUEUE_BYTES`].
pub(crate) const FAIR_BYTES: usize = 128 * 1024;

/// Bytes that wait, for one connection or for a room.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

/// An event with what it counts for.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) event: Event,
    _held: Held,
}

#[derive(Debug)]
struct Held([(Backlog, usize); 2]);

/// What waits for one client, with a connection or without, among all that waits in its room.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    own: Backlog,
    room: Backlog,
}

/// Where a client's events go in.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    sender: mpsc::Sender<Queued>,
    meter: Meter,
}

/// Where a connection takes its events from.
#[derive(Debug)]
pub(crate) struct Inbox(mpsc::Receiver<Queued>);

/// A queue for one connection in a room with this backlog.
pub(super) fn inbox(room: &Backlog) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::channel(CLIENT_QUEUE);
    (Outbox { sender, meter: Meter::of(room) }, Inbox(receiver))
}

impl Meter {
    /// Of a client of the room with this backlog.
    pub(super) fn of(room: &Backlog) -> Self {
        Self { own: Backlog::default(), room: room.clone() }
    }

    /// Whether an event may wait, too. Alone, one of any size may.
    pub(super) fn has_room_for(&self, event: &Event) -> bool {
        let waiting = self.own.bytes();
        let too_much = waiting > 0 && waiting + event.bytes() > CLIENT_QUEUE_BYTES;
        let unfair = waiting > FAIR_BYTES && self.room.bytes() + event.share() > ROOM_QUEUE_BYTES;
        !too_much && !unfair
    }

    /// It waits from here on, until it is dropped.
    pub(super) fn hold(&self, event: Event) -> Queued {
        let held = Held::new([(self.own.clone(), event.bytes()), (self.room.clone(), event.share())]);
        Queued { event, _held: held }
    }
}

impl Outbox {
    /// False when the connection does not keep up; an event for one that is gone is dropped.
    pub(super) fn push(&self, event: Event) -> bool {
        if !self.meter.has_room_for(&event) {
            return false;
        }
        !matches!(self.sender.try_send(self.meter.hold(event)), Err(mpsc::error::TrySendError::Full(_)))
    }
}

impl Inbox {
    /// The next event; `None` when the client was too slow, or another connection took over.
    pub(crate) async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await.map(|queued| queued.event)
    }

    /// The next event, if it is there.
    pub(crate) fn try_recv(&mut self) -> Result<Event, mpsc::error::TryRecvError> {
        self.0.try_recv().map(|queued| queued.event)
    }
}

impl Backlog {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Held {
    fn new(counts: [(Backlog, usize); 2]) -> Self {
        for (backlog, bytes) in &counts {
            backlog.0.fetch_add(*bytes, Ordering::Relaxed);
        }
        Self(counts)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (backlog, bytes) in &self.0 {
            backlog.0.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::ClientId;
    use serde_json::{Value, json};

    fn message(value: Value) -> Event {
        Event::message(ClientId::parse("c").unwrap(), value)
    }

    fn push_until_full(outbox: &Outbox, value: &Value) -> usize {
        (0..10_000).take_while(|_| outbox.push(message(value.clone()))).count()
    }

    #[test]
    fn a_connection_that_does_not_read_holds_a_bounded_number_and_bounded_bytes() {
        let room = Backlog::default();
        let (small, _inbox) = inbox(&room);
        assert_eq!(push_until_full(&small, &json!(1)), CLIENT_QUEUE);
        let (large, mut kept) = inbox(&room);
        let value = json!("x".repeat(64 * 1024));
        let taken = push_until_full(&large, &value);
        assert!((24..=32).contains(&taken), "{taken}");
        assert!(room.bytes() <= CLIENT_QUEUE_BYTES + CLIENT_QUEUE * 256);
        kept.try_recv().unwrap();
        assert!(large.push(message(value)), "what was taken no longer counts");
    }

    #[test]
    fn one_event_of_any_size_goes_to_a_connection_that_reads() {
        let (outbox, mut inbox) = inbox(&Backlog::default());
        for _ in 0..3 {
            assert!(outbox.push(message(json!("x".repeat(2 * CLIENT_QUEUE_BYTES)))));
            assert!(inbox.try_recv().is_ok());
        }
    }

    #[test]
    fn a_room_holds_bounded_bytes_however_many_do_not_read() {
        let room = Backlog::default();
        let value = json!("x".repeat(32 * 1024));
        let queues: Vec<_> = (0..100).map(|_| inbox(&room)).collect();
        for (outbox, _) in &queues {
            push_until_full(outbox, &value);
        }
        assert!(room.bytes() <= ROOM_QUEUE_BYTES + queues.len() * 2 * FAIR_BYTES, "{}", room.bytes());
        let (quick, _inbox) = inbox(&room);
        assert!(quick.push(message(value)), "who has nothing waiting is not ended for the others");
        drop(queues);
        assert!(room.bytes() < CLIENT_QUEUE_BYTES);
    }
}
