//! HTTP by hand: a caller, and a server that stands where another would.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

use super::soon;

/// What a server saw of one request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method and path, as they were sent.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header of text"))
    }
}

/// What a server does with a request, once it has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers with this code.
    Answer(u16),
    /// Closes the connection.
    HangUp,
    /// Answers 503, also to who asks for its health.
    Refuse,
}

/// A server that says who it is in `X-Server`, keeps what it saw, and is healthy. It ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Record {
    seen: Mutex<Vec<Seen>>,
    health: AtomicUsize,
}

impl Server {
    pub(crate) async fn start(name: &'static str, does: Does) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), name, does).await
    }

    pub(crate) async fn start_at(address: SocketAddr, name: &'static str, does: Does) -> Self {
        let listener = TcpListener::bind(address).await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        let record = Arc::<Record>::default();
        let serving = tokio::spawn(serve(listener, name, does, Arc::clone(&record)));
        Self { address, record, serving }
    }

    /// What it has seen since it was last asked; not of those that asked for its health.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.record.seen.lock().expect("nobody panics"))
    }

    /// How often it was asked for its health.
    pub(crate) fn asked_for_health(&self) -> usize {
        self.record.health.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, name: &'static str, does: Does, record: Arc<Record>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((io, _)) = listener.accept().await {
        let record = Arc::clone(&record);
        let answer = service_fn(move |request| answer(request, name, does, Arc::clone(&record)));
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(io), answer));
    }
}

async fn answer(
    request: Request<Incoming>,
    name: &str,
    does: Does,
    record: Arc<Record>,
) -> Result<Response<String>, std::io::Error> {
    let of_health = request.uri().path() == "/healthz";
    let (head, body) = request.into_parts();
    let mut parts = axum::body::Body::new(body).into_data_stream();
    let mut body = Vec::new();
    while let Some(part) = parts.next().await {
        body.extend_from_slice(&part.map_err(std::io::Error::other)?);
    }
    if of_health {
        record.health.fetch_add(1, Ordering::Relaxed);
    } else {
        let line = format!("{} {}", head.method, head.uri);
        let one = Seen { line, headers: head.headers, body: body.into() };
        record.seen.lock().expect("nobody panics").push(one);
    }
    let status = match does {
        Does::Refuse => 503,
        _ if of_health => 200,
        Does::Answer(status) => status,
        Does::HangUp => return Err(std::io::ErrorKind::ConnectionAborted.into()),
    };
    let mut response = Response::new(json!({ "server": name }).to_string());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("x-server", name.parse().expect("a header"));
    Ok(response)
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// Its body, if that is JSON.
    pub(crate) fn try_json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends a request, with more headers each on a line of its own, and gives the reply.
pub(crate) async fn call(to: SocketAddr, line: &str, headers: &str, body: &str) -> Reply {
    try_call(to, line, headers, body).await.expect("a reply")
}

/// The same; `None` if there was no connection, or no whole reply.
pub(crate) async fn try_call(to: SocketAddr, line: &str, headers: &str, body: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(to).await.ok()?;
    let request = format!(
        "{line} HTTP/1.1\r\nHost: compute.example:8774\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut reply = String::new();
    soon("the reply", stream.read_to_string(&mut reply)).await.ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, head: head.to_owned(), body: body.to_owned() })
}
