//! What a process uses, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// Ticks of `/proc/PID/stat` in one second: `USER_HZ` is 100 on all Linux.
const TICKS_PER_S: u64 = 100;
/// How the threads of the server's data plane are called.
const SHARD: &str = "shard";

/// Processor time and memory, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all threads.
    pub total: Duration,
    /// Of the threads whose name starts with the asked one.
    pub named: Duration,
    /// Resident memory.
    pub memory_bytes: u64,
}

/// What the server uses: `named` are its shards.
pub fn server(pid: u32) -> io::Result<Usage> {
    usage(&pid.to_string(), SHARD)
}

/// What this process uses: `named` are the threads whose name starts with `threads`.
pub fn own(threads: &str) -> io::Result<Usage> {
    usage("self", threads)
}

/// Datagrams that the kernel dropped because the receive buffers of the sockets with these ports were full.
pub fn udp_drops(ports: &[u16]) -> u64 {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].into_iter().filter_map(|path| fs::read_to_string(path).ok());
    tables.map(|table| table.lines().filter_map(|line| drops(line, ports)).sum::<u64>()).sum()
}

/// Of a line like `12: 00000000:A3F1 00000000:0000 07 ... drops`: the last field, if the local port is one of them.
fn drops(line: &str, ports: &[u16]) -> Option<u64> {
    let (_, port) = line.split_ascii_whitespace().nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok().filter(|port| ports.contains(port));
    port.and_then(|_| line.split_ascii_whitespace().last()?.parse().ok())
}

fn usage(pid: &str, name: &str) -> io::Result<Usage> {
    let mut usage = Usage::default();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = entry?.path();
        // A thread that just ended.
        let Ok(comm) = fs::read_to_string(task.join("comm")) else { continue };
        let time = match fs::read_to_string(task.join("schedstat")) {
            Ok(text) => run_time(&text),
            Err(_) => fs::read_to_string(task.join("stat")).ok().and_then(|text| ticks(&text)),
        };
        let time = time.unwrap_or_default();
        usage.total += time;
        if comm.starts_with(name) {
            usage.named += time;
        }
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    usage.memory_bytes = resident(&status).unwrap_or_default();
    Ok(usage)
}

/// The first number of `schedstat`: nanoseconds on a processor.
fn run_time(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// utime and stime of `stat`: the 12th and 13th field behind the name, which is in parentheses and may have spaces.
fn ticks(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_S))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        assert_eq!(run_time("857542 6766843 3\n"), Some(Duration::from_nanos(857_542)));
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0";
        assert_eq!(ticks(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        let line = " 12: 0100007F:A3F1 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 4242 2 00000000 77";
        assert_eq!((drops(line, &[0xA3F1]), drops(line, &[1]), drops("sl local drops", &[1])), (Some(77), None, None));
        assert_eq!((run_time(""), ticks("1 (a"), resident("")), (None, None, None));
    }

    #[test]
    fn this_process_uses_something_and_a_missing_one_is_an_error() {
        let usage = own("engine").unwrap();
        assert!(usage.memory_bytes > 0 && usage.total >= usage.named);
        assert!(server(u32::MAX).is_err());
    }
}
