//! The gateway: takes events in over REST, keeps them, and sends each to every host that has its instance.
//!
//! ```text
//!  caller ─REST─▶ rest ─▶ front ─▶ outbox ─▶ queues ─▶ a courier a host ─gRPC─▶ agent
//!                         where?   append,             read the bindings again,
//!                    200 ◀──────── sync                 send, end or try again
//! ```
//!
//! Where an instance is, the directory knows ([`crate::directory`]): agents announce it (`directory.rs` here).

pub mod courier;
mod directory;
pub mod ends;
pub mod front;
pub mod ground;
mod inspect;
mod leases;
pub mod outbox;
pub mod post;
pub mod queues;
pub mod rest;
pub mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::sleep;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{error, info, warn};

use self::courier::couriers;
use self::directory::Announcements;
use self::ends::Ends;
use self::front::Keeper;
use self::ground::{Ground, Log};
use self::inspect::Outboxes;
use self::leases::Leases;
use self::outbox::{Kept, Opened, Outbox, Sink};
use self::post::Post;
use self::queues::{For, Queue, Queues};
use self::rest::auth::{KeystoneError, TokensError};
use self::upstream::Upstream;
use crate::clock::Clock;
use crate::config::gateway::Config;
use crate::config::{ConfigError, Durability};
use crate::directory::DirectoryError;
use crate::directory::embedded;
use crate::journal::folder::FolderError;
use crate::journal::recovery::Hands;
use crate::journal::scan::StartError;
use crate::journal::store::WriteError;
use crate::net::flag::Flag;
use crate::net::http2::Http2;
use crate::net::listen::{ListenError, Listener};
use crate::net::outbound::TrustError;
use crate::net::{reflection, serve};
use crate::proto::directory_server::DirectoryServer;
use crate::proto::outbox_server::OutboxServer;

/// How long requests that are under way may take once all is to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// By their names, and the whole by the empty one.
const SERVICES: [&str; 3] = ["", "wakeful.v1.Directory", "wakeful.v1.Outbox"];

/// The gateway could not start, or not go on.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Its folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is in its outbox cannot be used.
    #[error("the outbox: {0}")]
    Outbox(#[from] StartError),
    /// What is in its directory cannot be used.
    #[error(transparent)]
    Open(#[from] embedded::OpenError),
    /// The directory cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// An option is not possible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Keystone cannot be asked as it is set.
    #[error("keystone: {0}")]
    Keystone(#[from] KeystoneError),
    /// The upstream cannot be asked as it is set.
    #[error("upstream: {0}")]
    Upstream(#[from] TrustError),
    /// The system has no thread for the outbox.
    #[error("cannot start the outbox's thread: {0}")]
    Thread(std::io::Error),
    /// The services' own descriptions could not be read.
    #[error("the services' descriptions are not valid: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
    /// A thread that must not end has ended.
    #[error("the outbox ended, and the gateway with it: better none than a wrong one")]
    Died,
}

/// A gateway whose listeners are open.
pub struct Gateway {
    address: SocketAddr,
    directory_address: SocketAddr,
    post: Arc<Post>,
    health: HealthReporter,
    listeners: Vec<JoinHandle<()>>,
    /// Ends with this.
    couriers: JoinSet<()>,
    announcing: Flag,
    stop: Flag,
    _folder: Option<crate::journal::folder::Folder>,
}

/// Takes what is kept to the queues, and queues that are new to whoever starts couriers.
struct ToQueues {
    queues: Queues,
    new: mpsc::UnboundedSender<(For, Arc<Queue>)>,
}

impl ToQueues {
    fn add(&self, kept: Vec<Kept>) {
        for new in self.queues.add(kept) {
            // Nobody takes them once all is to stop.
            let _ = self.new.send(new);
        }
    }
}

impl Sink for ToQueues {
    fn kept(&mut self, kept: Vec<Kept>) {
        self.add(kept);
    }
}

impl Gateway {
    /// Opens the listeners and starts to serve. What an earlier process kept is delivered from now on.
    ///
    /// # Errors
    ///
    /// If a listener cannot be opened, or what is kept cannot be used.
    pub async fn start(config: Config) -> Result<Self, GatewayError> {
        let ground = Ground::of_machine(&config).await?;
        Self::start_on(ground, config).await
    }

    /// Starts to serve on the ground that it is given.
    ///
    /// # Errors
    ///
    /// If what is kept cannot be used.
    pub async fn start_on<Rest: Listener, Tcp: Listener>(
        ground: Ground<Rest, Tcp>,
        config: Config,
    ) -> Result<Self, GatewayError> {
        let Ground { rest, address, tcp, directory_address, log, directory, roads, auth, wall, lock } =
            ground;
        let queues = Queues::default();
        let (new, new_queues) = mpsc::unbounded_channel();
        let to_queues = ToQueues { queues: queues.clone(), new };
        let outbox = start_outbox(&config, log, wall, to_queues)?;
        let ends = Arc::new(Ends::default());
        let post = Arc::new(Post::new(directory, outbox, queues, ends, config.ages()));

        let (stop, announcing) = (Flag::default(), Flag::default());
        let mut running = JoinSet::new();
        running.spawn(couriers(Arc::clone(&post), roads, new_queues, stop.clone()));
        running.spawn(Arc::clone(&post).settle_strays(stop.clone()));

        let (health, health_service) = tonic_health::server::health_reporter();
        for service in SERVICES {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let message = usize::try_from(config.max_message.0).unwrap_or(usize::MAX);
        let announcements = Announcements {
            post: Arc::clone(&post),
            leases: Leases::default(),
            stopping: announcing.clone(),
        };
        let routes = Routes::new(health_service)
            .add_service(DirectoryServer::new(announcements).max_decoding_message_size(message))
            .add_service(OutboxServer::new(Outboxes(Arc::clone(&post))).max_decoding_message_size(message));
        let routes = Http2::new(reflection::add(routes, &SERVICES[1..])?.prepare(), config.http2());
        let front = Keeper::new(Arc::clone(&post), config.unknown, config.slot_timeout.0);
        let front = match config.upstream() {
            None => front,
            Some(settings) => front.with_upstream(Upstream::new(settings)?),
        };
        let open = Arc::<AtomicUsize>::default;
        let listeners = vec![
            tokio::spawn(serve::serve(
                tcp,
                routes,
                config.max_connections,
                open(),
                stop.clone(),
                LAST_REQUESTS,
            )),
            tokio::spawn(rest::serve(rest, front, auth, config.rest(), open(), stop.clone(), LAST_REQUESTS)),
        ];
        info!(%address, %directory_address, deliveries = post.queues.len(), "gateway started");
        Ok(Self {
            address,
            directory_address,
            post,
            health,
            listeners,
            couriers: running,
            announcing,
            stop,
            _folder: lock,
        })
    }

    /// Where it takes requests in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where agents announce themselves.
    pub fn directory_address(&self) -> SocketAddr {
        self.directory_address
    }

    /// Serves until `shutdown` is ready, then lets what is under way end, for 2 s at most, and brings all to the disk.
    ///
    /// # Errors
    ///
    /// If the outbox's thread ended by itself: then the gateway is not to go on.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), GatewayError> {
        tokio::select! {
            biased;
            () = watch_outbox(self.post.outbox.state(), &self.health) => {
                error!("the outbox ended");
                return Err(GatewayError::Died);
            }
            () = shutdown => {}
        }
        info!("told to stop");
        self.announcing.raise();
        self.stop.raise();
        for service in SERVICES {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
        for listener in self.listeners {
            let _ = listener.await;
        }
        self.couriers.join_all().await;
        self.post.outbox.close().await;
        info!("stopped");
        Ok(())
    }
}

fn start_outbox(
    config: &Config,
    log: Log,
    wall: crate::clock::Time,
    sink: ToQueues,
) -> Result<Outbox, GatewayError> {
    let Log { disk, boot_id, writer } = log;
    let hands = match writer {
        ground::Writer::Thread | ground::Writer::Beside => Hands::Thread,
        ground::Writer::Task { .. } => Hands::Own,
    };
    let sync = config.durability == Durability::Sync;
    let opened = Opened::open(disk, sync, config.repair.0, &boot_id, config.outbox(), hands)?;
    sink.add(opened.to_deliver());
    let clock = Clock::start_at(wall, opened.newest());
    match writer {
        ground::Writer::Thread => opened.start(clock, sink).map_err(GatewayError::Thread),
        ground::Writer::Beside => Ok(opened.start_task(clock, sink, yield_now).0),
        ground::Writer::Task { mut pause, started } => {
            let (outbox, task) = opened.start_task(clock, sink, move || sleep(pause()));
            started(task);
            Ok(outbox)
        }
    }
}

/// Tells by the health of the whole whether the outbox can be written. Ready once its thread has ended.
async fn watch_outbox(mut state: watch::Receiver<Option<WriteError>>, health: &HealthReporter) {
    while state.changed().await.is_ok() {
        let serving = match &*state.borrow_and_update() {
            None => {
                info!("the outbox can be written again");
                ServingStatus::Serving
            }
            Some(error) => {
                warn!(%error, "requests are refused");
                ServingStatus::NotServing
            }
        };
        health.set_service_status(SERVICES[0], serving).await;
    }
}

#[cfg(test)]
mod tests;
