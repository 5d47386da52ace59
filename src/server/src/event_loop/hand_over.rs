//! A shard whose sockets and state go to another process: it stops, tells, and waits for what becomes of it.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::time::Instant;

use super::ShardThread;
use crate::udp::WakeFd;
use moonring_core::shard::take_over::HandedOver;
use moonring_policy::CarriedPolicy;
use moonring_wire::id::RoomId;

/// What a room's script hands over, or why nothing.
pub(crate) type Unloaded = (RoomId, Result<CarriedPolicy, String>);

/// What a shard is asked for by who hands it over.
#[derive(Debug)]
pub(super) enum Request {
    /// To say when no handshake and no verdict is under way, or when its time is over.
    Rest { until: Instant, rested: SyncSender<()> },
    /// To stop and to tell.
    HandOver(SyncSender<io::Result<Parted>>),
}

/// Who waits for the shard to rest.
#[derive(Default)]
pub(super) struct Parting {
    pub(super) resting: Vec<(Instant, SyncSender<()>)>,
    pub(super) asked: Option<SyncSender<io::Result<Parted>>>,
}

/// What becomes of a shard that has stopped.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Another process has its sockets and its state: it tells what its rooms' scripts hand over, and ends.
    End(Sender<Unloaded>),
}

/// A shard that has stopped. Dropping this lets it go on as if nothing had been.
pub(crate) struct Parted {
    /// Its sockets, the same ones once more.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Its state.
    pub(crate) state: HandedOver,
    verdict: SyncSender<Verdict>,
}

impl Parted {
    pub(super) fn new(sockets: Vec<OwnedFd>, state: HandedOver) -> (Self, Receiver<Verdict>) {
        let (verdict, awaited) = sync_channel(1);
        (Self { sockets, state, verdict }, awaited)
    }

    /// Ends the shard, as another process has it. What its rooms' scripts hand over goes to `unloaded`, which is let go of after
    /// the last one.
    pub(crate) fn end(self, unloaded: Sender<Unloaded>) {
        // One that has ended by itself has nothing more to tell.
        let _ = self.verdict.send(Verdict::End(unloaded));
    }
}

impl fmt::Debug for Parted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parted({} sockets, {:?})", self.sockets.len(), self.state)
    }
}

/// The way to ask a shard for its state; clones are for the same shard.
#[derive(Clone, Debug)]
pub(crate) struct HandOverHandle {
    pub(super) requests: Sender<Request>,
    pub(super) wake: WakeFd,
}

impl HandOverHandle {
    /// Told once no handshake and no verdict is under way on the shard, or at `until`.
    pub(crate) fn rest(&self, until: Instant) -> Receiver<()> {
        let (rested, receiver) = sync_channel(1);
        self.ask(Request::Rest { until, rested });
        receiver
    }

    /// Stops the shard at the end of its tick, with everything sent.
    pub(crate) fn hand_over(&self) -> Receiver<io::Result<Parted>> {
        let (reply, receiver) = sync_channel(1);
        self.ask(Request::HandOver(reply));
        receiver
    }

    /// A shard that has ended leaves its receivers without an answer.
    fn ask(&self, request: Request) {
        let _ = self.requests.send(request);
        self.wake.wake();
    }
}

impl ShardThread {
    /// The way to ask for its state.
    pub(crate) fn hand_over_handle(&self) -> HandOverHandle {
        HandOverHandle { requests: self.requests.clone(), wake: self.sender.wake.clone() }
    }
}
