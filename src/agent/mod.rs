//! The agent: gRPC services over the engine, the log and the readers, and its start and stop.

mod announce;
mod appender;
mod bindings;
mod bound;
mod consumer;
mod core;
mod dispatch;
mod event_log;
pub mod ground;
mod inspector;
mod restore;
mod streams;
mod unmatched;
mod waiting;
mod waits;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::{Code, Request};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{error, info, warn};

use self::appender::{Journal, ToCore};
use self::bound::{Bound, Keep};
use self::core::{CancelFrom, Command, Core, EventsFrom};
use self::ground::{Ground, LogGround, WriterGround};
pub use self::restore::LogError;
use self::restore::Restored;
use self::streams::Streams;
use crate::clock::{Clock, Time};
use crate::config::Config;
use crate::convert::Bounds;
use crate::engine::{Engine, Opening};
use crate::event::{Caller, LogId};
use crate::journal::Append;
use crate::journal::bindings::KeptBindings;
use crate::journal::consumers::Change;
use crate::journal::folder::Folder;
use crate::journal::log::{Log, Reads};
use crate::journal::memory::MemoryJournal;
use crate::journal::recovery::Hands;
use crate::journal::store::WriteError;
use crate::net::flag::Flag;
use crate::net::http2::{self, Http2};
use crate::net::listen::{ListenError, Listener, Peer};
use crate::net::reflection;
use crate::net::serve::serve;
use crate::net::wire::service::event_receiver_server::EventReceiverServer;
use crate::proto::bindings_server::BindingsServer;
use crate::proto::event_log_server::EventLogServer;
use crate::proto::inspector_server::InspectorServer;
use crate::proto::reason::Code as Reason;
use crate::proto::waits_server::WaitsServer;
use crate::status::Refusal;

/// How long, once all has been said, peers have to take it in before their connections are cut.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often a draining agent looks whether a wait is still open.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// What has been said about stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Nothing.
    Running,
    /// New waits are refused; events still come in for those that are open.
    Draining,
    /// All is refused.
    Stopping,
}

/// What the services share.
struct Shared {
    config: Config,
    bounds: Bounds,
    clock: Clock,
    started_at: Time,
    log: Arc<Log>,
    streams: Streams,
    core: mpsc::UnboundedSender<Command>,
    /// Whoever appends to the log, if that is not the engine's task.
    journal: Option<Arc<Journal>>,
    openings: AtomicU64,
    readers: Arc<Semaphore>,
    handed_over: AtomicUsize,
    rejected: AtomicU64,
    connections: Arc<AtomicUsize>,
    /// What this host has.
    bound: Bound,
    /// New waits are refused.
    draining: Flag,
    /// All is refused.
    stopping: Flag,
}

impl Shared {
    fn send(&self, command: Command) {
        // It can fail only when the engine's task has ended, and then the process ends.
        let _ = self.core.send(command);
    }

    /// Hands something to whoever appends to the log.
    fn append(&self, append: Append<EventsFrom, CancelFrom>) {
        match &self.journal {
            Some(journal) => journal.append(append),
            None => self.send(Command::Append(append)),
        }
    }

    /// Hands whoever keeps the consumers what is asked of one.
    fn consumer(&self, change: Change) {
        match &self.journal {
            Some(journal) => journal.consumer(change),
            None => self.send(Command::Consumer(change)),
        }
    }

    /// Hands the engine a command and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply));
        answer.await.map_err(|_| stopping())
    }

    fn next_opening(&self) -> Opening {
        Opening(self.openings.fetch_add(1, Ordering::Relaxed))
    }

    fn phase(&self) -> Phase {
        match (self.stopping.is_raised(), self.draining.is_raised()) {
            (true, _) => Phase::Stopping,
            (false, true) => Phase::Draining,
            (false, false) => Phase::Running,
        }
    }

    /// Ready once all is refused.
    fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        self.stopping.clone().raised()
    }
}

fn stopping() -> Refusal {
    Refusal::new(Code::Unavailable, Reason::Stopping, "the agent is stopping; ask again of the next process")
}

/// Who calls, over the Unix socket. Services that need to know are served there alone.
fn caller<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    match request.extensions().get() {
        Some(Peer::Unix(caller)) => Ok(*caller),
        _ => Err(not_permitted("this is served on the agent's Unix socket only")),
    }
}

fn not_permitted(message: &str) -> Refusal {
    Refusal::new(Code::PermissionDenied, Reason::NotPermitted, message)
}

/// The agent could not start, or not go on.
#[derive(Debug, Error)]
pub enum AgentError {
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system has no thread for the journal.
    #[error("cannot start the journal's thread: {0}")]
    Thread(std::io::Error),
    /// The services' own descriptions could not be read.
    #[error("the services' descriptions are not valid: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
    /// A task that must not end has ended.
    #[error("the {0} ended, and the agent with it: better none than a wrong one")]
    Died(&'static str),
}

/// An agent whose listeners are open.
pub struct Agent {
    shared: Arc<Shared>,
    address: SocketAddr,
    socket: PathBuf,
    health: HealthReporter,
    core: JoinHandle<()>,
    /// Ready once the journal's thread has ended, if there is one.
    journal_ended: Option<oneshot::Receiver<Infallible>>,
    listeners: Vec<JoinHandle<()>>,
    /// Those who tell gateways what this host has. They end with this.
    _tellers: JoinSet<()>,
    stop: Flag,
    _folder: Option<Folder>,
}

impl Agent {
    /// Opens the listeners and starts to serve.
    ///
    /// # Errors
    ///
    /// If a listener cannot be opened, or the log cannot be used.
    pub async fn start(config: Config) -> Result<Self, AgentError> {
        let ground = Ground::of_machine(&config).await?;
        Self::start_on(ground, config).await
    }

    /// Starts to serve on the ground that it is given.
    ///
    /// # Errors
    ///
    /// If the log cannot be used.
    pub async fn start_on<Tcp: Listener, Unix: Listener>(
        ground: Ground<Tcp, Unix>,
        config: Config,
    ) -> Result<Self, AgentError> {
        let Ground { tcp, address, unix, socket, log: log_ground, wall, roads } = ground;
        let mut folder = None;
        let (inbox_sender, inbox) = mpsc::unbounded_channel();
        let (alive, journal_ended) = oneshot::channel();
        let (memory, engine, log, clock, journal, kept, next_opening) = match log_ground {
            None => {
                let memory = MemoryJournal::new(config.retention()).with_consumers(config.consumers());
                let (log, clock) = (Arc::clone(memory.log()), Clock::start_at(wall, Time::default()));
                let engine = Engine::new(log.id(), config.engine_limits());
                (Some(memory), engine, log, clock, None, KeptBindings::default(), 1)
            }
            Some(LogGround { disk, boot_id, writer, lock }) => {
                folder = lock;
                let (reads, hands) = match writer {
                    WriterGround::Thread => (Reads::Thread, Hands::Thread),
                    WriterGround::Task { .. } => (Reads::InPlace, Hands::Own),
                };
                let Restored { store, mut ids, consumers, bindings, engine, before, next_opening } =
                    restore::restore(&config, disk, &boot_id, hands).map_err(LogError::from)?;
                let clock = Clock::start_at(wall, store.newest());
                store.set_found(clock.now());
                ids.set_found(clock.now());
                let (segments, head) = (Arc::clone(store.segments()), store.next().before());
                let log = Arc::new(Log::on_disk(store.log_id(), segments, reads, head));
                let sink = ToCore { core: inbox_sender.clone(), _alive: alive };
                let (kept, told) = (bindings.clone(), (consumers, bindings));
                let journal = match writer {
                    WriterGround::Thread => {
                        Journal::start(store, ids, clock, told, before, sink).map_err(AgentError::Thread)?
                    }
                    WriterGround::Task { pause, started } => {
                        let (journal, task) =
                            Journal::start_task(store, ids, clock, told, before, sink, pause);
                        started(task);
                        journal
                    }
                };
                (None, engine, log, clock, Some(journal), kept, next_opening)
            }
        };
        let bounds = http2::Bounds::from(&config);
        let journal = journal.map(Arc::new);
        let keep: Keep = match journal.clone() {
            Some(journal) => Box::new(move |what| journal.note(what)),
            None => Box::new(drop),
        };
        let shared = Arc::new(Shared {
            bounds: Bounds::from(&config),
            clock,
            started_at: clock.now(),
            log,
            streams: Streams::new(),
            core: inbox_sender,
            journal,
            openings: AtomicU64::new(next_opening),
            readers: Arc::new(Semaphore::new(config.max_readers)),
            handed_over: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            connections: Arc::new(AtomicUsize::new(0)),
            bound: Bound::new(&config.gateway.0, &kept, keep),
            draining: Flag::default(),
            stopping: Flag::default(),
            config,
        });
        let core = tokio::spawn(Core::new(Arc::clone(&shared), memory, engine).run(inbox));

        let (health, health_service) = tonic_health::server::health_reporter();
        for service in SERVICES {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let message = usize::try_from(shared.config.max_message.0).unwrap_or(usize::MAX);
        let receiver = EventReceiverServer::new(dispatch::Receiver(Arc::clone(&shared)));
        let everyones = Routes::new(health_service).add_service(receiver.max_decoding_message_size(message));
        let waits = WaitsServer::new(waits::Waits(Arc::clone(&shared)));
        let event_log = EventLogServer::new(event_log::EventLog(Arc::clone(&shared)));
        let inspector = InspectorServer::new(inspector::Inspector(Arc::clone(&shared)));
        let bindings = BindingsServer::new(bindings::Bindings(Arc::clone(&shared)));
        let drivers = everyones
            .clone()
            .add_service(waits.max_decoding_message_size(message))
            .add_service(event_log.max_decoding_message_size(message))
            .add_service(inspector.max_decoding_message_size(message))
            .add_service(bindings.max_decoding_message_size(message));
        // TCP is for senders: what drivers and operators use is on the socket alone.
        let everyones = reflection::add(everyones, &SERVICES[1..2])?.prepare();
        let drivers = reflection::add(drivers, &SERVICES[1..])?.prepare();

        let (everyones, drivers) = (Http2::new(everyones, bounds), Http2::new(drivers, bounds));
        let connections = shared.config.max_connections;
        let stop = Flag::default();
        let stopped = || stop.clone();
        let open = || Arc::clone(&shared.connections);
        let listeners = vec![
            tokio::spawn(serve(tcp, everyones, connections, open(), stopped(), LAST_WORDS)),
            tokio::spawn(serve(unix, drivers, connections, open(), stopped(), LAST_WORDS)),
        ];
        let mut tellers = JoinSet::new();
        for gateway in 0..shared.bound.gateways.len() {
            let told =
                announce::announce(Arc::clone(&shared), gateway, address.to_string(), Arc::clone(&roads));
            tellers.spawn(told);
        }
        if !shared.bound.gateways.is_empty() || shared.bound.is_waiting() {
            tellers.spawn(waits::expire(Arc::clone(&shared)));
        }
        info!(%address, socket = %socket.display(), log_id = %shared.log.id(), "started");
        let journal_ended = shared.journal.is_some().then_some(journal_ended);
        Ok(Self {
            shared,
            address,
            socket,
            health,
            core,
            journal_ended,
            listeners,
            _tellers: tellers,
            stop,
            _folder: folder,
        })
    }

    /// Where it listens for events.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its Unix socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The id of its log.
    pub fn log_id(&self) -> LogId {
        self.shared.log.id()
    }

    /// Serves until `shutdown` is ready, then stops within `drain_timeout` and a second.
    ///
    /// New waits are refused first, while events still come in for those that are open. Once none is, or
    /// `drain_timeout` has passed, all is brought to the disk, and the clients of the others are told to ask again
    /// of the next process. With `cancel_on_stop`, or a log in memory, which ends with the agent, they end
    /// CANCELLED.
    ///
    /// # Errors
    ///
    /// If the engine's task or the journal's thread ended by itself: then the agent is not to go on.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        tokio::select! {
            biased;
            _ = &mut self.core => {
                error!("the engine ended");
                return Err(AgentError::Died("engine"));
            }
            () = ended(self.journal_ended.take()) => {
                error!("the journal ended");
                return Err(AgentError::Died("journal"));
            }
            () = watch_journal(self.shared.journal.as_ref().map(|journal| journal.state()), &self.health) => {}
            () = shutdown => {}
        }
        info!(open_waits = self.shared.streams.len(), "told to stop");
        self.shared.draining.raise();
        self.health.set_service_status("wakeful.v1.Waits", ServingStatus::NotServing).await;
        let drained = timeout(self.shared.config.drain_timeout.0, async {
            while self.shared.streams.len() > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        });
        if drained.await.is_err() {
            info!(open_waits = self.shared.streams.len(), "waits are still open");
        }

        self.shared.stopping.raise();
        for service in SERVICES {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
        if let Some(journal) = &self.shared.journal {
            journal.flush().await;
        }
        let cancel = self.shared.config.cancel_on_stop.0 || self.shared.journal.is_none();
        let _ = self.shared.ask(|reply| Command::Stop { cancel, reply }).await;
        if let Some(journal) = &self.shared.journal {
            journal.close().await;
        }
        self.stop.raise();
        for listener in self.listeners {
            let _ = listener.await;
        }
        info!("stopped");
        Ok(())
    }
}

/// Ready once the journal's thread has ended.
async fn ended(journal: Option<oneshot::Receiver<Infallible>>) {
    match journal {
        Some(journal) => {
            let _ = journal.await;
        }
        None => std::future::pending().await,
    }
}

/// Tells by the health of `EventReceiver` whether the log can be written. Never ready.
async fn watch_journal(state: Option<watch::Receiver<Option<WriteError>>>, health: &HealthReporter) {
    if let Some(mut state) = state {
        while state.changed().await.is_ok() {
            let serving = match &*state.borrow_and_update() {
                None => {
                    info!("the log can be written again");
                    ServingStatus::Serving
                }
                Some(error) => {
                    warn!(%error, "events are refused");
                    ServingStatus::NotServing
                }
            };
            health.set_service_status(SERVICES[1], serving).await;
        }
    }
    std::future::pending().await
}

/// By their names, and the whole by the empty one.
const SERVICES: [&str; 6] = [
    "",
    "wakeful.v1.EventReceiver",
    "wakeful.v1.Waits",
    "wakeful.v1.EventLog",
    "wakeful.v1.Inspector",
    "wakeful.v1.Bindings",
];
