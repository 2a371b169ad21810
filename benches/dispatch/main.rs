//! What an event and a wait cost, beside a service with the same messages that does nothing.
//!
//! `docs/benchmarks.md` says how to run it and how to read it.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench prints, and measures time")]

mod deadlines;
mod load;
mod lone;
mod memory;
mod noop;
mod process;
mod report;
mod stats;
mod throughput;
mod waits;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use load::Target;
use process::{Cores, Server};
use report::Verdict;
use throughput::{Pair, SCENARIOS, Scenario, compare, fill};
use waits::Held;
use wire::Requests;

/// Waits that are open on the agent while it is loaded, and the connections that hold them.
const HELD: usize = 10_000;
const HELD_CONNECTIONS: usize = 2;

const NAMES: [&str; 6] = ["unary1", "unary100", "stream100", "lone", "deadlines", "memory"];

/// Measures the agent beside a service that does nothing
#[derive(Parser)]
struct Args {
    /// Only scenarios of one of these names, or with one of these in their name [default: all]
    filter: Vec<String>,
    /// Shorter rounds, fewer waits: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// Rounds of each server in each scenario [default: 7, quick: 5]
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of a round, or of --only [default: 2, quick: 0.5, only: 10]
    #[arg(long)]
    seconds: Option<f64>,
    /// Events that the agent is sent before the load is measured [default: enough to fill its log and ids; with a
    /// log on disk, to write ten times the log's size]
    #[arg(long)]
    fill: Option<u64>,
    /// What of an event is on disk before it is acknowledged
    #[arg(long, default_value = "none")]
    durability: Durability,
    /// Loads just this server, by --scenario for --seconds, to look at it with a profiler
    #[arg(long)]
    only: Option<Only>,
    /// The scenario of --only
    #[arg(long, default_value = "stream100")]
    scenario: String,
    /// A tool that the agent runs under, with --only: "valgrind --tool=callgrind" say. It may need --fill 0
    #[arg(long, value_name = "COMMAND", requires = "only")]
    under: Option<String>,
    #[command(flatten)]
    cores: Cores,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    None,
    Os,
    Sync,
}

#[derive(Clone, Copy, ValueEnum)]
enum Only {
    Agent,
    Noop,
}

fn main() -> Result<ExitCode> {
    if std::env::args().nth(1).is_some_and(|first| first == "noop") {
        noop::run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let cores = args.cores;
    cores.pin_client()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.only {
        Some(only) => {
            runtime.block_on(load_only(&args, only, cores))?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let verdicts = runtime.block_on(run(&args, cores))?;
            Ok(if report::print(&verdicts) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

impl Durability {
    /// An event is some 200 B in the log, which keeps 256 MiB of them. Of ids, where more events come than they
    /// can be kept for, the newest 4,000,000 are; on disk their files would be the larger part of what is written
    /// long after the events are gone, so they are kept for less time.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::None => &["--durability", "none"],
            Self::Os => &["--durability", "os", "--dedupe-window", "10s"],
            Self::Sync => &["--durability", "sync", "--dedupe-window", "10s"],
        }
    }

    fn fill(self) -> u64 {
        match self {
            Self::None => 4_200_000,
            Self::Os | Self::Sync => 15_000_000,
        }
    }
}

impl Args {
    fn runs(&self, scenario: &str) -> bool {
        let fits = |part: &String| match NAMES.contains(&part.as_str()) {
            true => scenario == part,
            false => scenario.contains(part.as_str()),
        };
        self.filter.is_empty() || self.filter.iter().any(fits)
    }

    fn span(&self, full: f64, quick: f64) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { quick } else { full }))
    }
}

async fn run(args: &Args, cores: Cores) -> Result<Vec<Verdict>> {
    if !NAMES.iter().any(|name| args.runs(name)) {
        bail!("no scenario fits {:?}: there are {}", args.filter, NAMES.join(", "));
    }
    let mut verdicts = Vec::new();
    let loads: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| args.runs(scenario.name)).collect();
    if !loads.is_empty() || args.runs("lone") || args.runs("deadlines") {
        let mut requests = Requests::new()?;
        let mut pair = start(args, cores, &mut requests).await?;
        let rounds = args.rounds.unwrap_or(if args.quick { 5 } else { 7 });
        for scenario in loads {
            let time = args.span(2.0, 0.5);
            verdicts.push(compare(scenario, &mut pair, rounds, time, args.durability, &mut requests).await?);
        }
        if args.runs("lone") {
            lone::run(
                &mut pair,
                if args.quick { 500 } else { 2_000 },
                args.durability,
                cores.server,
                &mut requests,
            )
            .await?;
        }
        if args.runs("deadlines") {
            deadlines::run(&pair.agent.server).await?;
        }
    }
    if args.runs("memory") {
        verdicts.push(memory::run(cores, 10_000, 5).await?);
        if !args.quick {
            verdicts.push(memory::run(cores, 50_000, 5).await?);
        }
    }
    Ok(verdicts)
}

/// Starts both servers and makes the agent as full as it is to be.
async fn start(args: &Args, cores: Cores, requests: &mut Requests) -> Result<Pair> {
    let noop = Target::connect(Server::noop(cores, &["noop"])?).await?;
    let (agent, held) = start_agent(args, cores, requests).await?;
    Ok(Pair { noop, agent, held })
}

async fn start_agent(args: &Args, cores: Cores, requests: &mut Requests) -> Result<(Target, Held)> {
    let agent =
        Target::connect(Server::agent(cores, args.durability.options(), args.under.as_deref())?).await?;
    let held = Held::open(&agent.server.socket(), HELD, HELD_CONNECTIONS).await?;
    fill(&agent, args.fill.unwrap_or(args.durability.fill()), requests).await?;
    Ok((agent, held))
}

async fn load_only(args: &Args, only: Only, cores: Cores) -> Result<()> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == args.scenario);
    let scenario = scenario.with_context(|| format!("there is no scenario {:?} of load", args.scenario))?;
    let mut requests = Requests::new()?;
    let (target, _held) = match only {
        Only::Noop => (Target::connect(Server::noop(cores, &["noop"])?).await?, None),
        Only::Agent => {
            let (agent, held) = start_agent(args, cores, &mut requests).await?;
            (agent, Some(held))
        }
    };
    println!("pid {}", target.server.pid());
    let mut left = args.span(10.0, 10.0);
    while !left.is_zero() {
        let time = left.min(Duration::from_secs(1));
        let round = target.load(scenario.shape, time, &mut requests).await?;
        println!("{:.0} events/s, CPU an event {:.3} us", round.rate(), round.cpu_an_event());
        left -= time;
    }
    Ok(())
}
