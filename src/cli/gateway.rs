//! `wakeful gateway`: the REST front.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::daemon::{Ear, runtime, say_ready};
use crate::config::gateway::{Config, Options};
use crate::gateway::Gateway;
use crate::telemetry;

/// Runs the REST front: takes os-server-external-events in, and sends each event to the hosts that have its instance
#[derive(clap::Args)]
pub struct Args {
    /// A TOML file that sets the same options, weaker than flags and environment [default: none]
    #[arg(long, value_name = "FILE", env = "WAKEFUL_GATEWAY_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Runs the gateway until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
///
/// If an option is not valid, or the gateway cannot start or go on.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let file = args.config.as_deref().map(Options::from_file).transpose()?;
    let config = args.options.or(file.unwrap_or_default()).resolve()?;
    telemetry::start(&config.log_level, config.log_format);
    runtime(config.worker_threads).context("cannot start the runtime")?.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let ear = Ear::new()?;
    let gateway = Gateway::start(config).await?;
    say_ready(&format!(
        "wakeful gateway listens on {}, for agents on {}",
        gateway.address(),
        gateway.directory_address()
    ))?;
    gateway.run(ear.told_to_stop()).await?;
    Ok(())
}
