//! Faults of the machine and of the server itself.

use std::time::{Duration, Instant};

use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::{Attack, Outcome, attack};
use crate::ground::Ground;

/// How often a shard's thread is stopped, and for how long: longer than glommio lets a task run.
const STOPS: usize = 60;
const STOP: Duration = Duration::from_millis(110);
/// For how long the calls of a ring are refused.
const REFUSED: Duration = Duration::from_secs(2);

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("process: what it can still do", |g| Box::pin(confined(g))),
        Attack { ends_server: true, ..attack("fault: the process stands still for 4 s", |g| Box::pin(standstill(g))) },
        Attack {
            ends_server: true,
            ..attack("fault: a shard that waits for a core again and again", |g| Box::pin(slow_shard(g)))
        },
        Attack {
            ends_server: true,
            ..attack("fault: the kernel has no memory for a shard's ring", |g| Box::pin(refused_ring(g)))
        },
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
fn shard(ground: &Ground) -> anyhow::Result<Pid> {
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

/// Has one thread wait before and behind each call of a ring of its, as a machine with too few cores does at some of them,
/// for longer than any timer of its executor runs.
async fn slow_shard(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut stops = 0;
    let slow = move |_: Pid, regs: user_regs_struct| {
        if regs.orig_rax == libc::SYS_io_uring_enter as u64 {
            std::thread::sleep(STOP);
            stops += 1;
        }
        Ok(stops < STOPS)
    };
    let sent = format!("{STOPS} stops of {} ms", STOP.as_millis());
    goes_on(ground, sent, slow).await
}

/// Has the kernel refuse each call of a ring of the shard's, for a while.
async fn refused_ring(ground: &Ground) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let mut is_refused = false;
    let refuse = move |shard: Pid, mut regs: user_regs_struct| {
        if is_refused {
            regs.rax = i64::from(-libc::EAGAIN) as u64;
            ptrace::setregs(shard, regs)?;
            is_refused = false;
        } else if regs.orig_rax == libc::SYS_io_uring_enter as u64 && regs.rax == i64::from(-libc::ENOSYS) as u64 {
            // At the call's beginning: no call has this number, so that none is made.
            regs.orig_rax = u64::MAX;
            ptrace::setregs(shard, regs)?;
            is_refused = true;
        }
        Ok(is_refused || began.elapsed() < REFUSED)
    };
    goes_on(ground, format!("EAGAIN for {} s", REFUSED.as_secs()), refuse).await
}

/// Calls `each` at the beginning and at the end of each system call of the first shard until it returns false; whether the
/// process answers afterwards, and its watchdog has had time to end it.
async fn goes_on(
    ground: &Ground,
    sent: String,
    mut each: impl FnMut(Pid, user_regs_struct) -> nix::Result<bool> + Send + 'static,
) -> anyhow::Result<Outcome> {
    let shard = shard(ground)?;
    let trace = move || {
        ptrace::attach(shard)?;
        waitpid(shard, Some(WaitPidFlag::__WALL))?;
        loop {
            ptrace::syscall(shard, None)?;
            waitpid(shard, Some(WaitPidFlag::__WALL))?;
            if !each(shard, ptrace::getregs(shard)?)? {
                return ptrace::detach(shard, None);
            }
        }
    };
    // A blocking task stays on one thread, which alone may order the traced one.
    let traced = tokio::task::spawn_blocking(trace).await?;
    let code = ground.exit_code(Duration::from_secs(5)).await;
    let answers = code.is_none() && ground.get("/healthz").await.is_ok();
    let did = format!("ended with {code:?}, goes on: {answers}");
    Ok(Outcome::new(sent, did, traced.is_ok() && answers))
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
