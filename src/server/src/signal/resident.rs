//! How much memory the process has, as the kernel counts it against the limit of a container or a unit.

use std::fs;

/// Bytes that are in memory; zero where the kernel does not say.
pub(super) fn resident() -> u64 {
    fs::read_to_string("/proc/self/status").map_or(0, |status| in_status(&status))
}

/// The same in the text of proc_pid_status(5).
fn in_status(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_read_where_it_is() {
        for (status, expected) in [
            ("Name:\tmoonring\nVmHWM:\t  900 kB\nVmRSS:\t   37672 kB\nRssAnon:\t 5 kB\n", 38_576_128),
            ("Name:\tmoonring\n", 0),
            ("VmRSS:\t many kB\n", 0),
        ] {
            assert_eq!(in_status(status), expected, "{status}");
        }
        assert!(resident() > 1 << 20);
    }
}
