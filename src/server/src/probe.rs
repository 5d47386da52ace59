//! What a shard needs of the machine, checked at the start: each error is one line that says what to do.

use std::io;
use std::num::NonZero;

use io_uring::IoUring;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use crate::tcp::ListenError;

/// glommio refuses to start below this limit, whoever asks.
const MEMLOCK_LEAST_BYTES: u64 = 512 << 10;
/// What a shard locks: three times 64 KiB of glommio's, a few pages for rings.
const MEMLOCK_BYTES_PER_SHARD: u64 = 256 << 10;

/// Descriptors that are not for clients' connections: scripts, their HTTP requests, the admin pages.
const OTHER_DESCRIPTORS: u64 = 256;
/// Those of a shard: its rings and glommio's, what wakes them, its sockets. Nine were counted.
const DESCRIPTORS_PER_SHARD: u64 = 10;

/// What the control plane and the process itself have open before the first client comes, beside the shards: its runtime,
/// sockets, the watch on scripts, the store. A server of one shard started with 24 descriptors, and with no fewer.
const LEAST_DESCRIPTORS: u64 = 32;

/// Why no shard can run here.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring is refused.
    #[error(
        "io_uring is disabled here ({0}): sysctl kernel.io_uring_disabled=0, or run the container with --security-opt seccomp=docker/seccomp.json"
    )]
    NoIoUring(io::Error),
    /// io_uring is there but lacks what the ring needs.
    #[error("this kernel's io_uring is too old ({0}): Linux 6.1 or newer is needed")]
    OldIoUring(io::Error),
    /// Too little memory may be locked.
    #[error(
        "{shards} shards lock {wanted} bytes of memory, {limit} are allowed: ulimit -l {}, LimitMEMLOCK={wanted} or --ulimit memlock={wanted}", .wanted / 1024
    )]
    Memlock {
        /// For how many.
        shards: usize,
        /// What they need.
        wanted: u64,
        /// What they may.
        limit: u64,
    },
    /// The kernel has no memory for a shard's rings.
    #[error(
        "the kernel gives a shard's rings no memory ({0}): they are locked memory, of which all processes of one user have one share; \
         raise ulimit -l, LimitMEMLOCK or --ulimit memlock, or end what else this user runs"
    )]
    RingMemory(io::Error),
    /// Too few files may be open.
    #[error(
        "{shards} shards and the control plane open {least} files before anybody comes, {limit} are allowed: ulimit -n {wanted}, \
         LimitNOFILE={wanted} or --ulimit nofile={wanted}"
    )]
    Descriptors {
        /// For how many.
        shards: usize,
        /// What they need.
        least: u64,
        /// What they may.
        limit: u64,
        /// What they and as many clients as the settings allow need.
        wanted: u64,
    },
    /// The port of a shard cannot be listened at.
    #[error(transparent)]
    Tcp(#[from] ListenError),
    /// glommio's executor does not start.
    #[error("the shard's executor does not start: {0}")]
    Executor(String),
    /// What another process has handed over is not taken.
    #[error("the shard cannot go on where the other process has stopped: {0}")]
    NotTaken(String),
    /// No further thread may run.
    #[error("no thread for the shard ({0}): as many run as may; raise ulimit -u, TasksMax or --pids-limit")]
    Threads(io::Error),
    /// The thread or its wake-up cannot be made.
    #[error("the shard's thread does not start: {0}")]
    Thread(io::Error),
}

/// What there is to be, beside the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    /// Shards.
    pub(crate) shards: usize,
    /// Clients at most.
    pub(crate) clients_max: usize,
    /// Whether a client may have a connection for media, too.
    pub(crate) media_tcp: bool,
}

impl Planned {
    /// Connections of a client.
    fn each(self) -> usize {
        1 + usize::from(self.media_tcp)
    }

    /// The descriptors that all of it needs.
    fn descriptors(self) -> u64 {
        (self.clients_max.saturating_mul(self.each()) as u64).saturating_add(others(self.shards))
    }
}

/// Checks that the shards can run here, and lets them have as many descriptors as are allowed. To be called before the
/// first one is started.
pub(crate) fn check(planned: Planned) -> Result<(), StartError> {
    let shards = planned.shards;
    check_descriptors(planned, raise_descriptors().unwrap_or(u64::MAX))?;
    check_io_uring()?;
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(u64::MAX, |(soft, _)| soft);
    check_memlock(shards, limit)
}

/// Raises the soft limit of descriptors to the hard one; the limit that then holds.
fn raise_descriptors() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft })
}

/// How many connections for media each of so many shards may have: as many in all as there may be of signalling.
pub(crate) fn media_connections(shards: usize) -> usize {
    let limit = raise_descriptors().unwrap_or(OTHER_DESCRIPTORS);
    connections_within(limit, shards) / 2 / shards.max(1)
}

/// Says how many connections of signalling there may be beside so many shards, and beside as many for media where a client
/// may have one; warns when those are fewer than the clients that the settings allow.
pub(crate) fn connections(planned: Planned) -> usize {
    let Planned { shards, clients_max, .. } = planned;
    let Some(limit) = raise_descriptors() else { return clients_max };
    let connections = connections_within(limit, shards) / planned.each();
    if connections < clients_max {
        let wanted = planned.descriptors();
        tracing::warn!(
            clients_max,
            connections,
            "fewer descriptors are allowed ({limit}) than clients_max needs: ulimit -n {wanted}, LimitNOFILE={wanted} or \
             --ulimit nofile={wanted}"
        );
    }
    connections
}

/// Descriptors that are not for connections.
fn others(shards: usize) -> u64 {
    OTHER_DESCRIPTORS + DESCRIPTORS_PER_SHARD * shards as u64
}

/// How many connections fit within a limit of descriptors.
fn connections_within(limit: u64, shards: usize) -> usize {
    usize::try_from(limit - others(shards).min(limit / 2)).unwrap_or(usize::MAX)
}

/// How many cores this process may use, and so how many shards make sense.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The core that a shard is pinned to, of those that this process may run on (a container's cpuset, taskset(1)). The first one
/// is left to the control plane; where there is none to leave, no shard is pinned.
pub(crate) fn core_of(shard: usize, shards: usize) -> Option<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let allowed: Vec<usize> = (0..CpuSet::count()).filter(|core| set.is_set(*core) == Ok(true)).collect();
    pinned(&allowed, cores(), (shard, shards))
}

fn pinned(allowed: &[usize], cores: usize, (shard, shards): (usize, usize)) -> Option<usize> {
    let first = cores.checked_sub(shards).filter(|first| *first > 0)?;
    allowed.get(first + shard).copied()
}

fn check_io_uring() -> Result<(), StartError> {
    // As the media ring is set up.
    let ring: io::Result<IoUring> = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(2);
    ring.map(drop).map_err(ring_error)
}

fn check_descriptors(planned: Planned, limit: u64) -> Result<(), StartError> {
    let Planned { shards, .. } = planned;
    let least = LEAST_DESCRIPTORS + DESCRIPTORS_PER_SHARD * shards as u64;
    if limit >= least {
        return Ok(());
    }
    Err(StartError::Descriptors { shards, least, limit, wanted: planned.descriptors() })
}

fn check_memlock(shards: usize, limit: u64) -> Result<(), StartError> {
    let wanted = MEMLOCK_LEAST_BYTES.max(MEMLOCK_BYTES_PER_SHARD * shards as u64);
    if limit >= wanted { Ok(()) } else { Err(StartError::Memlock { shards, wanted, limit }) }
}

/// Why a ring could not be set up.
pub(super) fn ring_error(error: io::Error) -> StartError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => StartError::NoIoUring(error),
        Some(libc::EINVAL | libc::EOPNOTSUPP) => StartError::OldIoUring(error),
        Some(libc::ENOMEM) => StartError::RingMemory(error),
        _ => StartError::Thread(error),
    }
}

/// Why a thread could not be made.
pub(super) fn thread_error(error: io::Error) -> StartError {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => StartError::Threads(error),
        _ => StartError::Thread(error),
    }
}

/// Why glommio did not start; its error is a text of several lines.
pub(super) fn executor_error(text: &str) -> StartError {
    let no_memory = io::Error::from_raw_os_error(libc::ENOMEM);
    if text.contains(&no_memory.to_string()) {
        return StartError::RingMemory(no_memory);
    }
    StartError::Executor(text.lines().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_SHARD: Planned = Planned { shards: 1, clients_max: 100, media_tcp: false };

    #[test]
    fn a_refused_io_uring_says_how_to_allow_it() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES] {
            let line = ring_error(io::Error::from_raw_os_error(errno)).to_string();
            assert!(line.starts_with("io_uring is disabled here"), "{line}");
            assert!(line.contains("kernel.io_uring_disabled=0") && line.contains("seccomp=docker/seccomp.json"));
            assert_eq!(line.lines().count(), 1);
        }
    }

    #[test]
    fn too_little_lockable_memory_says_how_much_is_needed_and_where() {
        for (shards, limit, enough) in
            [(1, 524_288, true), (1, 524_287, false), (2, 524_288, true), (32, 8 << 20, true), (33, 8 << 20, false)]
        {
            assert_eq!(check_memlock(shards, limit).is_ok(), enough, "{shards} shards, {limit} bytes");
        }
        let line = check_memlock(8, 65_536).unwrap_err().to_string();
        assert_eq!(
            line,
            "8 shards lock 2097152 bytes of memory, 65536 are allowed: ulimit -l 2048, LimitMEMLOCK=2097152 or --ulimit memlock=2097152"
        );
    }

    #[test]
    fn too_few_descriptors_to_start_with_say_how_many_are_needed_and_where() {
        for (shards, limit, enough) in [(1, 42, true), (1, 41, false), (3, 62, true), (3, 61, false)] {
            let planned = Planned { shards, ..ONE_SHARD };
            assert_eq!(check_descriptors(planned, limit).is_ok(), enough, "{shards} shards, {limit} descriptors");
        }
        let planned = Planned { shards: 2, clients_max: 1_000, media_tcp: true };
        assert_eq!(
            check_descriptors(planned, 20).unwrap_err().to_string(),
            "2 shards and the control plane open 52 files before anybody comes, 20 are allowed: ulimit -n 2276, LimitNOFILE=2276 or \
             --ulimit nofile=2276"
        );
    }

    #[test]
    fn rings_without_memory_and_threads_beyond_the_most_say_which_limit_it_is() {
        let of_executor = "Enhanced glommio error:\nIO error occurred: Cannot allocate memory (os error 12)";
        for error in [ring_error(io::Error::from_raw_os_error(libc::ENOMEM)), executor_error(of_executor)] {
            let line = error.to_string();
            assert!(
                line.contains("ulimit -l, LimitMEMLOCK or --ulimit memlock") && line.lines().count() == 1,
                "{line}"
            );
        }
        let line = thread_error(io::Error::from_raw_os_error(libc::EAGAIN)).to_string();
        assert!(line.ends_with("raise ulimit -u, TasksMax or --pids-limit"), "{line}");
    }

    #[test]
    fn shards_start_with_as_many_descriptors_as_are_allowed() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // One less does no harm to other tests.
        setrlimit(Resource::RLIMIT_NOFILE, hard - 1, hard).unwrap();
        check(ONE_SHARD).unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }

    #[test]
    fn some_descriptors_are_kept_for_what_is_no_connection() {
        for (limit, shards, connections) in [
            (1024, 0, 768),
            (1024, 20, 568),
            (1_048_576, 0, 1_048_320),
            (4096, 127, 2_570),
            (100, 0, 50),
            (100, 1, 50),
            (0, 1, 0),
        ] {
            assert_eq!(connections_within(limit, shards), connections, "{limit} {shards}");
        }
    }

    #[test]
    fn shards_are_pinned_to_cores_that_the_process_may_run_on() {
        for (allowed, cores, shards, expected) in [
            (&[0, 1, 2, 3][..], 4, 3, &[Some(1), Some(2), Some(3)][..]),
            (&[0, 1, 2, 3], 4, 1, &[Some(3)]),
            (&[4, 5, 6, 7], 4, 3, &[Some(5), Some(6), Some(7)]),
            (&[2, 9], 2, 1, &[Some(9)]),
            // A quota of two cores, and all of the machine's to spend it on.
            (&[0, 1, 2, 3], 2, 1, &[Some(1)]),
            (&[0, 1], 2, 2, &[None, None]),
            (&[5], 1, 1, &[None]),
            (&[], 4, 3, &[None, None, None]),
        ] {
            let found: Vec<_> = (0..shards).map(|shard| pinned(allowed, cores, (shard, shards))).collect();
            assert_eq!(found, expected, "{allowed:?} {cores}");
        }
    }

    #[test]
    fn an_executors_error_is_one_line() {
        assert_eq!(executor_error("a\nb").to_string(), "the shard's executor does not start: a b");
    }

    #[test]
    fn this_machine_has_what_a_shard_needs() {
        check(ONE_SHARD).unwrap();
        assert!(cores() >= 1);
    }
}
