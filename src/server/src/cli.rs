//! The command line's verbs: the server itself, questions to a running one, and the tools for scripts.

use std::io::{Write, stdout};
use std::time::Instant;

use anyhow::Context;
use serde_json::{Value, json};

use crate::config::{Cli, Config, LogFormat, Verb};
use crate::log_lines::LogLines;
use crate::sandbox;
use crate::server::Server;
use crate::signal::operator;
use crate::tools;

/// Does what the command line asks for. False when a check or a test has found something, and has said so.
pub fn run(mut cli: Cli) -> anyhow::Result<bool> {
    match cli.command.take().unwrap_or_default() {
        Verb::Run => serve(&cli.load()?).map(|()| true),
        Verb::Rooms { json } => ask(operator::rooms(&cli.load()?, json)).map(|()| true),
        Verb::Reload { drop_state: None } => ask(operator::reload(&cli.load()?)).map(|()| true),
        Verb::Reload { drop_state: Some(room) } => order(cli, &room, "reload").map(|()| true),
        Verb::Resume { room } => order(cli, &room, "resume").map(|()| true),
        Verb::Call { room, request } => act(cli, &room, "call", &json_of("request", &request)?),
        Verb::Open { room, metadata } => act(cli, &room, "open", &json_of("metadata", &metadata)?),
        Verb::Kick { room, client, reason } => act(cli, &room, "kick", &json!({ "client": client, "reason": reason })),
        Verb::Close { room, reason } => act(cli, &room, "close", &json!({ "reason": reason })),
        Verb::Mute { room, client, track, undo } => {
            act(cli, &room, "mute", &json!({ "client": client, "track": track, "muted": !undo }))
        }
        Verb::Message { room, message, client } => {
            let message = json_of("message", &message)?;
            act(cli, &room, "message", &json!({ "message": message, "client": client }))
        }
        Verb::Check { scripts, strict } => tools::check(&scripts, strict, Instant::now(), &mut stdout()),
        Verb::Test { tests } => tools::test(&tests, Instant::now(), &mut stdout()),
    }
}

fn serve(config: &Config) -> anyhow::Result<()> {
    start_logging(config)?;
    sandbox::before_start(config)?;
    let server = Server::start(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the control plane")?;
    sandbox::after_start(config);
    runtime.block_on(server.run(told_to_stop()))
}

/// Gives an order about the policy of one room.
fn order(cli: Cli, room: &str, verb: &str) -> anyhow::Result<()> {
    ask(operator::order(&cli.load()?, room, verb))
}

/// Does something to one room.
fn act(cli: Cli, room: &str, verb: &str, body: &Value) -> anyhow::Result<bool> {
    ask(operator::act(&cli.load()?, room, verb, body)).map(|()| true)
}

fn json_of(what: &str, text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).with_context(|| format!("the {what} is not JSON"))
}

/// Asks a running server and shows what it says.
fn ask(question: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(question)?;
    match stdout().write_all(answer.as_bytes()) {
        // Whoever reads has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the answer"),
    }
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_filter)
        .with_context(|| format!("log_filter {:?}", config.log_filter))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogLines(std::io::stderr));
    match config.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// Ready at Ctrl-C or SIGTERM.
async fn told_to_stop() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
