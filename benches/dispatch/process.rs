//! The servers: processes of their own, each pinned to a core, and what the kernel says of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

/// The cores that servers and clients are pinned to.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Cores {
    /// The core that servers run on
    #[arg(long = "server-core", value_name = "SERVER_CORE", default_value_t = 0)]
    pub(crate) server: usize,
    /// The core that the clients run on
    #[arg(long = "client-core", value_name = "CLIENT_CORE", default_value_t = 1)]
    pub(crate) client: usize,
}

impl Cores {
    /// Pins this thread, and every process and thread that it starts from now on, to the client's core.
    pub(crate) fn pin_client(self) -> Result<()> {
        pin(self.client)
    }
}

pub(crate) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot pin to core {core}"))
}

/// A server that runs. It is ended when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The line in which it said what it listens on.
    #[allow(dead_code, reason = "the other bench uses it")]
    pub(crate) ready: String,
    folder: TempDir,
    /// Whether it is told to stop, instead of being killed: a tool that it runs under has something to write.
    gently: bool,
    /// Kept open, so that the server may go on writing.
    _out: BufReader<ChildStdout>,
}

impl Server {
    /// Starts an agent with one thread, these options and otherwise the defaults; under a tool such as
    /// `valgrind --tool=callgrind`, if one is given.
    pub(crate) fn agent(cores: Cores, options: &[&str], under: Option<&str>) -> Result<Self> {
        let mut words = under.unwrap_or_default().split_whitespace().chain([env!("CARGO_BIN_EXE_wakeful")]);
        let program = words.next().context("no program")?;
        let mut server = Self::start(cores, |folder| {
            let mut agent = Command::new(program);
            agent.args(words);
            agent.args(["agent", "--worker-threads", "1", "--listen", "127.0.0.1:0", "--log-level", "error"]);
            agent.arg("--socket").arg(folder.join("agent.sock"));
            agent.arg("--data-dir").arg(folder.join("log")).args(options);
            agent
        })?;
        server.gently = under.is_some();
        Ok(server)
    }

    /// Starts a gateway with one thread, these options and otherwise the defaults.
    #[allow(dead_code, reason = "the other bench uses it")]
    pub(crate) fn gateway(cores: Cores, options: &[&str]) -> Result<Self> {
        Self::start(cores, |folder| {
            let mut gateway = Command::new(env!("CARGO_BIN_EXE_wakeful"));
            gateway.args([
                "gateway",
                "--worker-threads",
                "1",
                "--listen",
                "127.0.0.1:0",
                "--log-level",
                "error",
            ]);
            gateway.args(["--directory-listen", "127.0.0.1:0", "--data-dir"]).arg(folder.join("gateway"));
            gateway.args(options);
            gateway
        })
    }

    /// Starts a service that does nothing: this program again, with these arguments.
    pub(crate) fn noop(cores: Cores, args: &[&str]) -> Result<Self> {
        let own = std::env::current_exe()?;
        Self::start(cores, |_| {
            let mut noop = Command::new(own);
            noop.args(args);
            noop
        })
    }

    fn start(cores: Cores, command: impl FnOnce(PathBuf) -> Command) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = command(folder.path().to_owned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let options = std::env::vars_os().map(|(name, _)| name);
        for option in options.filter(|name| name.as_encoded_bytes().starts_with(b"WAKEFUL_")) {
            command.env_remove(option);
        }
        // A process starts on the cores of the thread that starts it.
        pin(cores.server)?;
        let started = command.spawn().with_context(|| format!("cannot start {command:?}"));
        cores.pin_client()?;
        let mut child = started?;
        let mut out = BufReader::new(child.stdout.take().context("no pipe from the server")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let Some(address) = line.split_whitespace().skip_while(|word| *word != "on").nth(1) else {
            let _ = child.kill();
            bail!("{command:?} did not start: {:?}, {line:?}", child.wait()?);
        };
        let address = address.trim_end_matches(',').parse()?;
        Ok(Self { address, ready: line.clone(), child, folder, gently: false, _out: out })
    }

    /// A folder of its own, on the disk of an agent's log.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An agent's Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The time that its threads have run since it started.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            let ran = schedstat.split_whitespace().next().context("an empty schedstat")?;
            nanos += ran.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Bytes of its memory that are in RAM.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib = line.split_whitespace().next().context("an empty VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself is past being told.
        let _ = match self.gently {
            true => kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(Into::into),
            false => self.child.kill(),
        };
        let _ = self.child.wait();
    }
}
