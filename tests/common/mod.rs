//! A real agent in a process of its own, what calls it, and the bounds within which things must happen.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod calls;
pub(crate) mod clients;
pub(crate) mod driver;
pub(crate) mod gateway;
pub(crate) mod keystone;
pub(crate) mod nova;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod script;
pub(crate) mod service;
pub(crate) mod web;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use wakeful::client::address::Address;
use wakeful::proto::inspector_client::InspectorClient;
use wakeful::proto::{GetStatusRequest, GetStatusResponse};

use self::process::Process;

/// Within this everything that is waited for happens, on a machine that is busy with other things too.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Asks until there is an answer. Fails if there is none within [`BOUND`].
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answered = timeout(BOUND, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(POLL).await;
        }
    });
    answered.await.unwrap_or_else(|_| panic!("not within {BOUND:?}: {what}"))
}

/// What a future comes to. Fails if it does not within [`BOUND`].
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(BOUND, future).await.unwrap_or_else(|_| panic!("not within {BOUND:?}: {what}"))
}

pub(crate) fn folder() -> Arc<TempDir> {
    Arc::new(TempDir::with_prefix("wakeful-test-").expect("a temporary folder"))
}

/// The command, on a free port and without what the environment says of options.
pub(crate) fn wakeful(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wakeful"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WAKEFUL_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the command until it ends by itself.
pub(crate) async fn run(args: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(wakeful(args));
    soon("the command's end", command.kill_on_drop(true).output()).await.expect("the command's output")
}

/// An agent, killed when this is dropped. What it logged is shown if the test fails.
pub(crate) struct Agent {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) log_id: String,
    /// Where it takes REST requests, if it does.
    pub(crate) rest: Option<SocketAddr>,
    pub(crate) folder: Arc<TempDir>,
    log: PathBuf,
}

impl Agent {
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_in(folder(), args).await
    }

    /// Starts an agent that takes REST requests as well.
    pub(crate) async fn start_with_rest(args: &[&str]) -> Self {
        Self::start(&[&["--rest", "127.0.0.1:0"], args].concat()).await
    }

    /// Starts an agent whose socket is `agent.sock` in `folder`.
    pub(crate) async fn start_in(folder: Arc<TempDir>, args: &[&str]) -> Self {
        let socket = folder.path().join("agent.sock");
        let log = folder.path().join("agent.log");
        let mut command = wakeful(&["agent", "--listen", "127.0.0.1:0"]);
        command.arg("--socket").arg(&socket).arg("--data-dir").arg(folder.path().join("log")).args(args);
        command.stderr(File::options().create(true).append(true).open(&log).expect("a file for the log"));
        let mut process = Process::start(command);
        let ready = process.line().await;
        let (address, log_id, rest) = parse_ready(&ready, &socket).unwrap_or_else(|| {
            panic!("not a ready line: {ready:?}\n{}", fs::read_to_string(&log).unwrap_or_default())
        });
        Self { process, address, socket, log_id, rest, folder, log }
    }

    /// A new connection over TCP.
    pub(crate) fn tcp(&self) -> Channel {
        Address::Tcp(self.address.to_string()).channel().expect("a channel")
    }

    /// A new connection over the Unix socket.
    pub(crate) fn unix(&self) -> Channel {
        Address::Unix(self.socket.clone()).channel().expect("a channel")
    }

    /// A new connection over the Unix socket, whose peer takes so many bytes of a stream ahead of its being
    /// read.
    pub(crate) fn unix_with_window(&self, bytes: u32) -> Channel {
        let path = self.socket.clone();
        let connect = move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        };
        let endpoint = Endpoint::from_static("http://localhost").initial_stream_window_size(bytes);
        endpoint.connect_with_connector_lazy(tower::service_fn(connect))
    }

    pub(crate) async fn status(&self) -> GetStatusResponse {
        status(&self.unix()).await
    }

    /// Waits until the agent's status is so.
    pub(crate) async fn until_status(&self, what: &str, is: impl Fn(&GetStatusResponse) -> bool) {
        let channel = self.unix();
        until(what, async || is(&status(&channel).await).then_some(())).await;
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}---", self.log());
        }
    }
}

/// `wakeful agent listens on ADDRESS and unix:PATH (log ID), for requests on ADDRESS`, the last with `--rest` alone.
fn parse_ready(line: &str, socket: &std::path::Path) -> Option<(SocketAddr, String, Option<SocketAddr>)> {
    let rest = line.strip_prefix("wakeful agent listens on ")?;
    let (address, rest) = rest.split_once(" and unix:")?;
    let (log_id, rest) = rest.strip_prefix(socket.to_str()?)?.strip_prefix(" (log ")?.split_once(')')?;
    let rest = rest.strip_prefix(", for requests on ").map(|address| address.parse().ok());
    Some((address.parse().ok()?, log_id.to_owned(), rest.flatten()))
}

pub(crate) async fn status(channel: &Channel) -> GetStatusResponse {
    let mut inspector = InspectorClient::new(channel.clone());
    let status = soon("the status", inspector.get_status(GetStatusRequest {})).await;
    status.expect("the status").into_inner()
}

/// The health of a service, by its name; of the whole, by the empty one.
pub(crate) async fn health(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    let health = soon("the health", HealthClient::new(channel.clone()).check(request)).await;
    health.expect("the health").into_inner().status()
}
