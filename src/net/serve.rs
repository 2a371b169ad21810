//! The accept loop: connections in bounds, and an end to each of them.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::service::Routes;
use tracing::{debug, warn};

use super::call::Calls;
use super::flag::Flag;
use super::listen::Listener;
use super::refuse::refuse;
use crate::config::Config;

/// How long the loop rests when a connection could not be accepted, for want of file descriptors say.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// Connections that are being refused at once, past `max_connections`. Beyond those they are closed without
/// a word.
const FAREWELLS: usize = 64;
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

/// The bounds of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections open at once.
    pub connections: usize,
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
            connections: config.max_connections,
            streams: u32::try_from(config.max_streams).unwrap_or(u32::MAX),
            keepalive_interval: config.keepalive_interval.0,
            keepalive_timeout: config.keepalive_timeout.0,
            first_byte_timeout: config.first_byte_timeout.0,
        }
    }
}

/// Serves a listener's connections until `stop` is raised, then lets the calls on them end, for `grace` at
/// most. `open` counts the connections.
pub async fn serve(
    listener: impl Listener,
    routes: Routes,
    bounds: Bounds,
    open: Arc<AtomicUsize>,
    stop: Flag,
    grace: Duration,
) {
    let permits = Arc::new(Semaphore::new(bounds.connections));
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stop.clone().raised());
    let mut refusing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_BACK_OFF).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            // Once, until there is room again: who is refused tries again, and soon.
            if !std::mem::replace(&mut refusing, true) {
                warn!(max_connections = bounds.connections, ?peer, "connections refused: as many are open");
            }
            if let Ok(farewell) = Arc::clone(&farewells).try_acquire_owned() {
                connections.spawn(async move {
                    let _farewell = farewell;
                    let text = format!("max_connections is {}, and so many are open", bounds.connections);
                    refuse(io, &text).await;
                });
            }
            continue;
        };
        refusing = false;
        let calls = Calls::new(routes.clone(), peer);
        let connection = connection(io, calls, bounds, stop.clone());
        let counted = Counted::new(Arc::clone(&open));
        connections.spawn(async move {
            let _permit = permit;
            let _counted = counted;
            if let Err(error) = connection.await {
                debug!(?peer, %error, "connection cut");
            }
        });
    }
    drop(listener);
    let _ = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

async fn connection<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: Io,
    calls: Calls,
    bounds: Bounds,
    stop: Flag,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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

/// Counts one up for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
