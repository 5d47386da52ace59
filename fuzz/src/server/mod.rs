//! The targets that need the server: its configuration file, and the pages that clients see.

mod config;
mod pages;

use super::target::{Parts, Target, joined};

/// The targets.
pub const TARGETS: &[Target] = &[
    Target { name: "config", run: config::config, seeds: config::config_seeds },
    Target { name: "http", run: pages::http, seeds: pages::http_seeds },
    Target { name: "websocket", run: pages::websocket, seeds: pages::websocket_seeds },
    Target { name: "tickets", run: pages::tickets, seeds: pages::tickets_seeds },
];
