//! What wakes a sleeping shard: an eventfd that the control plane writes to, read by the ring that the shard sleeps on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// An eventfd that wakes a shard from any thread; clones are the same one.
#[derive(Clone, Debug)]
pub struct WakeFd(Arc<EventFd>);

impl WakeFd {
    /// One that no shard reads yet.
    pub fn new() -> io::Result<Self> {
        // Blocking: the ring's read must wait, not fail with EAGAIN.
        Ok(Self(Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?)))
    }

    /// Wakes the shard, now or when it next sleeps.
    pub fn wake(&self) {
        // The counter is read often enough never to be full, which is the only error a valid eventfd has.
        let _ = self.0.write(1);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The read of a [`WakeFd`] on a ring: at most one is under way.
pub(super) struct WakeRead {
    wake: Option<WakeFd>,
    /// Where the kernel writes the counter.
    value: Box<u64>,
    armed: bool,
}

impl WakeRead {
    /// The read's number among the completions.
    pub(super) const USER_DATA: u64 = 1 << 33;

    pub(super) fn nothing() -> Self {
        Self { wake: None, value: Box::new(0), armed: false }
    }

    pub(super) fn set(&mut self, wake: &WakeFd) {
        self.wake = Some(wake.clone());
    }

    /// Begins the read on `ring` if none is under way.
    pub(super) fn arm(&mut self, ring: &mut IoUring) {
        let Some(wake) = self.wake.as_ref().filter(|_| !self.armed) else { return };
        let len = size_of::<u64>() as u32;
        let read = opcode::Read::new(Fd(wake.fd()), (&raw mut *self.value).cast(), len).build();
        // SAFETY: the value is boxed and, like the eventfd, outlives the ring's requests, which the owner cancels before
        // it drops either.
        self.armed = unsafe { ring.submission().push(&read.user_data(Self::USER_DATA)) }.is_ok();
    }

    /// The read is over: somebody has written.
    pub(super) fn done(&mut self) {
        self.armed = false;
    }
}

/// Submits what is queued and blocks until a completion is there or `timeout` is over.
pub(super) fn block(ring: &IoUring, timeout: Duration) {
    let limit = Timespec::from(timeout);
    // ETIME and EINTR are the ordinary ends of a wait; others show in the next call.
    let _ = ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit));
}
