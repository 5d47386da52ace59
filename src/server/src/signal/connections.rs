//! What a TCP connection may take: a place, bytes per second, and patience with one that does not read.
//!
//! This sits below TLS and HTTP, so that it holds for whatever stands in the bytes: handshakes, headers, bodies, frames
//! of a WebSocket and their fragments.

use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready as poll_ready};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, sleep_until};
use tower_http::add_extension::AddExtension;

use super::door::{Door, Permit, Thing};
use super::intake::Intake;

/// Bytes per second that are read from a connection for long; what comes faster waits in the kernel's buffers and slows
/// its sender down. An offer of the greatest size takes a quarter of a second.
pub(super) const READ_BYTES_PER_S: u32 = 1024 * 1024;
/// Bytes that are read at once.
const READ_BURST: u32 = 1024 * 1024;
/// For so long a connection may take nothing of what is written to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);
/// Time for a request's headers, from the first byte or from the end of the request before it: silence ends a kept-alive
/// connection by it.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// A request's headers in bytes, and the buffer for them: the least that hyper takes is 8 KiB, a token has 8 KiB.
const HEADER_BYTES: usize = 16 * 1024;
/// A request's headers in number.
const MAX_HEADERS: usize = 64;
/// Least time between two lines of the log about connections that could not be accepted.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Takes connections as far as the door admits them.
#[derive(Clone, Debug)]
pub(super) struct Acceptor {
    door: Door,
    /// Every connection comes from a proxy, so that the peer's address says nothing of the client's.
    behind_proxy: bool,
}

/// A connection with its permit and its bounds.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: TcpStream,
    allowance: f64,
    filled: Instant,
    waits: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
    intake: Intake,
    _permit: Permit,
}

impl Acceptor {
    pub(super) fn new(door: Door, behind_proxy: bool) -> Self {
        Self { door, behind_proxy }
    }

    fn guard(&self, stream: TcpStream, intake: Intake) -> io::Result<Guarded> {
        let ip = if self.behind_proxy { [127, 0, 0, 1].into() } else { stream.peer_addr()?.ip() };
        let now = Instant::now();
        let permit = self.door.admit(now, ip, Thing::Connection);
        let permit = permit.ok_or_else(|| io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections"))?;
        let allowance = f64::from(READ_BURST);
        Ok(Guarded { stream, allowance, filled: now, waits: None, stalled: None, intake, _permit: permit })
    }
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Guarded;
    type Service = AddExtension<S, Intake>;
    type Future = Ready<io::Result<(Guarded, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let intake = Intake::default();
        let service = AddExtension::new(service, intake.clone());
        ready(self.guard(stream, intake).map(|stream| (stream, service)))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(waits) = &mut self.waits {
            poll_ready!(waits.as_mut().poll(cx));
            self.waits = None;
        }
        let before = buffer.filled().len();
        poll_ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        if !self.intake.add(read) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long")));
        }
        let now = Instant::now();
        let refill = now.saturating_duration_since(self.filled).as_secs_f64() * f64::from(READ_BYTES_PER_S);
        self.allowance = (self.allowance + refill).min(f64::from(READ_BURST)) - read as f64;
        self.filled = now;
        if self.allowance < 0.0 {
            let wait = Duration::from_secs_f64(-self.allowance / f64::from(READ_BYTES_PER_S));
            self.waits = Some(Box::pin(sleep(wait)));
        }
        Poll::Ready(Ok(()))
    }
}

impl Guarded {
    /// Watches over one call that writes.
    fn written<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stalled =
            self.stalled.get_or_insert_with(|| Box::pin(sleep_until((Instant::now() + WRITE_PATIENCE).into())));
        poll_ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// HTTP/1.1 with its bounds; [`super::http1`] sees to it that nothing else is spoken.
pub(super) fn http() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    builder
}

/// Logs what goes wrong with accepting: what is not the peer's doing is something that this machine lacks, descriptors mostly,
/// and an operator has to know.
pub(super) fn log_accept_errors() -> impl Fn(Option<&SocketAddr>, &io::Error) + Send + Sync + 'static {
    let last: Arc<Mutex<Option<Instant>>> = Arc::default();
    let unsaid = AtomicU64::new(0);
    move |peer, error| {
        if peer.is_some() || is_of_the_peer(error) {
            return tracing::debug!(?peer, %error, "connection not taken");
        }
        let now = Instant::now();
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| now.saturating_duration_since(at) < LOG_EVERY) {
            unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *last = Some(now);
        let unsaid = unsaid.swap(0, Ordering::Relaxed);
        tracing::error!(%error, unsaid, "cannot accept a connection");
    }
}

/// Whether accepting failed because the connection, or the network behind it, was gone by then; accept(2) has
/// most of these.
fn is_of_the_peer(error: &io::Error) -> bool {
    const GONE: [i32; 9] = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ETIMEDOUT,
    ];
    error.raw_os_error().is_some_and(|errno| GONE.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_gone_is_no_error_of_the_machine() {
        for (errno, expected) in [
            (libc::ECONNABORTED, true),
            (libc::ECONNRESET, true),
            (libc::EHOSTUNREACH, true),
            (libc::EMFILE, false),
            (libc::ENFILE, false),
            (libc::ENOMEM, false),
            (libc::EPERM, false),
        ] {
            assert_eq!(is_of_the_peer(&io::Error::from_raw_os_error(errno)), expected, "{errno}");
        }
        assert!(!is_of_the_peer(&io::Error::other("no errno")));
    }
}
