//! A server that begins where a running one stops: see [`crate::take_over`].

use std::net::{TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{EVENT_QUEUE, Policies, ShardPlan, Started, handle_of, loop_settings, readdress};
use crate::config::Config;
use crate::event_loop::{Beginning, ShardThread, Starting, prepare_shard};
use crate::event_queue::event_queue;
use crate::shard_handle::{Full, ShardHandle};
use crate::signal::http::{Prepared, ShardEnd};
use crate::signal::take_over::ControlState;
use crate::take_over::{InheritedShard, Successor};
use moonring_core::command::Command;
use moonring_core::shard::Shard;
use moonring_wire::causes::causes;
use moonring_wire::transport::dtls::Certificate;

/// Pause before a script's state is offered again to a shard whose queue is full.
const RETRY: Duration = Duration::from_millis(2);
/// Offers of one room's; the shard begins without it by then.
const MAX_OFFERS: usize = 2_500;

/// Starts the shards' threads, receives what they begin with, and lets them begin. An error leaves the running process as it
/// was; it is told why.
pub(super) fn start(
    config: &Config,
    prepared: Prepared,
    (certificate, policies): (&Certificate, Policies),
    mut former: Successor,
) -> anyhow::Result<Started> {
    match take_over(config, prepared, (certificate, &policies), &mut former) {
        Ok(started) => Ok(Started { former: Some(former), ..started }),
        Err(error) => {
            former.refuse(&error);
            Err(error.context("take_over: the running process goes on"))
        }
    }
}

/// A shard's thread that waits for what it begins with.
struct Waiting {
    starting: Starting,
    feed: SyncSender<InheritedShard>,
    gate: SyncSender<()>,
}

fn take_over(
    config: &Config,
    prepared: Prepared,
    given: (&Certificate, &Policies),
    former: &mut Successor,
) -> anyhow::Result<Started> {
    let (mut waiting, mut ends, mut pulses) = (Vec::new(), Vec::new(), Vec::new());
    for (n, port) in config.media_ports.iter().take(config.shards()).enumerate() {
        let settings = loop_settings(config, n);
        pulses.push((settings.name.clone(), settings.pulse.clone()));
        let (feed, inherited) = sync_channel(1);
        let (gate, opened) = sync_channel(1);
        let (config, certificate, policies) = (config.clone(), given.0.clone(), given.1.clone());
        let begin = move || {
            let began = begin(&config, port, (&certificate, &policies), (&inherited, opened));
            began.map_err(|error| causes(error.as_ref()))
        };
        let (events, receiver) = event_queue(EVENT_QUEUE);
        let starting = prepare_shard(settings, begin, events)?;
        ends.push(ShardEnd { handle: handle_of(starting.sender()), events: receiver });
        waiting.push(Waiting { starting, feed, gate });
    }
    let mut bound = Vec::new();
    let (listeners, control) = former.receive(|n, shard| {
        bound = readdress::bound(&shard.sockets)?;
        let waiting = waiting.get(n).with_context(|| format!("there is no shard {n} here"))?;
        // One that has ended says why below.
        let _ = waiting.feed.send(shard);
        Ok(())
    })?;
    let control = ControlState::read(&control, config.shards())?;
    check_listeners(config, &listeners)?;
    let (mut shards, mut gates): (Vec<ShardThread>, Vec<SyncSender<()>>) = (Vec::new(), Vec::new());
    for Waiting { starting, feed, gate } in waiting {
        drop(feed);
        shards.push(starting.wait()?);
        gates.push(gate);
    }
    former.take()?;
    for gate in gates {
        // A thread that has ended meanwhile is found by the watchdog.
        let _ = gate.send(());
    }
    let listeners = prepared.over(listeners).with_inherited(Some(control));
    Ok(Started { listeners, shards, ends, bound, pulses, former: None })
}

/// On a shard's own thread: waits for its sockets and its state, and becomes that.
fn begin(
    config: &Config,
    port: u16,
    (certificate, policies): (&Certificate, &Policies),
    (inherited, gate): (&Receiver<InheritedShard>, Receiver<()>),
) -> anyhow::Result<Beginning<Shard>> {
    let InheritedShard { sockets, pieces } = inherited.recv().context("its state has not come")?;
    check_sockets(&sockets, port)?;
    // Rooms are not spread where a process may be taken over from.
    let mut core = ShardPlan::new(config, (port, None), certificate, policies, &sockets)?.build();
    let clients = core.take_over(Instant::now(), pieces)?;
    tracing::debug!(port, clients, "has read the state of the process before");
    Ok(Beginning { sockets, core, gate: Some(gate) })
}

fn check_sockets(sockets: &[UdpSocket], port: u16) -> anyhow::Result<()> {
    for socket in sockets {
        let bound = socket.local_addr()?;
        ensure!(bound.port() == port, "a socket for port {port} has come that is bound to {bound}");
    }
    Ok(())
}

fn check_listeners(config: &Config, listeners: &[TcpListener; 2]) -> anyhow::Result<()> {
    for (wanted, listener) in [config.listen, config.admin_listen].into_iter().zip(listeners) {
        let bound = listener.local_addr()?;
        ensure!(
            wanted.port() == 0 || bound.port() == wanted.port(),
            "a listener for {wanted} has come that is bound to {bound}"
        );
    }
    Ok(())
}

/// Hands the scripts' states to the shards as they come, on a thread of its own.
pub(super) fn receive_policies(former: Successor, shards: Vec<ShardHandle>) -> anyhow::Result<()> {
    let receive = move || {
        let received = former.receive_policies(|n, room, carried| {
            let Some(shard) = shards.get(n) else { return };
            if !offer(shard, Command::PolicyCarried { room: room.clone(), carried }) {
                tracing::error!(%room, "the script's state has come, and its shard does not take it");
            }
        });
        match received {
            Ok(()) => tracing::info!("has taken over; the process before has ended"),
            Err(error) => tracing::error!("not all scripts' states have come: {}", causes(error.as_ref())),
        }
    };
    std::thread::Builder::new().name("take-over".into()).spawn(receive).map(drop).context("take_over")
}

fn offer(shard: &ShardHandle, mut command: Command) -> bool {
    for _ in 0..MAX_OFFERS {
        match shard.send(command) {
            Ok(()) => return true,
            Err(Full(back)) => command = *back,
        }
        std::thread::sleep(RETRY);
    }
    false
}
