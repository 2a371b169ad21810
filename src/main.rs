//! The `wakeful` command.

use std::process::ExitCode;

use clap::Parser;
use wakeful::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
