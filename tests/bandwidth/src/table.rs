//! Prints runs side by side, and their medians.

use crate::metrics::{Outcome, quantile};
use crate::scene::Scene;
use crate::world::{Which, run};

/// A scene with what came of it.
pub struct Row {
    /// Which scene.
    pub name: String,
    /// Ours and the yardstick's.
    pub outcomes: Vec<Outcome>,
}

/// Runs every scene with every estimator, on two threads.
pub fn run_all(scenes: &[Scene], whiches: &[Which], seed: u64) -> Vec<Row> {
    let make = |scene: &Scene| Row {
        name: scene.name.clone(),
        outcomes: whiches.iter().map(|which| run(scene, *which, seed, false)).collect(),
    };
    let make = &make;
    std::thread::scope(|scope| {
        let half = |first: usize| scope.spawn(move || scenes.iter().skip(first).step_by(2).map(make).collect());
        let halves: [std::thread::ScopedJoinHandle<'_, Vec<Row>>; 2] = [half(0), half(1)];
        let [even, odd] = halves.map(|half| half.join().expect("a run panicked"));
        let mut odd = odd.into_iter();
        even.into_iter().flat_map(|row| [Some(row), odd.next()]).flatten().collect()
    })
}

/// The rows as text.
pub fn print(title: &str, rows: &[Row], names: &[&str]) -> String {
    let mut out = format!("\n{title} ({} runs)\n{:45}", rows.len(), "");
    for name in names {
        out += &format!("| {name:63}");
    }
    out += &format!("\n{:45}", "");
    for _ in names {
        out += "| error use  queue95 drop    dropq recover  unfair  lost padding ";
    }
    for row in rows {
        out += &format!("\n{:45}", row.name);
        row.outcomes.iter().for_each(|outcome| out += &line(outcome));
    }
    out + &print_summary("", rows, names) + "\n"
}

/// The medians and extremes of the rows as text.
pub fn print_summary(title: &str, rows: &[Row], names: &[&str]) -> String {
    let mut out = String::new();
    for (name, part) in [("median", 0.5), ("nine of ten", 0.9), ("worst", 1.0)] {
        out += &format!("\n{:45}", format!("{title} {name}"));
        for which in 0..names.len() {
            out += &line(&summary(rows, which, part));
        }
    }
    out
}

/// The value of each column that `part` of the rows are below.
pub fn summary(rows: &[Row], which: usize, part: f64) -> Outcome {
    let column = |get: fn(&Outcome) -> Option<f64>| {
        let mut values: Vec<f64> = rows.iter().filter_map(|row| get(&row.outcomes[which])).collect();
        quantile(&mut values, part)
    };
    // More is better for one column only.
    let used = {
        let mut values: Vec<f64> = rows.iter().filter_map(|row| row.outcomes[which].used).collect();
        quantile(&mut values, 1.0 - part)
    };
    Outcome {
        error: column(|o| o.error),
        used,
        queue_p95: column(|o| o.queue_p95),
        drop_seen: column(|o| o.drop_seen),
        drop_queue: column(|o| o.drop_queue),
        recovery: column(|o| o.recovery),
        unfair: column(|o| o.unfair),
        lost: column(|o| Some(o.lost)).unwrap_or(0.0),
        padding: column(|o| Some(o.padding)).unwrap_or(0.0),
    }
}

fn line(outcome: &Outcome) -> String {
    let show = |value: Option<f64>, width: usize, digits: usize, unit: &str| match value {
        Some(value) if value.is_finite() => format!("{value:width$.digits$}{unit}"),
        Some(_) => format!("{:>width$}{unit}", "never"),
        None => format!("{:>width$}{}", "-", " ".repeat(unit.len())),
    };
    let percent = |value: Option<f64>| value.map(|value| value * 100.0);
    [
        "| ".into(),
        show(percent(outcome.error), 3, 0, " % "),
        show(outcome.used, 4, 2, " "),
        show(outcome.queue_p95, 4, 0, " ms "),
        show(outcome.drop_seen, 4, 1, " s "),
        show(outcome.drop_queue, 5, 0, " ms "),
        show(outcome.recovery, 5, 1, " s "),
        show(percent(outcome.unfair), 4, 0, " % "),
        show(percent(Some(outcome.lost)), 4, 1, " % "),
        show(percent(Some(outcome.padding)), 4, 1, " % "),
    ]
    .concat()
}
