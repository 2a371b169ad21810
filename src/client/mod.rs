//! The typed client of an agent.
//!
//! Open a wait, start the work, await its outcome: once `open` has returned, nothing can be missed.
//!
//! ```
//! # use wakeful::{agent::Agent, config::{Options, FilePath}, event::InstanceId, proto::Event};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let options = Options {
//! #     listen: Some("127.0.0.1:0".parse()?),
//! #     socket: Some(FilePath(dir.path().join("agent.sock"))),
//! #     data_dir: Some(FilePath(dir.path().join("log"))),
//! #     ..Options::default()
//! # };
//! # let running = Agent::start(options.resolve()?).await?;
//! # let address = format!("unix:{}", running.socket().display()).parse()?;
//! # let (stop, stopped) = tokio::sync::oneshot::channel();
//! # let running = tokio::spawn(running.run(async { stopped.await.unwrap_or_default() }));
//! # let (instance, port) = (InstanceId::random(), "port");
//! # let network = Client::new(&address)?;
//! # let start_the_work = || tokio::spawn(async move {
//! #     let (name, tag) = ("network-vif-plugged".into(), port.into());
//! #     let event = Event { instance_uuid: instance.to_string(), name, tag, ..Event::default() };
//! #     network.send([event]).await
//! # });
//! use std::time::Duration;
//! use wakeful::client::Client;
//!
//! let agent = Client::new(&address)?;
//! let wait = agent.wait(instance).key("network-vif-plugged", port).timeout(Duration::from_secs(30)).open().await?;
//! start_the_work();
//! let outcome = wait.outcome().await?;
//! # assert!(outcome.is_completed() && outcome.confirmed);
//! # drop((wait, agent));
//! # let _ = stop.send(());
//! # Ok(running.await??)
//! # }
//! ```
//!
//! Nothing of an open wait is on the agent's disk. The client remembers it, and when the connection is lost,
//! or the agent is restarted, it asks again from the newest place that it knows, with what is left of its
//! time. So an agent's restart shows in nothing but [`Progress::away`]. What cannot be bridged ends the wait
//! with an [`Outcome`] that is not [`confirmed`](Outcome::confirmed) and says why.
//!
//! A runtime that is blocked cannot listen: work that blocks for more than a second or two belongs on
//! [`tokio::task::spawn_blocking`].

pub mod address;
mod driver;
pub(crate) mod error;
mod memory;
mod outcome;
#[cfg(test)]
mod tests;
mod wait;

use tonic::transport::Channel;

pub use self::error::Error;
pub use self::outcome::{KeyAnswer, Outcome};
pub use self::wait::{DEFAULT_TIMEOUT, Progress, Updates, Wait, WaitBuilder};
use crate::clock::{Clock, Time};
pub use crate::engine::{FailurePolicy, KeyState, Kind};
use crate::event::InstanceId;
use crate::proto;
use crate::proto::event_log_client::EventLogClient;
use crate::proto::event_receiver_client::EventReceiverClient;
use crate::proto::inspector_client::InspectorClient;
use crate::proto::waits_client::WaitsClient;
use address::Address;

/// The largest reply taken, in bytes: a page of 1,000 of the largest events is about 6 MiB.
const MAX_REPLY: usize = 16 << 20;

/// An agent. Cloning it is cheap, and the clones share one connection.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    channel: Channel,
    clock: Clock,
}

impl Client {
    /// The agent at `address`, which is connected with the first call. To be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the address cannot be made a URI.
    pub fn new(address: &Address) -> Result<Self, Error> {
        let channel = address
            .channel()
            .map_err(|error| Error::BadAddress { address: address.clone(), why: error.to_string() })?;
        Ok(Self::over(channel, address.clone()))
    }

    /// The agent at the other end of a channel that was made elsewhere; `address` is what errors call it. To be
    /// called in a tokio runtime.
    pub fn over(channel: Channel, address: Address) -> Self {
        Self { address, channel, clock: Clock::start(Time::default()) }
    }

    /// A wait for events of one instance. It needs a key, then [`open`](WaitBuilder::open).
    pub fn wait(&self, instance: InstanceId) -> WaitBuilder {
        WaitBuilder::new(self.clone(), instance)
    }

    /// Dispatches events: 1 to 1,000. Gives what became of each, in their order. An event with an
    /// `event_id` may be sent again when the answer was lost.
    ///
    /// # Errors
    ///
    /// If the agent refuses them all, or is not reachable. A bad event among good ones is a REJECTED result.
    pub async fn send(
        &self,
        events: impl IntoIterator<Item = proto::Event>,
    ) -> Result<Vec<proto::DispatchResult>, Error> {
        let request = proto::DispatchRequest { events: events.into_iter().collect() };
        let response = self.event_receiver().dispatch(request).await;
        Ok(response.map_err(|status| Error::of(&self.address, status))?.into_inner().results)
    }

    /// Where the agent is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The generated client of `Waits`.
    pub fn waits(&self) -> WaitsClient<Channel> {
        WaitsClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY)
    }

    /// The generated client of `EventReceiver`.
    pub fn event_receiver(&self) -> EventReceiverClient<Channel> {
        EventReceiverClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY)
    }

    /// The generated client of `EventLog`.
    pub fn event_log(&self) -> EventLogClient<Channel> {
        EventLogClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY)
    }

    /// The generated client of `Inspector`.
    pub fn inspector(&self) -> InspectorClient<Channel> {
        InspectorClient::new(self.channel.clone()).max_decoding_message_size(MAX_REPLY)
    }
}
