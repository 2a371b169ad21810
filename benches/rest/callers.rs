//! Those who post events.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Callers at once, each with a connection of its own.
const CALLERS: usize = 64;
/// How long they post before anything is measured.
const WARM_UP: Duration = Duration::from_millis(200);

/// A request that posts one event.
pub(crate) fn request(to: SocketAddr, instance: &str, tag: &str) -> Vec<u8> {
    let event =
        json!({ "name": "network-vif-plugged", "tag": tag, "status": "completed", "server_uuid": instance });
    let body = json!({ "events": [event] }).to_string();
    let head = format!(
        "POST /v2.1/os-server-external-events HTTP/1.1\r\nHost: {to}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// Callers that post the same request as fast as they are answered.
pub(crate) struct Crowd {
    callers: Vec<Caller>,
    request: Vec<u8>,
}

impl Crowd {
    /// Connects them, and lets them post for a while.
    pub(crate) async fn gather(to: SocketAddr, request: Vec<u8>) -> Result<Self> {
        let callers = try_join_all((0..CALLERS).map(|_| Caller::connect(to))).await?;
        let mut crowd = Self { callers, request };
        crowd.post(WARM_UP).await?;
        Ok(crowd)
    }

    /// Has them post for so long. Gives requests/s, and how long it took.
    pub(crate) async fn post(&mut self, time: Duration) -> Result<(f64, Duration)> {
        let start = Instant::now();
        let end = start + time;
        let request = &self.request;
        let posting = self.callers.iter_mut().map(async |caller| {
            let mut count = 0_u64;
            while Instant::now() < end {
                caller.ask(request).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
        let counts = try_join_all(posting).await?;
        let took = start.elapsed();
        Ok((counts.iter().sum::<u64>() as f64 / took.as_secs_f64(), took))
    }
}

/// A connection that is kept.
pub(crate) struct Caller {
    stream: TcpStream,
    reply: Vec<u8>,
}

impl Caller {
    pub(crate) async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, reply: Vec::with_capacity(4096) })
    }

    /// Sends a request and reads the whole reply, which has to be 200.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.reply.clear();
        loop {
            if self.stream.read_buf(&mut self.reply).await? == 0 {
                bail!("the connection was closed: {}", String::from_utf8_lossy(&self.reply));
            }
            let Some(head) = self.reply.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.reply[..head])?;
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let length = length.context("a reply without a length")?;
            if self.reply.len() >= head + 4 + length {
                if !self.reply.starts_with(b"HTTP/1.1 200") {
                    bail!("not 200: {}", String::from_utf8_lossy(&self.reply));
                }
                return Ok(());
            }
        }
    }
}
