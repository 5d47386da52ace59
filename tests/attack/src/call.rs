//! The well-behaved call: three clients of the load test in one room, each of which publishes and receives everything.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use moonring_loadtest::engine::{self, Addresses, Command, EngineConfig, Handle, Snapshot};
use moonring_loadtest::media::{AudioSettings, Clock, VideoSettings};
use moonring_loadtest::peer::PeerConfig;
use moonring_loadtest::signalling::{self, ClientPlan, Context, Receive, Target, TlsTrust};
use moonring_wire::id::RoomId;
use moonring_wire::media::CodecName;
use moonring_wire::transport::dtls::Certificate;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};

use crate::ground::SECRET;
use crate::net;

const CLIENTS: u64 = 3;
/// Each receives picture and sound of the two others.
const STREAMS: u64 = CLIENTS * (CLIENTS - 1) * 2;
const VIDEO_BPS: u64 = 500_000;

/// The call.
pub(crate) struct Call {
    engine: Handle,
    stop: watch::Sender<bool>,
    failures: mpsc::UnboundedReceiver<String>,
}

/// What went through it, so far; latencies since the last time.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Packets that were published to somebody and did not arrive.
    pub(crate) lost: u64,
    pub(crate) received: u64,
    pub(crate) p99: Duration,
    pub(crate) connected: u64,
}

impl Call {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (engine, context, stop, failures) = clients(7)?;
        for n in 0..CLIENTS {
            let plan = ClientPlan {
                room: RoomId::parse("well-behaved")?,
                publish: vec![CodecName::Opus, CodecName::Vp8],
                receive: Receive::Everything,
                expects: Vec::new(),
                starts: Duration::from_millis(100 * n),
                stays: None,
                viewing: None,
            };
            tokio::spawn(signalling::run(context.clone(), plan));
        }
        Ok(Self { engine, stop, failures })
    }

    /// Waits until everybody receives everything.
    pub(crate) async fn settle(&mut self) -> anyhow::Result<()> {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Ok(failure) = self.failures.try_recv() {
                bail!("{failure}");
            }
            let snapshot = self.snapshot()?;
            if snapshot.connected == CLIENTS && snapshot.streams == STREAMS {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.snapshot()?;
                return Ok(());
            }
        }
        bail!("the call did not come up")
    }

    pub(crate) fn sample(&self) -> anyhow::Result<Sample> {
        let snapshot = self.snapshot()?;
        let order = snapshot.order;
        Ok(Sample {
            lost: order.published.saturating_sub(order.received_of_published),
            received: order.received,
            p99: Duration::from_micros(snapshot.histograms.latency.value_at_quantile(0.99)),
            connected: snapshot.connected,
        })
    }

    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let (reply, answer) = channel();
        self.engine.send(Command::Snapshot(reply));
        answer.recv().context("the load test's engine has died")
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.engine.send(Command::Quit);
    }
}

/// Clients that come and go, in rooms of their own, each of which publishes and receives.
pub(crate) struct Churn {
    engine: Handle,
    stop: watch::Sender<bool>,
    _failures: mpsc::UnboundedReceiver<String>,
    began: Instant,
}

/// Clients that are there at the same time, and for how long each stays.
const CHURNING: u64 = 8;
const STAY: Duration = Duration::from_secs(3);

impl Churn {
    /// `leaks`: nobody goes, and more come all the time.
    pub(crate) fn start(leaks: bool) -> anyhow::Result<Self> {
        let (engine, context, stop, _failures) = clients(8)?;
        for n in 0..if leaks { 400 } else { CHURNING } {
            let plan = ClientPlan {
                room: RoomId::parse(&format!("churn-{}", n % if leaks { 100 } else { 3 }))?,
                publish: vec![CodecName::Opus],
                receive: Receive::Everything,
                expects: Vec::new(),
                starts: Duration::from_millis(400 * n),
                stays: (!leaks).then_some(STAY + Duration::from_millis(100 * n)),
                viewing: None,
            };
            tokio::spawn(signalling::run(context.clone(), plan));
        }
        Ok(Self { engine, stop, _failures, began: Instant::now() })
    }

    /// How many have come so far, about.
    pub(crate) fn joined(&self) -> u64 {
        CHURNING * self.began.elapsed().as_secs() / STAY.as_secs()
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.engine.send(Command::Quit);
    }
}

type Clients = (Handle, Arc<Context>, watch::Sender<bool>, mpsc::UnboundedReceiver<String>);

/// An engine of the load test, and what its clients have in common.
fn clients(seed: u64) -> anyhow::Result<Clients> {
    let (engine, _) = engine::start(config(seed)?)?;
    let (stop, stopped) = watch::channel(false);
    let (failure, failures) = mpsc::unbounded_channel();
    let target = Target::parse(&format!("ws://{}/ws", net::http())).map_err(anyhow::Error::msg)?;
    let context =
        Context::new((target, false), SECRET.into(), TlsTrust::Anybody, vec![engine.clone()], stopped, failure)?;
    Ok((engine, Arc::new(context), stop, failures))
}

fn config(seed: u64) -> anyhow::Result<EngineConfig> {
    let now_ns = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64;
    let realtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64;
    let clock = Clock::new(Instant::now(), now_ns);
    let peer = PeerConfig::new(Certificate::generate()?, clock);
    Ok(EngineConfig {
        peer: Arc::new(peer),
        video: VideoSettings { bitrate_bps: VIDEO_BPS, ..VideoSettings::default() },
        audio: AudioSettings::default(),
        layers: 1,
        silent: false,
        links: Vec::new(),
        addresses: Addresses::OwnV4,
        gro: true,
        seed,
        realtime_offset_ns: realtime.saturating_sub(now_ns),
    })
}
