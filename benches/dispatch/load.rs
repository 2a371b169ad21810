//! Load over TCP: 64 requests in flight over 4 connections, for a while or for a number of events.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::process::Server;
use crate::stats::Latencies;
use crate::wire::{Requests, Sender};

const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 64;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Call {
    Unary,
    Stream,
}

/// How events are sent.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) call: Call,
    /// Events a request.
    pub(crate) batch: usize,
}

/// A server and the connections to it.
pub(crate) struct Target {
    pub(crate) server: Server,
    senders: Vec<Sender>,
}

/// What one round of load came to.
pub(crate) struct Round {
    pub(crate) events: u64,
    pub(crate) took: Duration,
    /// The time that the server ran.
    pub(crate) cpu: Duration,
    /// From a request's sending to its reply.
    pub(crate) latencies: Latencies,
}

impl Round {
    /// Events a second.
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }

    /// Microseconds of the server's CPU an event.
    pub(crate) fn cpu_an_event(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events as f64
    }

    /// The share of the time that the server ran.
    pub(crate) fn busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.took.as_secs_f64()
    }
}

impl Target {
    pub(crate) async fn connect(server: Server) -> Result<Self> {
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            senders.push(Sender::connect(server.address).await?);
        }
        Ok(Self { server, senders })
    }

    /// Loads the server for `time`. Fails if an event is not answered as kept.
    pub(crate) async fn load(&self, shape: Shape, time: Duration, requests: &mut Requests) -> Result<Round> {
        let mut lanes = JoinSet::new();
        let cpu = self.server.cpu()?;
        let start = Instant::now();
        let until = start + time;
        for sender in &self.senders {
            match shape.call {
                Call::Unary => {
                    for _ in 0..IN_FLIGHT / CONNECTIONS {
                        lanes.spawn(unary(sender.clone(), shape.batch, until, requests.fork()));
                    }
                }
                Call::Stream => {
                    lanes.spawn(stream(sender.clone(), shape.batch, until, requests.fork()));
                }
            }
        }
        let mut latencies = Latencies::default();
        while let Some(lane) = lanes.join_next().await {
            latencies.append(lane??);
        }
        let took = start.elapsed();
        let cpu = self.server.cpu()?.saturating_sub(cpu);
        Ok(Round { events: (latencies.len() * shape.batch) as u64, took, cpu, latencies })
    }
}

async fn unary(
    mut sender: Sender,
    batch: usize,
    until: Instant,
    mut requests: Requests,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut sent = Instant::now();
    while sent < until {
        sender.dispatch(requests.next(batch)).await?.check(batch)?;
        let now = Instant::now();
        latencies.add(now - sent);
        sent = now;
    }
    Ok(latencies)
}

async fn stream(
    mut sender: Sender,
    batch: usize,
    until: Instant,
    mut requests: Requests,
) -> Result<Latencies> {
    const AHEAD: usize = IN_FLIGHT / CONNECTIONS;
    let (lane, outgoing) = mpsc::channel(AHEAD);
    let mut sent = VecDeque::with_capacity(AHEAD);
    for _ in 0..AHEAD {
        sent.push_back(Instant::now());
        lane.try_send(requests.next(batch))?;
    }
    let mut lane = Some(lane);
    let mut latencies = Latencies::default();
    let mut replies = sender.dispatch_stream(ReceiverStream::new(outgoing)).await?;
    while let Some(reply) = replies.message().await? {
        reply.check(batch)?;
        let now = Instant::now();
        latencies.add(now - sent.pop_front().context("a reply to nothing")?);
        if now >= until {
            lane = None;
        }
        if let Some(lane) = &lane {
            lane.try_send(requests.next(batch))?;
            sent.push_back(now);
        }
    }
    if !sent.is_empty() {
        bail!("a stream ended with {} requests unanswered", sent.len());
    }
    Ok(latencies)
}
