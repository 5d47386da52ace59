//! What wakes a sleeping shard: an eventfd that the media ring, the control plane and the shard itself write to.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use glommio::io::BufferedFile;
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

/// A bell's listener, on a glommio executor.
pub struct Alarm {
    bell: Bell,
    file: Rc<BufferedFile>,
    reading: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Alarm {
    /// Must be called on a glommio executor.
    pub fn new(bell: &Bell) -> io::Result<Self> {
        let fd = bell.0.as_fd().try_clone_to_owned()?.into_raw_fd();
        // SAFETY: the descriptor was duplicated for the file, which alone owns it now.
        let file = unsafe { BufferedFile::from_raw_fd(fd) };
        Ok(Self { bell: bell.clone(), file: Rc::new(file), reading: None })
    }

    /// Ready when the bell rang since it last was. The read stays under way in between.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
    pub async fn close(mut self) {
        if let Some(reading) = self.reading.take() {
            self.bell.ring();
            reading.await;
        }
        if let Some(file) = Rc::into_inner(self.file) {
            let _ = file.close().await;
        }
    }
}
