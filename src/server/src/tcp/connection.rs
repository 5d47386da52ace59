//! One connection.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use crate::udp::{Receiver, limit_retries, limit_unsent};
use moonring_wire::packet::{AddressPair, Local, MAX_DATAGRAM};
use moonring_wire::rtp::protocol::LINK;
use moonring_wire::transport::framing::{TooLong, frame_at};

/// Bytes of one read.
pub(super) const READ_BYTES: usize = 16 << 10;
/// The longest frame that is taken; WebRTC's packets fit into [`MAX_DATAGRAM`], as over UDP.
const LONGEST_FRAME: usize = MAX_DATAGRAM + 548;
/// Bytes that the kernel may hold which it has not sent yet: what waits, waits where it can be left out.
const UNSENT_BYTES: u32 = 16 << 10;
/// So often the kernel sends again what is not acknowledged. Without a bound it waits twice as long each time: after an outage
/// of four seconds, for up to three more.
const RETRY: Duration = Duration::from_secs(1);

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("the client has closed it")]
    ByClient,
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] TooLong),
    #[error("no client of a room is at its other end")]
    Stranger,
    #[error("there are too many that nobody has joined a room with")]
    TooManyStrangers,
}

/// What one turn of a connection brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Datagrams that were handed over, and their bytes.
    pub(super) datagrams: usize,
    pub(super) bytes: usize,
    /// More has come whole than was handed over.
    pub(super) is_cut_short: bool,
    /// The receiver takes no more.
    pub(super) is_stopped: bool,
}

/// A connection and what has come in part.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) from: AddressPair,
    pub(super) since: Instant,
    /// A client of the shard's is at its other end.
    pub(super) is_known: bool,
    pub(super) outbox: Outbox,
    /// Its writes wait for the kernel.
    pub(super) is_full: bool,
    /// It waits for its turn to hand over what has come.
    pub(super) is_waiting: bool,
    /// What was read; of a turn that was cut short the first bytes are handed over already.
    inbox: Vec<u8>,
    handed_over: usize,
}

impl Connection {
    pub(super) fn new(now: Instant, stream: TcpStream, remote: SocketAddr, number: u32) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        if let Err(error) = limit_unsent(&stream, UNSENT_BYTES) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT is refused: more waits in the kernel");
        }
        if let Err(error) = limit_retries(&stream, RETRY) {
            tracing::debug!(%error, "TCP_RTO_MAX_MS is refused: after an outage it takes longer until something comes");
        }
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        Ok(Self {
            stream,
            from: AddressPair { remote, local: Local::Connection(number) },
            since: now,
            is_known: false,
            outbox: Outbox::default(),
            is_full: false,
            is_waiting: false,
            inbox: Vec::new(),
            handed_over: 0,
        })
    }

    /// Hands over up to `limit` datagrams: what is left of the turn before, or what one read into `scratch` makes complete.
    pub(super) fn take_turn(
        &mut self,
        scratch: &mut [u8],
        limit: usize,
        to: &mut impl Receiver,
    ) -> Result<Taken, Closed> {
        if self.handed_over > 0 {
            return self.hand_over(limit, to);
        }
        match self.stream.read(scratch) {
            Ok(0) => Err(Closed::ByClient),
            Ok(len) => {
                self.inbox.extend_from_slice(&scratch[..len]);
                self.hand_over(limit, to)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Taken::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn hand_over(&mut self, limit: usize, to: &mut impl Receiver) -> Result<Taken, Closed> {
        let (mut taken, mut at) = (Taken::default(), self.handed_over);
        while let Some(frame) = frame_at(&self.inbox, at, LONGEST_FRAME)? {
            if taken.datagrams == limit || taken.is_stopped {
                // What is left is not moved to the front for each turn.
                (taken.is_cut_short, self.handed_over) = (true, at);
                return Ok(taken);
            }
            at = frame.end;
            // Shards speak to each other by UDP alone.
            if frame.is_empty() || self.inbox[frame.start] == LINK {
                continue;
            }
            (taken.datagrams, taken.bytes) = (taken.datagrams + 1, taken.bytes + frame.len());
            taken.is_stopped = !to.take(self.from, &mut self.inbox[frame]);
        }
        self.inbox.drain(..at);
        self.handed_over = 0;
        if self.inbox.is_empty() {
            self.inbox.shrink_to(READ_BYTES);
        }
        Ok(taken)
    }

    /// Writes what is queued, as far as the kernel takes it.
    pub(super) fn write(&mut self, now: Instant) -> Result<(), Closed> {
        self.outbox.write_to(now, &self.stream)?;
        self.is_full = self.outbox.len() > 0;
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
