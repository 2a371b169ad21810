//! HTTP/2, which gRPC runs on: the bounds of a connection, and how it ends.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tonic::service::Routes;

use super::call::Calls;
use super::flag::Flag;
use super::listen::Peer;
use super::serve::{Cut, Protocol};
use crate::config::Config;

/// Every HTTP/2 connection starts with so many bytes; a peer that has sent fewer has not yet spoken.
const PREFACE: usize = 24;
/// Bytes of a request's headers.
const MAX_HEADERS: u32 = 16 * 1024;
/// Streams that a peer may have reset before they were accepted. h2's own 20 would cut off a driver that
/// drops many waits at once, and with them those that it keeps.
const MAX_PENDING_RESETS: usize = 256;
/// Streams that we may have reset for a peer's errors, before its connection is cut (RUSTSEC-2024-0003).
const MAX_LOCAL_RESETS: usize = 1_024;
/// What a call may send ahead of its being read, and a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of replies that one call may have lying ready for a peer that does not read. hyper's own 400 KiB,
/// times `max_streams`, would be 8 GB for one connection.
const UNREAD_REPLIES: usize = 32 * 1024;

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const GOAWAY: u8 = 7;
/// RFC 9113, section 7. gRPC reads it as RESOURCE_EXHAUSTED.
const ENHANCE_YOUR_CALM: u32 = 11;

/// The bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Calls open at once on one connection.
    pub streams: u32,
    /// How often an idle peer is asked whether it is there.
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    pub keepalive_timeout: Duration,
    /// How long a new connection may take to send its preface.
    pub first_byte_timeout: Duration,
}

impl From<&Config> for Bounds {
    fn from(config: &Config) -> Self {
        Self {
            streams: u32::try_from(config.max_streams).unwrap_or(u32::MAX),
            keepalive_interval: config.keepalive_interval.0,
            keepalive_timeout: config.keepalive_timeout.0,
            first_byte_timeout: config.first_byte_timeout.0,
        }
    }
}

/// gRPC services, and the bounds of the connections to them.
#[derive(Clone)]
pub struct Http2 {
    routes: Routes,
    bounds: Bounds,
}

impl Http2 {
    /// These services, in these bounds.
    pub fn new(routes: Routes, bounds: Bounds) -> Self {
        Self { routes, bounds }
    }
}

impl Protocol for Http2 {
    async fn serve(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        stop: Flag,
    ) -> Result<(), Cut> {
        connection(io, Calls::new(self.routes, peer), self.bounds, stop).await
    }

    fn farewell(&self, text: &str) -> Vec<u8> {
        [&SETTINGS[..], &go_away(text)].concat()
    }
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    calls: Calls,
    bounds: Bounds,
    stop: Flag,
) -> Result<(), Cut> {
    let received = Arc::new(AtomicUsize::new(0));
    let io = TokioIo::new(Counting { io, received: Arc::clone(&received) });
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buf_size(UNREAD_REPLIES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .keep_alive_interval(bounds.keepalive_interval)
        .keep_alive_timeout(bounds.keepalive_timeout)
        .auto_date_header(false);
    let mut serving = pin!(server.serve_connection(io, calls));

    let mut stopping = pin!(stop.raised());
    let spoken = tokio::select! {
        biased;
        spoken = timeout(bounds.first_byte_timeout, serving.as_mut()) => spoken,
        () = stopping.as_mut() => {
            serving.as_mut().graceful_shutdown();
            return Ok(serving.await?);
        }
    };
    match spoken {
        Ok(ended) => return Ok(ended?),
        Err(_) if received.load(Ordering::Relaxed) < PREFACE => return Err("the peer stayed silent".into()),
        Err(_) => {}
    }
    tokio::select! {
        biased;
        ended = serving.as_mut() => return Ok(ended?),
        () = stopping => serving.as_mut().graceful_shutdown(),
    }
    Ok(serving.await?)
}

/// A connection's bytes, the received ones counted.
struct Counting<Io> {
    io: Io,
    received: Arc<AtomicUsize>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Counting<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.received.fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Counting<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
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
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

fn go_away(text: &str) -> Vec<u8> {
    let length = (8 + text.len()) as u32;
    let mut frame = Vec::with_capacity(9 + 8 + text.len());
    frame.extend_from_slice(&length.to_be_bytes()[1..]);
    frame.extend_from_slice(&[GOAWAY, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(&0u32.to_be_bytes());
    frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame
}
