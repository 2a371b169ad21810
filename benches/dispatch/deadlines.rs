//! How late deadlines fire, and that none fires early.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;
use wakeful::proto;
use wakeful::proto::outcome::Kind;
use wakeful::proto::waits_client::WaitsClient;

use crate::process::Server;
use crate::stats::Latencies;
use crate::waits;
use crate::wire::Random;

const WAITS: u32 = 1_000;
const SOONEST: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_millis(2_000);

/// Lets 1,000 deadlines pass. Fails if one fires before its time.
pub(crate) async fn run(agent: &Server) -> Result<()> {
    println!("\ndeadlines: {WAITS} waits that time out {SOONEST:?} to {LATEST:?} after they were opened");
    let mut waits = WaitsClient::new(waits::connect(&agent.socket())?);
    let clock = AgentClock::read(&mut waits).await?;
    let mut random = Random::new();
    let mut open = JoinSet::new();
    for number in 0..WAITS {
        let timeout = SOONEST + (LATEST - SOONEST) * number / WAITS;
        let request = waits::wait_for(random.uuid(), random.uuid(), timeout)?;
        // One by one, so that Registered comes at once, and Registered + timeout is near the deadline.
        let (stream, registered) = waits::open(&mut waits, request).await?;
        let due = Instant::now() + timeout;
        let deadline = nanos(&registered.deadline.context("Registered without a deadline")?);
        open.spawn(wait(stream, due, deadline));
    }
    let (mut by_client, mut by_agent) = (Latencies::default(), Latencies::default());
    let mut early = 0;
    while let Some(waited) = open.join_next().await {
        let waited = waited??;
        by_client.add(waited.told.saturating_duration_since(waited.due));
        let (at_least, at_most) = clock.bounds(waited.told);
        let late = |at: i128| Duration::from_nanos(u64::try_from(at - waited.deadline).unwrap_or(0));
        if at_most < waited.deadline {
            early += 1;
        }
        by_agent.add((late(at_least) + late(at_most)) / 2);
    }
    println!("  late by the client's clock: told, after Registered + timeout  {}", by_client.percentiles());
    println!("  late by the agent's clock: told, after Registered.deadline    {}", by_agent.percentiles());
    println!("  (the agent's clock is known here to {:?})", clock.known_to());
    if early > 0 {
        bail!("{early} of {WAITS} waits timed out before their deadline by the agent's clock");
    }
    Ok(())
}

struct Waited {
    /// The arrival of Registered, and the timeout.
    due: Instant,
    /// By the agent's clock.
    deadline: i128,
    told: Instant,
}

async fn wait(mut stream: Streaming<proto::WaitResponse>, due: Instant, deadline: i128) -> Result<Waited> {
    let outcome = waits::outcome(&mut stream).await?;
    let told = Instant::now();
    if outcome.kind() != Kind::TimedOut {
        bail!("a wait for a key that never comes ended {outcome:?}");
    }
    Ok(Waited { due, deadline, told })
}

/// What the agent's clock shows, within bounds: it showed a moment between a call and its reply.
struct AgentClock {
    start: Instant,
    /// What it showed at `start`, at the least and at the most.
    at_least: i128,
    at_most: i128,
}

impl AgentClock {
    /// Reads it off new waits: each says when it was opened.
    async fn read(waits: &mut WaitsClient<Channel>) -> Result<Self> {
        const READS: usize = 200;
        let mut random = Random::new();
        let start = Instant::now();
        let mut clock = Self { start, at_least: i128::MIN, at_most: i128::MAX };
        for _ in 0..READS {
            let request = waits::wait_for(random.uuid(), random.uuid(), LATEST)?;
            let sent = start.elapsed().as_nanos() as i128;
            let (_, registered) = waits::open(waits, request).await?;
            let got = start.elapsed().as_nanos() as i128;
            let opened = registered.opened.and_then(|opened| opened.counts_from);
            let shown = nanos(&opened.context("Registered does not say when the wait was opened")?);
            clock.at_least = clock.at_least.max(shown - got);
            clock.at_most = clock.at_most.min(shown - sent);
        }
        Ok(clock)
    }

    fn bounds(&self, at: Instant) -> (i128, i128) {
        let after = at.saturating_duration_since(self.start).as_nanos() as i128;
        (self.at_least + after, self.at_most + after)
    }

    fn known_to(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.at_most - self.at_least).unwrap_or(0))
    }
}

fn nanos(time: &prost_types::Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}
