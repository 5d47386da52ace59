//! The new process, which goes on where the running one stops.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, ensure};

use super::channel::{Channel, Frame, Kind};
use super::endpoint;
use super::hello::Hello;
use super::{PATIENCE, REST};
use moonring_core::shard::take_over::Piece;
use moonring_policy::CarriedPolicy;
use moonring_wire::causes::causes;
use moonring_wire::id::RoomId;
use zeroize::Zeroizing;

/// A shard of the other process.
pub(crate) struct InheritedShard {
    pub(crate) sockets: Vec<UdpSocket>,
    pub(crate) pieces: Vec<Piece>,
}

/// The other process, which still runs.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
}

impl Successor {
    /// Asks the process that listens at `path` for a take-over; `None` when none does. An error says what the two do not agree on.
    pub(crate) fn connect(path: &Path, hello: &Hello) -> anyhow::Result<Option<Self>> {
        let Some(stream) = endpoint::connect(path)? else { return Ok(None) };
        let mut channel = Channel::new(stream, PATIENCE)?;
        let agree = |channel: &mut Channel| -> anyhow::Result<Hello> {
            channel.send(Kind::Hello, &hello.bytes()?, &[])?;
            let theirs = Hello::read(&channel.expect(Kind::Hello)?.body)?;
            ensure!(theirs.differs_from(hello).is_none(), "the two processes do not agree");
            Ok(theirs)
        };
        let theirs = agree(&mut channel).context("take_over: the running process goes on")?;
        tracing::info!(version = theirs.version(), "takes over from a running process");
        Ok(Some(Self { channel }))
    }

    /// Says that this process is ready, and receives everything: shards as they come, then the listeners and what the control
    /// plane has known.
    pub(crate) fn receive(
        &mut self,
        mut each_shard: impl FnMut(usize, InheritedShard) -> anyhow::Result<()>,
    ) -> anyhow::Result<([TcpListener; 2], Vec<u8>)> {
        self.channel.send(Kind::Ready, &[], &[])?;
        // Handshakes that are under way there have their time.
        self.channel.set_patience(2 * REST + 2 * PATIENCE)?;
        let listeners: Vec<TcpListener> =
            self.channel.expect(Kind::Listeners)?.descriptors.into_iter().map(TcpListener::from).collect();
        let listeners = <[TcpListener; 2]>::try_from(listeners);
        let listeners = listeners.ok().context("the listeners have not come")?;
        self.channel.set_patience(PATIENCE)?;
        loop {
            let frame = self.channel.receive()?;
            match frame.kind {
                Kind::Shard => {
                    let (n, shard) = shard_of(frame)?;
                    each_shard(n, shard)?;
                }
                Kind::Control => return Ok((listeners, frame.body.to_vec())),
                Kind::Refused => anyhow::bail!("{}", String::from_utf8_lossy(&frame.body)),
                _ => anyhow::bail!("{frame:?} has come out of its order"),
            }
        }
    }

    /// Says that all of it is good; when this returns without an error, the other process has stopped for good.
    pub(crate) fn take(&mut self) -> anyhow::Result<()> {
        self.channel.send(Kind::Taken, &[], &[])?;
        self.channel.expect(Kind::Go).map(drop)
    }

    /// Says why there is no take-over.
    pub(crate) fn refuse(&mut self, error: &anyhow::Error) {
        // The other process may be gone, and goes on otherwise.
        let _ = self.channel.send(Kind::Refused, causes(error.as_ref()).as_bytes(), &[]);
    }

    /// Receives what the rooms' scripts hand over, up to the end; an error says why that did not come.
    pub(crate) fn receive_policies(
        mut self,
        mut each: impl FnMut(usize, RoomId, Option<Box<CarriedPolicy>>),
    ) -> anyhow::Result<()> {
        loop {
            let frame = self.channel.receive()?;
            match frame.kind {
                Kind::Policy => {
                    let policy: (u16, RoomId, Option<Box<CarriedPolicy>>) = postcard::from_bytes(&frame.body)?;
                    each(policy.0.into(), policy.1, policy.2);
                }
                Kind::End => return Ok(()),
                _ => anyhow::bail!("{frame:?} has come out of its order"),
            }
        }
    }
}

/// See `shard_body` of the other side.
fn shard_of(frame: Frame) -> anyhow::Result<(usize, InheritedShard)> {
    let Frame { body, descriptors, .. } = frame;
    let cut = "a shard's state is cut short";
    let (n, mut rest) = body.split_first_chunk::<2>().context(cut)?;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (len, behind) = rest.split_first_chunk::<4>().context(cut)?;
        let (piece, behind) = behind.split_at_checked(u32::from_be_bytes(*len) as usize).context(cut)?;
        pieces.push(Zeroizing::new(piece.to_vec()));
        rest = behind;
    }
    ensure!(!descriptors.is_empty(), "a shard has come without its sockets");
    let sockets = descriptors.into_iter().map(|fd: OwnedFd| UdpSocket::from(fd)).collect();
    Ok((u16::from_be_bytes(*n).into(), InheritedShard { sockets, pieces }))
}
