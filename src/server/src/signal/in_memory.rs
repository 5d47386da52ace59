//! The pages that clients see and a shard behind them, over bytes in memory: what the fuzzer drives. Everything happens
//! on the calling thread, in turns, so that the same bytes do the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Extension;
use axum::extract::connect_info::MockConnectInfo;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::app::App;
use super::dispatch::dispatch;
use super::http1::Http1;
use super::intake::Intake;
use super::services::{AllowList, Authorities, Services, Stores, bytes_of_checkpoint, checkpoint_of, value_again};
use super::take_over::{ControlState, Leaving};
use super::{connections, http, take_over};
use crate::config::Config;
use crate::event_queue::{Commands, EventSender, command_queue, event_queue};
use crate::shard_handle::ShardHandle;
use crate::take_over::ControlPlane;
use moonring_core::command::Event;
use moonring_core::shard::{Shard, ShardSettings};
use moonring_policy::{PolicyEngine, PolicyOutput, PolicySettings, Script, ScriptLibrary};
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use moonring_wire::packet::SendBatch;
use moonring_wire::transport::dtls::Certificate;

/// Turns that everybody gets after each part of the bytes: far more than an answer takes.
const TURNS: usize = 60;
/// Turns within which a connection whose bytes have ended ends itself.
const LAST_TURNS: usize = 5_000;
/// Bytes on their way between the two ends: more than a message has.
const PIPE: usize = 1 << 20;
/// Commands and events that wait.
const QUEUE: usize = 4_096;

/// A server without sockets, with one shard.
pub struct InMemory {
    runtime: Runtime,
    app: App,
    back: Back,
    /// Dropping it shuts the pages down.
    _down: watch::Sender<bool>,
}

/// The shard, with its ends of the queues.
struct Back {
    shard: Shard,
    /// Its clock, which jumps.
    now: Instant,
    commands: Commands,
    events: EventSender,
    /// An event that did not fit.
    held: Option<Box<Event>>,
    out: SendBatch,
}

impl InMemory {
    /// Rooms run `script`; a lost connection may be resumed for an hour.
    pub fn new(script: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build().context("a runtime")?;
        let (queue, commands) = command_queue(QUEUE);
        let (events, receiver) = event_queue(QUEUE);
        let mut scripts = ScriptLibrary::new(Vec::new());
        scripts.insert("default_room.lua".into(), Script::compile("default_room.lua", script.as_bytes()).map(Arc::new));
        let (now, settings) = (Instant::now(), ShardSettings::new(Certificate::generate()?));
        let shard = Shard::new(now, settings, PolicyEngine::new(PolicySettings::unhurried(), 1), scripts, [7; 32]);
        let back = Back { shard, now, commands, events, held: None, out: SendBatch::new(1 << 16, 64) };
        let config = Config { resume_s: 3_600, messages_per_s: 1_000, ..Config::default() };
        let (down, is_down) = watch::channel(false);
        let handle = ShardHandle::new(move |command| queue.try_send(command));
        let app = runtime.block_on(async {
            let authorities = Authorities::load(&PathBuf::new())?;
            let services = Services::new(AllowList::default(), &authorities, Stores::default(), None);
            let app = App::new((&config, 0), vec![handle], services, (None, None), is_down);
            tokio::spawn(dispatch(app.clone(), 0, receiver));
            anyhow::Ok(app)
        })?;
        Ok(Self { runtime, app, back, _down: down })
    }

    /// One connection, which is lost at the end: sends the parts one after the other, each when everything that the one
    /// before it caused has been done. Returns what came back.
    ///
    /// # Panics
    /// When the connection goes on though its bytes have ended.
    pub fn talk(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        let Self { runtime, app, back, .. } = self;
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(PIPE);
            let pages = http::router(app.clone()).layer(MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 7))));
            let pages = pages.layer(Extension(Intake::default()));
            let builder = connections::http();
            let served = builder.serve_connection_with_upgrades(
                TokioIo::new(Http1::new(far)),
                TowerToHyperService::new(pages.into_service()),
            );
            let mut served = pin!(served);
            let (mut answer, mut has_ended) = (Vec::new(), false);
            for part in parts {
                // An error says that the other end has had enough.
                if near.write_all(part).await.is_err() {
                    break;
                }
                for _ in 0..TURNS {
                    has_ended = has_ended || futures_util::poll!(served.as_mut()).is_ready();
                    turn(back, &mut near, &mut answer).await;
                }
            }
            let _ = near.shutdown().await;
            for _ in 0..LAST_TURNS {
                has_ended = has_ended || futures_util::poll!(served.as_mut()).is_ready();
                turn(back, &mut near, &mut answer).await;
                if has_ended && app.counters.websockets.load(Ordering::Relaxed) == 0 {
                    return answer;
                }
            }
            panic!("the connection goes on without its other end");
        })
    }

    /// What goes along when a client goes on at another node, by its id; it is not here any more.
    pub fn give_stay(&mut self, client: &str) -> Option<Vec<u8>> {
        let client = ClientId::parse(client).ok()?;
        Some(self.app.directory.give_stay(&client, "wss://there/ws")?.to_vec())
    }

    /// The same at the other node: a client comes with any bytes.
    pub fn take_stay(&mut self, stay: &[u8]) {
        let Self { runtime, app, .. } = self;
        let named = RoomId::parse("elsewhere").ok().zip(ClientId::parse("comes").ok());
        let Some((room, client)) = named else { return };
        runtime.block_on(async {
            // Its home is another node.
            if app.directory.expect_stay((&room, 0), &client, PlaceId(9)).is_ok() {
                app.directory.take_stay((&room, 0), &client, stay);
            }
        });
    }

    /// What the control plane hands over to the process that takes over, of clients by their ids; it goes on all the same.
    pub fn hand_over(&mut self, clients: &[&str]) -> Option<Vec<u8>> {
        let (leaving, clients) = (Leaving(self.app.clone()), clients.iter().map(|id| ClientId::parse(id)));
        let state = leaving.hand_over(&clients.collect::<Result<_, _>>().ok()?);
        leaving.go_on();
        state.ok()
    }

    /// The same in the process that takes over: any bytes; false when they are refused.
    pub fn inherit(&mut self, state: &[u8]) -> bool {
        let Self { runtime, app, .. } = self;
        match ControlState::read(state, 1) {
            Ok(state) => runtime.block_on(async { take_over::inherit(app, state) }),
            Err(_) => return false,
        }
        true
    }

    /// A value of `sfu.store` as a table of the cluster or a file has it: as it would be written again, if it can be read.
    pub fn value_again(value: &[u8]) -> Option<Vec<u8>> {
        value_again(value)
    }

    /// A room begins with bytes that a table or a file has as its checkpoint: as they would be written again, if they can be read.
    pub fn begin_with_checkpoint(bytes: &[u8]) -> Option<Vec<u8>> {
        let checkpoint = checkpoint_of(bytes)?;
        let again = bytes_of_checkpoint(&checkpoint);
        let (mut engine, now) = (PolicyEngine::new(PolicySettings::unhurried(), 1), Instant::now());
        let (carried, metadata) = engine.revive(now, checkpoint);
        let room = RoomId::parse("demo").ok()?;
        // A script that fails on what it is given begins without.
        engine.open_carried(now, (&room, metadata, Vec::new()), Ok(checkpointed()?), Some(&carried)).ok()?;
        Some(again)
    }

    /// The checkpoint of a room.
    pub fn checkpoint() -> Option<Vec<u8>> {
        let (mut engine, now) = (PolicyEngine::new(PolicySettings::unhurried(), 1), Instant::now());
        engine.open_room(now, &RoomId::parse("demo").ok()?, Ok(checkpointed()?)).ok()?;
        engine.handle_timeout(now + Duration::from_secs(1));
        std::iter::from_fn(|| engine.poll_output()).find_map(|output| match output {
            PolicyOutput::Checkpoint { checkpoint, .. } => Some(bytes_of_checkpoint(&checkpoint)),
            _ => None,
        })
    }

    /// Lets every stay expire and media paths that never came up time out. Returns how many clients and sessions are left,
    /// which should be none.
    pub fn settle(&mut self) -> usize {
        let Self { runtime, app, back, .. } = self;
        runtime.block_on(async {
            app.directory.expire_all();
            // In small steps: a shard whose clock jumps forgives everybody's silence.
            for turn in 0..2 * TURNS {
                back.now += Duration::from_secs(u64::from(turn < TURNS));
                back.work();
                tokio::task::yield_now().await;
            }
        });
        app.directory.rooms().len()
            + back.shard.report().clients
            + app.counters.whip_sessions.load(Ordering::Relaxed) as usize
    }
}

/// Everybody does what there is to do.
async fn turn(back: &mut Back, near: &mut DuplexStream, answer: &mut Vec<u8>) {
    back.work();
    tokio::task::yield_now().await;
    let mut bytes = [0; 16 * 1024];
    let read = pin!(near.read(&mut bytes));
    if let std::task::Poll::Ready(Ok(len)) = futures_util::poll!(read) {
        answer.extend_from_slice(&bytes[..len]);
    }
}

impl Back {
    fn work(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.shard.handle_command(self.now, command, &mut self.out);
        }
        if self.shard.poll_timeout().is_some_and(|at| at <= self.now) {
            self.shard.handle_timeout(self.now, &mut self.out);
        }
        self.out.clear();
        while let Some(event) = self.held.take().map(|event| *event).or_else(|| self.shard.poll_event()) {
            if let Err(event) = self.events.try_send(event) {
                self.held = Some(event);
                return;
            }
        }
    }
}

/// A script with state of all kinds, a timer and a counter.
fn checkpointed() -> Option<Arc<Script>> {
    let script = "CHECKPOINT_SECONDS = 1 STATE_VERSION = 'x'
        local state = { n = 1.5, text = 'a', [7] = { true, {} } }
        function on_init() sfu.count('n', 2) sfu.set_interval('tick', 10000, function() end) end
        function on_unload() return state end
        function on_load(s) state = s end";
    Script::compile("checkpointed.lua", script.as_bytes()).ok().map(Arc::new)
}
