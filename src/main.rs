//! The `wakeful` command.

use std::process::ExitCode;

use clap::Parser;
use wakeful::cli::{self, Cli};

fn main() -> ExitCode {
    Cli::parse().run().unwrap_or_else(|error| cli::report(&error))
}
