//! One thread per shard: a glommio executor with one main task, the tick loop, that drives the core.
//!
//! A tick: commands, then datagrams, then what is to be forwarded, then timers, then scripts, then events; all of it
//! bounded, all that is sent leaves in one flush where it fits, and before scripts run. Then the thread sleeps until a datagram, a command or a timer is due.

mod core;
mod hand_over;
mod parting;
mod pulse;
mod tick;
mod usage;

#[cfg(test)]
mod tests;

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::ending;
use crate::event_queue::{CommandQueue, Commands, EventSender, command_queue};
use crate::probe::{self, StartError};
use crate::tcp::Tcp;
use crate::udp::{Udp, UdpSettings, WakeFd};
use glommio::{LocalExecutorBuilder, Placement};
pub(crate) use hand_over::{HandOverHandle, Parted, Unloaded};
use moonring_core::command::{Command, Event};
use moonring_core::report::IoStats;
use moonring_core::room::load::Backlog;
use moonring_core::shard::take_over::HandedOver;
use moonring_wire::packet::{AddressPair, SendBatch};
pub use pulse::Pulse;
use tick::Ticker;

/// Stack of a shard thread. LuaJIT has no check of the C stack's depth, so that scripts can use megabytes of it.
const STACK_BYTES: usize = 64 << 20;
/// The exit code of a process with a shard that cannot go on (`EX_SOFTWARE` of sysexits.h).
pub(crate) const BROKEN: i32 = 70;
/// What glommio pins for file I/O, which a shard has none of; three times this is registered.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// When glommio is to interrupt a task. It gives its reactor a turn then, and in glommio 0.9 a shard may be lost in one: if
/// its thread waits for a core until that timer fires again before the first task has run, it sleeps with a task that could
/// run, for ever; if the kernel refuses a call of its rings (EAGAIN, ENOMEM), it panics. Nothing of a shard waits there.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a shard does, without socket, clock or thread.
pub trait Core {
    /// The messages that [`Core::handle_datagram`] will bring come from these addresses: a chance to read ahead.
    fn expect(&mut self, _from: impl Iterator<Item = AddressPair>) {}
    /// One datagram. There is room for `LoopSettings::reply_datagrams` in `out`.
    fn handle_datagram(&mut self, now: Instant, from: AddressPair, bytes: &mut [u8], out: &mut SendBatch);
    /// One command of the control plane. The same room is in `out`.
    fn handle_command(&mut self, now: Instant, command: Command, out: &mut SendBatch);
    /// Sends on what came in. True when `out` is full and there is more: called again, after a flush in this tick or,
    /// when the tick's time is over, in the next one.
    fn forward(&mut self, now: Instant, out: &mut SendBatch) -> bool;
    /// Called when the time of [`Core::poll_timeout`] has come. May leave it in the past when `out` is full: called
    /// again after a flush.
    fn handle_timeout(&mut self, now: Instant, out: &mut SendBatch);
    /// Whether [`Core::run_scripts`] is to be called at `now`.
    fn has_scripts_due(&self, _now: Instant) -> bool {
        false
    }
    /// Called, when it is due, at the end of a tick and after everything has been sent: it takes as long as many packets.
    fn run_scripts(&mut self, _now: Instant, _out: &mut SendBatch) {}
    /// When [`Core::handle_timeout`] or [`Core::run_scripts`] is to be called; kept to about a millisecond.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The next event for the control plane. Not called while the control plane's queue is full.
    fn poll_event(&mut self) -> Option<Event>;
    /// True while so much waits for [`Core::poll_event`] that no further command is to be brought.
    fn is_backed_up(&self) -> bool {
        false
    }
    /// Whether a client has shown to be at the other end: others do not keep a connection for long.
    fn is_known(&self, _from: AddressPair) -> bool {
        true
    }
    /// True when nothing is under way that a hand-over would cut off.
    fn is_at_rest(&self) -> bool {
        true
    }
    /// [`Core::forward`], with nothing kept back for later.
    fn forward_all(&mut self, now: Instant, out: &mut SendBatch) -> bool {
        self.forward(now, out)
    }
    /// Everything that another process needs to go on; `None` when none can. Nothing else is called before it is certain that it
    /// does not.
    fn hand_over(&mut self, _now: Instant) -> Option<HandedOver> {
        None
    }
    /// Hands out what scripts hand over. The last call.
    fn hand_over_policies(&mut self, _now: Instant, _each: &mut dyn FnMut(Unloaded)) {}
    /// The socket's counters since the start, once a tick that did something.
    fn record_io(&mut self, _io: &IoStats) {}
    /// A tick ended at `now`. `busy`: what has been used of the core's time since this was told last.
    fn note_tick(&mut self, _now: Instant, _busy: Duration, _backlog: Backlog) {}
    /// How long after the beginning of a tick the next one is to begin when no datagrams wait: what comes meanwhile is
    /// handled together, timers and commands too.
    fn coalescing(&self) -> Duration {
        Duration::ZERO
    }
    /// A call panicked: end what caused it. A datagram's sender is named, the rest the core knows.
    fn handle_panic(&mut self, now: Instant, phase: Phase, out: &mut SendBatch);
    /// [`Core::handle_panic`] panicked, too: throw away what cannot be trusted any more.
    fn handle_second_panic(&mut self, _now: Instant) {}
    /// The last call: say goodbye. Events and datagrams that it leaves are still sent, as far as they fit.
    fn handle_stop(&mut self, _now: Instant, _out: &mut SendBatch) {}
}

/// Which call of the core was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// [`Core::handle_command`].
    Command,
    /// [`Core::handle_datagram`], from this address.
    Datagram(AddressPair),
    /// [`Core::forward`].
    Forward,
    /// [`Core::handle_timeout`].
    Timeout,
    /// [`Core::poll_event`].
    Event,
    /// [`Core::handle_stop`].
    Stop,
}

/// How a shard's loop works.
#[derive(Clone, Debug)]
pub struct LoopSettings {
    /// The thread's name.
    pub name: String,
    /// The core it is pinned to; `None` leaves it to the kernel.
    pub cpu: Option<usize>,
    /// The sockets' settings.
    pub udp: UdpSettings,
    /// Media over TCP too, in at most so many connections.
    pub connections: Option<usize>,
    /// Commands that may wait; more are refused, and beyond `COMMAND_BYTES` of `event_queue`.
    pub command_capacity: usize,
    /// Most commands handled in one tick.
    pub commands_per_tick: usize,
    /// Most datagrams handled in one tick.
    pub datagrams_per_tick: usize,
    /// The same while forwarding is put off.
    pub datagrams_beside_forwards: usize,
    /// Room in the batch before each datagram and command, in datagrams: for the answers, which are not forwards.
    pub reply_datagrams: usize,
    /// No further command or part of the datagrams is begun, and forwarding is put off to the next tick, when a tick took this long.
    pub tick_budget: Duration,
    /// Bytes of one flush.
    pub send_bytes: usize,
    /// Sends of one flush.
    pub send_runs: usize,
    /// The longest sleep.
    pub longest_sleep: Duration,
    /// The loop's sign of life.
    pub pulse: Pulse,
}

impl Default for LoopSettings {
    fn default() -> Self {
        Self {
            name: "shard".into(),
            cpu: None,
            udp: UdpSettings::default(),
            connections: None,
            command_capacity: 4_096,
            commands_per_tick: 32,
            datagrams_per_tick: 2_048,
            datagrams_beside_forwards: 256,
            reply_datagrams: 8,
            tick_budget: Duration::from_millis(5),
            send_bytes: 1 << 20,
            send_runs: 1_024,
            longest_sleep: Duration::from_millis(100),
            pulse: Pulse::default(),
        }
    }
}

/// Sends commands to a shard from any thread; clones share the queue.
#[derive(Clone, Debug)]
pub struct CommandSender {
    commands: CommandQueue,
    wake: WakeFd,
}

impl CommandSender {
    /// Queues a command and wakes the shard. Never waits: a full queue (or a shard that is gone) gives it back.
    pub fn send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        self.commands.try_send(command)?;
        self.wake.wake();
        Ok(())
    }
}

/// A running shard. Dropping it stops the shard without waiting for it.
#[derive(Debug)]
pub struct ShardThread {
    sender: CommandSender,
    requests: mpsc::Sender<hand_over::Request>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ShardThread {
    /// The way to send commands.
    pub fn sender(&self) -> &CommandSender {
        &self.sender
    }

    /// Whether the loop still runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Lets the core say goodbye, closes the sockets and waits for the thread. False when it ended by a panic.
    pub fn stop(mut self) -> bool {
        self.signal_stop();
        self.thread.take().is_some_and(|thread| thread.join().is_ok())
    }

    fn signal_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.sender.wake.wake();
    }
}

impl Drop for ShardThread {
    fn drop(&mut self) {
        self.signal_stop();
    }
}

/// What a shard begins with.
pub(crate) struct Beginning<C> {
    /// Bound sockets.
    pub sockets: Vec<UdpSocket>,
    /// The core.
    pub core: C,
    /// Until this says so nothing is received or sent; let go of without a word, the shard does not begin.
    pub gate: Option<Receiver<()>>,
}

/// What a thread needs to start.
struct Parts<B> {
    settings: LoopSettings,
    begin: B,
    control: ControlEnds,
}

/// A shard's ends of what joins it to the control plane.
struct ControlEnds {
    commands: Commands,
    events: EventSender,
    /// What is asked by who hands the shard over.
    requests: Receiver<hand_over::Request>,
    /// Ends its sleep.
    wake: WakeFd,
    /// Ends its loop.
    stop: Arc<AtomicBool>,
}

/// A shard that is about to begin.
#[derive(Debug)]
pub(crate) struct Starting {
    shard: ShardThread,
    outcome: Receiver<Result<(), StartError>>,
}

impl Starting {
    /// The way to send commands, which wait until the shard begins.
    pub(crate) fn sender(&self) -> &CommandSender {
        &self.shard.sender
    }

    /// Waits until it runs, or is ready to once its gate opens.
    pub(crate) fn wait(self) -> Result<ShardThread, StartError> {
        match self.outcome.recv() {
            Ok(Ok(())) => Ok(self.shard),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Thread(io::Error::other("the thread ended while it started"))),
        }
    }
}

/// Starts a shard on bound sockets and waits until it runs. `build` makes the core on the shard's thread.
pub fn spawn_shard<C, B>(
    settings: LoopSettings,
    sockets: Vec<UdpSocket>,
    build: B,
    events: EventSender,
) -> Result<ShardThread, StartError>
where
    C: Core + 'static,
    B: FnOnce() -> C + Send + 'static,
{
    prepare_shard(settings, move || Ok(Beginning { sockets, core: build(), gate: None }), events)?.wait()
}

/// Starts a shard's thread. `begin` is called there, and may wait for what the shard is to begin with; its error is why it does
/// not.
pub(crate) fn prepare_shard<C, B>(settings: LoopSettings, begin: B, events: EventSender) -> Result<Starting, StartError>
where
    C: Core + 'static,
    B: FnOnce() -> Result<Beginning<C>, String> + Send + 'static,
{
    let wake = WakeFd::new().map_err(StartError::Thread)?;
    let (sender, commands) = command_queue(settings.command_capacity);
    let (requests, asked) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let name = settings.name.clone();
    let control = ControlEnds { commands, events, requests: asked, wake: wake.clone(), stop: stop.clone() };
    let parts = Parts { settings, begin, control };
    let (started, outcome) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(name)
        .stack_size(STACK_BYTES)
        .spawn(move || run_shard(parts, &started))
        .map_err(probe::thread_error)?;
    let sender = CommandSender { commands: sender, wake };
    Ok(Starting { shard: ShardThread { sender, requests, stop, thread: Some(thread) }, outcome })
}

/// A panic that the loop does not catch is none of a client's or a room's: the shard cannot go on, nor can its clients.
fn run_or_exit<C: Core>(ticker: Ticker<C>) {
    if catch_unwind(AssertUnwindSafe(|| ticker.run())).is_err() {
        tracing::error!("a panic in the shard's loop: the process ends");
        ending::end_process(BROKEN);
    }
}

/// The shard's ways to the network: its sockets, and where it is wanted a listener at each of their addresses.
fn open(
    settings: &LoopSettings,
    sockets: Vec<UdpSocket>,
    with: &UdpSettings,
) -> Result<(Udp, Option<Tcp>), StartError> {
    let at: io::Result<Vec<_>> = sockets.iter().map(UdpSocket::local_addr).collect();
    let mut udp = Udp::new(sockets, with).map_err(probe::ring_error)?;
    let Some(most) = settings.connections else { return Ok((udp, None)) };
    let tcp = Tcp::listen(at.map_err(StartError::Thread)?, most)?;
    udp.poll_also(tcp.as_fd()).map_err(StartError::Thread)?;
    Ok((udp, Some(tcp)))
}

/// The thread: all of it but the start runs inside glommio's executor.
fn run_shard<C, B>(parts: Parts<B>, started: &SyncSender<Result<(), StartError>>)
where
    C: Core + 'static,
    B: FnOnce() -> Result<Beginning<C>, String>,
{
    let placement = parts.settings.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let builder = LocalExecutorBuilder::new(placement).io_memory(IO_MEMORY_BYTES).preempt_timer(NEVER);
    let executor = match builder.make() {
        Ok(executor) => executor,
        Err(error) => {
            let _ = started.send(Err(probe::executor_error(&error.to_string())));
            return;
        }
    };
    executor.run(async move {
        let Parts { settings, begin, control } = parts;
        let Beginning { sockets, core, gate } = match begin() {
            Ok(beginning) => beginning,
            Err(words) => return drop(started.send(Err(StartError::NotTaken(words)))),
        };
        let is_inherited = gate.is_some();
        let udp = if is_inherited { settings.udp.with_much_room() } else { settings.udp.clone() };
        match open(&settings, sockets, &udp) {
            Ok(network) => {
                let ticker = Ticker::new((settings, is_inherited), network, core, control);
                let _ = started.send(Ok(()));
                if gate.is_none_or(|gate| gate.recv().is_ok()) {
                    run_or_exit(ticker);
                }
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
}
