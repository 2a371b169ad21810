//! `wakeful wait`: the whole pattern (register, start the work, wait) for a shell script.

mod ended;
mod work;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::timeout;

use self::ended::Ended;
use self::work::{Signals, Work};
use super::args;
use super::output::{Out, Unwritable, complain};
use super::target::Target;
use crate::client::{Client, DEFAULT_TIMEOUT, Error, FailurePolicy, Kind, Outcome, Wait};
use crate::clock::{Clock, Time};
use crate::event::{Cursor, InstanceId, Key, WaitId};
use crate::proto;

/// Exit codes. 0 is completed and 1 failed; the others are those of timeout(1) and env(1), or lie beside them.
const FAILED: u8 = 1;
const COMMAND_FAILED: u8 = 123;
const TIMED_OUT: u8 = 124;
const CANCELLED: u8 = 125;
const NOT_OPENED: u8 = 126;
const COMMAND_NOT_STARTED: u8 = 127;
const SIGNALLED: u8 = 128;

/// How long an agent may take to confirm that a wait is cancelled.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// Wait until all events named have come for an instance; run the command that starts the work, if given
///
/// COMMAND is started once the wait is registered, so that no event of its making can be missed, and the
/// timeout counts from its end. Its output goes where this one's goes. If the outcome comes first, COMMAND runs
/// on. SIGINT and SIGTERM are passed on to it as SIGTERM; it is waited for, and killed by a second one.
///
/// Exits 0 completed, 1 failed, 124 timed out, 125 cancelled, 126 the wait could not be opened, 123 COMMAND
/// failed (the wait is cancelled), 127 COMMAND could not be started, 2 usage, 128+n ended by signal n.
#[derive(Debug, clap::Args)]
#[command(override_usage = "wakeful wait [OPTIONS] <INSTANCE> <NAME[:TAG]>... [-- <COMMAND>...]")]
pub struct Args {
    /// The instance that the events are about, a UUID
    #[arg(value_parser = args::instance)]
    instance: InstanceId,

    /// What is to happen, and to what; the tag begins after the first colon
    #[arg(required = true, value_name = "NAME[:TAG]", value_parser = args::key)]
    keys: Vec<Key>,

    /// How long to wait, up to the agent's max_timeout; counted from COMMAND's end, if there is one. 0s looks
    /// once, with --lookback or --after [default: 300s]
    #[arg(long, value_name = "SPAN", value_parser = args::span)]
    timeout: Option<Duration>,

    /// Take events too that came within this span before now, 30s say [default: only what comes from now on]
    #[arg(long, value_name = "SPAN", value_parser = args::span, conflicts_with = "after")]
    lookback: Option<Duration>,

    /// Take events too that came after this place, LOG_ID:POSITION [default: only what comes from now on]
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,

    /// The wait's id. One that is open is taken over [default: chosen at random]
    #[arg(long, value_name = "UUID")]
    id: Option<WaitId>,

    /// What one key's failure does to the wait
    #[arg(long, value_enum, default_value_t = Policy::FailFast)]
    policy: Policy,

    /// Take an event that is in progress as failed, as Nova does
    #[arg(long)]
    in_progress_fails: bool,

    #[command(flatten)]
    target: Target,

    /// What starts the work, run once the wait is registered [default: nothing; the time counts at once]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// It ends the wait at once
    FailFast,
    /// The wait goes on until each key has been answered
    Collect,
}

/// Waits. The exit code says how that went, also where nothing could be printed.
///
/// # Errors
///
/// Never: whatever goes wrong has an exit code of its own, and is said here.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let clock = Clock::start(Time::default());
    // Set up before anything is opened: from then on there is something to close.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return Ok(not_opened(&format!("cannot listen for signals: {error}"))),
    };
    let opened = tokio::select! {
        opened = open(&args) => opened,
        signal = signals.next() => return Ok(ExitCode::from(SIGNALLED + signal)),
    };
    let wait = match opened {
        Ok(wait) => wait,
        Err(error) => return Ok(not_opened(&explain(&args.target, error))),
    };
    let mut run = Run { wait, ended: None, clock, registered: clock.now(), target: args.target };
    let code = match Work::start(&args.command) {
        Ok(work) => run.wait_for(work, &mut signals).await,
        Err(why) => run.cancel(COMMAND_NOT_STARTED, &why).await,
    };
    if let Some(ended) = &run.ended
        && let Err(error) = print(out, ended)
        && !matches!(error.downcast_ref(), Some(Unwritable::ReaderGone))
    {
        complain(&format!("{error:#}"));
    }
    Ok(ExitCode::from(code))
}

async fn open(args: &Args) -> Result<Wait, Error> {
    let mut wait = Client::new(args.target.address())?
        .wait(args.instance)
        .keys(&args.keys)
        .timeout(args.timeout.unwrap_or(DEFAULT_TIMEOUT))
        .start_on_arm(!args.command.is_empty())
        .in_progress_fails(args.in_progress_fails)
        .failure_policy(match args.policy {
            Policy::FailFast => FailurePolicy::FailFast,
            Policy::Collect => FailurePolicy::Collect,
        });
    if let Some(id) = args.id {
        wait = wait.id(id);
    }
    if let Some(span) = args.lookback {
        wait = wait.lookback(span);
    }
    if let Some(cursor) = args.after {
        wait = wait.after(cursor);
    }
    wait.open().await
}

struct Run {
    wait: Wait,
    /// How the wait ended, once it has.
    ended: Option<Ended>,
    clock: Clock,
    registered: Time,
    target: Target,
}

impl Run {
    /// Waits for the outcome, and for the end of the work. Gives the exit code.
    async fn wait_for(&mut self, mut work: Work, signals: &mut Signals) -> u8 {
        let mut code = None;
        loop {
            if let Some(code) = code
                && !work.runs()
            {
                return code;
            }
            tokio::select! {
                biased;
                signal = signals.next() => return interrupt(work, signals, signal).await,
                outcome = self.wait.outcome(), if code.is_none() => code = Some(self.take(outcome)),
                end = work.end(), if work.runs() => match end {
                    Ok(()) => self.wait.arm(),
                    Err(why) if code.is_none() => return self.cancel(COMMAND_FAILED, &why).await,
                    Err(why) => complain(&format!("{why}, after the wait had ended")),
                },
            }
        }
    }

    /// Ends the wait because the work was not started. Gives `code` back.
    async fn cancel(&mut self, code: u8, why: &str) -> u8 {
        complain(&format!("{why}; the wait is cancelled"));
        self.wait.cancel(why);
        if let Ok(outcome) = timeout(CANCEL_WITHIN, self.wait.outcome()).await {
            self.take(outcome);
        }
        code
    }

    fn take(&mut self, outcome: Result<Outcome, Error>) -> u8 {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                complain(&explain(&self.target, error));
                return CANCELLED;
            }
        };
        let code = match outcome.kind {
            Kind::Completed => 0,
            Kind::Failed => FAILED,
            Kind::TimedOut => TIMED_OUT,
            Kind::Cancelled => CANCELLED,
        };
        self.ended = Some(Ended { outcome, after: self.clock.now().since(self.registered) });
        code
    }
}

/// Ends the work, and waits for that. A second signal does not let it end by itself.
async fn interrupt(mut work: Work, signals: &mut Signals, signal: u8) -> u8 {
    work.terminate();
    while work.runs() {
        tokio::select! {
            _ = work.end() => {}
            _ = signals.next() => work.kill(),
        }
    }
    SIGNALLED + signal
}

fn not_opened(why: &str) -> ExitCode {
    complain(why);
    ExitCode::from(NOT_OPENED)
}

/// What went wrong, and what to do next.
fn explain(target: &Target, error: Error) -> String {
    match error {
        Error::Unreachable { status, .. } | Error::Refused { status, .. } => {
            target.failure(&status).to_string()
        }
        error => error.to_string(),
    }
}

fn print(out: &mut Out, ended: &Ended) -> anyhow::Result<()> {
    if !ended.outcome.confirmed {
        complain(&ended.outcome.why);
    }
    if out.is_json() {
        out.json(&proto::Outcome::from(&ended.outcome))?;
    } else {
        out.line(ended)?;
    }
    Ok(out.flush()?)
}
