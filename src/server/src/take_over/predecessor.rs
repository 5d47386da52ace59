//! The running process, which ends when another one has everything.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::channel::{Channel, Kind};
use super::endpoint::Endpoint;
use super::hello::Hello;
use super::{PATIENCE, READY_PATIENCE, REST};
use crate::event_loop::{HandOverHandle, Parted, Unloaded};
use moonring_wire::causes::causes;
use moonring_wire::id::ClientId;
use zeroize::Zeroizing;

/// How long the control plane's threads may take for what is asked of a shard beyond the shard's own patience.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after an error of the socket itself.
const PAUSE: Duration = Duration::from_secs(1);

/// The control plane, as far as a take-over needs it.
pub(crate) trait ControlPlane: Send + Sync {
    /// Lets nobody in any more, who is told to try again; or lets everybody in again.
    fn close_door(&self, is_closed: bool);
    /// What it knows of these clients and their rooms. It changes nothing of it until [`ControlPlane::go_on`].
    fn hand_over(&self, clients: &HashSet<ClientId>) -> anyhow::Result<Vec<u8>>;
    /// There is no take-over: everything is as before.
    fn go_on(&self);
    /// Another process has everything: tells every client to resume, closes what is kept on the disk, and ends.
    fn is_taken_over(&self);
    /// It has what the scripts hand over as well: this process may end.
    fn has_handed_over(&self);
}

/// What the running process hands over when it is asked to.
pub(crate) struct Predecessor {
    pub(crate) endpoint: Endpoint,
    pub(crate) hello: Hello,
    /// Of the public address, and of the operators'.
    pub(crate) listeners: [TcpListener; 2],
    pub(crate) shards: Vec<HandOverHandle>,
    pub(crate) control: Arc<dyn ControlPlane>,
}

impl fmt::Debug for Predecessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Predecessor({})", self.endpoint.path().display())
    }
}

impl Predecessor {
    /// Waits for another process on a thread of its own, until one has taken over.
    pub(crate) fn start(self) -> io::Result<()> {
        std::thread::Builder::new().name("take-over".into()).spawn(move || self.wait()).map(drop)
    }

    fn wait(&self) {
        loop {
            match self.endpoint.accept() {
                Ok(stream) => match Channel::new(stream, PATIENCE) {
                    Ok(mut channel) => match self.serve(&mut channel) {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::warn!("no take-over, this process goes on: {}", causes(error.as_ref()));
                            // It may be gone.
                            let _ = channel.send(Kind::Refused, causes(error.as_ref()).as_bytes(), &[]);
                        }
                    },
                    Err(error) => tracing::warn!(%error, "a take-over cannot begin"),
                },
                Err(error) => {
                    tracing::warn!("nobody is let take over: {}", causes(error.as_ref()));
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// One attempt. After an error everything is as before.
    fn serve(&self, channel: &mut Channel) -> anyhow::Result<()> {
        let theirs = Hello::read(&channel.expect(Kind::Hello)?.body)?;
        if let Some(words) = self.hello.differs_from(&theirs) {
            bail!("{words}");
        }
        channel.send(Kind::Hello, &self.hello.bytes()?, &[])?;
        channel.set_patience(READY_PATIENCE)?;
        channel.expect(Kind::Ready)?;
        channel.set_patience(PATIENCE)?;
        tracing::info!(version = theirs.version(), "another process takes over");
        self.control.close_door(true);
        let parted = self.hand_over(channel);
        let (parted, began) = match parted {
            Ok(parted) => parted,
            Err(error) => {
                self.control.go_on();
                self.control.close_door(false);
                return Err(error);
            }
        };
        tracing::info!(stopped = ?began.elapsed(), "another process has taken over");
        // What the scripts keep on the disk is let go of before the first of them goes on there.
        self.control.is_taken_over();
        self.hand_over_policies(channel, parted);
        self.control.has_handed_over();
        Ok(())
    }

    /// Everything up to the last word. The shards that have stopped, and when the first of them did.
    fn hand_over(&self, channel: &mut Channel) -> anyhow::Result<(Vec<Parted>, Instant)> {
        let until = Instant::now() + REST;
        let resting: Vec<_> = self.shards.iter().map(|shard| shard.rest(until)).collect();
        for rested in resting {
            // At the latest at `until`; one that is stuck is found out below.
            let _ = rested.recv_timeout(REST + GRACE);
        }
        let began = Instant::now();
        let asked: Vec<_> = self.shards.iter().map(HandOverHandle::hand_over).collect();
        let parted: Vec<Parted> = asked.into_iter().enumerate().map(stopped).collect::<anyhow::Result<_>>()?;
        let copied = began.elapsed();
        let clients = parted.iter().flat_map(|parted| parted.state.clients.iter().cloned()).collect();
        let control = self.control.hand_over(&clients)?;
        self.send(channel, &parted, &control).context("the new process does not take it")?;
        let sent = began.elapsed();
        channel.expect(Kind::Taken)?;
        tracing::debug!(?copied, ?sent, taken = ?began.elapsed(), "since the shards were asked to stop");
        // From here on this process does not go on, as the other one may have read it.
        channel.send(Kind::Go, &[], &[]).context("the new process has ended")?;
        Ok((parted, began))
    }

    fn send(&self, channel: &mut Channel, parted: &[Parted], control: &[u8]) -> anyhow::Result<()> {
        let [public, admin] = &self.listeners;
        channel.send(Kind::Listeners, &[], &[public.as_fd(), admin.as_fd()])?;
        for (n, shard) in parted.iter().enumerate() {
            let sockets: Vec<_> = shard.sockets.iter().map(AsFd::as_fd).collect();
            channel.send(Kind::Shard, &shard_body(n, shard)?, &sockets)?;
        }
        channel.send(Kind::Control, control, &[])?;
        Ok(())
    }

    /// The scripts follow: rooms begin anew whose state does not come.
    fn hand_over_policies(&self, channel: &mut Channel, parted: Vec<Parted>) {
        let mut lost = 0_u32;
        for (n, shard) in parted.into_iter().enumerate() {
            let (sender, unloaded) = mpsc::channel();
            shard.end(sender);
            for room in unloaded {
                lost += u32::from(!send_policy(channel, n, &room));
            }
        }
        let ended = channel.send(Kind::End, &[], &[]);
        if lost > 0 || ended.is_err() {
            tracing::error!(rooms = lost, "the scripts' states have not all reached the new process");
        }
    }
}

/// A shard that has stopped.
fn stopped((n, asked): (usize, Receiver<io::Result<Parted>>)) -> anyhow::Result<Parted> {
    let parted = asked.recv_timeout(PATIENCE).with_context(|| format!("shard {n} does not stop"))?;
    parted.with_context(|| format!("shard {n}"))
}

/// Number u16, then each piece with its length u32 before it.
fn shard_body(n: usize, shard: &Parted) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let len: usize = shard.state.pieces.iter().map(|piece| 4 + piece.len()).sum();
    // In one piece: what grows leaves copies of keys behind.
    let mut body = Zeroizing::new(Vec::with_capacity(2 + len));
    body.extend_from_slice(&u16::try_from(n)?.to_be_bytes());
    for piece in &shard.state.pieces {
        body.extend_from_slice(&u32::try_from(piece.len())?.to_be_bytes());
        body.extend_from_slice(piece);
    }
    Ok(body)
}

/// False when a room's script does not reach the other process.
fn send_policy(channel: &mut Channel, shard: usize, (room, carried): &Unloaded) -> bool {
    if let Err(error) = carried {
        tracing::error!(%room, "the script's state does not go along to the new process: {error}");
    }
    let policy = (shard as u16, room, carried.as_ref().ok());
    let body = postcard::to_extend(&policy, Vec::new());
    body.is_ok_and(|body| channel.send(Kind::Policy, &body, &[]).is_ok())
}
