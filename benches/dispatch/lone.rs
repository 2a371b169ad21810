//! One event at a time: how long from sending it until the wait for it is told.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use prost::Message;
use wakeful::proto;
use wakeful::proto::outcome::Kind;
use wakeful::proto::waits_client::WaitsClient;

use crate::Durability;
use crate::process::{Server, pin};
use crate::stats::Latencies;
use crate::throughput::Pair;
use crate::waits;
use crate::wire::{self, Random, Requests};

/// Turns that the two servers take.
const TURNS: usize = 5;
const RECORD: usize = 200;

/// Wakes so many waits, one after the other, and in between sends as many events to the do-nothing service.
pub(crate) async fn run(
    pair: &mut Pair,
    count: usize,
    durability: Durability,
    server_core: usize,
    requests: &mut Requests,
) -> Result<()> {
    println!("\nlone: one event at a time, over one connection");
    let mut agent = wire::Sender::connect(pair.agent.server.address).await?;
    let mut noop = wire::Sender::connect(pair.noop.server.address).await?;
    let [mut replied, mut answered, mut woken, mut synced] = [(); 4].map(|()| Latencies::default());
    // The first calls of a connection pay for its set-up.
    reply(&mut noop, count / 10, requests).await?;
    wake(&pair.agent.server, &mut agent, count / 10).await?;
    let bare = match durability {
        Durability::Sync => Some(Bare::start(pair.agent.server.folder(), server_core, count)?),
        Durability::None | Durability::Os => None,
    };
    for _ in 0..TURNS {
        replied.append(reply(&mut noop, count / TURNS, requests).await?);
        let (more_answered, more_woken) = wake(&pair.agent.server, &mut agent, count / TURNS).await?;
        answered.append(more_answered);
        woken.append(more_woken);
        if let Some(bare) = &bare {
            for _ in 0..count / TURNS {
                // Between two of them as much happens as between two of the agent's.
                noop.dispatch(requests.next(1)).await?.check(1)?;
                synced.add(bare.append()?);
            }
        }
    }
    pair.held.check()?;
    let [replied, answered, woken, synced] = [replied, answered, woken, synced].map(Latencies::percentiles);
    println!("  noop: sent to its reply      {replied}");
    println!("  agent: sent to its reply     {answered}");
    println!("  agent: sent to the wait told {woken}");
    if bare.is_some() {
        println!("  a bare append and sync       {synced}");
        let over = |reply: f64, call: f64, sync: f64| reply / (call + sync);
        let p50 = over(answered.p50, replied.p50, synced.p50);
        let p99 = over(answered.p99, replied.p99, synced.p99);
        println!("  the reply over such a call and such a sync: p50 {p50:.2}, p99 {p99:.2}; aim <= 1.3");
    }
    Ok(())
}

/// A file that is laid out beforehand, and a thread on the server's core that appends to it and syncs: a disk's
/// answer comes sooner or later by the core that asks, and by how long that has slept.
struct Bare {
    turns: Sender<()>,
    took: Receiver<std::io::Result<Duration>>,
}

impl Bare {
    fn start(folder: &Path, core: usize, count: usize) -> Result<Self> {
        let file = File::create(folder.join("bare"))?;
        file.write_all_at(&vec![0; count * RECORD], 0)?;
        file.sync_all()?;
        let ((turns, due), (done, took)) = (channel(), channel());
        std::thread::spawn(move || -> Result<()> {
            pin(core)?;
            for (n, ()) in due.into_iter().enumerate() {
                let begun = Instant::now();
                let written = file.write_all_at(&[1; RECORD], ((n % count) * RECORD) as u64);
                done.send(written.and_then(|()| file.sync_data()).map(|()| begun.elapsed()))?;
            }
            Ok(())
        });
        Ok(Self { turns, took })
    }

    /// Appends a record as large as an event's, and syncs.
    fn append(&self) -> Result<Duration> {
        self.turns.send(())?;
        Ok(self.took.recv()??)
    }
}

async fn reply(noop: &mut wire::Sender, count: usize, requests: &mut Requests) -> Result<Latencies> {
    let mut replied = Latencies::default();
    for _ in 0..count {
        let request = requests.next(1);
        let sent = Instant::now();
        noop.dispatch(request).await?.check(1)?;
        replied.add(sent.elapsed());
    }
    Ok(replied)
}

/// From an event's sending to its reply, and to its wait's outcome.
async fn wake(agent: &Server, sender: &mut wire::Sender, count: usize) -> Result<(Latencies, Latencies)> {
    let mut waits = WaitsClient::new(waits::connect(&agent.socket())?);
    let mut random = Random::new();
    let (mut answered, mut woken) = (Latencies::default(), Latencies::default());
    for _ in 0..count {
        let (instance, tag) = (random.uuid(), random.uuid());
        let request = waits::wait_for(instance.clone(), tag.clone(), Duration::from_secs(60))?;
        let (mut stream, _) = waits::open(&mut waits, request).await?;
        let event = proto::Event {
            event_id: random.uuid(),
            instance_uuid: instance,
            name: "network-vif-plugged".into(),
            tag,
            ..Default::default()
        };
        let request = proto::DispatchRequest { events: vec![event] }.encode_to_vec();
        let sent = Instant::now();
        let reply = async { anyhow::Ok((sender.dispatch(request.into()).await?, sent.elapsed())) };
        let told = async { anyhow::Ok((waits::outcome(&mut stream).await?, sent.elapsed())) };
        let ((reply, to_reply), (outcome, to_told)) = tokio::try_join!(reply, told)?;
        reply.check_woke()?;
        if outcome.kind() != Kind::Completed {
            bail!("a wait whose event came ended {outcome:?}");
        }
        answered.add(to_reply);
        woken.add(to_told);
    }
    Ok((answered, woken))
}
