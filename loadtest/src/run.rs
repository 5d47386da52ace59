//! One run of a load: starts engines and clients, watches them second by second, and reports.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use moonring_wire::transport::dtls::Certificate;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};

use crate::engine::{self, Addresses, Command, EngineConfig, Handle, Snapshot, Views};
use crate::limits::{Limits, LinkPlan, Sending};
use crate::media::{AudioSettings, Clock, VideoSettings};
use crate::moving::{self, Moves};
use crate::peer::PeerConfig;
use crate::process;
use crate::report::{self, Moment, Report, Second};
use crate::signalling::{self, ClientPlan, Context, Target, TlsTrust};
use crate::touch::touch;

/// Distance of two lines of the log.
const SECOND: Duration = Duration::from_secs(1);
/// Time for clients to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);
/// Why a run that was cut short has no report.
const CUT_TOO_EARLY: &str = "cut short before the measurement began: nothing was measured";

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
    /// Who loses its connection comes again as somebody else.
    pub rejoin: bool,
    /// The token that clients show.
    pub token: String,
    /// Which servers are trusted.
    pub tls: TlsTrust,
    /// What published video is like, in its highest layer.
    pub video: VideoSettings,
    /// Simulcast layers of published video: 1 to 3.
    pub layers: u8,
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
    /// Links that subscribers are behind.
    pub limits: Limits,
    /// Time for all to join; the run then goes on with those who did.
    pub join_timeout: Duration,
    /// Between the last join and the measurement.
    pub warm_up: Duration,
    /// Length of the measurement.
    pub duration: Duration,
    /// The server's process.
    pub pid: Option<u32>,
    /// Clients are moved between shards and nodes.
    pub moves: Option<Moves>,
    /// A file to write anew every second of the measurement.
    pub touch: Option<PathBuf>,
    /// Seeds all generators.
    pub seed: u64,
}

impl Settings {
    /// Names settings that do not go together.
    fn check(&self) -> anyhow::Result<()> {
        let limits = &self.limits;
        if limits.kbps.is_empty() {
            return Ok(());
        }
        if self.open_one_in > 1 {
            bail!("behind links every packet is opened, not one in {}: its layer is inside", self.open_one_in);
        }
        if limits.share > 1 && self.threads > 1 {
            bail!("subscribers that share a link are on one thread, not on {}", self.threads);
        }
        if let Some(lift) = limits.lift_after.filter(|lift| *lift >= self.duration) {
            let (lift, end) = (lift.as_secs(), self.duration.as_secs());
            bail!("limits cannot be lifted {lift} s into a measurement of {end} s");
        }
        Ok(())
    }

    fn sending(&self) -> Sending<'_> {
        Sending { video: &self.video, layers: self.layers, audio: &self.audio, silent: self.silent }
    }
}

/// Runs it; `progress` is told every second, and may cut the run short. Where not one client gets in, or the run is cut
/// before the measurement, there is nothing to report but why: an error.
pub fn run(settings: &Settings, mut progress: impl FnMut(&Second, usize) -> ControlFlow<()>) -> anyhow::Result<Report> {
    let mut load = Load::start(settings)?;
    let mut log: Vec<Second> = Vec::new();
    let mut before = load.moment()?;
    let (mut first, mut last_join) = (None::<Moment>, None);
    let mut latency = Snapshot::default().histograms.latency;
    let mut lift_after = settings.limits.lift_after;
    loop {
        std::thread::sleep((before.at + SECOND).saturating_sub(load.began.elapsed()));
        if let Some(path) = settings.touch.as_ref().filter(|_| first.is_some()) {
            touch(path).with_context(|| format!("cannot touch {}", path.display()))?;
        }
        let moment = load.moment()?;
        if first.as_ref().is_some_and(|from| lift_after.take_if(|lift| moment.at >= from.at + *lift).is_some()) {
            load.lift();
        }
        let second = Second::between(&before, &moment, first.is_some());
        let is_cut = progress(&second, settings.plans.len()).is_break();
        log.push(second);
        let why_not = load.context.hopeless.get().cloned();
        if let Some(why) = why_not.or_else(|| (is_cut && first.is_none()).then(|| CUT_TOO_EARLY.to_owned())) {
            load.stop()?;
            bail!(why);
        }
        let all_there = are_there(&settings.plans, &moment);
        // When all have ended nobody comes any more: what they failed with is wanted now.
        let have_ended = load.signalling.is_finished();
        if first.is_none() && have_ended && moment.snapshot.connected == 0 {
            load.stop()?;
            bail!("{}", nobody_came(&settings.url, &moment.snapshot));
        }
        let nobody_comes = moment.at >= settings.join_timeout || have_ended;
        if last_join.is_none() && (all_there || nobody_comes) {
            last_join = Some(moment.at);
        }
        match &first {
            Some(from) => {
                latency.add(&moment.snapshot.histograms.latency).expect("all have the same bounds");
                if is_cut || moment.at >= from.at + settings.duration {
                    let mut report = Report::between(from, &moment, &latency);
                    (report.scenario, report.target) = (settings.name.clone(), settings.url.clone());
                    report.cut_short = is_cut;
                    let measured = log.iter().filter(|second| second.measured);
                    report.longest_gap_ms = measured.map(|second| second.longest_gap_ms).fold(0.0, f64::max);
                    (report.clients, report.seconds_log) = (settings.plans.len(), log);
                    report.limits = report::limits(&load.links, &load.views()?);
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

/// Whether everybody is there. Of an audience that comes and goes some are always on their way: whether as many have come.
fn are_there(plans: &[ClientPlan], moment: &Moment) -> bool {
    let snapshot = &moment.snapshot;
    let comes_and_goes = plans.iter().any(|plan| plan.stays.is_some());
    let have_begun = plans.iter().all(|plan| plan.starts <= moment.at);
    let there = if comes_and_goes && have_begun { snapshot.joins } else { snapshot.connected };
    there >= plans.len() as u64
}

/// The parts of a run that is under way.
struct Load {
    began: Instant,
    context: Arc<Context>,
    engines: Vec<(Handle, JoinHandle<io::Result<()>>)>,
    signalling: JoinHandle<()>,
    stop: watch::Sender<bool>,
    failures: mpsc::UnboundedReceiver<String>,
    failed: Snapshot,
    links: Vec<LinkPlan>,
    pid: Option<u32>,
}

impl Load {
    fn start(settings: &Settings) -> anyhow::Result<Self> {
        let addresses = addresses_for(&settings.target);
        let began = Instant::now();
        let mut plans = settings.plans.clone();
        settings.check()?;
        let links = settings.limits.assign(settings.sending(), &mut plans).map_err(anyhow::Error::msg)?;
        let config = engine_config(settings, &links, addresses, began)?;
        let engines = (0..settings.threads.max(1))
            .map(|n| engine::start(EngineConfig { seed: settings.seed.wrapping_add(n as u64), ..config.clone() }))
            .collect::<io::Result<Vec<_>>>()
            .context("cannot start an engine")?;
        let (stop, stopped) = watch::channel(false);
        let (failure, failures) = mpsc::unbounded_channel();
        let handles = engines.iter().map(|(handle, _)| handle.clone()).collect();
        let (target, token, tls) =
            ((settings.target.clone(), settings.rejoin), settings.token.clone(), settings.tls.clone());
        let context = Arc::new(Context::new(target, token, tls, handles, stopped, failure)?);
        let (moves, shared) = (settings.moves.clone(), context.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signalling = std::thread::Builder::new().name("load-signal".into()).spawn(move || {
            runtime.block_on(async {
                let lives: Vec<_> =
                    plans.into_iter().map(|plan| tokio::spawn(signalling::run(context.clone(), plan))).collect();
                if let Some(moves) = moves {
                    tokio::spawn(moving::run(context.clone(), moves));
                }
                for life in lives {
                    // A panic of one client has been printed, and ends that client alone.
                    let _ = life.await;
                }
            });
        })?;
        let (failed, pid) = (Snapshot::default(), settings.pid);
        Ok(Self { began, context: shared, engines, signalling, stop, failures, failed, links, pid })
    }

    /// Lifts the limits of all links.
    fn lift(&self) {
        self.engines.iter().for_each(|(engine, _)| _ = engine.send(Command::Lift));
    }

    /// What subscribers behind links saw.
    fn views(&self) -> anyhow::Result<Views> {
        let mut views = Views::default();
        for (engine, _) in &self.engines {
            let (reply, answer) = channel();
            engine.send(Command::Views(reply));
            views.merge(answer.recv().context("an engine has died")?);
        }
        Ok(views)
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

/// Why there is nothing to measure.
fn nobody_came(url: &str, snapshot: &Snapshot) -> String {
    let (reason, count) = snapshot.failures.iter().max_by_key(|(_, count)| **count).unzip();
    let reason = reason.map_or("they ended without a word", String::as_str);
    format!("none of the clients is connected to {url}: {reason} ({} times)", count.unwrap_or(&0))
}

fn engine_config(
    settings: &Settings,
    links: &[LinkPlan],
    addresses: Addresses,
    began: Instant,
) -> anyhow::Result<EngineConfig> {
    let now_ns = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64;
    let realtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64;
    let now = Instant::now();
    let clock = Clock::new(now, now_ns);
    debug_assert!(began <= now);
    let mut peer = PeerConfig::new(Certificate::generate()?, clock);
    peer.open_one_in = settings.open_one_in.max(1);
    peer.remb_bps = settings.remb_bps;
    // What fits is found out as with browsers.
    peer.transport_feedback = settings.layers > 1 || !links.is_empty();
    Ok(EngineConfig {
        peer: Arc::new(peer),
        video: settings.video.clone(),
        audio: settings.audio.clone(),
        layers: settings.layers,
        silent: settings.silent,
        links: links.iter().map(|link| link.settings(&settings.limits)).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{self, Scenario};

    #[test]
    fn a_measurement_begins_when_all_are_there_or_of_those_who_come_and_go_as_many_have_come() {
        for (scenario, seconds, connected, joins, expected) in [
            (Scenario::Webinar, 9, 51, 51, true),
            (Scenario::Webinar, 9, 50, 60, false),
            (Scenario::Churn, 9, 45, 51, true),
            (Scenario::Churn, 9, 45, 50, false),
            // Some have come twice before the last ones come.
            (Scenario::Churn, 0, 45, 60, false),
        ] {
            let plans = scenario.plan(&scenario::tests::size()).unwrap();
            let snapshot = Snapshot { connected, joins, ..Snapshot::default() };
            let moment = Moment { at: seconds * SECOND, snapshot, ..Moment::default() };
            assert_eq!(are_there(&plans, &moment), expected, "{scenario:?} after {seconds} s, {connected}, {joins}");
        }
    }

    #[test]
    fn settings_that_do_not_go_together_are_named() {
        let good = Settings {
            name: String::new(),
            plans: Vec::new(),
            target: Target::parse("ws://127.0.0.1:1/ws").unwrap(),
            url: String::new(),
            rejoin: false,
            token: String::new(),
            tls: TlsTrust::Anybody,
            video: VideoSettings::default(),
            layers: 3,
            audio: AudioSettings::default(),
            gro: true,
            silent: false,
            threads: 1,
            open_one_in: 1,
            remb_bps: None,
            limits: Limits { kbps: vec![600], share: 2, lift_after: Some(SECOND), ..Limits::default() },
            join_timeout: SECOND,
            warm_up: SECOND,
            duration: 2 * SECOND,
            pid: None,
            moves: None,
            touch: None,
            seed: 1,
        };
        assert!(good.check().is_ok());
        for (bad, named) in [
            (Settings { threads: 2, ..good.clone() }, "on one thread, not on 2"),
            (Settings { open_one_in: 8, ..good.clone() }, "not one in 8"),
            (Settings { duration: SECOND, ..good.clone() }, "lifted 1 s into a measurement of 1 s"),
        ] {
            let error = run(&bad, |_, _| ControlFlow::Continue(())).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
            assert!(Settings { limits: Limits::default(), ..bad }.check().is_ok(), "without links it is no matter");
        }
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
