//! One run of a load: starts engines and clients, watches them second by second, and reports.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use moonring_wire::transport::dtls::Certificate;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};

use crate::engine::{self, Addresses, Command, EngineConfig, Handle, Snapshot};
use crate::media::{AudioSettings, Clock, VideoSettings};
use crate::peer::PeerConfig;
use crate::process;
use crate::report::{Moment, Report, Second};
use crate::signalling::{self, ClientPlan, Context, Target, TlsTrust};

/// Distance of two lines of the log.
const SECOND: Duration = Duration::from_secs(1);
/// Time for clients to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The load's name.
    pub name: String,
    /// Who does what.
    pub plans: Vec<ClientPlan>,
    /// Where.
    pub target: Target,
    /// The target as it was given.
    pub url: String,
    /// The token that clients show.
    pub token: String,
    /// Which servers are trusted.
    pub tls: TlsTrust,
    /// What published video is like.
    pub video: VideoSettings,
    /// What published sound is like.
    pub audio: AudioSettings,
    /// Receive datagrams of one sender coalesced.
    pub gro: bool,
    /// Publish tracks, but send nothing in them.
    pub silent: bool,
    /// Threads that carry packets.
    pub threads: usize,
    /// One in so many packets is opened.
    pub open_one_in: u32,
    /// Bandwidth that receivers claim.
    pub remb_bps: Option<u64>,
    /// Time for all to join; the run then goes on with those who did.
    pub join_timeout: Duration,
    /// Between the last join and the measurement.
    pub warm_up: Duration,
    /// Length of the measurement.
    pub duration: Duration,
    /// The server's process.
    pub pid: Option<u32>,
    /// A file to write anew every second of the measurement.
    pub touch: Option<PathBuf>,
    /// Seeds all generators.
    pub seed: u64,
}

/// Runs it; `progress` is told every second.
pub fn run(settings: &Settings, mut progress: impl FnMut(&Second, usize)) -> anyhow::Result<Report> {
    let mut load = Load::start(settings)?;
    let mut log: Vec<Second> = Vec::new();
    let mut before = load.moment()?;
    let (mut first, mut last_join) = (None::<Moment>, None);
    let mut latency = Snapshot::default().histograms.latency;
    loop {
        std::thread::sleep((before.at + SECOND).saturating_sub(load.began.elapsed()));
        if let Some(path) = settings.touch.as_ref().filter(|_| first.is_some()) {
            touch(path).with_context(|| format!("cannot touch {}", path.display()))?;
        }
        let moment = load.moment()?;
        let second = Second::between(&before, &moment, first.is_some());
        progress(&second, settings.plans.len());
        log.push(second);
        let all_there = moment.snapshot.connected as usize >= settings.plans.len();
        if last_join.is_none() && (all_there || moment.at >= settings.join_timeout) {
            last_join = Some(moment.at);
        }
        match &first {
            Some(from) => {
                latency.add(&moment.snapshot.histograms.latency).expect("all have the same bounds");
                if moment.at >= from.at + settings.duration {
                    let mut report = Report::between(from, &moment, &latency);
                    (report.scenario, report.target) = (settings.name.clone(), settings.url.clone());
                    (report.clients, report.seconds_log) = (settings.plans.len(), log);
                    load.stop()?;
                    return Ok(report);
                }
            }
            None if last_join.is_some_and(|at| moment.at >= at + settings.warm_up) => first = Some(moment.clone()),
            None => {}
        }
        before = moment;
    }
}

/// The parts of a run that is under way.
struct Load {
    began: Instant,
    engines: Vec<(Handle, JoinHandle<io::Result<()>>)>,
    signalling: JoinHandle<()>,
    stop: watch::Sender<bool>,
    failures: mpsc::UnboundedReceiver<String>,
    failed: Snapshot,
    pid: Option<u32>,
}

impl Load {
    fn start(settings: &Settings) -> anyhow::Result<Self> {
        let addresses = addresses_for(&settings.target);
        let began = Instant::now();
        let config = engine_config(settings, addresses, began)?;
        let engines = (0..settings.threads.max(1))
            .map(|n| engine::start(EngineConfig { seed: settings.seed.wrapping_add(n as u64), ..config.clone() }))
            .collect::<io::Result<Vec<_>>>()
            .context("cannot start an engine")?;
        let (stop, stopped) = watch::channel(false);
        let (failure, failures) = mpsc::unbounded_channel();
        let handles = engines.iter().map(|(handle, _)| handle.clone()).collect();
        let (target, token, tls) = (settings.target.clone(), settings.token.clone(), settings.tls.clone());
        let context = Arc::new(Context::new(target, token, tls, handles, stopped, failure)?);
        let plans = settings.plans.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signalling = std::thread::Builder::new().name("load-signal".into()).spawn(move || {
            runtime.block_on(async {
                let lives: Vec<_> =
                    plans.into_iter().map(|plan| tokio::spawn(signalling::run(context.clone(), plan))).collect();
                for life in lives {
                    // A panic of one client has been printed, and ends that client alone.
                    let _ = life.await;
                }
            });
        })?;
        Ok(Self { began, engines, signalling, stop, failures, failed: Snapshot::default(), pid: settings.pid })
    }

    fn moment(&mut self) -> anyhow::Result<Moment> {
        let mut snapshot = Snapshot::default();
        for (engine, _) in &self.engines {
            let (reply, answer) = channel();
            engine.send(Command::Snapshot(reply));
            snapshot.merge(&answer.recv().context("an engine has died")?);
        }
        while let Ok(failure) = self.failures.try_recv() {
            self.failed.fail(failure);
        }
        snapshot.merge(&self.failed);
        let server = match self.pid {
            Some(pid) => Some(process::server(pid).with_context(|| format!("cannot read /proc/{pid}"))?),
            None => None,
        };
        Ok(Moment { at: self.began.elapsed(), snapshot, server, own: process::own(engine::THREAD_NAME).ok() })
    }

    fn stop(self) -> anyhow::Result<()> {
        // Nobody listens when all clients have ended.
        let _ = self.stop.send(true);
        let deadline = Instant::now() + GOODBYE;
        while !self.signalling.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        for (engine, _) in &self.engines {
            engine.send(Command::Quit);
        }
        for (_, thread) in self.engines {
            match thread.join() {
                Ok(outcome) => outcome.context("an engine failed")?,
                Err(_) => anyhow::bail!("an engine panicked"),
            }
        }
        Ok(())
    }
}

fn engine_config(settings: &Settings, addresses: Addresses, began: Instant) -> anyhow::Result<EngineConfig> {
    let now_ns = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64;
    let realtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64;
    let now = Instant::now();
    let clock = Clock::new(now, now_ns);
    debug_assert!(began <= now);
    let mut peer = PeerConfig::new(Certificate::generate()?, clock);
    peer.open_one_in = settings.open_one_in.max(1);
    peer.remb_bps = settings.remb_bps;
    Ok(EngineConfig {
        peer: Arc::new(peer),
        video: settings.video.clone(),
        audio: settings.audio.clone(),
        silent: settings.silent,
        addresses,
        gro: settings.gro,
        seed: settings.seed,
        realtime_offset_ns: realtime.saturating_sub(now_ns),
    })
}

/// Peers share a socket where every address of 127/8 is theirs.
fn addresses_for(target: &Target) -> Addresses {
    match target.host() {
        Some("localhost") => Addresses::Shared,
        Some(host) if host.starts_with("127.") => Addresses::Shared,
        Some(host) if host.contains(':') => Addresses::OwnV6,
        _ => Addresses::OwnV4,
    }
}

/// Writes a file anew with what is in it and a comment that changes, as an editor would.
fn touch(path: &PathBuf) -> io::Result<()> {
    const MARK: &str = "-- touched by moonring-loadtest";
    let text = std::fs::read_to_string(path)?;
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(MARK)).collect();
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    std::fs::write(path, format!("{}\n{MARK} {time}\n", kept.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_a_script_changes_one_comment() {
        let path = std::env::temp_dir().join(format!("moonring-loadtest-touch-{}", std::process::id()));
        std::fs::write(&path, "a = 1\nb = 2\n").unwrap();
        touch(&path).unwrap();
        touch(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((&lines[..2], lines.len()), (&["a = 1", "b = 2"][..], 3));
    }

    #[test]
    fn peers_share_a_socket_on_loopback() {
        for (target, expected) in [
            ("wss://127.0.0.1:8080/ws", Addresses::Shared),
            ("whip+https://localhost", Addresses::Shared),
            ("wss://[::1]:8080/ws", Addresses::OwnV6),
            ("wss://sfu.test/ws", Addresses::OwnV4),
        ] {
            assert_eq!(addresses_for(&Target::parse(target).unwrap()), expected, "{target}");
        }
    }
}
