//! Over a real socket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::super::serve;
use super::*;
use crate::net::http1::Http1;
use crate::net::listen::{self, Peer};
use crate::net::serve::Protocol;

struct Server {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    stop: Flag,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(settings: Settings) -> Self {
        Self::over(Fake::default(), settings).await
    }

    async fn over(fake: Fake, settings: Settings) -> Self {
        let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, stop) = (Arc::new(AtomicUsize::new(0)), Flag::default());
        let grace = Duration::from_secs(30);
        let serving =
            tokio::spawn(serve(listener, fake, Auth::None, settings, open.clone(), stop.clone(), grace));
        Self { address, open, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stopped(self) {
        self.stop.raise();
        self.serving.await.unwrap();
        assert_eq!(self.open.load(Ordering::Relaxed), 0);
    }
}

/// All that comes until the peer closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// One reply of a connection that stays open: its head and its body.
async fn reply(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let read = String::from_utf8(text.clone()).unwrap();
        if let Some((head, body)) = read.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return read;
            }
        }
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "{read}");
    }
}

fn posted(version: &str) -> String {
    let body = one_event("network-changed", BOUND, None).to_string();
    format!("POST {PATH} HTTP/{version}\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn one_connection_serves_request_after_request_also_after_refused_ones() {
    let server = Server::start(Settings { max_body: 1_000, ..settings() }).await;
    let mut stream = server.connect().await;
    let large =
        format!("POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n{}", "x".repeat(5_000));
    let lost = format!("POST /v2.1/no HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n{}", "x".repeat(900));
    for (sent, code) in [(posted("1.1"), 200), (large, 413), (lost, 404), (posted("1.1"), 200)] {
        stream.write_all(sent.as_bytes()).await.unwrap();
        let reply = reply(&mut stream).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {code} ")), "{reply}");
    }
    // It is idle now, and does not hold up a stop.
    server.stopped().await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn http_1_0_is_served_and_closed() {
    let server = Server::start(settings()).await;
    let mut stream = server.connect().await;
    stream.write_all(posted("1.0").as_bytes()).await.unwrap();
    let reply = rest(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.0 200 OK"), "{reply}");
    assert!(reply.contains("\"code\":200"));
    server.stopped().await;
}

#[tokio::test]
async fn slow_headers_end_the_connection() {
    let quick = Settings { header_timeout: Duration::from_millis(50), ..settings() };
    let server = Server::start(quick).await;
    let (mut silent, mut slow) = (server.connect().await, server.connect().await);
    slow.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nX-Slow").await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut slow).await, "");
    server.stopped().await;
}

#[tokio::test]
async fn a_slow_body_is_408_and_the_connection_closes() {
    let quick = Settings { body_timeout: Duration::from_millis(50), ..settings() };
    let server = Server::start(quick).await;
    let mut stream = server.connect().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let reply = rest(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 408 Request Timeout"), "{reply}");
    assert!(reply.contains("computeFault") && reply.contains("connection: close"), "{reply}");
    server.stopped().await;
}

#[tokio::test]
async fn a_header_of_100_kb_is_431() {
    let server = Server::start(settings()).await;
    let mut stream = server.connect().await;
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Large: {}\r\n\r\n", "x".repeat(100_000));
    // It is refused on the way, and the rest may find the connection closed.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 431");
    server.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_of_its_reply_is_cut() {
    let (mut peer, io) = tokio::io::duplex(16);
    let patience = Duration::from_secs(30);
    let door = Fake::default().door(Auth::None, settings());
    let protocol = Http1::new(door, Duration::from_secs(3_600), patience, |_| Vec::new());
    let address = Peer::Tcp("127.0.0.1:1".parse().unwrap());
    let serving = tokio::spawn(protocol.serve(io, address, Flag::default()));
    peer.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let error = serving.await.unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("TimedOut"), "{error:?}");
}

#[tokio::test]
async fn a_connection_more_than_there_may_be_is_told_so() {
    let server = Server::start(Settings { max_connections: 1, ..settings() }).await;
    let mut first = server.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    reply(&mut first).await;
    let mut second = server.connect().await;
    second.write_all(posted("1.1").as_bytes()).await.unwrap();
    second.shutdown().await.unwrap();
    let reply = rest(&mut second).await;
    assert!(reply.starts_with("HTTP/1.1 503 Service Unavailable"), "{reply}");
    assert!(reply.contains("Retry-After: 1") && reply.contains("max_connections is 1"), "{reply}");
    server.stopped().await;
}

#[tokio::test]
async fn a_stop_lets_a_request_in_flight_end() {
    let fake = Fake { go_on: Arc::new(Semaphore::new(0)), ..Fake::default() };
    let server = Server::over(fake.clone(), settings()).await;
    let mut stream = server.connect().await;
    stream.write_all(posted("1.1").as_bytes()).await.unwrap();
    fake.come.acquire().await.unwrap().forget();
    server.stop.raise();
    fake.go_on.add_permits(1);
    let reply = rest(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
    server.stopped().await;
}
