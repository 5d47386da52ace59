//! The targets that need the server: its configuration file, the pages that clients see, and what other nodes say.

mod config;
mod nodes;
mod pages;

use super::target::{Parts, Target, joined};

/// The targets.
pub const TARGETS: &[Target] = &[
    Target { name: "config", run: config::config, seeds: config::config_seeds },
    Target { name: "http", run: pages::http, seeds: pages::http_seeds },
    Target { name: "websocket", run: pages::websocket, seeds: pages::websocket_seeds },
    Target { name: "tickets", run: pages::tickets, seeds: pages::tickets_seeds },
    Target { name: "nodes", run: nodes::nodes, seeds: nodes::nodes_seeds },
    Target { name: "stays", run: nodes::stays, seeds: nodes::stays_seeds },
];
