//! HTTP/1, which REST callers speak: the bounds of a connection, and how it ends.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tower::Service;

use super::flag::Flag;
use super::listen::Peer;
use super::serve::{Cut, Protocol};

/// Bytes of a request's head. A token may have some 10 kB.
const MAX_HEAD: usize = 32 * 1024;
/// Bytes of a request that are read ahead.
const READ_AHEAD: usize = 64 * 1024;

/// What answers requests, and the bounds of the connections to it.
#[derive(Clone)]
pub struct Http1<S> {
    service: S,
    header_timeout: Duration,
    patience: Duration,
    farewell: fn(&str) -> Vec<u8>,
}

impl<S> Http1<S> {
    /// This service. A head that takes longer than `header_timeout`, and a peer that takes nothing of its reply
    /// for as long as `patience`, end the connection. `farewell` makes the whole reply that a connection more
    /// than there may be gets.
    pub fn new(
        service: S,
        header_timeout: Duration,
        patience: Duration,
        farewell: fn(&str) -> Vec<u8>,
    ) -> Self {
        Self { service, header_timeout, patience, farewell }
    }
}

impl<S> Protocol for Http1<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn serve(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        _: Peer,
        stop: Flag,
    ) -> Result<(), Cut> {
        let io = TokioIo::new(Impatient { io, patience: self.patience, waiting: None });
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_header_size(MAX_HEAD)
            .max_buf_size(READ_AHEAD)
            .half_close(false);
        let mut serving = pin!(server.serve_connection(io, TowerToHyperService::new(self.service)));
        tokio::select! {
            biased;
            ended = serving.as_mut() => return Ok(ended?),
            () = stop.raised() => serving.as_mut().graceful_shutdown(),
        }
        Ok(serving.await?)
    }

    fn farewell(&self, text: &str) -> Vec<u8> {
        (self.farewell)(text)
    }
}

/// A connection that fails once its peer takes nothing for too long.
struct Impatient<Io> {
    io: Io,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<Io> Impatient<Io> {
    /// What a write came to; an error if it has been waiting for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        waiting.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Impatient<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Impatient<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
