//! Attacks, churn and reloads for a long time: memory and descriptors stay flat, and the call is at the end as it was at the
//! beginning.

mod chart;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attacks::{self, Attack};
use crate::call::{Call, Churn};
use crate::ground::{Ground, SECRET};
use crate::insider::connect;

/// Words in the names of attacks that are short and leave nothing behind by intent.
const REPEATED: [&str; 4] = ["rubbish", "spoofed", "member", "websocket"];
/// Time between two samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// The part of the time that passes before the first sample that counts, a minute at most: caches fill, the allocator
/// takes what it keeps.
const WARM_UP_PART: f64 = 0.25;
const WARM_UP: Duration = Duration::from_secs(60);
/// What may be added in an hour: of memory, in MiB, and of descriptors.
const MAX_MEMORY_PER_HOUR: f64 = 16.0;
const MAX_DESCRIPTORS_PER_HOUR: f64 = 8.0;
/// What may be added from the first to the last third of any run: over a short one the noise of a sample is more than an
/// hour's growth.
const MAX_MEMORY: f64 = 12.0;
const MAX_DESCRIPTORS: f64 = 24.0;
/// Minutes from which on slopes mean something.
const LONG: f64 = 10.0;
/// How many times as long latency may be at the end, and what is always allowed, in ms.
const MAX_LATENCY_FACTOR: f64 = 3.0;
const FREE_LATENCY: f64 = 10.0;

/// How a soak is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// For how long.
    pub(crate) minutes: f64,
    /// Clients that come do not go: what has to be found.
    pub(crate) leaks: bool,
    /// Where the picture goes.
    pub(crate) chart: Option<String>,
}

/// A figure's course.
struct Series {
    name: &'static str,
    /// Minutes since the beginning, and the figure.
    points: Vec<(f64, f64)>,
}

/// What is sampled.
struct Samples {
    memory: Series,
    descriptors: Series,
    latency: Series,
}

/// Runs for so many minutes; whether everything stayed flat.
pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let ground = Ground::start().await?;
    let mut call = Call::start()?;
    call.settle().await?;
    let churn = Churn::start(plan.leaks)?;
    let encoders = tokio::spawn(encoders());
    let before = call.sample()?.lost;
    let end = Instant::now() + Duration::from_secs_f64(plan.minutes * 60.0);
    let sampling = async {
        let mut samples = Samples::default();
        let began = Instant::now();
        while Instant::now() < end {
            tokio::time::sleep(SAMPLE).await;
            samples.take(began.elapsed(), &ground, &call)?;
        }
        anyhow::Ok(samples)
    };
    let (samples, rounds) = tokio::join!(sampling, attack_until(end, &ground));
    let (samples, rounds) = (samples?, rounds?);
    let came = churn.joined();
    encoders.abort();
    let sample = call.sample()?;
    let kept = sample.connected >= 3;
    println!("{rounds} attacks and reloads in {} min beside {came} comings and goings", plan.minutes);
    samples.show(plan.chart.as_deref())?;
    let lost = sample.lost - before;
    println!("{lost} packets of the call were lost");
    let mut wrong = samples.judge(plan.minutes);
    wrong.extend((lost > 0).then(|| "the call lost packets".to_owned()));
    wrong.extend((!kept).then(|| "the call ended".to_owned()));
    println!("{}", if wrong.is_empty() { "held".to_owned() } else { wrong.join("; ") });
    Ok(wrong.is_empty())
}

/// One attack after the other, with a reload after each.
async fn attack_until(end: Instant, ground: &Ground) -> anyhow::Result<usize> {
    let is_short = |a: &Attack| REPEATED.iter().any(|word| a.name.contains(word)) && !a.ends_server;
    let all: Vec<_> = attacks::all().into_iter().filter(is_short).collect();
    let mut rounds = 0;
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        // What an attack finds is the table's to tell.
        let _ = tokio::time::timeout(left, (all[rounds % all.len()].run)(ground)).await;
        ground.touch_script(rounds)?;
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(rounds)
}

/// An encoder over WHIP that comes and goes, twice a second.
async fn encoders() {
    let offer = include_str!("../../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp");
    loop {
        // What is refused over a limit is tried again.
        let _ = encoder(offer).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn encoder(offer: &str) -> anyhow::Result<()> {
    let head = format!("Host: a\r\nConnection: close\r\nAuthorization: Bearer {SECRET}\r\n");
    let length = offer.len();
    let post = format!(
        "POST /whip/encoders HTTP/1.1\r\n{head}Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{offer}"
    );
    let answer = exchange(&post).await?;
    let location = answer.lines().find_map(|line| line.strip_prefix("location: ")).context("no session")?;
    exchange(&format!("DELETE /whip/{location} HTTP/1.1\r\n{head}\r\n")).await?;
    Ok(())
}

async fn exchange(request: &str) -> anyhow::Result<String> {
    let mut stream = connect(140).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

impl Default for Samples {
    fn default() -> Self {
        let series = |name| Series { name, points: Vec::new() };
        Self {
            memory: series("memory, MiB"),
            descriptors: series("descriptors"),
            latency: series("p99 of the call, ms"),
        }
    }
}

impl Samples {
    fn take(&mut self, elapsed: Duration, ground: &Ground, call: &Call) -> anyhow::Result<()> {
        let minutes = elapsed.as_secs_f64() / 60.0;
        let memory = ground.sample()?.usage.memory_bytes as f64 / f64::from(1 << 20);
        self.memory.points.push((minutes, memory));
        self.descriptors.points.push((minutes, ground.descriptors() as f64));
        self.latency.points.push((minutes, call.sample()?.p99.as_secs_f64() * 1_000.0));
        Ok(())
    }

    fn show(&self, chart: Option<&str>) -> anyhow::Result<()> {
        let all = [&self.memory, &self.descriptors, &self.latency];
        all.iter().for_each(|series| println!("{}", chart::line(series)));
        let (memory, descriptors) = (self.memory.settled(), self.descriptors.settled());
        println!("memory {:+.1} MiB/h, descriptors {:+.1}/h", memory.slope(), descriptors.slope());
        let (first, last) = self.latency.minutes_at_the_ends();
        println!("p99 of the call: {first:.1} ms in the first minute, {last:.1} ms in the last");
        if let Some(path) = chart {
            std::fs::write(Path::new(path), chart::svg(&all)).with_context(|| format!("cannot write {path}"))?;
            println!("drawn in {path}");
        }
        Ok(())
    }

    /// What is not as it has to be.
    fn judge(&self, minutes: f64) -> Vec<String> {
        let mut wrong = Vec::new();
        for (series, per_hour, at_all) in [
            (self.memory.settled(), MAX_MEMORY_PER_HOUR, MAX_MEMORY),
            (self.descriptors.settled(), MAX_DESCRIPTORS_PER_HOUR, MAX_DESCRIPTORS),
        ] {
            let (slope, growth) = (series.slope(), series.growth());
            if minutes >= LONG && slope > per_hour && growth > at_all / 8.0 {
                wrong.push(format!("{} grows by {slope:.1} an hour", series.name));
            }
            if growth > at_all {
                wrong.push(format!("{} grew by {growth:.1}", series.name));
            }
        }
        let (first, last) = self.latency.minutes_at_the_ends();
        if last > first * MAX_LATENCY_FACTOR + FREE_LATENCY {
            wrong.push(format!("latency rose from {first:.1} to {last:.1} ms"));
        }
        wrong
    }
}

impl Series {
    fn range(&self) -> (f64, f64) {
        let values = self.points.iter().map(|(_, value)| *value);
        (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
    }

    /// Without the time of warming up.
    fn settled(&self) -> Self {
        let end = self.points.last().map_or(0.0, |(at, _)| *at);
        let from = (end * WARM_UP_PART).min(WARM_UP.as_secs_f64() / 60.0);
        let points = self.points.iter().copied().filter(|(at, _)| *at >= from).collect();
        Self { name: self.name, points }
    }

    /// What is added in an hour: the slope of the regression line.
    fn slope(&self) -> f64 {
        let n = self.points.len() as f64;
        let hours = self.points.iter().map(|(minutes, value)| (minutes / 60.0, *value));
        let (x, y) = hours.clone().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / n, sum.1 + point.1 / n));
        let (mut xy, mut xx) = (0.0, 0.0);
        for point in hours {
            xy += (point.0 - x) * (point.1 - y);
            xx += (point.0 - x).powi(2);
        }
        if xx > 0.0 { xy / xx } else { 0.0 }
    }

    /// What was added from the first to the last third, by their medians.
    fn growth(&self) -> f64 {
        let third = self.points.len() / 3;
        median(&self.points[self.points.len() - third..]) - median(&self.points[..third])
    }

    /// The medians of the first and of the last minute; of a run that is shorter than three, of its thirds.
    fn minutes_at_the_ends(&self) -> (f64, f64) {
        let end = self.points.last().map_or(0.0, |(at, _)| *at);
        let part = (end / 3.0).min(1.0);
        let first = self.points.partition_point(|(at, _)| *at <= part);
        let last = self.points.partition_point(|(at, _)| *at < end - part);
        (median(&self.points[..first]), median(&self.points[last..]))
    }
}

fn median(points: &[(f64, f64)]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(per_minute: f64, noise: f64, minutes: u32) -> Series {
        let value = |n: u32| 100.0 + per_minute * f64::from(n) / 60.0 + noise * f64::from(n % 7) / 7.0;
        Series { name: "memory, MiB", points: (0..minutes * 60).map(|n| (f64::from(n) / 60.0, value(n))).collect() }
    }

    fn judged(memory: Series, descriptors: Series, latency: Series, minutes: u32) -> Vec<String> {
        Samples { memory, descriptors, latency }.judge(minutes.into())
    }

    #[test]
    fn a_slope_is_what_is_added_in_an_hour() {
        for (per_minute, minutes) in [(2.0, 10), (0.0, 5), (-1.0, 30)] {
            let slope = series(per_minute, 0.0, minutes).slope();
            assert!((slope - per_minute * 60.0).abs() < 0.01, "{slope}");
        }
        assert_eq!(Series { name: "", points: vec![] }.slope(), 0.0);
    }

    #[test]
    fn what_stays_flat_holds_whatever_its_noise() {
        for minutes in [1, 10, 30] {
            let wrong =
                judged(series(0.0, 8.0, minutes), series(0.0, 9.0, minutes), series(0.0, 3.0, minutes), minutes);
            assert!(wrong.is_empty(), "{minutes} {wrong:?}");
        }
    }

    #[test]
    fn what_grows_is_found_in_a_long_run_by_its_slope_and_in_a_short_one_by_its_size() {
        let flat = |minutes| series(0.0, 1.0, minutes);
        let slow = judged(series(0.5, 1.0, 30), flat(30), flat(30), 30);
        assert_eq!(slow.len(), 1, "{slow:?}");
        assert!(slow[0].starts_with("memory, MiB grows by 3"), "{slow:?}");
        let quick = judged(flat(1), series(200.0, 1.0, 1), flat(1), 1);
        assert!(quick.iter().any(|words| words.contains("grew by")), "{quick:?}");
        let late = judged(flat(10), flat(10), series(60.0, 0.0, 10), 10);
        assert!(late.iter().any(|words| words.starts_with("latency rose")), "{late:?}");
    }
}
