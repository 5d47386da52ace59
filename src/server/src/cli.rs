//! The command line's verbs: the server itself, questions to a running one, and the tools for scripts.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{getpriority_process, setpriority_process};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{CanaryVerb, Cli, Config, ScriptsVerb, Verb, unknown_variables};
use crate::log_queue;
use crate::sandbox;
use crate::server::Server;
use crate::signal::operator::Listed;
use crate::signal::{operator, operator_canary, operator_clients, operator_nodes, operator_scripts, operator_streams};
use crate::tools;

mod logging;
mod shown;

use moonring_wire::causes::causes;
use shown::Shown;

/// The exit code of a replay whose files cannot be read.
const UNREADABLE: u8 = 2;
/// How long the end of the process waits for threads that are held up.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How much nicer the control plane's threads are than the shards': a weight of 335 to their 1,024 (sched(7)).
const CONTROL_PLANE_NICENESS: i32 = 5;

/// Does what the command line asks for, and says how the process is to end.
pub fn run(mut cli: Cli) -> ExitCode {
    let verb = cli.command.take().unwrap_or_default();
    let is_server = matches!(verb, Verb::Run);
    let _written = is_server.then_some(logging::Finish);
    let failed = if matches!(verb, Verb::Replay { .. }) { ExitCode::from(UNREADABLE) } else { ExitCode::FAILURE };
    match done(cli, verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let line = format!("moonring: {}\n", causes(error.as_ref())).into_bytes();
            if is_server {
                log_queue::queue_of_the_log().say(line);
            } else {
                // Nobody may read what went wrong.
                let _ = Shown(stderr()).write_all(&line);
            }
            failed
        }
    }
}

/// False when a check, a test or a replay has found something, or a list is not whole, and that is said.
fn done(cli: Cli, verb: Verb) -> anyhow::Result<bool> {
    match verb {
        Verb::Run => serve(&cli.load()?).map(|()| true),
        Verb::Nodes { json } => ask(operator_nodes::nodes(&cli.load_to_ask()?, json)).map(|()| true),
        Verb::Drain { deadline_s, wait } => {
            ask(operator_nodes::drain(&cli.load_to_ask()?, deadline_s, wait)).map(|()| true)
        }
        Verb::Undrain => ask(operator_nodes::undrain(&cli.load_to_ask()?)).map(|()| true),
        Verb::Rooms { json } => ask_for_all(operator::rooms(&cli.load_to_ask()?, json)),
        Verb::Clients { room, json } => ask(operator_clients::clients(&cli.load_to_ask()?, &room, json)).map(|()| true),
        Verb::Reload { drop_state: Some(room), .. } => order(cli, &room, "reload").map(|()| true),
        Verb::Reload { canary: Some(rooms), seconds, .. } => {
            let config = cli.load_to_ask()?;
            let seconds = seconds.unwrap_or(config.canary_s);
            ask(operator_canary::begin(&config, &rooms, seconds)).map(|()| true)
        }
        Verb::Reload { .. } => ask(operator::reload(&cli.load_to_ask()?)).map(|()| true),
        Verb::Canary { order } => {
            ask(operator_canary::order(&cli.load_to_ask()?, order.unwrap_or(CanaryVerb::Status))).map(|()| true)
        }
        Verb::Scripts { order: ScriptsVerb::List } => ask(operator_scripts::list(&cli.load_to_ask()?)).map(|()| true),
        Verb::Scripts { order: ScriptsVerb::Push { path, name } } => {
            let (scripts, is_folder) = tools::to_upload(&path, name)?;
            ask(operator_scripts::push(&cli.load_to_ask()?, &scripts, is_folder)).map(|()| true)
        }
        Verb::Scripts { order: ScriptsVerb::Drop { names } } => {
            ask(operator_scripts::drop_scripts(&cli.load_to_ask()?, &names)).map(|()| true)
        }
        Verb::Resume { room } => order(cli, &room, "resume").map(|()| true),
        Verb::Call { room, request } => act(cli, &room, "call", &json_of("request", &request)?),
        Verb::Open { room, metadata } => act(cli, &room, "open", &json_of("metadata", &metadata)?),
        Verb::Kick { room, client, reason } => act(cli, &room, "kick", &json!({ "client": client, "reason": reason })),
        Verb::Close { room, reason } => act(cli, &room, "close", &json!({ "reason": reason })),
        Verb::Mute { room, client, track, undo } => {
            act(cli, &room, "mute", &json!({ "client": client, "track": track, "muted": !undo }))
        }
        Verb::Move { room, client, node, shard } => {
            act(cli, &room, "move", &json!({ "client": client, "node": node, "shard": shard }))
        }
        Verb::Attributes { room, client, attributes } => {
            let attributes = json_of("value of the attributes", &attributes)?;
            act(cli, &room, "attributes", &json!({ "client": client, "attributes": attributes }))
        }
        Verb::Rights { room, client, publish, subscribe, message, reason } => {
            let body = json!({ "client": client, "publish": publish, "subscribe": subscribe, "message": message,
                "reason": reason });
            act(cli, &room, "rights", &body)
        }
        Verb::Message { room, message, client } => {
            let message = json_of("message", &message)?;
            act(cli, &room, "message", &json!({ "message": message, "client": client }))
        }
        Verb::Trace { room, json } => {
            stream(operator_streams::trace(&cli.load_to_ask()?, &room, json, &mut Shown(stdout())))
        }
        Verb::Record { room, seconds } => {
            let seconds = seconds.map(Duration::from_secs);
            stream(operator_streams::record(&cli.load_to_ask()?, &room, seconds, &mut Shown(stdout())))
        }
        Verb::Replay { script, recording, as_test: true } => {
            tools::replay_as_test(&script, &recording, Instant::now(), &mut stdout()).map(|()| true)
        }
        Verb::Replay { script, recording, as_test: false } => {
            tools::replay(&script, &recording, Instant::now(), &mut Shown(stdout()), &mut Shown(stderr()))
        }
        Verb::Check { scripts, strict } => tools::check(&scripts, strict, Instant::now(), &mut Shown(stdout())),
        Verb::Test { tests } => tools::test(&tests, Instant::now(), &mut Shown(stdout())),
    }
}

fn serve(config: &Config) -> anyhow::Result<()> {
    logging::start(config)?;
    for name in unknown_variables(std::env::vars_os()) {
        tracing::warn!("{name} in the environment is no setting: `moonring run --help` lists them");
    }
    let unused = config.without_cluster();
    if !unused.is_empty() {
        tracing::warn!("without the setting cluster this server is alone, and {} without effect", unused.join(", "));
    }
    if let Some(words) = config.beyond_all_recordings() {
        tracing::warn!("{words}");
    }
    sandbox::before_start(config)?;
    log_queue::start().context("cannot start the thread of the log")?;
    let server = Server::start(config)?;
    let runtime = control_plane().context("cannot start the control plane")?;
    sandbox::after_start(config);
    run_to_end(runtime, server.run(told_to_stop()))
}

/// Runs what there is to run, and does not wait for the runtime's threads that are held up: by a name that is being looked up
/// for a script while nobody answers, or by a folder of scripts on a file system that hangs.
fn run_to_end<T>(runtime: Runtime, what: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(what);
    runtime.shutdown_timeout(LAST_PATIENCE);
    outcome
}

/// The runtime of all that is not media. Where one of its threads and a shard want the same core, the shard gets three
/// quarters of it: packets do not wait behind the messages of those who join.
fn control_plane() -> std::io::Result<Runtime> {
    // That of the process: a thread has the niceness of the one that made it, which may be one of these.
    let niceness = getpriority_process(None)? + CONTROL_PLANE_NICENESS;
    let step_back = move || {
        if let Err(error) = setpriority_process(None, niceness) {
            tracing::warn!(%error, "a thread of the control plane has the same share of a core as a shard");
        }
    };
    Builder::new_multi_thread().worker_threads(2).enable_all().on_thread_start(step_back).build()
}

/// Gives an order about the policy of one room.
fn order(cli: Cli, room: &str, verb: &str) -> anyhow::Result<()> {
    ask(operator::order(&cli.load_to_ask()?, room, verb))
}

/// Does something to one room.
fn act(cli: Cli, room: &str, verb: &str, body: &Value) -> anyhow::Result<bool> {
    ask(operator::act(&cli.load_to_ask()?, room, verb, body)).map(|()| true)
}

fn json_of(what: &str, text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).with_context(|| format!("the {what} is not JSON"))
}

/// Shows what a running server tells, until it ends or Ctrl-C.
fn stream(told: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<bool> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(told).map(|()| true)
}

/// Asks a running server and shows what it says.
fn ask(question: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    show(&runtime.block_on(question)?)
}

/// The same of a list; false when something is missing in it, which is said.
fn ask_for_all(question: impl Future<Output = anyhow::Result<Listed>>) -> anyhow::Result<bool> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let Listed { text, missing } = runtime.block_on(question)?;
    show(&text)?;
    if let Some(words) = &missing {
        // Nobody may read it; the exit code says it, too.
        let _ = Shown(stderr()).write_all(format!("moonring: {words}\n").as_bytes());
    }
    Ok(missing.is_none())
}

fn show(answer: &str) -> anyhow::Result<()> {
    match Shown(stdout()).write_all(answer.as_bytes()) {
        // Whoever reads has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the answer"),
    }
}

/// Ready at Ctrl-C or SIGTERM. Of SIGHUP the server knows.
async fn told_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    fn niceness() -> i32 {
        getpriority_process(None).unwrap()
    }

    #[test]
    fn threads_of_the_control_plane_step_back_behind_the_one_that_starts_the_shards() {
        let before = niceness();
        let runtime = control_plane().unwrap();
        let worker = runtime.block_on(runtime.spawn(async { niceness() })).unwrap();
        let of_a_worker = runtime.spawn(async { tokio::task::spawn_blocking(niceness).await });
        let for_what_blocks = runtime.block_on(of_a_worker).unwrap().unwrap();
        assert_eq!((worker, for_what_blocks, niceness()), (before + 5, before + 5, before));
    }

    #[test]
    fn the_end_of_the_process_does_not_wait_for_a_thread_that_hangs() {
        let ((ended, end), (hangs, goes_on)) = (mpsc::channel(), mpsc::channel::<()>());
        let run = move || {
            let (began, begins) = oneshot::channel();
            let hang = move || {
                began.send(()).unwrap();
                // As a look-up does that nobody answers.
                _ = goes_on.recv();
            };
            run_to_end(control_plane().unwrap(), async {
                tokio::task::spawn_blocking(hang);
                begins.await.unwrap();
            });
            ended.send(()).unwrap();
        };
        std::thread::spawn(run);
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(()));
        drop(hangs);
    }
}
