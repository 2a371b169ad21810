//! A real agent that is killed again and again, with senders, drivers, watchers and consumers at it all the while.
//! What must hold is what must hold of the simulated worlds. SIGKILL leaves the page cache as it is: this proves the
//! process, and the worlds prove the sync.
//!
//! `WAKEFUL_KILLS=1000` sets how often. `WAKEFUL_SEED` sets the dice; what the machine makes of them differs.

#![cfg(test)]

#[path = "sim/actors.rs"]
mod actors;
#[path = "sim/chance.rs"]
mod chance;
#[path = "sim/check.rs"]
mod check;
mod common;
#[path = "sim/history.rs"]
mod history;

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use wakeful::client::Client;
use wakeful::client::address::Address;
use wakeful::clock::{Clock, Time};
use wakeful::event::InstanceId;
use wakeful::journal::disk::real::RealDisk;

use actors::World;
use chance::Chance;
use common::{Agent, folder, until};
use history::History;

const KILLS: u64 = 50;
/// Within this, once nothing is killed any more, all is done.
const CALM: Duration = Duration::from_secs(60);
/// How long after its deadline an outcome may be told, on a machine that is busy with other things too.
const LATE: Duration = Duration::from_secs(20);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, no u64")))
}

async fn all_done(what: &str, tasks: &mut JoinSet<()>) {
    let ended = timeout(CALM, async {
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no panic");
        }
    });
    assert!(ended.await.is_ok(), "{} of the {what}s came to no end", tasks.len());
}

#[tokio::test]
async fn an_agent_that_is_killed_again_and_again_loses_nothing() {
    let kills = number("WAKEFUL_KILLS").unwrap_or(KILLS);
    let mut chance = Chance::new(number("WAKEFUL_SEED").unwrap_or(1));
    let args = ["--keepalive-interval", "2s", "--keepalive-timeout", "1s"];
    let mut agent = Agent::start_in(folder(), &args).await;
    let address = Address::Unix(agent.socket.clone());

    let (over, is_over) = tokio::sync::watch::channel(false);
    let history = History::new();
    let world = World {
        // Over TCP the next agent has another port.
        connect: Arc::new(move |_, _| Client::new(&address).expect("a client")),
        clock: Clock::start_at(Time::default(), Time::default()),
        history: history.clone(),
        haste: 20,
        instances: (0..3).map(|_| InstanceId(chance.uuid())).collect(),
        over: is_over,
    };
    let (mut senders, mut drivers, mut readers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for who in 0..4 {
        senders.spawn(actors::sender(world.clone(), who, chance.fork()));
        drivers.spawn(actors::driver(world.clone(), who, chance.fork()));
    }
    for who in 0..2 {
        readers.spawn(actors::watcher(world.clone(), who, chance.fork()));
    }
    for name in ["power", "volumes"] {
        readers.spawn(actors::consumer(world.clone(), name.to_owned(), chance.fork()));
    }
    senders.spawn(actors::operator(world.clone(), chance.fork()));

    for _ in 0..kills {
        sleep(chance.millis(0, 150)).await;
        agent.process.signal(Signal::KILL);
        agent.process.ended(common::BOUND).await;
        world.history.see().crashes += 1;
        agent = Agent::start_in(agent.folder.clone(), &args).await;
        world.history.is_of(&agent.log_id);
        world.history.tell(world.clock, format_args!("killed, and started again"));
    }
    over.send_replace(true);
    all_done("sender", &mut senders).await;
    let ended = timeout(CALM, async {
        // Again, for a wait that was just being opened.
        while !drivers.is_empty() {
            actors::send_the_last(world.clone(), chance.fork()).await;
            while let Ok(Some(ended)) = timeout(Duration::from_secs(2), drivers.join_next()).await {
                ended.expect("no panic");
            }
        }
    });
    assert!(ended.await.is_ok(), "{} drivers came to no end", drivers.len());
    let head = agent.status().await.log.expect("its log").head;
    until("the readers have seen all", async || {
        let seen = history.see();
        let watches = seen.watches.iter().map(|watched| (&watched.names, watched.seen.last()));
        let consumers = seen
            .consumers
            .values()
            .map(|consumed| (&consumed.names, consumed.streams.last().and_then(|stream| stream.seen.last())));
        // The last events are one of each key: at most three lie past what a filter lets through.
        let past = |names: &Vec<String>| if names.is_empty() { 0 } else { 3 };
        let mut newest = watches.chain(consumers);
        newest.all(|(names, newest)| newest.is_some_and(|newest| newest + past(names) >= head)).then_some(())
    })
    .await;
    agent.until_status("no wait is left open", |status| status.open_waits == 0).await;
    let data = agent.folder.path().join("log");
    agent.terminate();
    assert!(agent.process.ended(common::BOUND).await.success());
    readers.shutdown().await;

    let mut seen = std::mem::take(&mut *history.see());
    check::check(&RealDisk::open(&data).expect("its folder"), LATE, &mut seen);
    println!(
        "{} kills, {} events acknowledged, {} waits",
        seen.crashes,
        seen.acknowledged.len(),
        seen.waits.len()
    );
    assert!(seen.wrong.is_empty(), "{}\n--- wrong:\n{}", seen.lines.join("\n"), seen.wrong.join("\n"));
}
