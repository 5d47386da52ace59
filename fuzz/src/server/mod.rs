//! The targets that need the server: its configuration file, and the pages that clients see.

mod config;
mod pages;

use super::target::{Parts, Target, joined};

/// The targets.
pub const TARGETS: &[Target] = &[
    Target { name: "config", run: config::config, seeds: config::config_seeds, rounds: 1_000 },
    Target { name: "http", run: pages::http, seeds: pages::http_seeds, rounds: 500 },
    Target { name: "websocket", run: pages::websocket, seeds: pages::websocket_seeds, rounds: 500 },
    Target { name: "tickets", run: pages::tickets, seeds: pages::tickets_seeds, rounds: 150 },
];
