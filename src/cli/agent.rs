//! `wakeful agent`: the per-host daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::daemon::{Ear, runtime, say_ready};
use crate::agent::Agent;
use crate::config::{Config, Options, gateway};
use crate::gateway::Gateway;
use crate::net::flag::Flag;
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
    telemetry::start(&config.log_level, config.log_format);
    runtime(config.worker_threads).context("cannot start the runtime")?.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(mut config: Config) -> anyhow::Result<()> {
    let ear = Ear::new()?;
    let gateway = match config.rest.0 {
        Some(address) => {
            let gateway = Gateway::start(gateway::Config::within(&config, address)?).await?;
            config.gateway.0.push(gateway.directory_address().to_string());
            Some(gateway)
        }
        None => None,
    };
    let agent = Agent::start(config).await?;
    let rest = gateway.as_ref().map(|gateway| format!(", for requests on {}", gateway.address()));
    say_ready(&format!(
        "wakeful agent listens on {} and unix:{} (log {}){}",
        agent.address(),
        agent.socket().display(),
        agent.log_id(),
        rest.unwrap_or_default()
    ))?;
    match gateway {
        None => agent.run(ear.told_to_stop()).await?,
        Some(gateway) => beside(agent, gateway, ear).await?,
    }
    Ok(())
}

/// Runs both. Once told to stop, or if one of them cannot go on, the gateway ends first, for it delivers to the agent.
async fn beside(agent: Agent, gateway: Gateway, ear: Ear) -> anyhow::Result<()> {
    let ended = Flag::default();
    let gateway = async {
        let served = tokio::select! {
            () = ended.clone().raised() => Ok(()),
            served = gateway.run(ear.told_to_stop()) => served,
        };
        ended.raise();
        served
    };
    let agent = async {
        let served = agent.run(ended.clone().raised()).await;
        ended.raise();
        served
    };
    let (gateway, agent) = tokio::join!(gateway, agent);
    gateway?;
    agent?;
    Ok(())
}
