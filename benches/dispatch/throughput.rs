//! The agent beside the service that does nothing, in turns, under load.

use std::time::Duration;

use anyhow::Result;

use crate::Durability;
use crate::load::{Call, Round, Shape, Target};
use crate::report::{self, Verdict};
use crate::stats::{Latencies, median, spread};
use crate::waits::Held;
use crate::wire::Requests;

/// A run in which the rounds of the service that does nothing are further apart is void.
const MAX_SPREAD: f64 = 0.2;
const WARM_UP: Duration = Duration::from_millis(300);

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    what: &'static str,
    pub(crate) shape: Shape,
    /// The share of the do-nothing service's events a second that the agent is to reach, with its log in memory and
    /// on disk.
    aim: (f64, f64),
}

pub(crate) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "unary1",
        what: "unary, 1 event a call",
        shape: Shape { call: Call::Unary, batch: 1 },
        aim: (0.9, 0.8),
    },
    Scenario {
        name: "unary100",
        what: "unary, 100 events a call",
        shape: Shape { call: Call::Unary, batch: 100 },
        aim: (0.7, 0.5),
    },
    Scenario {
        name: "stream100",
        what: "stream, 100 events a request",
        shape: Shape { call: Call::Stream, batch: 100 },
        aim: (0.5, 0.25),
    },
];

/// Sends so many events, so that the log and its ids are as full as they get.
pub(crate) async fn fill(agent: &Target, events: u64, requests: &mut Requests) -> Result<()> {
    let shape = Shape { call: Call::Stream, batch: 100 };
    let mut sent = 0;
    while sent < events {
        sent += agent.load(shape, Duration::from_millis(200), requests).await?.events;
    }
    Ok(())
}

/// Both servers, with waits held open on the agent.
pub(crate) struct Pair {
    pub(crate) noop: Target,
    pub(crate) agent: Target,
    pub(crate) held: Held,
}

/// Loads both in turns.
pub(crate) async fn compare(
    scenario: &Scenario,
    pair: &mut Pair,
    rounds: usize,
    time: Duration,
    durability: Durability,
    requests: &mut Requests,
) -> Result<Verdict> {
    println!("\n{}: {}", scenario.name, scenario.what);
    pair.noop.load(scenario.shape, WARM_UP, requests).await?;
    pair.agent.load(scenario.shape, WARM_UP, requests).await?;
    let (mut noops, mut agents) = (Vec::new(), Vec::new());
    for number in 1..=rounds {
        let noop = pair.noop.load(scenario.shape, time, requests).await?;
        let agent = pair.agent.load(scenario.shape, time, requests).await?;
        pair.held.check()?;
        let (was, is) = (noop.rate(), agent.rate());
        println!("  round {number}: noop {was:>9.0}/s  agent {is:>9.0}/s  ratio {:.3}", is / was);
        noops.push(noop);
        agents.push(agent);
    }
    let rates = |rounds: &[Round]| rounds.iter().map(Round::rate).collect::<Vec<_>>();
    let apart = spread(&rates(&noops));
    let ratio = median(rates(&agents)) / median(rates(&noops));
    let cpu = |rounds: &[Round]| median(rounds.iter().map(Round::cpu_an_event));
    let by_cpu = cpu(&noops) / cpu(&agents);
    print("noop", noops);
    print("agent", agents);
    let void = (apart > MAX_SPREAD).then(|| {
        format!(
            "{}: the rounds of the do-nothing service lie {:.0} % apart, over {:.0} %",
            scenario.name,
            apart * 100.0,
            MAX_SPREAD * 100.0
        )
    });
    println!("  ratio {ratio:.3}, by CPU an event {by_cpu:.3}; the noop rounds {:.1} % apart", apart * 100.0);
    let aim = if durability == Durability::None { scenario.aim.0 } else { scenario.aim.1 };
    Ok(Verdict { what: scenario.what.into(), found: ratio, aim: report::Aim::AtLeast(aim), void })
}

fn print(who: &str, rounds: Vec<Round>) {
    let rate = median(rounds.iter().map(Round::rate));
    let cpu = median(rounds.iter().map(Round::cpu_an_event));
    let busy = median(rounds.iter().map(Round::busy));
    let mut latencies = Latencies::default();
    rounds.into_iter().for_each(|round| latencies.append(round.latencies));
    let took = latencies.percentiles();
    println!(
        "  {who:<5} {rate:>9.0} events/s  CPU an event {cpu:>6.3} us  busy {:>3.0} %  a request {took}",
        busy * 100.0
    );
}
