//! A program of `tests/clients/` in a process of its own: a caller, Keystone or Nova. It is told what to do by lines
//! of JSON, and answers each with one.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::clients;
use super::process::Process;

/// What others wrote starts by reading some hundred thousand lines, on a machine that is busy.
const BOUND: Duration = Duration::from_secs(120);

/// A script, killed when this is dropped. What it logged is shown if the test fails.
pub(crate) struct Script {
    /// What it said of itself once it was ready.
    pub(crate) ready: Value,
    pub(crate) folder: Arc<TempDir>,
    name: String,
    process: Process,
    stdin: ChildStdin,
}

/// What came of a task: the program's own report, or what it raised.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) report: Value,
    /// `None` if it raised nothing.
    pub(crate) raised: Option<Value>,
    pub(crate) replies: Vec<Reply>,
}

/// A reply to a caller's request, as the caller's session saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) status: u64,
    /// The code of each event, if it was a reply with events.
    pub(crate) codes: Option<Vec<u64>>,
}

impl Script {
    /// Starts it with this argument, to which its folder is added, and waits until it is ready.
    pub(crate) async fn start(python: &Path, name: &str, folder: Arc<TempDir>, argument: &Value) -> Self {
        let mut argument = argument.clone();
        argument["folder"] = json!(folder.path());
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name));
        command.arg(argument.to_string()).current_dir(folder.path()).stdin(Stdio::piped());
        // Compiled once, it starts in half the time.
        command.env_remove("PYTHONDONTWRITEBYTECODE");
        command.env("PYTHONPYCACHEPREFIX", clients::folder().join("compiled"));
        let log = folder.path().join(format!("{name}.log"));
        command.stderr(File::options().create(true).append(true).open(&log).expect("a file for the log"));
        let mut process = Process::start(command);
        let stdin = process.stdin();
        let mut script = Self { ready: Value::Null, folder, name: name.to_owned(), process, stdin };
        script.ready = script.answer().await;
        script
    }

    /// Tells it to do something, and gives what came of it.
    pub(crate) async fn tell(&mut self, task: Value) -> Told {
        writeln!(self.stdin, "{task}").expect("the script reads");
        let mut answer = self.answer().await;
        let replies = answer["replies"].as_array().map(|replies| replies.iter().map(reply).collect());
        Told {
            report: answer["report"].take(),
            raised: answer.get("raised").cloned(),
            replies: replies.unwrap_or_default(),
        }
    }

    /// The same for what has to go well. Gives its report.
    pub(crate) async fn ask(&mut self, task: Value) -> Value {
        let told = self.tell(task).await;
        assert_eq!(told.raised, None, "{told:?}");
        told.report
    }

    async fn answer(&mut self) -> Value {
        let line = self.process.line_within(BOUND).await;
        let line = line.unwrap_or_else(|| panic!("{} has ended", self.name));
        serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{} did not answer, but said {line:?}", self.name))
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) async fn ended(&mut self) {
        self.process.ended(BOUND).await;
    }
}

fn reply(seen: &Value) -> Reply {
    let text = |name: &str| seen[name].as_str().expect("a text").to_owned();
    let codes = seen["codes"].as_array();
    Reply {
        method: text("method"),
        url: text("url"),
        status: seen["status"].as_u64().expect("a status"),
        codes: codes.map(|codes| codes.iter().map(|code| code.as_u64().expect("a code")).collect()),
    }
}

impl Told {
    /// The replies to what it posted for events: each one's status and codes.
    pub(crate) fn posted(&self) -> Vec<(u64, Vec<u64>)> {
        let events =
            |reply: &&Reply| reply.method == "POST" && reply.url.ends_with("/os-server-external-events");
        let posted = self.replies.iter().filter(events);
        posted.map(|reply| (reply.status, reply.codes.clone().unwrap_or_default())).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.folder.path().join(format!("{}.log", self.name));
            eprintln!("--- the log of {}\n{}---", self.name, fs::read_to_string(log).unwrap_or_default());
        }
    }
}
