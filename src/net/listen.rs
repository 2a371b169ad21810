//! Listeners: TCP, and a Unix socket whose file is taken over from a dead agent but never from a live one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::event::Caller;

/// Who may open the socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// A listener could not be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address is not to be had.
    #[error("cannot listen on {address}: {error}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Another agent has the socket.
    #[error("cannot listen on {0}: another process does. Stop it, or choose another --socket")]
    InUse(PathBuf),
    /// What is there is no socket.
    #[error("cannot listen on {0}: it exists and is not a socket. Move it away, or choose another --socket")]
    NotASocket(PathBuf),
    /// The socket's folder may be someone else's trap.
    #[error("cannot listen in {0}: the folder must be owned by the user that runs the agent")]
    NotOurFolder(PathBuf),
    /// The socket's file or folder could not be made.
    #[error("cannot listen on {path}: {error}")]
    Socket {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over the Unix socket, with the credentials that the kernel vouches for.
    Unix(Caller),
}

/// A listener that the accept loop serves.
pub trait Listener: Send + Sync + 'static {
    /// A connection's bytes.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection. One that has gone before it could be set up is passed over.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

/// Opens a TCP listener.
///
/// # Errors
///
/// If the address is in use, or not this machine's.
pub async fn tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| ListenError::Tcp { address, error })
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        loop {
            let (stream, address) = TcpListener::accept(self).await?;
            // Replies are small, and each is waited for.
            if stream.set_nodelay(true).is_ok() {
                return Ok((stream, Peer::Tcp(address)));
            }
        }
    }
}

/// The agent's Unix socket. Its file goes when this does.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    own_uid: u32,
    /// Held as long as the socket is served, so that of two agents started at once one sees the other.
    _lock: File,
}

impl Socket {
    /// Opens the socket at `path`, and makes its folder if there is none. The file of an agent that no
    /// longer runs is replaced.
    ///
    /// # Errors
    ///
    /// If another process serves it, it is not a socket, or it cannot be made.
    pub fn open(path: &Path) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Socket { path: path.into(), error };
        let own_uid = rustix::process::geteuid().as_raw();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            prepare_folder(folder, own_uid)?;
        }
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.into())),
            Ok(_) => match StdUnixStream::connect(path) {
                Ok(_) => return Err(ListenError::InUse(path.into())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        Ok(Self { listener, path: path.into(), own_uid, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // If it cannot be removed, the next agent takes it over.
        let _ = fs::remove_file(&self.path);
    }
}

impl Listener for Socket {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) {
                let operator = uid == 0 || uid == self.own_uid;
                return Ok((stream, Peer::Unix(Caller { uid, operator })));
            }
        }
    }
}

/// Makes the socket's folder, for its owner alone unless that is root, whose socket's own mode decides.
/// In a folder that all may write to, another user could have made it first.
fn prepare_folder(folder: &Path, own_uid: u32) -> Result<(), ListenError> {
    let failed = |error| ListenError::Socket { path: folder.into(), error };
    let mode = if own_uid == 0 { 0o755 } else { 0o700 };
    fs::DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(failed)?;
    let found = fs::symlink_metadata(folder).map_err(failed)?;
    let in_temp = folder.parent() == Some(&std::env::temp_dir());
    if in_temp && (found.file_type().is_symlink() || found.uid() != own_uid) {
        return Err(ListenError::NotOurFolder(folder.into()));
    }
    Ok(())
}

fn lock(socket: &Path) -> Result<File, ListenError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| ListenError::Socket { path, error })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ListenError::InUse(socket.into())),
        Err(error) => Err(ListenError::Socket { path: socket.into(), error: error.into() }),
    }
}
