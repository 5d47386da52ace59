//! Frames with descriptors over a Unix socket.
//!
//! ```text
//! frame := kind u8 | length u32, big-endian | body        descriptors come with its first five bytes
//! ```

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use zeroize::Zeroizing;

/// Bytes before a body.
const HEAD: usize = 5;
/// Longest body: a shard of 50,000 clients with a few kilobytes each.
pub(super) const MAX_BODY: usize = 256 * 1024 * 1024;
/// Most descriptors with one frame: a shard has two sockets, the control plane two listeners.
pub(super) const MAX_DESCRIPTORS: usize = 8;

/// Why descriptors are missing: the kernel leaves out those that the process may not have (unix(7), `MSG_CTRUNC`).
const CUT_OFF: &str = "not all sockets have come: this process may open no more files (`ulimit -n`, LimitNOFILE)";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Who speaks, and what has to agree.
    Hello,
    /// Why there is no take-over; nothing more comes.
    Refused,
    /// The new process has done what it can beforehand.
    Ready,
    /// The listeners of the control plane.
    Listeners,
    /// One shard: its number, its sockets and its state.
    Shard,
    /// What the control plane knows. The last one before `Taken`.
    Control,
    /// All of it is good.
    Taken,
    /// The old process has stopped for good.
    Go,
    /// What a room's script hands over.
    Policy,
    /// Nothing more comes.
    End,
}

const KINDS: [Kind; 10] = [
    Kind::Hello,
    Kind::Refused,
    Kind::Ready,
    Kind::Listeners,
    Kind::Shard,
    Kind::Control,
    Kind::Taken,
    Kind::Go,
    Kind::Policy,
    Kind::End,
];

/// One frame. Bodies may have keys: they are overwritten when this is dropped.
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes, {} descriptors)", self.kind, self.body.len(), self.descriptors.len())
    }
}

/// One side's end.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Speaks over a connected socket.
    pub(super) fn new(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(patience))?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self(stream))
    }

    /// How long the next frame is waited for.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(patience))
    }

    /// Sends a frame. An error before anything of it has left is the same as one in its middle: the other side cannot read it.
    pub(super) fn send(&mut self, kind: Kind, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let len = u32::try_from(body.len()).ok().filter(|len| *len as usize <= MAX_BODY);
        let len = len.ok_or_else(|| io::Error::other("the frame is too long"))?;
        let mut head = [kind as u8; HEAD];
        head[1..].copy_from_slice(&len.to_be_bytes());
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors"));
        }
        // A call with a time-out is interrupted by any signal, of a process that was stopped for a moment too (signal(7)).
        let sent = retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL))?;
        self.0.write_all(head.get(sent..).unwrap_or_default())?;
        self.0.write_all(body)
    }

    /// The next frame. Errors say what is wrong with it.
    pub(super) fn receive(&mut self) -> anyhow::Result<Frame> {
        let (head, descriptors) = self.receive_head().map_err(told)?;
        let [kind, len @ ..] = head;
        let Some(kind) = KINDS.get(usize::from(kind)).copied() else {
            bail!("a frame of the unknown kind {kind} has come");
        };
        let len = u32::from_be_bytes(len) as usize;
        ensure!(len <= MAX_BODY, "a frame of {len} bytes has come, more than {MAX_BODY}");
        let mut body = Zeroizing::new(Vec::new());
        body.try_reserve_exact(len).context("there is no memory for a frame")?;
        body.resize(len, 0);
        self.0.read_exact(&mut body).map_err(told)?;
        Ok(Frame { kind, body, descriptors })
    }

    /// The next frame, which has to be of this kind.
    pub(super) fn expect(&mut self, kind: Kind) -> anyhow::Result<Frame> {
        let frame = self.receive()?;
        if frame.kind == Kind::Refused && kind != Kind::Refused {
            bail!("{}", String::from_utf8_lossy(&frame.body));
        }
        ensure!(frame.kind == kind, "{kind:?} was to come, and {frame:?} has");
        Ok(frame)
    }

    fn receive_head(&mut self) -> io::Result<([u8; HEAD], Vec<OwnedFd>)> {
        let (mut head, mut got, mut descriptors) = ([0; HEAD], 0, Vec::new());
        while got < HEAD {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut rest = [IoSliceMut::new(&mut head[got..])];
            let received = retry_on_intr(|| recvmsg(&self.0, &mut rest, &mut control, RecvFlags::CMSG_CLOEXEC))?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            // Those that have come are closed.
            if received.flags.contains(ReturnFlags::CTRUNC) {
                return Err(io::Error::other(CUT_OFF));
            }
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            got += received.bytes;
        }
        Ok((head, descriptors))
    }
}

/// The usual ends of a channel in words.
fn told(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => anyhow::anyhow!("the other process has ended"),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => anyhow::anyhow!("the other process does not answer"),
        _ => error.into(),
    }
}
