//! Attacks a running server from a hostile network, with a well-behaved call beside it, and prints what became of both.
//!
//! ```text
//! main ─ a network namespace of its own ─▶ server (a process) ◀── call: three clients of the load test
//!   └──▶ each attack in turn ──────────────────▲        table: its figures, and the call's, before and after
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command")]

mod attacks;
mod call;
mod ground;
mod insider;
mod net;
mod soak;
mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use call::Call;
use ground::Ground;
use table::Table;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("attack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False when a row is not as it has to be.
fn run(mut names: Vec<String>) -> anyhow::Result<bool> {
    if names.first().is_some_and(|name| name == "--list") {
        attacks::all().iter().for_each(|attack| println!("{}", attack.name));
        return Ok(true);
    }
    if names.first().is_none_or(|name| name != net::INSIDE) {
        return net::enter_namespace(&names);
    }
    names.remove(0);
    net::set_up()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match names.iter().position(|name| name == "--soak") {
        Some(at) => {
            let after = |flag: &str| names.iter().position(|name| name == flag).and_then(|at| names.get(at + 1));
            let minutes = names.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or(30.0);
            let leaks = names.iter().any(|name| name == "--leak");
            runtime.block_on(soak::run(soak::Plan { minutes, leaks, chart: after("--chart").cloned() }))
        }
        None => runtime.block_on(attack(&names)),
    }
}

async fn attack(names: &[String]) -> anyhow::Result<bool> {
    let mut table = Table::default();
    let mut ground = Ground::start().await?;
    let mut call = Call::start().context("the call beside the attacks")?;
    call.settle().await?;
    for attack in attacks::all() {
        if !names.is_empty() && !names.iter().any(|name| attack.name.contains(name.as_str())) {
            continue;
        }
        // What one attack leaves behind is not counted for the next.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (began, before) = (Instant::now(), (call.sample()?, ground.sample()?));
        let watch = ground.watch_memory();
        let outcome = (attack.run)(&ground).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = (call.sample()?, ground.sample()?);
        let row = table::Row::new(&attack, outcome, before, after, watch.peak());
        println!("{}", row.line());
        if !row.is_good() {
            eprintln!("the server's last lines after {:.1} s:\n{}", began.elapsed().as_secs_f64(), ground.last_lines());
        }
        table.push(row);
        if attack.ends_server {
            drop(call);
            drop(ground);
            ground = Ground::start().await?;
            call = Call::start()?;
            call.settle().await?;
        }
    }
    println!("\n{}", table.summary());
    Ok(table.is_good())
}
