//! System calls that the server never makes once it has started: they are refused.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Programs, other processes, the kernel itself, and what only administration needs. Threads are still made: glommio's,
/// tokio's and those of name resolution. The shards' rings stay, as all media goes through them.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_open_tree,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknodat,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_personality,
];

/// Refuses them in all threads of the process, for good.
pub(super) fn confine() -> anyhow::Result<()> {
    for program in [refuse(refused()?, libc::EPERM)?, refuse(without_clone3(), libc::ENOSYS)?] {
        apply_filter_all_threads(&program)?;
    }
    Ok(())
}

fn refused() -> anyhow::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_fork, libc::SYS_vfork].map(|call| (call, Vec::new())));
    // A thread is made with CLONE_THREAD; without it, it is a process.
    let thread = libc::CLONE_THREAD as u64;
    let is_process = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is_process])?]);
    Ok(rules)
}

/// Its flags are in memory, where no filter sees them; the C library falls back to clone when there is none.
fn without_clone3() -> BTreeMap<i64, Vec<SeccompRule>> {
    BTreeMap::from([(libc::SYS_clone3, Vec::new())])
}

fn refuse(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> anyhow::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?;
    Ok(BpfProgram::try_from(filter)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seccompiler::apply_filter;

    #[test]
    fn the_profile_for_containers_lets_the_server_confine_itself() {
        let profile = include_str!("../../../../docker/seccomp.json");
        let profile: serde_json::Value = serde_json::from_str(profile).unwrap();
        let allowed: Vec<&str> = profile["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule.get("args").is_none())
            .flat_map(|rule| rule["names"].as_array().unwrap())
            .filter_map(|name| name.as_str())
            .collect();
        for call in
            ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp", "prctl", "capset"]
        {
            assert!(allowed.contains(&call), "{call}");
        }
    }

    /// A filter holds for the thread that takes it on, so a thread of its own can try it.
    #[test]
    fn programs_cannot_be_started_and_threads_can() {
        let tried = std::thread::spawn(|| {
            for program in [refuse(refused().unwrap(), libc::EPERM), refuse(without_clone3(), libc::ENOSYS)] {
                apply_filter(&program.unwrap()).unwrap();
            }
            let program = std::process::Command::new("/bin/true").status().map_err(|error| error.kind());
            let thread = std::thread::spawn(|| 7).join().unwrap();
            let ring = io_uring::IoUring::new(2).is_ok();
            (program, thread, ring)
        });
        let (program, thread, ring) = tried.join().unwrap();
        assert_eq!(program.unwrap_err(), std::io::ErrorKind::PermissionDenied);
        assert_eq!((thread, ring), (7, true));
    }
}
