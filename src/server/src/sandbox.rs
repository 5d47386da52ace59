//! What the process itself gives up, so that whoever takes it over gets little: files but its own, programs, most
//! capabilities, core dumps with keys in them.
//!
//! Each part can be switched off (`sandbox`), and says so when the kernel does not have it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};

use crate::config::{Config, SandboxPart};
use crate::script_files::turns_on_the_way;
use moonring_wire::causes::causes;

mod calls;

/// The newest access rights that are asked for; an older kernel enforces those that it knows.
const LANDLOCK: ABI = ABI::V5;
/// Files of the system that are read: libraries of name resolution, certificate authorities, time zones, the processors and
/// the quota of them.
const SYSTEM: &[&str] =
    &["/etc", "/usr", "/lib", "/lib64", "/proc", "/sys/devices/system", "/sys/fs/cgroup", "/dev", "/run/systemd"];
/// What says who resolves names: where it is a link, what it leads to is written anew with each network (resolvconf,
/// NetworkManager).
const RESOLVER: &str = "/etc/resolv.conf";
/// What stays of the capabilities, where they were there: low ports, buffers and locked memory beyond the limits, and
/// files of other users, of which only those above can be opened.
const KEPT: &[Capability] = &[
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_IPC_LOCK,
    Capability::CAP_SYS_NICE,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// To be called before there are threads: what they get is inherited.
pub(crate) fn before_start(config: &Config) -> anyhow::Result<()> {
    let is_on = |part| config.sandbox.contains(&part);
    if is_on(SandboxPart::Dumps) {
        nix::sys::prctl::set_dumpable(false).context("sandbox: core dumps cannot be switched off")?;
    }
    if is_on(SandboxPart::Capabilities) {
        drop_capabilities();
    }
    if is_on(SandboxPart::Files) {
        confine_files(config)?;
    }
    Ok(())
}

/// To be called once everything is started: what the start needed is refused from here on, in all threads.
pub(crate) fn after_start(config: &Config) {
    if config.sandbox.contains(&SandboxPart::Calls)
        && let Err(error) = calls::confine()
    {
        tracing::warn!(
            "sandbox: system calls are not refused: this kernel has no seccomp filters, or a container's seccomp profile refuses \
             them (docker/seccomp.json allows them): {}",
            causes(error.as_ref())
        );
    }
}

fn drop_capabilities() {
    let keep: CapsHashSet = KEPT.iter().copied().collect();
    let had = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let kept: CapsHashSet = had.intersection(&keep).copied().collect();
    for gone in caps::all().difference(&keep) {
        // Who has no CAP_SETPCAP has nothing to give up either.
        let _ = caps::drop(None, CapSet::Bounding, *gone);
    }
    let dropped = [(CapSet::Effective, &kept), (CapSet::Inheritable, &CapsHashSet::new()), (CapSet::Permitted, &kept)];
    for (set, kept) in dropped {
        if let Err(error) = caps::set(None, set, kept) {
            tracing::warn!(%error, "sandbox: capabilities cannot be dropped");
        }
    }
}

/// Lets this thread, and those that it starts, open nothing but what the server needs.
fn confine_files(config: &Config) -> anyhow::Result<()> {
    confine(paths(config, Path::new(RESOLVER)), &config.take_over)
}

fn confine((read, write): (Vec<PathBuf>, Option<PathBuf>), take_over: &Path) -> anyhow::Result<()> {
    if let Some(folder) = &write {
        // It has to be there to be named in a rule.
        std::fs::create_dir_all(folder).with_context(|| {
            let folder = folder.display();
            format!(
                "data folder {folder}: cannot be made; choose another with --data-dir, or --data-dir= to keep nothing"
            )
        })?;
    }
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(LANDLOCK) & !AccessFs::Execute))?
        .add_rules(path_beneath_rules(["/dev/null", "/dev/shm"], AccessFs::from_all(LANDLOCK)))?
        .add_rules(path_beneath_rules(write, AccessFs::from_all(LANDLOCK) & !AccessFs::Execute))?
        // Its socket takes the place of the one before.
        .add_rules(path_beneath_rules(folder_of(take_over), AccessFs::MakeSock | AccessFs::RemoveFile))?;
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => tracing::debug!("sandbox: files are confined"),
        RulesetStatus::PartiallyEnforced => tracing::info!("sandbox: files are confined as far as this kernel can"),
        RulesetStatus::NotEnforced => {
            tracing::warn!(
                "sandbox: files are not confined: this kernel has no Landlock (Linux 5.13), it is off, or a container's seccomp \
                 profile refuses it (docker/seccomp.json allows it)"
            );
        }
    }
    Ok(())
}

/// The folder that a file is in, if one is named.
fn folder_of(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}

/// What may be read, and what may be written as well.
fn paths(config: &Config, resolver: &Path) -> (Vec<PathBuf>, Option<PathBuf>) {
    // A certificate that is renewed is often another file of the same folder, or behind a link into another one. A folder
    // of scripts that is replaced as a whole is found again in the folder above it, and where a link on the way to it leads
    // next, below the folder that the link is in.
    let cluster = [&config.cluster_secret_file, &config.cluster_login_file, &config.cluster_ca];
    let own = [&config.scripts_dir, &config.tls_cert, &config.tls_key, &config.http_ca].into_iter().chain(cluster);
    let named = own.filter(|path| !path.as_os_str().is_empty());
    let mut read: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    for path in named {
        let target = std::fs::canonicalize(path).ok();
        read.extend([Some(path.clone()), folder_of(path), target.as_deref().and_then(folder_of)].into_iter().flatten());
    }
    read.extend(turns_on_the_way(&config.scripts_dir).into_iter().map(|(place, _)| place));
    read.extend(std::fs::canonicalize(resolver).ok().as_deref().and_then(folder_of));
    let write = Some(&config.data_dir).filter(|path| !path.as_os_str().is_empty()).cloned();
    (read, write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read_wherever_the_links_to_them_lead_next() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        for version in ["v1", "v2"] {
            std::fs::create_dir_all(root.join(version).join("scripts")).unwrap();
            std::fs::write(root.join(version).join("scripts/file"), version).unwrap();
        }
        std::os::unix::fs::symlink("v1", root.join("current")).unwrap();
        let config =
            Config { scripts_dir: root.join("current/scripts"), data_dir: root.join("data"), ..Config::default() };
        let read = move || {
            let before = confine_files(&config).map(|()| std::fs::read_to_string(root.join("current/scripts/file")));
            (before.unwrap().unwrap(), std::fs::read_to_string(root.join("v2/scripts/file")).unwrap())
        };
        assert_eq!(std::thread::spawn(read).join().unwrap(), ("v1".to_owned(), "v2".to_owned()));
        // A name without a folder is one in the folder that the server was started in.
        let here = Config { scripts_dir: "scripts".into(), ..Config::default() };
        assert!(paths(&here, Path::new(RESOLVER)).0.contains(&".".into()));
    }

    #[test]
    fn the_resolver_is_found_where_a_link_leads_to_it_and_again_when_the_network_is_another() {
        let (own, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |name: &str| dir.path().join(name);
        for folder in ["etc", "run/resolvconf"] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        let (link, target) = (path("etc/resolv.conf"), path("run/resolvconf/resolv.conf"));
        std::fs::write(&target, "first").unwrap();
        std::os::unix::fs::symlink("../run/resolvconf/resolv.conf", &link).unwrap();
        let (scripts_dir, data_dir) = (own.path().join("all/scripts"), own.path().join("data"));
        std::fs::create_dir_all(&scripts_dir).unwrap();
        // As part of the system.
        let (mut read, write) = paths(&Config { scripts_dir, data_dir, ..Config::default() }, &link);
        read.push(path("etc"));
        let (confined, is_confined) = std::sync::mpsc::sync_channel(0);
        let (replaced, is_replaced) = std::sync::mpsc::sync_channel(0);
        let reader = std::thread::spawn(move || {
            confine((read, write), Path::new("")).unwrap();
            let before = std::fs::read_to_string(&link).ok();
            confined.send(()).unwrap();
            is_replaced.recv().unwrap();
            (before, std::fs::read_to_string(&link).ok())
        });
        is_confined.recv().unwrap();
        std::fs::write(path("run/resolvconf/new"), "second").unwrap();
        std::fs::rename(path("run/resolvconf/new"), &target).unwrap();
        replaced.send(()).unwrap();
        assert_eq!(reader.join().unwrap(), (Some("first".to_owned()), Some("second".to_owned())));
    }

    /// The number of shards goes by it, and is asked for before and behind the sandbox.
    #[test]
    fn the_quota_of_processor_time_can_still_be_read() {
        let quota = || {
            let files = ["cgroup.controllers", "cpu.max", "cpu/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us"];
            let read = files.map(|file| std::fs::read(Path::new("/sys/fs/cgroup").join(file)).is_ok());
            (read, std::fs::read_dir("/sys/fs/cgroup").is_ok())
        };
        let dir = tempfile::tempdir().unwrap();
        let config = Config { scripts_dir: dir.path().into(), data_dir: dir.path().join("data"), ..Config::default() };
        let confined = std::thread::spawn(move || {
            confine_files(&config).unwrap();
            quota()
        });
        assert_eq!(confined.join().unwrap(), quota());
    }

    /// Landlock holds for the thread that asks for it, so a thread of its own can try it.
    #[test]
    fn only_the_servers_own_files_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["scripts", "data", "tls", "other"] {
            std::fs::create_dir(path(folder)).unwrap();
            std::fs::write(path(folder).join("file"), "x").unwrap();
        }
        let config = Config {
            scripts_dir: path("scripts"),
            data_dir: path("data"),
            tls_cert: path("tls/file"),
            tls_key: path("tls/file"),
            ..Config::default()
        };
        let root = dir.path().to_owned();
        let opened = move || {
            confine_files(&config).unwrap();
            let read = ["scripts/file", "data/file", "tls/file", "other/file"];
            let read = read.map(|name| std::fs::read(root.join(name)).is_ok());
            let write = ["scripts/new", "data/new", "tls/new", "other/new"];
            let write = write.map(|name| std::fs::write(root.join(name), "x").is_ok());
            (read, write, std::fs::read("/etc/hostname").is_ok() || !Path::new("/etc/hostname").exists())
        };
        let (read, write, system) = std::thread::spawn(opened).join().unwrap();
        let is_enforced =
            std::fs::read_to_string("/sys/kernel/security/lsm").map_or(!read[3], |l| l.contains("landlock"));
        if is_enforced {
            assert_eq!((read, write, system), ([true, true, true, false], [false, true, false, false], true));
        }
    }
}
