//! One request at a time: how long until it is answered, and until the wait that its event ends is told.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, bail};
use futures_util::stream;
use tonic::Streaming;
use wakeful::client::Client;
use wakeful::client::address::Address;
use wakeful::event::InstanceId;
use wakeful::proto::event_receiver_client::EventReceiverClient;
use wakeful::proto::{DispatchRequest, DispatchResponse};

use crate::callers::{Caller, request};
use crate::process::{Cores, Server};
use crate::stage::Stage;
use crate::stats::Latencies;

/// Turns that the gateway and what does nothing take.
const TURNS: usize = 5;

/// Posts so many to the gateway, and as many to a route that does nothing and hands on to an agent that does nothing.
pub(crate) async fn run(cores: Cores, count: usize) -> Result<()> {
    let near = Cores { server: cores.client, ..cores };
    let noop_agent = Server::noop(near, &["agent"])?;
    let noop = Server::noop(cores, &["route", &noop_agent.address.to_string()])?;
    let mut nothing = Nothing::connect(&noop, &noop_agent).await?;
    for durability in ["os", "sync"] {
        let stage = Stage::set(cores, durability).await?;
        let agent = stage.agent(cores).await?;
        let client = Client::new(&Address::Unix(agent.socket()))?;
        let mut caller = Caller::connect(stage.gateway.address).await?;
        // The first calls of a connection pay for its set-up.
        nothing.post(&stage, count / 10).await?;
        wake(&stage, &client, &mut caller, count / 10).await?;
        let mut spans = [(); 4].map(|()| Latencies::default());
        for _ in 0..TURNS {
            let [a, b] = nothing.post(&stage, count / TURNS).await?;
            let [c, d] = wake(&stage, &client, &mut caller, count / TURNS).await?;
            spans.iter_mut().zip([a, b, c, d]).for_each(|(all, more)| all.append(more));
        }
        let [nothing_replied, nothing_told, replied, woken] = spans.map(Latencies::percentiles);
        println!("\n{durability}, one request at a time");
        println!("  doing nothing: to the reply        {nothing_replied}");
        println!("  doing nothing: to the stream told  {nothing_told}");
        println!("  gateway: to the reply              {replied}");
        println!("  gateway: to the woken wait         {woken}");
        println!(
            "  woken over told: p50 {:.2}, p99 {:.2}",
            woken.p50 / nothing_told.p50,
            woken.p99 / nothing_told.p99
        );
    }
    Ok(())
}

/// From a request's start to its reply, and to the end of the wait for its event.
async fn wake(stage: &Stage, client: &Client, caller: &mut Caller, count: usize) -> Result<[Latencies; 2]> {
    let instance: InstanceId = stage.instance.parse()?;
    let [mut replied, mut woken] = [(); 2].map(|()| Latencies::default());
    for _ in 0..count {
        let tag = uuid::Uuid::new_v4().to_string();
        let wait = client.wait(instance).key("network-vif-plugged", &tag).open().await?;
        let sent = request(stage.gateway.address, &stage.instance, &tag);
        let start = Instant::now();
        let reply = async { caller.ask(&sent).await.map(|()| start.elapsed()) };
        let outcome = async { anyhow::Ok((wait.outcome().await?, start.elapsed())) };
        let (to_reply, (outcome, to_outcome)) = tokio::try_join!(reply, outcome)?;
        if !outcome.is_completed() {
            bail!("a wait was not met");
        }
        replied.add(to_reply);
        woken.add(to_outcome);
    }
    Ok([replied, woken])
}

/// The way through what does nothing.
struct Nothing {
    route: SocketAddr,
    caller: Caller,
    told: Streaming<DispatchResponse>,
}

impl Nothing {
    async fn connect(route: &Server, agent: &Server) -> Result<Self> {
        let channel = Address::Tcp(agent.address.to_string()).channel()?;
        let requests = stream::pending::<DispatchRequest>();
        let told = EventReceiverClient::new(channel).dispatch_stream(requests).await?.into_inner();
        Ok(Self { route: route.address, caller: Caller::connect(route.address).await?, told })
    }

    /// From a request's start to its reply, and to the message that its call has sent.
    async fn post(&mut self, stage: &Stage, count: usize) -> Result<[Latencies; 2]> {
        let [mut replied, mut told] = [(); 2].map(|()| Latencies::default());
        let sent = stage.request(self.route);
        for _ in 0..count {
            let start = Instant::now();
            let reply = async { self.caller.ask(&sent).await.map(|()| start.elapsed()) };
            let message = async { anyhow::Ok((self.told.message().await?, start.elapsed())) };
            let (to_reply, (message, to_message)) = tokio::try_join!(reply, message)?;
            if message.is_none() {
                bail!("the agent that does nothing has ended its stream");
            }
            replied.add(to_reply);
            told.add(to_message);
        }
        Ok([replied, told])
    }
}
