//! A process of ours: what it prints, and its certain end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::{POLL, soon};

/// A process, killed by its id and waited for when this is dropped.
pub(crate) struct Process {
    child: Child,
    lines: UnboundedReceiver<String>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
        let lines = lines(child.stdout.take().expect("its output"));
        Self { child, lines }
    }

    /// The next line that it prints.
    pub(crate) async fn line(&mut self) -> String {
        self.line_or_end().await.expect("a line, and the process has closed its output")
    }

    /// The next line, or `None` if it has closed its output.
    pub(crate) async fn line_or_end(&mut self) -> Option<String> {
        soon("a line of the process", self.lines.recv()).await
    }

    /// The same for a line that may take longer than what is usual here.
    pub(crate) async fn line_within(&mut self, bound: Duration) -> Option<String> {
        let line = timeout(bound, self.lines.recv()).await;
        line.unwrap_or_else(|_| panic!("no line of the process within {bound:?}"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("its input")
    }

    /// Sends a signal, unless the process has ended: its id may then be another's.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.child.try_wait().expect("its state").is_none() {
            kill_process(Pid::from_child(&self.child), signal).expect("the signal sent");
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    /// How it ended. Fails if it has not by `bound`.
    pub(crate) async fn ended(&mut self, bound: Duration) -> ExitStatus {
        let ended = timeout(bound, async {
            loop {
                if let Some(status) = self.child.try_wait().expect("its state") {
                    return status;
                }
                tokio::time::sleep(POLL).await;
            }
        });
        ended.await.unwrap_or_else(|_| panic!("the process has not ended within {bound:?}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread of their own, so that waiting for one can have a bound.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
