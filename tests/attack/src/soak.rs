//! Attacks, churn and reloads for a long time: memory and descriptors stay flat, and the call is at the end as it was at the
//! beginning.

use std::time::{Duration, Instant};

use crate::attacks;
use crate::call::Call;
use crate::ground::Ground;

/// Words in the names of attacks that are short and leave nothing behind by intent.
const REPEATED: [&str; 4] = ["rubbish", "spoofed", "member", "websocket"];
/// Before the first sample: caches fill, the allocator takes what it keeps.
const WARM_UP: Duration = Duration::from_secs(60);
/// What may be added in an hour: of memory 16 MiB, of descriptors 8.
const MAX_MEMORY_PER_HOUR: f64 = 16.0;
const MAX_DESCRIPTORS_PER_HOUR: f64 = 8.0;

/// A time in hours, and what was there.
type Points = Vec<(f64, f64)>;

/// Runs for so many minutes; whether everything stayed flat.
pub(crate) async fn run(minutes: f64) -> anyhow::Result<bool> {
    let ground = Ground::start().await?;
    let mut call = Call::start()?;
    call.settle().await?;
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(minutes * 60.0);
    let warm_up = WARM_UP.min(Duration::from_secs_f64(minutes * 15.0));
    let all: Vec<_> =
        attacks::all().into_iter().filter(|a| REPEATED.iter().any(|word| a.name.contains(word))).collect();
    let (mut memory, mut descriptors) = (Points::new(), Points::new());
    let (mut latencies, mut lost, mut rounds) = (Vec::new(), 0, 0);
    let before = call.sample()?.lost;
    while Instant::now() < end {
        let attack = &all[rounds % all.len()];
        // What an attack finds is the table's to tell.
        let _ = (attack.run)(&ground).await;
        ground.touch_script(rounds)?;
        rounds += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (sample, figures) = (call.sample()?, ground.sample()?);
        lost = sample.lost - before;
        latencies.push(sample.p99);
        if began.elapsed() >= warm_up {
            let hours = began.elapsed().as_secs_f64() / 3_600.0;
            memory.push((hours, figures.usage.memory_bytes as f64 / f64::from(1 << 20)));
            descriptors.push((hours, ground.descriptors() as f64));
        }
    }
    let (memory, descriptors) = (slope(&memory), slope(&descriptors));
    let tenth = (latencies.len() / 10).max(1);
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times[times.len() / 2]
    };
    let (first, last) = (median(&latencies[..tenth]), median(&latencies[latencies.len() - tenth..]));
    println!(
        "{rounds} attacks and reloads in {minutes} min: memory {memory:+.1} MiB/h, descriptors {descriptors:+.1}/h, p99 {:.1} ms at \
         first and {:.1} ms at last, {lost} packets of the call lost",
        first.as_secs_f64() * 1_000.0,
        last.as_secs_f64() * 1_000.0,
    );
    // Over a short run the noise of a sample is more than an hour's growth.
    let is_long = minutes >= 10.0;
    Ok(lost == 0 && (!is_long || (memory <= MAX_MEMORY_PER_HOUR && descriptors <= MAX_DESCRIPTORS_PER_HOUR)))
}

/// The slope of the regression line.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / n, sum.1 + point.1 / n));
    let (mut xy, mut xx) = (0.0, 0.0);
    for point in points {
        xy += (point.0 - x) * (point.1 - y);
        xx += (point.0 - x).powi(2);
    }
    if xx > 0.0 { xy / xx } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_what_is_added_in_an_hour() {
        assert_eq!(slope(&[(0.0, 5.0), (0.5, 6.0), (1.0, 7.0)]), 2.0);
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 5.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }
}
