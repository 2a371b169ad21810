//! The agent's memory for waits that are open, and what it gives back.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use wakeful::proto;
use wakeful::proto::inspector_client::InspectorClient;

use crate::process::{Cores, Server};
use crate::report::{Aim, Verdict};
use crate::waits::{self, Held};

/// Bytes that an open wait may take.
const AIM: f64 = 2_500.0;
/// How long an allocator has to give back what is free.
const SETTLE: Duration = Duration::from_secs(2);
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Opens so many waits on a fresh agent, over real streams.
pub(crate) async fn run(cores: Cores, count: usize, connections: usize) -> Result<Verdict> {
    let agent = Server::agent(cores, &["--durability", "none"], None)?;
    let before = {
        let mut inspector = InspectorClient::new(waits::connect(&agent.socket())?);
        open_waits(&mut inspector).await?;
        agent.resident()?
    };
    let mut held = Held::open(&agent.socket(), count, connections).await?;
    tokio::time::sleep(SETTLE / 4).await;
    let open = agent.resident()?;
    held.check()?;
    drop(held);
    let mut inspector = InspectorClient::new(waits::connect(&agent.socket())?);
    let dropped = Instant::now();
    while open_waits(&mut inspector).await? > 0 {
        if dropped.elapsed() > GONE_WITHIN {
            bail!("{GONE_WITHIN:?} after their streams were closed, waits are still open");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gone = dropped.elapsed();
    tokio::time::sleep(SETTLE).await;
    let after = agent.resident()?;

    let each = open.saturating_sub(before) as f64 / count as f64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("\nmemory: {count} waits open on {connections} connections");
    println!("  {each:.0} bytes a wait");
    println!(
        "  resident: {:.1} MiB before, {:.1} MiB with all open, {:.1} MiB {SETTLE:?} after all were gone (in {gone:.1?})",
        mib(before),
        mib(open),
        mib(after)
    );
    Ok(Verdict {
        what: format!("bytes a wait, {count} open"),
        found: each,
        aim: Aim::AtMost(AIM),
        void: None,
    })
}

async fn open_waits(inspector: &mut InspectorClient<tonic::transport::Channel>) -> Result<u64> {
    Ok(inspector.get_status(proto::GetStatusRequest {}).await?.into_inner().open_waits)
}
