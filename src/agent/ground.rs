//! What an agent stands on: its listeners, its log's folder, its clock. The machine's own, unless a test has
//! others, that fail on purpose and whose time it sets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::AgentError;
use super::restore::LogError;
use crate::clock::{Time, wall};
use crate::config::{Config, Durability};
use crate::journal::disk::Disk;
use crate::journal::disk::real::RealDisk;
use crate::journal::folder::{Folder, boot_id};
use crate::journal::scan::StartError;
use crate::net::listen::{self, ListenError, Socket};
use crate::net::roads::{Roads, Tcp};

/// What an agent stands on.
pub struct Ground<Tcp, Unix> {
    /// Where senders are served.
    pub tcp: Tcp,
    /// Its address.
    pub address: SocketAddr,
    /// Where drivers and operators are served.
    pub unix: Unix,
    /// Its path.
    pub socket: PathBuf,
    /// Where the log is, if it is on disk.
    pub log: Option<LogGround>,
    /// What the wall clock says.
    pub wall: Time,
    /// The way to gateways.
    pub roads: Arc<dyn Roads>,
}

/// Where a log on disk is.
pub struct LogGround {
    /// Its folder.
    pub disk: Arc<dyn Disk>,
    /// The machine's boot.
    pub boot_id: String,
    /// Who writes it.
    pub writer: WriterGround,
    /// Held for as long as the agent runs.
    pub lock: Option<Folder>,
}

/// Who writes a log on disk.
pub enum WriterGround {
    /// A thread of its own.
    Thread,
    /// A task, with how long each batch lies gathered before it is written. It is given to `started`, so that it can
    /// be killed in the midst of its work.
    Task {
        /// Gives the next batch's pause.
        pause: Box<dyn FnMut() -> Duration + Send>,
        /// Is given the task.
        started: Box<dyn FnOnce(JoinHandle<()>) + Send>,
    },
}

impl Ground<TcpListener, Socket> {
    /// The machine's own.
    ///
    /// # Errors
    ///
    /// If a listener cannot be opened, or the log's folder cannot be had.
    pub(super) async fn of_machine(config: &Config) -> Result<Self, AgentError> {
        // Before anything is bound: a second agent on the same log is refused at once.
        let log = match config.durability {
            Durability::None => None,
            Durability::Sync | Durability::Os => Some(LogGround::of_machine(config)?),
        };
        let unix = Socket::open(&config.socket.0)?;
        let tcp = listen::tcp(config.listen).await?;
        let address = tcp.local_addr().map_err(|error| ListenError::Tcp { address: config.listen, error })?;
        let socket = unix.path().to_owned();
        Ok(Self { tcp, address, unix, socket, log, wall: wall(), roads: Arc::new(Tcp) })
    }
}

impl LogGround {
    fn of_machine(config: &Config) -> Result<Self, LogError> {
        let folder = Folder::lock(&config.data_dir.0)?;
        let path = folder.path();
        let disk = RealDisk::open(path).map_err(|error| StartError::Io { file: path.to_owned(), error })?;
        Ok(Self {
            disk: Arc::new(disk),
            boot_id: boot_id(),
            writer: WriterGround::Thread,
            lock: Some(folder),
        })
    }
}
