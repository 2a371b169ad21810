//! What a request costs at the gateway, beside a route of axum's that only parses the body and answers.
//!
//! `docs/benchmarks.md` says how to run it and how to read it.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench prints, and measures time")]

#[path = "../dispatch/process.rs"]
#[allow(dead_code, reason = "the other bench uses the rest")]
mod process;
#[path = "../dispatch/report.rs"]
mod report;
#[path = "../dispatch/stats.rs"]
#[allow(dead_code, reason = "the other bench uses the rest")]
mod stats;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use clap::Parser;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use uuid::Uuid;
use wakeful::client::Client;
use wakeful::client::address::Address;
use wakeful::event::InstanceId;
use wakeful::net::flag::Flag;
use wakeful::net::http1::Http1;
use wakeful::net::listen;
use wakeful::net::serve::serve;
use wakeful::proto::BindRequest;
use wakeful::proto::bindings_client::BindingsClient;
use wakeful::proto::role::Code as Role;

use process::{Cores, Server};
use report::{Aim, Verdict};
use stats::{Latencies, median, spread};

/// Callers at once, each with a connection of its own.
const CALLERS: usize = 64;
/// A gateway's own core runs for as much of a round at the least, or the callers were what was measured.
const BUSY: f64 = 0.9;

/// Measures the gateway beside a route that does nothing
#[derive(Parser)]
struct Args {
    /// Shorter rounds: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// The core that servers run on
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core that the callers run on, and the agent
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode> {
    if std::env::args().nth(1).is_some_and(|first| first == "noop") {
        noop()?;
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let cores = Cores { server: args.server_core, client: args.client_core };
    cores.pin_client()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verdicts = runtime.block_on(run(&args, cores))?;
    Ok(if report::print(&verdicts) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The route that does nothing: it parses the body and gives its events back, each with a code.
fn noop() -> Result<()> {
    // Without its starter it must not go on.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    async fn answer(body: Bytes) -> (StatusCode, String) {
        let Ok(mut body) = serde_json::from_slice::<Value>(&body) else {
            return (StatusCode::BAD_REQUEST, String::new());
        };
        for event in body["events"].as_array_mut().into_iter().flatten() {
            event["status"] = "completed".into();
            event["code"] = 200.into();
        }
        (StatusCode::OK, body.to_string())
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = listen::tcp(([127, 0, 0, 1], 0).into()).await?;
        println!("noop listens on {}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let router = Router::new().route("/v2.1/os-server-external-events", post(answer));
        let patience = Duration::from_secs(60);
        let protocol = Http1::new(router, patience, patience, |text| text.as_bytes().to_vec());
        let open = Arc::<AtomicUsize>::default();
        serve(listener, protocol, CALLERS * 2, open, Flag::default(), Duration::ZERO).await;
        Ok(())
    })
}

async fn run(args: &Args, cores: Cores) -> Result<Vec<Verdict>> {
    let (rounds, time) = if args.quick { (3, 0.5) } else { (7, 2.0) };
    let time = Duration::from_secs_f64(time);
    let mut verdicts = Vec::new();
    let noop = Server::noop(cores)?;
    for (durability, aim) in [("os", 0.6), ("sync", 0.4)] {
        for reachable in [false, true] {
            let stage = Stage::set(cores, durability).await?;
            let what = if reachable { "agent beside the callers" } else { "agent away" };
            let agent = if reachable { Some(stage.agent(cores).await?) } else { None };
            if agent.is_none() {
                drop(stage.agent(cores).await?);
            }
            let mut ratios = Vec::new();
            let mut busy = Vec::new();
            let mut rates = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let nothing = load(noop.address, &stage.request(noop.address), time).await?;
                let cpu = stage.gateway.cpu()?;
                let ours = load(stage.gateway.address, &stage.request(stage.gateway.address), time).await?;
                busy.push((stage.gateway.cpu()? - cpu).as_secs_f64() / time.as_secs_f64());
                ratios.push(ours / nothing);
                rates.0.push(ours);
                rates.1.push(nothing);
            }
            println!(
                "{durability}, {what}: {:.0} requests/s, and {:.0} of the route that does nothing; its core {:.0} % busy",
                median(rates.0.iter().copied()),
                median(rates.1.iter().copied()),
                median(busy.iter().copied()) * 100.0
            );
            let apart = spread(&rates.1);
            verdicts.push(Verdict {
                what: format!("requests, {durability}, {what}"),
                found: median(ratios),
                aim: Aim::AtLeast(aim),
                void: (apart > 0.3)
                    .then(|| format!("the route that does nothing varied by {:.0} %", apart * 100.0)),
            });
            if durability == "os" && median(busy) < BUSY {
                println!("its core was not busy: the callers share theirs with the agent");
            }
        }
    }
    let count = if args.quick { 200 } else { 2_000 };
    latency(cores, &noop, count).await?;
    Ok(verdicts)
}

/// A gateway, and an instance that a host of it has.
struct Stage {
    gateway: Server,
    directory: String,
    instance: String,
}

impl Stage {
    async fn set(cores: Cores, durability: &str) -> Result<Self> {
        let gateway = Server::gateway(cores, &["--durability", durability, "--max-outbox", "16GiB"])?;
        let directory = gateway.ready.rsplit(' ').next().context("no address")?.trim().to_owned();
        Ok(Self { gateway, directory, instance: Uuid::new_v4().to_string() })
    }

    /// An agent on the callers' core that has the instance.
    async fn agent(&self, cores: Cores) -> Result<Server> {
        let options = ["--gateway", &self.directory, "--host", "bench", "--durability", "none"];
        let cores = Cores { server: cores.client, ..cores };
        let agent = Server::agent(cores, &options, None)?;
        let mut driver = BindingsClient::new(Address::Unix(agent.socket()).channel()?);
        let request = BindRequest { instance_uuid: self.instance.clone(), role: Role::Host.into() };
        for _ in 0..100 {
            if driver.bind(request.clone()).await?.into_inner().routable == Some(true) {
                return Ok(agent);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the gateway does not know the agent")
    }

    fn request(&self, to: SocketAddr) -> Vec<u8> {
        request(to, &self.instance, "0d2d0a68-4ae2-4ad3-9b2d-7a6b9d0b9d40")
    }
}

fn request(to: SocketAddr, instance: &str, tag: &str) -> Vec<u8> {
    let event =
        json!({ "name": "network-vif-plugged", "tag": tag, "status": "completed", "server_uuid": instance });
    let body = json!({ "events": [event] }).to_string();
    let head = format!(
        "POST /v2.1/os-server-external-events HTTP/1.1\r\nHost: {to}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// Requests/s of callers that send as fast as they are answered.
async fn load(to: SocketAddr, request: &[u8], time: Duration) -> Result<f64> {
    let start = Instant::now();
    let end = start + time;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let request = request.to_vec();
        callers.spawn(async move {
            let mut caller = Caller::connect(to).await?;
            let mut count = 0_u64;
            while Instant::now() < end {
                caller.ask(&request).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(asked) = callers.join_next().await {
        count += asked??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// A connection that is kept.
struct Caller {
    stream: TcpStream,
    reply: Vec<u8>,
}

impl Caller {
    async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, reply: Vec::with_capacity(4096) })
    }

    /// Sends a request and reads the whole reply, which has to be 200.
    async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.reply.clear();
        loop {
            if self.stream.read_buf(&mut self.reply).await? == 0 {
                bail!("the connection was closed: {}", String::from_utf8_lossy(&self.reply));
            }
            let Some(head) = self.reply.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.reply[..head])?;
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let length = length.context("a reply without a length")?;
            if self.reply.len() >= head + 4 + length {
                if !self.reply.starts_with(b"HTTP/1.1 200") {
                    bail!("not 200: {}", String::from_utf8_lossy(&self.reply));
                }
                return Ok(());
            }
        }
    }
}

/// From a request's start to the end of the wait that it wakes, one at a time.
async fn latency(cores: Cores, noop: &Server, count: usize) -> Result<()> {
    for durability in ["os", "sync"] {
        let stage = Stage::set(cores, durability).await?;
        let agent = stage.agent(cores).await?;
        let client = Client::new(&Address::Unix(agent.socket()))?;
        let instance: InstanceId = stage.instance.parse()?;
        let (mut woken, mut replied, mut nothing) =
            (Latencies::default(), Latencies::default(), Latencies::default());
        let mut caller = Caller::connect(stage.gateway.address).await?;
        let mut idle = Caller::connect(noop.address).await?;
        for number in 0..count {
            let tag = number.to_string();
            let wait = client.wait(instance).key("network-vif-plugged", &tag).open().await?;
            let sent = request(stage.gateway.address, &stage.instance, &tag);
            let start = Instant::now();
            caller.ask(&sent).await?;
            replied.add(start.elapsed());
            if !wait.outcome().await?.is_completed() {
                bail!("a wait was not met");
            }
            woken.add(start.elapsed());
            let start = Instant::now();
            idle.ask(&sent).await?;
            nothing.add(start.elapsed());
        }
        println!("{durability}, request to reply: {}", replied.percentiles());
        println!("{durability}, request to woken wait: {}", woken.percentiles());
        println!("the route that does nothing, request to reply: {}", nothing.percentiles());
    }
    Ok(())
}
