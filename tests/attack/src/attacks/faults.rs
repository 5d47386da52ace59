//! Faults of the machine and of the server itself.

use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Attack, Outcome, attack};
use crate::ground::Ground;

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("process: what it can still do", |g| Box::pin(confined(g))),
        Attack { ends_server: true, ..attack("fault: the process stands still for 4 s", |g| Box::pin(standstill(g))) },
        Attack { ends_server: true, ..attack("fault: a shard that stops answering", |g| Box::pin(stuck_shard(g))) },
    ]
}

async fn confined(ground: &Ground) -> anyhow::Result<Outcome> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ground.pid()))?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let (seccomp, capabilities) = (field("Seccomp:"), field("CapEff:"));
    let descriptors = std::fs::read_to_string(format!("/proc/{}/limits", ground.pid()))?;
    let raised = descriptors.lines().find(|line| line.starts_with("Max open files")).is_some_and(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.get(3) == fields.get(4)
    });
    let did = format!("seccomp {seccomp}, capabilities {capabilities}, descriptors raised: {raised}");
    let few = u64::from_str_radix(&capabilities, 16).is_ok_and(|set| set.count_ones() <= 6);
    Ok(Outcome::new("nothing", did, seccomp == "2" && few && raised))
}

async fn standstill(ground: &Ground) -> anyhow::Result<Outcome> {
    let pid = Pid::from_raw(ground.pid() as i32);
    kill(pid, Signal::SIGSTOP)?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    kill(pid, Signal::SIGCONT)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answers = ground.get("/healthz").await.is_ok();
    Ok(Outcome::new("SIGSTOP, SIGCONT", format!("goes on: {answers}"), answers))
}

/// The thread of the first shard.
pub(super) fn shard(ground: &Ground) -> anyhow::Result<Pid> {
    let mut shard: Option<i32> = None;
    for task in std::fs::read_dir(format!("/proc/{}/task", ground.pid()))? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.starts_with("shard-0") {
            // Its executor has started a helper of the same name, later.
            let id = task.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok());
            shard = shard.map_or(id, |first: i32| id.map(|id| id.min(first)));
        }
    }
    Ok(Pid::from_raw(shard.ok_or_else(|| anyhow::anyhow!("there is no thread shard-0"))?))
}

/// Stops one thread alone, as a debugger does.
async fn stuck_shard(ground: &Ground) -> anyhow::Result<Outcome> {
    let shard = shard(ground)?;
    // Attaching and waiting have to happen on one thread, which then holds it.
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let attached = ptrace::attach(shard);
        let _ = wait.recv();
        attached
    });
    let code = ground.exit_code(Duration::from_secs(10)).await;
    drop(done);
    let attached = holder.join().map_err(|_| anyhow::anyhow!("the holder panicked"))?;
    let line = ground.log();
    let line = line.lines().find(|line| line.contains("has not answered")).unwrap_or_default().to_owned();
    let held = attached.is_ok() && code == Some(70) && line.contains("it was at");
    let said = line.split_once("shard-0 ").map_or("nothing", |(_, words)| words);
    Ok(Outcome::new("the thread stopped by ptrace", format!("ended with {code:?}, said: {said}"), held))
}
