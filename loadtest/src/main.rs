//! The command.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use moonring_loadtest::interrupt::{self, Interrupt};
use moonring_loadtest::limits::Limits;
use moonring_loadtest::media::{AudioSettings, VideoSettings};
use moonring_loadtest::moving::Moves;
use moonring_loadtest::report::{self, Report, Second};
use moonring_loadtest::run::{self, Settings};
use moonring_loadtest::scenario::{Scenario, Size, sessions};
use moonring_loadtest::signalling::{Target, TlsTrust};
use moonring_wire::causes::causes;
use moonring_wire::id::RoomId;

/// What `--ramp` calls a good load.
const MOST_LOSS_PERCENT: f64 = 0.1;
const LONGEST_P99_MS: f64 = 5.0;
/// The fastest link that is simulated.
const MAX_LINK_KBPS: u64 = 1_000_000;
/// Steps of a ramp between the largest load that was good and the smallest that was not.
const BISECTIONS: u32 = 4;

/// Loads a WebRTC SFU with real clients and reports what it did.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a scenario.
    Run(Box<Run>),
}

#[derive(Debug, Args)]
struct Run {
    /// The load.
    scenario: Scenario,
    /// wss://host:8080/ws (of a cluster several, with commas between them), or for WHIP and WHEP whip+https://host/{kind}/{room}.
    #[arg(long, visible_alias = "target", default_value = "wss://127.0.0.1:8080/ws")]
    url: String,
    /// Who loses its connection comes again as somebody else, at the next address.
    #[arg(long)]
    rejoin: bool,
    /// The room, or the common begin of the rooms' names.
    #[arg(long, default_value = "load")]
    room: String,
    /// What clients show to be let in.
    #[arg(long, env = "MOONRING_TOKEN", default_value = "moonring", hide_env_values = true)]
    token: String,
    /// Believe only servers with a certificate of a well-known authority.
    #[arg(long, conflicts_with = "insecure")]
    verify: bool,
    /// Believe any server (the default on loopback).
    #[arg(long)]
    insecure: bool,
    /// Publishers of a webinar.
    #[arg(long, default_value_t = 1, value_parser = at_least_one())]
    publishers: usize,
    /// Subscribers of a webinar.
    #[arg(long, default_value_t = 50)]
    subscribers: usize,
    /// Clients of a meeting or of each room.
    #[arg(long, default_value_t = 5, value_parser = at_least_one())]
    clients: usize,
    /// Rooms.
    #[arg(long, default_value_t = 100, value_parser = at_least_one())]
    rooms: usize,
    /// Webinars and meetings have sound as well: without, they have video alone.
    #[arg(long)]
    with_audio: bool,
    /// Webinars have sound only.
    #[arg(long)]
    no_video: bool,
    /// Clients publish tracks and send nothing.
    #[arg(long)]
    idle: bool,
    /// Bitrate of each video, in its highest layer.
    #[arg(long, default_value_t = 1_500)]
    bitrate_kbps: u64,
    /// Simulcast layers of each video: each has a quarter of the next one's bitrate and half its size.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    layers: u8,
    /// Frames of each video in a second.
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    fps: f64,
    /// Longest RTP payload of video.
    #[arg(long, default_value_t = 1_150, value_parser = clap::value_parser!(u16).range(64..=1_350))]
    payload_bytes: u16,
    /// Time between key frames that nobody asked for.
    #[arg(long, default_value_t = 30)]
    key_frame_s: u64,
    /// RTP payload of sound, every 20 ms.
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u16).range(32..=1_200))]
    audio_bytes: u16,
    /// Packets of sound differ in size by up to this share of it, in percent, as Opus's do.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(0..=90))]
    audio_variation_percent: u16,
    /// Receive each datagram alone, as from a network: what leaves the server as one send is cut into its datagrams on
    /// its way.
    #[arg(long)]
    no_gro: bool,
    /// Joins in a second.
    #[arg(long, default_value_t = 100.0, value_parser = positive)]
    joins_per_s: f64,
    /// Mean time that a client of churn stays.
    #[arg(long, default_value_t = 10)]
    stay_s: u64,
    /// The admin pages, for move: http://host:port (of a cluster those of all nodes, with commas between them).
    #[arg(long, value_delimiter = ',', required_if_eq("scenario", "move"))]
    admin: Vec<String>,
    /// Moves in a second of move.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    moves_per_s: f64,
    /// The script that reload writes anew every second.
    #[arg(long, required_if_eq("scenario", "reload"))]
    touch: Option<PathBuf>,
    /// Length of the measurement.
    #[arg(long, default_value_t = 20)]
    duration_s: u64,
    /// Between the last join and the measurement.
    #[arg(long, default_value_t = 2)]
    warm_up_s: u64,
    /// Time for all to join.
    #[arg(long, default_value_t = 60)]
    join_timeout_s: u64,
    /// The server's process, for what a packet costs it.
    #[arg(long)]
    pid: Option<u32>,
    /// Threads that carry packets.
    #[arg(long, default_value_t = 1, value_parser = at_least_one())]
    threads: usize,
    /// Open one packet in so many; the rest is counted by its headers (cheaper).
    #[arg(long, default_value_t = 1)]
    open_one_in: u32,
    /// Bandwidth that receivers claim by REMB.
    #[arg(long)]
    remb_kbps: Option<u64>,
    /// Links before the subscribers, in turn, with these rates; 0 is no limit. Reported is when each gets the highest
    /// layer that fits, for how long its picture stands still, and what the link drops.
    #[arg(long, value_name = "KBPS,...", value_delimiter = ',', value_parser = kbps, allow_negative_numbers = true, conflicts_with = "ramp")]
    limit_kbps: Vec<u64>,
    /// So many subscribers in a row share a link.
    #[arg(long, default_value_t = 1, requires = "limit_kbps", value_parser = clap::value_parser!(u32).range(1..))]
    share_link: u32,
    /// What would wait at a link for longer than this is dropped.
    #[arg(long, default_value_t = 400, requires = "limit_kbps", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    link_queue_ms: u64,
    /// Lift the limits so long after the begin of the measurement, and report the time to the highest layer.
    #[arg(long, requires = "limit_kbps")]
    lift_s: Option<u64>,
    /// Seeds all that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Find the largest load with loss under 0.1 % and p99 under 5 ms, beginning with the given one. Grows subscribers,
    /// clients or rooms.
    #[arg(long)]
    ramp: bool,
    /// Write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report as a page with plots.
    #[arg(long)]
    html: Option<PathBuf>,
    /// No live display.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let Verb::Run(run) = Cli::parse().command;
    match Interrupt::listen().context("cannot listen for Ctrl-C").and_then(|interrupt| execute(&run, &interrupt)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some((why, code))) => {
            eprintln!("moonring-loadtest: {why}");
            code
        }
        Err(error) => {
            eprintln!("moonring-loadtest: {}", causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// What is wrong with the report that was shown, and the exit code for it.
fn execute(run: &Run, interrupt: &Interrupt) -> anyhow::Result<Option<(&'static str, ExitCode)>> {
    raise_file_limit();
    // Before a load that may take minutes.
    for path in run.json.iter().chain(&run.html) {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let reports = if run.ramp { ramp(run, interrupt)? } else { vec![step(run, &run.size()?, interrupt)?] };
    let last = reports.last().context("nothing was run")?;
    show(&report::table(last));
    if let Some(path) = &run.json {
        let json = if run.ramp { serde_json::to_string_pretty(&reports)? } else { serde_json::to_string_pretty(last)? };
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &run.html {
        std::fs::write(path, report::page(&reports)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if interrupt.is_pressed() {
        return Ok(Some(("cut short: the report is of what was measured until then", interrupt::EXIT_CODE.into())));
    }
    // Of an audience that comes and goes some are always on their way.
    let all_there = last.connected as usize >= last.clients || run.scenario == Scenario::Churn && last.connected > 0;
    let nobody_moved = run.scenario == Scenario::Move && last.moves.count == 0;
    let wrong = match (all_there, nobody_moved) {
        (false, _) => Some("not all clients were connected"),
        (true, true) => Some("nobody was moved"),
        (true, false) => None,
    };
    Ok(wrong.map(|why| (why, ExitCode::FAILURE)))
}

/// The reports of all steps; the best one is the last.
fn ramp(run: &Run, interrupt: &Interrupt) -> anyhow::Result<Vec<Report>> {
    let (mut reports, mut best): (Vec<Report>, Option<Report>) = (Vec::new(), None);
    let size = run.size()?;
    let (mut good, mut bad, mut load) = (0, None, run.scenario.load(&size).max(1));
    for _ in 0..32 {
        let report = step(run, &run.scenario.with_load(&size, load), interrupt)?;
        if report.cut_short {
            reports.push(report);
            break;
        }
        let is_good = report.is_good(MOST_LOSS_PERCENT, LONGEST_P99_MS);
        eprintln!(
            "{load}: {}, {:.0} packets/s, loss {:.4} %, p99 {:.2} ms",
            if is_good { "good" } else { "too much" },
            report.packets_out_per_s,
            report.loss_percent,
            report.latency.p99_ms
        );
        if is_good {
            good = load;
            if let Some(before) = best.replace(report) {
                reports.push(before);
            }
        } else {
            bad = Some(load);
            reports.push(report);
        }
        load = match bad {
            None => good * 2,
            Some(bad) => good.midpoint(bad),
        };
        let narrow = bad.is_some_and(|bad| bad - good <= (bad >> BISECTIONS).max(1));
        if narrow || load == good {
            break;
        }
    }
    reports.extend(best);
    Ok(reports)
}

fn step(run: &Run, size: &Size, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let settings = run.settings(size)?;
    let bar = if run.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}")?);
    let report = run::run(&settings, |second, clients| {
        bar.set_message(line(second, clients));
        bar.tick();
        if interrupt.is_pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    report
}

fn line(second: &Second, clients: usize) -> String {
    format!(
        "{} of {clients} clients, in {:.0}/s, out {:.0}/s ({:.1} Mbit/s), loss {:.3} %, p50 {:.2} ms, p99 {:.2} ms, server {:.0} %{}",
        second.connected,
        second.packets_in_per_s,
        second.packets_out_per_s,
        second.bits_out_per_s / 1e6,
        second.loss_percent,
        second.latency.p50_ms,
        second.latency.p99_ms,
        second.server_cpu_percent,
        if second.measured { "" } else { " (joining)" }
    )
}

impl Run {
    fn size(&self) -> anyhow::Result<Size> {
        Ok(Size {
            room: RoomId::parse(&self.room).map_err(|error| anyhow!("the room {:?} {error}", self.room))?,
            rooms: self.rooms,
            publishers: self.publishers,
            subscribers: self.subscribers,
            clients: self.clients,
            with_audio: self.with_audio,
            no_video: self.no_video,
            idle: self.idle,
            joins_per_s: self.joins_per_s,
            stay: Duration::from_secs(self.stay_s),
        })
    }

    fn limits(&self) -> Limits {
        // Whose layers are chosen is watched, without a limit too.
        let stay = !self.ramp && self.scenario != Scenario::Churn;
        let watched = self.layers > 1 && self.limit_kbps.is_empty() && stay;
        Limits {
            kbps: if watched { vec![0] } else { self.limit_kbps.clone() },
            share: self.share_link as usize,
            queue: Duration::from_millis(self.link_queue_ms),
            lift_after: self.lift_s.map(Duration::from_secs),
        }
    }

    fn settings(&self, size: &Size) -> anyhow::Result<Settings> {
        let target = Target::parse(&self.url).map_err(|error| anyhow!("{error}"))?;
        let on_loopback =
            target.host().is_some_and(|host| host == "localhost" || host == "::1" || host.starts_with("127."));
        let believe_anybody = self.insecure || on_loopback && !self.verify;
        Ok(Settings {
            name: format!("{:?}", self.scenario),
            plans: sessions(&target, self.scenario.plan(size).map_err(|error| anyhow!("{error}"))?),
            target,
            url: self.url.clone(),
            rejoin: self.rejoin,
            token: self.token.clone(),
            tls: if believe_anybody { TlsTrust::Anybody } else { TlsTrust::WellKnown },
            video: VideoSettings {
                bitrate_bps: self.bitrate_kbps * 1_000,
                fps: self.fps,
                max_payload_bytes: self.payload_bytes.into(),
                key_frame_interval: Duration::from_secs(self.key_frame_s),
                ..VideoSettings::default()
            },
            audio: AudioSettings {
                payload_bytes: self.audio_bytes.into(),
                variation: f64::from(self.audio_variation_percent) / 100.0,
                ..AudioSettings::default()
            },
            gro: !self.no_gro,
            silent: self.idle,
            threads: self.threads,
            open_one_in: self.open_one_in,
            remb_bps: self.remb_kbps.map(|kbps| kbps * 1_000),
            layers: self.layers,
            limits: self.limits(),
            join_timeout: Duration::from_secs(self.join_timeout_s),
            warm_up: Duration::from_secs(self.warm_up_s),
            duration: Duration::from_secs(self.duration_s),
            pid: self.pid,
            moves: (self.scenario == Scenario::Move).then(|| Moves {
                admin: self.admin.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
                per_s: self.moves_per_s,
                seed: self.seed,
            }),
            touch: self.touch.clone(),
            seed: self.seed,
        })
    }
}

fn kbps(text: &str) -> Result<u64, String> {
    let rate = text.trim().parse().map_err(|_| "a rate is a number of kbit/s, and a list is one like 3000,600,0")?;
    if rate <= MAX_LINK_KBPS { Ok(rate) } else { Err(format!("{MAX_LINK_KBPS} kbit/s is the most")) }
}

/// Thousands of clients are thousands of sockets.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With the limit as it was, large loads fail with words that say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value: &f64| *value > 0.0 && value.is_finite())
        .ok_or_else(|| "must be more than 0".into())
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn show(text: &str) {
    print!("{text}");
}
