//! The ring that a shard sleeps on: it polls the sockets and reads the eventfd that wakes the shard.
//!
//! A poll is one-shot and begun when the shard goes to sleep, so that none stands on a socket while it sends: the kernel
//! runs the wait queue of a watched socket for each datagram that leaves it (measured: 2 to 3 percent of a send).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Fixed, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::wake::{WakeFd, WakeRead, block};

/// `IORING_ENTER_GETEVENTS`: runs the work that DEFER_TASKRUN holds back.
const GETEVENTS: u32 = 1;
const CANCEL_WITHIN: Duration = Duration::from_secs(1);
/// Completions with this bit are of polls; the rest of their number is the socket's index.
const POLL: u64 = 1 << 34;
/// The number of the poll of what is not a socket.
const POLL_ALSO: u64 = 1 << 35;
/// Entries beside those of the owner: polls and the wake-up's read.
const OWN_ENTRIES: u32 = 8;

/// See the module's words. Made and used on one thread.
pub(super) struct SleepRing {
    pub(super) ring: IoUring,
    polled: Vec<bool>,
    /// What is polled beside the sockets, and whether it is now.
    also: Option<(OwnedFd, bool)>,
    watch: WakeRead,
}

impl SleepRing {
    /// A ring that polls `sockets`, registered in this order, with room for `entries` of the owner's.
    pub(super) fn new(sockets: &[RawFd], entries: u32) -> io::Result<Self> {
        let entries = entries + OWN_ENTRIES.max(sockets.len() as u32 + 2);
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        let ring = builder.build(entries)?;
        ring.submitter().register_files(sockets)?;
        Ok(Self { ring, polled: vec![false; sockets.len()], also: None, watch: WakeRead::nothing() })
    }

    /// A write to `wake` ends a sleep.
    pub(super) fn watch(&mut self, wake: &WakeFd) {
        self.watch.set(wake);
    }

    /// What becomes readable at `also` ends a sleep, too.
    pub(super) fn poll_also(&mut self, also: OwnedFd) {
        self.also = Some((also, false));
    }

    /// Submits what is queued and blocks until a socket has something, the eventfd is written, an entry of the owner's
    /// completes or the time is over. How many entries of its own it has put behind those of the owner.
    pub(super) fn sleep(&mut self, timeout: Duration) -> usize {
        let queued = self.ring.submission().len();
        self.watch.arm(&mut self.ring);
        for socket in 0..self.polled.len() {
            if !self.polled[socket] {
                let entry = opcode::PollAdd::new(Fixed(socket as u32), libc::POLLIN as u32).build();
                // SAFETY: a poll points at no memory, and the sockets outlive the ring.
                let pushed = unsafe { self.ring.submission().push(&entry.user_data(POLL | socket as u64)) };
                self.polled[socket] = pushed.is_ok();
            }
        }
        if let Some((also, is_polled)) = self.also.as_mut().filter(|(_, is_polled)| !is_polled) {
            let entry = opcode::PollAdd::new(Fd(also.as_raw_fd()), libc::POLLIN as u32).build();
            // SAFETY: a poll points at no memory, and the descriptor is dropped behind the ring.
            *is_polled = unsafe { self.ring.submission().push(&entry.user_data(POLL_ALSO)) }.is_ok();
        }
        let own = self.ring.submission().len() - queued;
        block(&self.ring, timeout);
        own
    }

    /// Takes all completions; those that are the owner's are handed to `each`.
    pub(super) fn reap(&mut self, mut each: impl FnMut(&cqueue::Entry)) {
        for entry in self.ring.completion() {
            if entry.user_data() == WakeRead::USER_DATA {
                self.watch.done();
            } else if entry.user_data() == POLL_ALSO {
                self.also = self.also.take().map(|(also, _)| (also, false));
            } else if entry.user_data() & POLL != 0 {
                if let Some(polled) = self.polled.get_mut((entry.user_data() & !POLL) as usize) {
                    *polled = false;
                }
            } else {
                each(&entry);
            }
        }
    }
}

impl Drop for SleepRing {
    /// Takes the sockets from the kernel at once: a ring that is merely closed may hold its port for a moment.
    fn drop(&mut self) {
        let within = Timespec::new().sec(CANCEL_WITHIN.as_secs());
        // Refused by kernels before 6.0; there the ring's end does it, later.
        let _ = self.ring.submitter().register_sync_cancel(Some(within), CancelBuilder::any());
        // SAFETY: nothing is submitted.
        let _ = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) };
        self.reap(|_| {});
        let _ = self.ring.submitter().unregister_files();
    }
}
