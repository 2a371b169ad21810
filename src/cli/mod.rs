//! The command line: what a command and its options are, and which file carries it out.
//!
//! Each subcommand is a file with its `Args` and a `run` that gives the exit code. What it has to say goes
//! through [`Out`]; what went wrong comes back as an error, and [`report`] says it.

use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

pub mod agent;
pub mod ages;
pub mod args;
pub mod bindings;
pub mod cancel;
pub mod completions;
pub mod consumers;
mod daemon;
pub mod events;
pub mod explain;
pub mod gateway;
pub mod journal;
pub mod outbox;
pub mod output;
pub mod pages;
pub mod send;
pub mod status;
pub mod story;
pub mod table;
pub mod target;
pub mod wait;
pub mod waits;
pub mod watch;
pub mod words;

use output::{Format, Out, Unwritable};

/// Exit code of a command whose reader has gone away, as a shell has it of one that SIGPIPE ended.
const READER_GONE: u8 = 128 + 13;

/// Takes external events in, and wakes the operations on this host that wait for them.
#[derive(Parser)]
#[command(name = "wakeful", version, arg_required_else_help = true)]
pub struct Cli {
    /// How a reply is printed: tables for people, or for programs one JSON document of the reply's shape
    #[arg(long, global = true, display_order = 901, value_enum, default_value_t = Format::Table, env = "WAKEFUL_OUTPUT")]
    output: Format,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Agent(Box<agent::Args>),
    Gateway(Box<gateway::Args>),
    Wait(Box<wait::Args>),
    Send(send::Args),
    Watch(watch::Args),
    Events(events::Args),
    Waits(waits::Args),
    Explain(explain::Args),
    Cancel(cancel::Args),
    Status(status::Args),
    Consumers(consumers::Args),
    Bindings(bindings::Args),
    Outbox(outbox::Args),
    Journal(journal::Args),
    Completions(completions::Args),
}

impl Cli {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being carried out, for [`report`] to say.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let out = &mut Out::new(self.output);
        let code = match self.command {
            Command::Agent(args) => agent::run(*args),
            Command::Gateway(args) => gateway::run(*args),
            Command::Journal(args) => journal::run(args, out),
            Command::Completions(args) => completions::run(&args, out),
            // Its exit code is the wait's, whoever reads the output or does not.
            Command::Wait(args) => return block_on(wait::run(*args, out)),
            Command::Send(args) => block_on(send::run(args, out)),
            Command::Watch(args) => block_on(watch::run(args, out)),
            Command::Events(args) => block_on(events::run(args, out)),
            Command::Waits(args) => block_on(waits::run(args, out)),
            Command::Explain(args) => block_on(explain::run(args, out)),
            Command::Cancel(args) => block_on(cancel::run(args, out)),
            Command::Status(args) => block_on(status::run(args, out)),
            Command::Consumers(args) => block_on(consumers::run(args, out)),
            Command::Bindings(args) => block_on(bindings::run(args, out)),
            Command::Outbox(args) => block_on(outbox::run(args, out)),
        }?;
        out.flush()?;
        Ok(code)
    }
}

/// Runs a client command. It has one thing to do, so one thread is enough.
fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client's runtime")?;
    runtime.block_on(command)
}

/// Arguments that are each good, and do not go together.
fn usage(text: String) -> anyhow::Error {
    Cli::command().error(ErrorKind::ArgumentConflict, text).into()
}

/// Says what went wrong, and gives the exit code for it. A reader that went away, as `head` does, is not told.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Unwritable::ReaderGone) = error.downcast_ref() {
        return ExitCode::from(READER_GONE);
    }
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // Nothing can be done if nobody hears it.
        let _ = usage.print();
        return u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    // An agent's log is where its last words are looked for; before it has one, they are said plainly.
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{error:#}");
    } else {
        output::complain(&format!("{error:#}"));
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_to_speak_of() {
        let error = anyhow::Error::from(Unwritable::ReaderGone).context("while listing");
        assert_eq!(report(&error), ExitCode::from(141));
    }
}
