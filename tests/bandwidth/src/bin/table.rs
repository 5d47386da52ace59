//! Prints the table: `cargo run --release -p bandwidth-sim --bin table [-- GROUP [SEED]]`, or the course of one run:
//! `... --bin table -- trace PART-OF-NAME [SEED]`; or the medians over four seeds: `... --bin table -- summary [FIRST-SEED]`.
//! The parameters were tuned on seeds 1 to 4: look at others to judge them.
#![allow(clippy::print_stdout)] // It is what the program is for.

use moonring_bandwidth_sim::scene::{
    Scene, bad, grid, homes, homes_on_bad_paths, odd, own_links, reno, sfu_grid, sfu_homes, shares, waves,
};
use moonring_bandwidth_sim::table::{print, print_summary, run_all};
use moonring_bandwidth_sim::world::{Which, run};

/// These are printed when they are asked for, and in the summary.
const BY_NAME: [&str; 4] = ["bad-shares", "bad-homes", "own-shares", "own-homes"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let group = arguments.first().map_or("", String::as_str);
    let groups: [(&str, Vec<Scene>); 14] = [
        ("continuous", grid()),
        ("sfu", sfu_grid()),
        ("bad", bad()),
        ("odd", odd()),
        ("waves", waves()),
        ("shares", shares()),
        ("homes", homes()),
        ("sfu-shares", sfu_homes(false)),
        ("sfu-homes", sfu_homes(true)),
        ("bad-shares", homes_on_bad_paths(false)),
        ("bad-homes", homes_on_bad_paths(true)),
        ("own-shares", own_links(false)),
        ("own-homes", own_links(true)),
        ("reno", reno()),
    ];
    if group == "trace" {
        let part = arguments.get(1).map_or("", String::as_str);
        let seed = arguments.get(2).and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let all = groups.into_iter().flat_map(|group| group.1);
        for scene in all.filter(|scene| scene.name.contains(part)).take(1) {
            println!("{}\n{:?}", scene.name, run(&scene, Which::Ours, seed, true));
        }
        return;
    }
    if group == "summary" {
        let first = arguments.get(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
        for (name, scenes) in &groups {
            let rows: Vec<_> = (first..first + 4).flat_map(|seed| run_all(scenes, &[Which::Ours], seed)).collect();
            println!("{}", print_summary(name, &rows, &["ours"]));
        }
        return;
    }
    let seed = arguments.get(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let ours_only = arguments.get(2).is_some();
    let (whiches, names) = ([Which::Ours, Which::Google], ["ours", "goog_cc"]);
    let count = if ours_only { 1 } else { 2 };
    for (name, scenes) in
        groups.iter().filter(|(name, _)| group == *name || (group.is_empty() && !BY_NAME.contains(name)))
    {
        let rows = run_all(scenes, &whiches[..count], seed);
        println!("{}", print(name, &rows, &names[..count]));
    }
}
