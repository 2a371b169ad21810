//! What a request costs at the gateway, beside a route of axum's that only parses the body and answers.
//!
//! `docs/benchmarks.md` says how to run it and how to read it.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench prints, and measures time")]

mod callers;
mod lone;
mod noop;
#[path = "../dispatch/process.rs"]
#[allow(dead_code, reason = "the other bench uses the rest")]
mod process;
#[path = "../dispatch/report.rs"]
mod report;
mod stage;
#[path = "../dispatch/stats.rs"]
#[allow(dead_code, reason = "the other bench uses the rest")]
mod stats;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use callers::Crowd;
use process::{Cores, Server};
use report::{Aim, Verdict};
use stage::Stage;
use stats::{median, spread};

/// A server's core runs for as much of a round at the least, or the callers were what was measured.
const BUSY: f64 = 0.9;
/// The rounds of what does nothing may be so far apart, as a share of their median.
const APART: f64 = 0.2;

/// Measures the gateway beside a route that does nothing
#[derive(Parser)]
struct Args {
    /// Shorter rounds: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    cores: Cores,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["route"] => return noop::route(None).map(|()| ExitCode::SUCCESS),
        ["route", agent] => return noop::route(Some(agent.parse()?)).map(|()| ExitCode::SUCCESS),
        ["agent"] => return noop::agent().map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let args = Args::parse();
    let cores = args.cores;
    cores.pin_client()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verdicts = runtime.block_on(run(&args, cores))?;
    Ok(if report::print(&verdicts) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(args: &Args, cores: Cores) -> Result<Vec<Verdict>> {
    let (rounds, time) = if args.quick { (3, 0.5) } else { (7, 2.0) };
    let time = Duration::from_secs_f64(time);
    let mut verdicts = Vec::new();
    for (durability, aim) in [("os", 0.6), ("sync", 0.4)] {
        for reachable in [false, true] {
            let agent = if reachable { "agent beside the callers" } else { "agent away" };
            let what = format!("{durability}, {agent}");
            let stage = Stage::set(cores, durability).await?;
            let agent = stage.agent(cores).await?;
            let agent = reachable.then_some(agent);
            let (found, void) = throughput(cores, &stage, rounds, time, &what).await?;
            verdicts.push(Verdict { what: format!("requests, {what}"), found, aim: Aim::AtLeast(aim), void });
            drop(agent);
        }
    }
    lone::run(cores, if args.quick { 200 } else { 2_000 }).await?;
    Ok(verdicts)
}

/// Rounds of the gateway and of the route that does nothing, by turns: the ratio of their rates, and why that may say
/// nothing.
async fn throughput(
    cores: Cores,
    stage: &Stage,
    rounds: usize,
    time: Duration,
    what: &str,
) -> Result<(f64, Option<String>)> {
    let noop = Server::noop(cores, &["route"])?;
    let servers = [&stage.gateway, &noop];
    let mut crowds = Vec::new();
    for server in servers {
        crowds.push(Crowd::gather(server.address, stage.request(server.address)).await?);
    }
    let (mut rates, mut busy) = ([(); 2].map(|()| Vec::new()), [(); 2].map(|()| Vec::new()));
    for _ in 0..rounds {
        for (n, (server, crowd)) in servers.iter().zip(&mut crowds).enumerate() {
            let cpu = server.cpu()?;
            let (rate, took) = crowd.post(time).await?;
            rates[n].push(rate);
            busy[n].push((server.cpu()? - cpu).as_secs_f64() / took.as_secs_f64());
        }
    }
    let [rate, rate_of_noop] = [0, 1].map(|n| median(rates[n].iter().copied()));
    let [busy, busy_of_noop] = [0, 1].map(|n| median(busy[n].iter().copied()));
    println!(
        "{what}: {rate:.0} requests/s, {:.1} us of its core each, that {:.0} % busy",
        busy * 1e6 / rate,
        busy * 100.0
    );
    println!(
        "  the route that does nothing: {rate_of_noop:.0} requests/s, {:.1} us each, {:.0} % busy",
        busy_of_noop * 1e6 / rate_of_noop,
        busy_of_noop * 100.0
    );
    let apart = spread(&rates[1]);
    let void = if apart > APART {
        Some(format!("the route that does nothing varied by {:.0} %", apart * 100.0))
    } else if busy_of_noop < BUSY {
        Some(format!("the core of the route that does nothing was {:.0} % busy", busy_of_noop * 100.0))
    } else {
        None
    };
    let ratios = rates[0].iter().zip(&rates[1]).map(|(ours, noop)| ours / noop);
    Ok((median(ratios), void))
}
