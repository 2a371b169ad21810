//! Waits that are opened over the Unix socket and held open.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;
use wakeful::client::address::Address;
use wakeful::proto;
use wakeful::proto::wait_response::Message;
use wakeful::proto::waits_client::WaitsClient;

use crate::wire::Random;

/// Calls that are opened at once.
const OPENING: usize = 128;
/// Longer than any run.
const FOR_LONG: Duration = Duration::from_secs(3_600);

/// A connection to a driver's side of the agent.
pub(crate) fn connect(socket: &Path) -> Result<Channel> {
    Ok(Address::Unix(socket.to_owned()).channel()?)
}

/// A wait for one key of an instance.
pub(crate) fn wait_for(instance: String, tag: String, timeout: Duration) -> Result<proto::WaitRequest> {
    let key = proto::Key { name: "network-vif-plugged".into(), tag };
    Ok(proto::WaitRequest {
        instance_uuid: instance,
        keys: vec![key],
        timeout: Some(timeout.try_into()?),
        ..Default::default()
    })
}

/// Opens a wait.
pub(crate) async fn open(
    waits: &mut WaitsClient<Channel>,
    request: proto::WaitRequest,
) -> Result<(Streaming<proto::WaitResponse>, proto::Registered)> {
    let mut stream = waits.wait(request).await?.into_inner();
    match stream.message().await?.and_then(|first| first.message) {
        Some(Message::Registered(registered)) => Ok((stream, registered)),
        other => bail!("a wait began with {other:?}"),
    }
}

/// Reads up to a wait's outcome.
pub(crate) async fn outcome(stream: &mut Streaming<proto::WaitResponse>) -> Result<proto::Outcome> {
    loop {
        let message = stream.message().await?.context("a wait ended without an outcome")?;
        match message.message {
            Some(Message::Outcome(outcome)) => return Ok(outcome),
            Some(Message::Progress(_)) => {}
            other => bail!("a wait went on with {other:?}"),
        }
    }
}

/// Open waits for keys that never come, each read by a task. They are closed when this is dropped.
pub(crate) struct Held(JoinSet<Result<()>>);

impl Held {
    /// Opens so many waits on so many connections.
    pub(crate) async fn open(socket: &Path, count: usize, connections: usize) -> Result<Self> {
        let channels = (0..connections).map(|_| connect(socket)).collect::<Result<Vec<_>>>()?;
        let mut random = Random::new();
        let mut held = JoinSet::new();
        let mut opening = JoinSet::new();
        for number in 0..count {
            if opening.len() == OPENING {
                hold(&mut held, opening.join_next().await.context("nothing is opening")???);
            }
            let mut waits = WaitsClient::new(channels[number % connections].clone());
            let request = wait_for(random.uuid(), random.uuid(), FOR_LONG)?;
            opening.spawn(async move { open(&mut waits, request).await });
        }
        while let Some(opened) = opening.join_next().await {
            hold(&mut held, opened??);
        }
        Ok(Self(held))
    }

    /// Fails if one of the waits has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.0.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?,
        }
    }
}

fn hold(
    held: &mut JoinSet<Result<()>>,
    (mut stream, _): (Streaming<proto::WaitResponse>, proto::Registered),
) {
    held.spawn(async move {
        let ended = outcome(&mut stream).await?;
        bail!("a wait for a key that never comes ended: {ended:?}")
    });
}
