//! The command that starts the work, and the signals that end it.

use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal as Number, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The command that starts the work. Where none was given, it is one that has ended.
pub(super) struct Work {
    name: String,
    child: Option<Child>,
}

impl Work {
    /// Starts the command, if there is one.
    ///
    /// # Errors
    ///
    /// If it cannot be started; in words.
    pub(super) fn start(command: &[OsString]) -> Result<Self, String> {
        let Some((program, args)) = command.split_first() else {
            return Ok(Self { name: String::new(), child: None });
        };
        let name = program.to_string_lossy().into_owned();
        match Command::new(program).args(args).spawn() {
            Ok(child) => Ok(Self { name, child: Some(child) }),
            Err(error) => Err(format!("{name} could not be started: {error}")),
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Waits for its end: for ever, if it does not run. May be dropped, and called again.
    ///
    /// # Errors
    ///
    /// If it failed; in words.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        let ended = match &mut self.child {
            Some(child) => child.wait().await,
            None => pending().await,
        };
        self.child = None;
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} {}", self.name, text(status))),
            Err(error) => Err(format!("{} cannot be waited for: {error}", self.name)),
        }
    }

    /// Tells it to end.
    pub(super) fn terminate(&self) {
        self.tell(Number::TERM);
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        self.tell(Number::KILL);
    }

    fn tell(&self, number: Number) {
        let id = self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // It fails if the command may not be told, as one that runs as another user; then its end is
            // still waited for.
            let _ = kill_process(pid, number);
        }
    }
}

fn text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// If the system does not allow it.
    pub(super) fn new() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one. Gives its number.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}
