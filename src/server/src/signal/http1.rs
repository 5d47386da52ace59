//! Connections on which HTTP/2 is not spoken: its bounds would be others, and nothing here needs it.
//!
//! A builder of hyper-util that was told so serves HTTP/2 all the same where connections may be upgraded: it looks for
//! the first words of HTTP/2 (RFC 9113 section 3.4) whatever it was told. So a connection that begins with them ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum_server::accept::Accept;
use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What no request of HTTP/1 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Makes [`Http1`] of what another one accepts.
#[derive(Clone, Debug)]
pub(super) struct Http1Only<A>(pub(super) A);

impl<I, S, A: Accept<I, S>> Accept<I, S> for Http1Only<A> {
    type Stream = Http1<A::Stream>;
    type Service = A::Service;
    type Future = MapOk<A::Future, fn((A::Stream, A::Service)) -> (Http1<A::Stream>, A::Service)>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        self.0.accept(stream, service).map_ok(|(stream, service)| (Http1::new(stream), service))
    }
}

/// A connection whose reading fails when it begins as HTTP/2 does.
#[derive(Debug)]
pub(super) struct Http1<T> {
    stream: T,
    /// First bytes that were those of HTTP/2; `None` when one was another.
    alike: Option<usize>,
}

impl<T> Http1<T> {
    pub(super) fn new(stream: T) -> Self {
        Self { stream, alike: Some(0) }
    }

    fn look_at(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(alike) = self.alike else { return Ok(()) };
        let (begun, len) = (&PREFACE[alike..], bytes.len().min(PREFACE.len() - alike));
        self.alike = (bytes[..len] == begun[..len]).then_some(alike + len);
        match self.alike {
            Some(alike) if alike == PREFACE.len() => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "HTTP/2 is not spoken here"))
            }
            _ => Ok(()),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Http1<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.look_at(&buffer.filled()[before..]))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Http1<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// What is read of a connection that brings these bytes, so many at a time.
    fn read(bytes: &[u8], at_a_time: usize) -> io::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut stream = Http1::new(bytes);
        runtime.block_on(async {
            let (mut all, mut some) = (Vec::new(), vec![0; at_a_time]);
            loop {
                match stream.read(&mut some).await? {
                    0 => return Ok(all),
                    len => all.extend_from_slice(&some[..len]),
                }
            }
        })
    }

    #[test]
    fn a_connection_that_begins_as_http_2_does_is_not_read_however_it_is_cut() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for at_a_time in [1, 2, 13, 14, 15, 24, 100] {
            let error = read(preface, at_a_time).unwrap_err();
            assert_eq!(error.to_string(), "HTTP/2 is not spoken here", "{at_a_time} bytes at a time");
        }
    }

    #[test]
    fn every_other_connection_is_read_as_it_is() {
        for bytes in
            [&b""[..], b"P", b"PRI * HTTP/2.", b"PRI * HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n"]
        {
            for at_a_time in [1, 3, 100] {
                assert_eq!(read(bytes, at_a_time).unwrap(), bytes);
            }
        }
    }
}
