//! Sends by `sendmmsg`: for runs, for comparison, and for kernels that refuse what the ring's sends need.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use super::Flush;
use super::sleep_ring::SleepRing;
use super::sockets::Sockets;
use super::table::SendTable;
use super::wake::WakeFd;
use moonring_core::report::IoStats;

/// See the module's words.
pub(super) struct Mmsg {
    sends: Sends,
    sleep: SleepRing,
}

/// Batches to the kernel, a call for as many sends of one socket as a table holds.
pub(super) struct Sends {
    fds: Vec<RawFd>,
    table: SendTable,
}

impl Mmsg {
    pub(super) fn new(sockets: &Sockets) -> io::Result<Self> {
        Ok(Self { sleep: SleepRing::new(&sockets.fds(), 0)?, sends: Sends::new(sockets) })
    }

    pub(super) fn poll_also(&mut self, also: OwnedFd) {
        self.sleep.poll_also(also);
    }

    pub(super) fn watch(&mut self, wake: &WakeFd) {
        self.sleep.watch(wake);
    }

    pub(super) fn wait(&mut self, timeout: Duration, stats: &mut IoStats) {
        stats.enters += 1;
        self.sleep.sleep(timeout);
        self.sleep.reap(|_| {});
    }

    pub(super) fn flush(&mut self, flush: &mut Flush<'_>) {
        self.sends.flush(flush);
    }

    pub(super) fn flush_and_wait(&mut self, flush: &mut Flush<'_>, timeout: Duration) {
        self.flush(flush);
        self.wait(timeout, flush.stats);
    }
}

impl Sends {
    pub(super) fn new(sockets: &Sockets) -> Self {
        Self { fds: sockets.fds(), table: SendTable::new() }
    }

    pub(super) fn flush(&mut self, flush: &mut Flush<'_>) {
        let mut socket = 0;
        for run in flush.batch.runs() {
            for piece in flush.sockets.pieces(*run) {
                let Some(route) = flush.sockets.route(piece.to.remote) else {
                    flush.settle(piece, libc::EAFNOSUPPORT);
                    continue;
                };
                // One call has one socket.
                if self.table.is_full() || route.socket != socket {
                    self.send_table(socket, flush);
                    socket = route.socket;
                }
                self.table.push(flush.batch.bytes(), piece, route);
            }
        }
        self.send_table(socket, flush);
    }

    fn send_table(&mut self, socket: usize, flush: &mut Flush<'_>) {
        let (mut done, total) = (0, self.table.pieces().len());
        while done < total {
            flush.stats.enters += 1;
            let headers = self.table.headers_from(done);
            let (first, count) = (headers.as_mut_ptr(), headers.len() as u32);
            // SAFETY: `count` headers from `first` on point at the table's memory and the batch, both of which live
            // through the call.
            let sent = unsafe { libc::sendmmsg(self.fds[socket], first, count, libc::MSG_DONTWAIT) };
            let taken = usize::try_from(sent).unwrap_or(0).min(total - done);
            flush.stats.sends += taken as u64;
            for piece in &self.table.pieces()[done..done + taken] {
                flush.report.sent += usize::from(piece.datagrams);
            }
            done += taken;
            if taken == 0 {
                // The call reports an error only for its first message: settle that one, go on behind it.
                let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
                flush.settle(self.table.pieces()[done], errno);
                done += 1;
            }
        }
        self.table.clear();
    }
}
