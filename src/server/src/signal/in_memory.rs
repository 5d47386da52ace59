//! The pages that clients see and a shard behind them, over bytes in memory: what the fuzzer drives. Everything happens
//! on the calling thread, in turns, so that the same bytes do the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::extract::connect_info::MockConnectInfo;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::app::App;
use super::dispatch::dispatch;
use super::http1::Http1;
use super::services::{AllowList, Authorities, Services, Stores};
use super::{connections, http};
use crate::config::Config;
use crate::event_queue::{Commands, EventSender, command_queue, event_queue};
use crate::shard_handle::ShardHandle;
use moonring_core::command::Event;
use moonring_core::shard::{Shard, ShardSettings};
use moonring_policy::{PolicyEngine, PolicySettings, Script, ScriptLibrary};
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
