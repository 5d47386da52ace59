//! Sends that the kernel refuses: told to the operator, to whom a firewall's rule for what goes out, or a missing route, would
//! otherwise be a metric that grows.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// At most one line in this time, of each shard.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What has been refused since the last line.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Option<Instant>,
    datagrams: u64,
}

impl Refusals {
    /// Datagrams to `to` were refused with `errno`: a line in the log, unless there was one lately.
    pub(super) fn note(&mut self, now: Instant, (datagrams, to): (usize, SocketAddr), errno: i32) {
        if let Some(datagrams) = self.due(now, datagrams) {
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!(%error, %to, datagrams, "the kernel refuses to send{}", hint(errno));
        }
    }

    /// How many datagrams a line is about, if it is time for one.
    fn due(&mut self, now: Instant, datagrams: usize) -> Option<u64> {
        self.datagrams += datagrams as u64;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.datagrams))
    }
}

/// Where to look.
fn hint(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => ": a firewall on this machine has a rule against it",
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN => ": this machine has no route to that address",
        libc::EADDRNOTAVAIL => ": the local address that the client sent to is gone",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_ten_seconds_tells_of_all_that_was_refused() {
        let start = Instant::now();
        let mut refusals = Refusals::default();
        for (at_s, datagrams, told) in [(0, 3, Some(3)), (1, 1, None), (9, 5, None), (10, 2, Some(8)), (40, 1, Some(1))]
        {
            assert_eq!(refusals.due(start + Duration::from_secs(at_s), datagrams), told, "after {at_s} s");
        }
    }

    #[test]
    fn a_refusal_says_where_to_look() {
        for (errno, part) in [(libc::EPERM, "firewall"), (libc::ENETUNREACH, "route"), (libc::EADDRNOTAVAIL, "gone")] {
            assert!(hint(errno).contains(part), "{errno}: {}", hint(errno));
        }
        assert_eq!(hint(libc::EINVAL), "");
    }
}
