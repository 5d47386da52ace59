//! What a machine may do to the system calls of a shard: a tracer holds them up, or has them refused. It reads and writes
//! the registers of x86-64.

use std::time::{Duration, Instant};

use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::faults::shard;
use super::{Attack, Outcome, attack};
use crate::ground::Ground;

/// How often a shard's thread is stopped, and for how long: longer than glommio lets a task run.
const STOPS: usize = 60;
const STOP: Duration = Duration::from_millis(110);
/// For how long the calls of a ring are refused.
const REFUSED: Duration = Duration::from_secs(2);

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack {
            ends_server: true,
            ..attack("fault: a shard that waits for a core again and again", |g| Box::pin(slow_shard(g)))
        },
        Attack {
            ends_server: true,
            ..attack("fault: the kernel has no memory for a shard's ring", |g| Box::pin(refused_ring(g)))
        },
    ]
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
