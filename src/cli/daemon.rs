//! What daemons have in common: a runtime, a word when they are ready, and an ear for being told to stop.

use std::io::{self, Write};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A runtime of so many threads; 0: one a core.
pub(super) fn runtime(threads: usize) -> io::Result<Runtime> {
    raise_file_limit();
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

/// Lets the process have as many files open as it may: many systems begin with 1,024, and each connection is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, limit = ?limit.current, "the number of open files stays limited");
    }
}

/// Hears SIGTERM and SIGINT from now on: to be made before the daemon says that it is ready.
pub(super) struct Ear {
    terminate: Signal,
    interrupt: Signal,
}

impl Ear {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Ready once the process is told to stop.
    pub(super) async fn told_to_stop(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}

/// Says in one line what the daemon listens on.
pub(super) fn say_ready(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    Ok(())
}
