//! What a gateway stands on: its listeners, its folder, the directory, the way to agents. The machine's own, unless a
//! test has others.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::GatewayError;
use super::rest::auth::{Auth, Keystone, Tokens};
use crate::clock::{Time, wall};
use crate::config::Durability;
use crate::config::gateway::{AuthKind, Config};
use crate::directory::Directory;
use crate::directory::embedded::{Bounds, Embedded, Hands};
use crate::journal::disk::Disk;
use crate::journal::disk::faulty::FaultyDisk;
use crate::journal::disk::real::RealDisk;
use crate::journal::folder::{Folder, FolderError, boot_id};
use crate::net::listen::{self, ListenError};
use crate::net::roads::{Roads, Tcp};

/// The outbox's folder and the directory's file, in the gateway's folder.
const OUTBOX: &str = "outbox";
const DIRECTORY: &str = "directory.redb";

/// What a gateway stands on.
pub struct Ground<Rest, Tcp> {
    /// Where requests come in.
    pub rest: Rest,
    /// Its address.
    pub address: SocketAddr,
    /// Where agents announce themselves.
    pub tcp: Tcp,
    /// Its address.
    pub directory_address: SocketAddr,
    /// Where the outbox is.
    pub log: Log,
    /// Which instance is where.
    pub directory: Arc<dyn Directory>,
    /// The way to agents.
    pub roads: Arc<dyn Roads>,
    /// How callers are told apart.
    pub auth: Auth,
    /// What the wall clock says.
    pub wall: Time,
    /// Held for as long as the gateway runs.
    pub lock: Option<Folder>,
}

/// Where an outbox is.
pub struct Log {
    /// Its folder.
    pub disk: Arc<dyn Disk>,
    /// The machine's boot.
    pub boot_id: String,
    /// Who writes it.
    pub writer: Writer,
}

/// Who writes an outbox.
pub enum Writer {
    /// A thread of its own, which may wait for the disk.
    Thread,
    /// A task beside the requests, for nothing is waited for. Each batch gathers until those that are ready have been
    /// served.
    Beside,
    /// A task, with how long each batch lies gathered before it is written. It is given to `started`, so that it can
    /// be killed in the midst of its work.
    Task {
        /// Gives the next batch's pause.
        pause: Box<dyn FnMut() -> Duration + Send>,
        /// Is given the task.
        started: Box<dyn FnOnce(JoinHandle<()>) + Send>,
    },
}

impl Ground<TcpListener, TcpListener> {
    /// The machine's own.
    ///
    /// # Errors
    ///
    /// If a listener cannot be opened, or the folder, the file of tokens or what Keystone is to be asked with cannot be
    /// used.
    pub(super) async fn of_machine(config: &Config) -> Result<Self, GatewayError> {
        let bounds = Bounds { keep_unbound: config.unbound_age.0, max_unbound: config.max_unbound };
        // Before anything is bound: a second gateway on the same folder is refused at once.
        let (disk, file, lock): (Arc<dyn Disk>, _, _) = match config.durability {
            Durability::None => (Arc::new(FaultyDisk::default()), None, None),
            Durability::Sync | Durability::Os => {
                let folder = Folder::lock(&config.data_dir.0)?;
                let outbox = folder.path().join(OUTBOX);
                let unusable = |error| FolderError::Unusable { path: outbox.clone(), error };
                fs::create_dir_all(&outbox).map_err(unusable)?;
                let disk = RealDisk::open(&outbox).map_err(unusable)?;
                (Arc::new(disk), Some(folder.path().join(DIRECTORY)), Some(folder))
            }
        };
        let writer = match config.durability {
            Durability::Sync => Writer::Thread,
            Durability::Os | Durability::None => Writer::Beside,
        };
        let directory = Embedded::open(file.as_deref(), bounds, Hands::Thread)?;
        let auth = match config.auth {
            AuthKind::None => Auth::None,
            AuthKind::Tokens => {
                let tokens = Tokens::open(&config.tokens_file.0, config.roles(), None, wall())?;
                Auth::Tokens(Arc::new(tokens))
            }
            AuthKind::Keystone => Auth::Keystone(Keystone::open(config.keystone()?, wall())?),
        };
        let open = async |address| {
            let listener = listen::tcp(address).await?;
            let bound = listener.local_addr().map_err(|error| ListenError::Tcp { address, error })?;
            Ok::<_, ListenError>((listener, bound))
        };
        let (rest, address) = open(config.listen).await?;
        let (tcp, directory_address) = open(config.directory_listen).await?;
        Ok(Self {
            rest,
            address,
            tcp,
            directory_address,
            log: Log { disk, boot_id: boot_id(), writer },
            directory: Arc::new(directory),
            roads: Arc::new(Tcp),
            auth,
            wall: wall(),
            lock,
        })
    }
}
