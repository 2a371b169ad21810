//! `wakeful agent`: the per-host daemon.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::Agent;
use crate::config::{Config, Options};
use crate::telemetry;

/// Runs the per-host daemon: takes events in over gRPC, and wakes the waits of this host's drivers
#[derive(clap::Args)]
pub struct Args {
    /// A TOML file that sets the same options, weaker than flags and environment [default: none]
    #[arg(long, value_name = "FILE", env = "WAKEFUL_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Runs the agent until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
///
/// If an option is not valid, or the agent cannot start or go on.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let file = args.config.as_deref().map(Options::from_file).transpose()?;
    let config = args.options.or(file.unwrap_or_default()).resolve()?;
    telemetry::start(&config);
    raise_file_limit();
    runtime(config.worker_threads).context("cannot start the runtime")?.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

/// Lets the process have as many files open as it may: many systems begin with 1,024, and each connection is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, limit = ?limit.current, "the number of open files stays limited");
    }
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Set up before the agent says that it is ready: from then on someone may tell it to stop.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let agent = Agent::start(config).await?;
    say_ready(&agent)?;
    let told_to_stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    };
    agent.run(told_to_stop).await?;
    Ok(())
}

fn say_ready(agent: &Agent) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "wakeful agent listens on {} and unix:{} (log {})",
        agent.address(),
        agent.socket().display(),
        agent.log_id()
    )?;
    out.flush()?;
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    Ok(())
}
