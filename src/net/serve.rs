//! The accept loop: connections in bounds, and an end to each of them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::flag::Flag;
use super::listen::{Listener, Peer};
use super::refuse::refuse;

/// How long the loop rests when a connection could not be accepted, for want of file descriptors say.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// Connections that are being refused at once, past `max_connections`. Beyond those they are closed without
/// a word.
const FAREWELLS: usize = 64;
/// Why a connection was cut.
pub type Cut = Box<dyn std::error::Error + Send + Sync>;

/// What the connections of a listener speak.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// Serves a connection until it ends, or, once `stop` is raised, until what is open on it has ended.
    fn serve(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        stop: Flag,
    ) -> impl Future<Output = Result<(), Cut>> + Send;

    /// What a connection more than there may be is told, in the protocol's own words; `text` is for people.
    fn farewell(&self, text: &str) -> Vec<u8>;
}

/// Serves a listener's connections, at most `max_connections` at once, until `stop` is raised; then lets what is
/// open on them end, for `grace` at most. `open` counts them.
pub async fn serve(
    listener: impl Listener,
    protocol: impl Protocol,
    max_connections: usize,
    open: Arc<AtomicUsize>,
    stop: Flag,
    grace: Duration,
) {
    let permits = Arc::new(Semaphore::new(max_connections));
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stop.clone().raised());
    let mut refusing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_BACK_OFF).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            // Once, until there is room again: who is refused tries again, and soon.
            if !std::mem::replace(&mut refusing, true) {
                warn!(max_connections, ?peer, "connections refused: as many are open");
            }
            if let Ok(farewell) = Arc::clone(&farewells).try_acquire_owned() {
                let words =
                    protocol.farewell(&format!("max_connections is {max_connections}, and so many are open"));
                connections.spawn(async move {
                    let _farewell = farewell;
                    refuse(io, &words).await;
                });
            }
            continue;
        };
        refusing = false;
        let connection = protocol.clone().serve(io, peer, stop.clone());
        let counted = Counted::new(Arc::clone(&open));
        connections.spawn(async move {
            let _permit = permit;
            let _counted = counted;
            if let Err(error) = connection.await {
                debug!(?peer, %error, "connection cut");
            }
        });
    }
    drop(listener);
    let _ = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

/// Counts one up for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
