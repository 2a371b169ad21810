//! The command line.

pub mod agent;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Takes external events in, and wakes the operations on this host that wait for them.
#[derive(Parser)]
#[command(name = "wakeful", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Agent(agent::Args),
}

impl Cli {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being carried out.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Agent(args) => agent::run(args),
        }
    }
}
