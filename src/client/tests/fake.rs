//! An agent whose answers the test gives by hand, one by one.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::client::Client;
use crate::client::address::Address;
use crate::event::LogId;
use crate::proto::key_state::State;
use crate::proto::wait_response::Message;
use crate::proto::waits_server::{Waits, WaitsServer};
use crate::proto::*;

type Say = Result<WaitResponse, Status>;

/// A call that the test has to answer.
pub(super) enum Call {
    Wait(Box<Asked>),
    Arm(ArmRequest, oneshot::Sender<Result<(), Status>>),
    Skip(SkipRequest, oneshot::Sender<Result<(), Status>>),
    Cancel(CancelRequest, oneshot::Sender<Result<(), Status>>),
}

/// An ask that has no answer yet.
pub(super) struct Asked {
    pub(super) request: WaitRequest,
    answer: oneshot::Sender<Result<mpsc::UnboundedReceiver<Say>, Status>>,
    log: LogId,
}

impl Asked {
    pub(super) fn refuse(self, status: impl Into<Status>) {
        self.answer.send(Err(status.into())).ok();
    }

    /// Registers the wait at a position.
    pub(super) fn register(self, position: u64) -> Stream {
        let (say, said) = mpsc::unbounded_channel();
        self.answer.send(Ok(said)).ok();
        let stream = Stream { say, log: self.log };
        let keys = stream.keys(&self.request, &[]);
        stream.say(Message::Registered(Registered {
            wait_id: self.request.wait_id.clone(),
            cursor: Some(stream.cursor(position)),
            opened: Some(self.request.opened.unwrap_or(Opened { position, counts_from: None })),
            keys,
            ..Registered::default()
        }));
        stream
    }
}

/// A wait's stream, from the agent's side. Dropping it ends the stream with no outcome.
pub(super) struct Stream {
    say: mpsc::UnboundedSender<Say>,
    log: LogId,
}

impl Stream {
    pub(super) fn say(&self, message: Message) {
        self.say.send(Ok(WaitResponse { message: Some(message) })).ok();
    }

    pub(super) fn end(self, status: impl Into<Status>) {
        self.say.send(Err(status.into())).ok();
    }

    pub(super) fn cursor(&self, position: u64) -> Cursor {
        Cursor { log_id: self.log.to_string(), position }
    }

    /// The request's keys, all open but those named.
    pub(super) fn keys(&self, request: &WaitRequest, completed: &[&str]) -> Vec<KeyState> {
        let state = |key: &Key| match completed.contains(&key.name.as_str()) {
            true => State::Completed,
            false => State::Open,
        };
        let keys = request.keys.iter();
        keys.map(|key| KeyState { name: key.name.clone(), state: state(key).into(), ..KeyState::default() })
            .collect()
    }

    pub(super) fn progress(&self, position: u64, keys: Vec<KeyState>) {
        self.say(Message::Progress(Progress {
            cursor: Some(self.cursor(position)),
            keys,
            ..Progress::default()
        }));
    }

    pub(super) fn outcome(&self, position: u64, kind: outcome::Kind, keys: Vec<KeyState>) {
        let cursor = Some(self.cursor(position));
        self.say(Message::Outcome(Outcome { kind: kind.into(), cursor, keys, ..Outcome::default() }));
    }

    /// Waits until the client has closed the stream.
    pub(super) async fn closed(&self) {
        self.say.closed().await;
    }
}

#[derive(Clone)]
struct Service {
    calls: mpsc::UnboundedSender<Call>,
    log: LogId,
}

impl Service {
    async fn order(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<(), Status>>) -> Call,
    ) -> Result<(), Status> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(call(answer)).map_err(|_| Status::unavailable("the test is over"))?;
        answered.await.map_err(|_| Status::unavailable("the test dropped the call"))?
    }
}

#[tonic::async_trait]
impl Waits for Service {
    type WaitStream = UnboundedReceiverStream<Say>;

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<Self::WaitStream>, Status> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { request: request.into_inner(), answer, log: self.log };
        self.calls.send(Call::Wait(Box::new(asked))).map_err(|_| Status::unavailable("the test is over"))?;
        let stream = answered.await.map_err(|_| Status::unavailable("the test dropped the ask"))??;
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }

    async fn arm(&self, request: Request<ArmRequest>) -> Result<Response<ArmResponse>, Status> {
        self.order(|answer| Call::Arm(request.into_inner(), answer)).await?;
        Ok(Response::new(Default::default()))
    }

    async fn skip(&self, request: Request<SkipRequest>) -> Result<Response<SkipResponse>, Status> {
        self.order(|answer| Call::Skip(request.into_inner(), answer)).await?;
        Ok(Response::new(Default::default()))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        self.order(|answer| Call::Cancel(request.into_inner(), answer)).await?;
        Ok(Response::new(Default::default()))
    }

    async fn cancel_instance(
        &self,
        _: Request<CancelInstanceRequest>,
    ) -> Result<Response<CancelInstanceResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }
}

/// The agent: a socket in a folder of its own, and the calls that came over it.
pub(super) struct Fake {
    dir: tempfile::TempDir,
    service: Service,
    calls: mpsc::UnboundedReceiver<Call>,
    set_aside: VecDeque<Call>,
    running: JoinSet<()>,
}

impl Fake {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (calls, came) = mpsc::unbounded_channel();
        let service = Service { calls, log: LogId::random() };
        let mut fake =
            Self { dir, service, calls: came, set_aside: VecDeque::new(), running: JoinSet::new() };
        fake.come_back();
        fake
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&Address::Unix(self.path())).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// Cuts every connection, as a killed agent's kernel does, and listens no more.
    pub(super) async fn go_away(&mut self) {
        self.running.shutdown().await;
        std::fs::remove_file(self.path()).unwrap();
    }

    /// Listens again.
    pub(super) fn come_back(&mut self) {
        let listener = UnixListener::bind(self.path()).unwrap();
        let service = Routes::new(WaitsServer::new(self.service.clone())).prepare();
        self.running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                connections.spawn(async move {
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    http.serve_connection(TokioIo::new(socket), service).await.ok();
                });
            }
        });
    }

    /// The next call, which has to come.
    pub(super) async fn call(&mut self) -> Call {
        if let Some(call) = self.set_aside.pop_front() {
            return call;
        }
        let call = tokio::time::timeout(Duration::from_secs(7200), self.calls.recv()).await;
        call.expect("no call came").expect("the service lives")
    }

    /// The next call, which has to be an ask.
    pub(super) async fn asked(&mut self) -> Asked {
        match self.call().await {
            Call::Wait(asked) => *asked,
            _ => panic!("an order came instead of an ask"),
        }
    }

    /// Whether a call has come already.
    pub(super) fn has_call(&mut self) -> bool {
        self.set_aside.extend(self.calls.try_recv());
        !self.set_aside.is_empty()
    }
}
