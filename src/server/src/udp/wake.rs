//! What wakes a sleeping shard: an eventfd that the control plane writes to, and the media ring when glommio waits.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::io::BufferedFile;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Rung from any thread.
#[derive(Clone, Debug)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    /// A bell that nobody listens to yet.
    pub fn new() -> io::Result<Self> {
        // Blocking: glommio's read must wait, not fail with EAGAIN.
        Ok(Self(Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?)))
    }

    /// Wakes the listener, now or when it next sleeps.
    pub fn ring(&self) {
        // The counter is read often enough never to be full, which is the only error a valid eventfd has.
        let _ = self.0.write(1);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A bell's listener in a ring of ours: one read that is under way.
pub(super) struct Watch {
    bell: Option<Bell>,
    /// Where the kernel writes the counter.
    value: Box<u64>,
    armed: bool,
}

impl Watch {
    /// The read's number among the completions.
    pub(super) const USER_DATA: u64 = 1 << 33;

    pub(super) fn nothing() -> Self {
        Self { bell: None, value: Box::new(0), armed: false }
    }

    pub(super) fn set(&mut self, bell: &Bell) {
        self.bell = Some(bell.clone());
    }

    /// Begins the read on `ring` if none is under way.
    pub(super) fn arm(&mut self, ring: &mut IoUring) {
        let Some(bell) = self.bell.as_ref().filter(|_| !self.armed) else { return };
        let len = size_of::<u64>() as u32;
        let read = opcode::Read::new(Fd(bell.fd()), (&raw mut *self.value).cast(), len).build();
        // SAFETY: the value is boxed and, like the bell, outlives the ring's requests, which the owner cancels before
        // it drops either.
        self.armed = unsafe { ring.submission().push(&read.user_data(Self::USER_DATA)) }.is_ok();
    }

    /// The read is over: the bell rang.
    pub(super) fn rang(&mut self) {
        self.armed = false;
    }
}

/// Submits what is queued and blocks until a completion is there or `timeout` is over.
pub(super) fn block(ring: &IoUring, timeout: Duration) {
    let limit = Timespec::from(timeout);
    // ETIME and EINTR are the ordinary ends of a wait; others show in the next call.
    let _ = ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit));
}

/// A bell's listener, on a glommio executor.
pub(crate) struct Alarm {
    bell: Bell,
    file: Rc<BufferedFile>,
    reading: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Alarm {
    /// Must be called on a glommio executor.
    pub(crate) fn new(bell: &Bell) -> io::Result<Self> {
        let fd = bell.0.as_fd().try_clone_to_owned()?.into_raw_fd();
        // SAFETY: the descriptor was duplicated for the file, which alone owns it now.
        let file = unsafe { BufferedFile::from_raw_fd(fd) };
        Ok(Self { bell: bell.clone(), file: Rc::new(file), reading: None })
    }

    /// Ready when the bell rang since it last was. The read stays under way in between.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let file = &self.file;
        let reading = self.reading.get_or_insert_with(|| {
            let file = file.clone();
            Box::pin(async move { drop(file.read_at(0, size_of::<u64>()).await) })
        });
        let ready = reading.as_mut().poll(cx);
        if ready.is_ready() {
            self.reading = None;
        }
        ready
    }

    /// Ends the read and closes the descriptor.
    pub(crate) async fn close(mut self) {
        if let Some(reading) = self.reading.take() {
            self.bell.ring();
            reading.await;
        }
        if let Some(file) = Rc::into_inner(self.file) {
            let _ = file.close().await;
        }
    }
}
