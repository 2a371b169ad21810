//! A gateway, and an agent of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use uuid::Uuid;
use wakeful::client::address::Address;
use wakeful::proto::BindRequest;
use wakeful::proto::bindings_client::BindingsClient;
use wakeful::proto::role::Code as Role;

use crate::callers::request;
use crate::process::{Cores, Server};

/// A gateway, and an instance that a host of it has.
pub(crate) struct Stage {
    pub(crate) gateway: Server,
    directory: String,
    pub(crate) instance: String,
}

impl Stage {
    pub(crate) async fn set(cores: Cores, durability: &str) -> Result<Self> {
        let gateway = Server::gateway(cores, &["--durability", durability, "--max-outbox", "16GiB"])?;
        let directory = gateway.ready.rsplit(' ').next().context("no address")?.trim().to_owned();
        Ok(Self { gateway, directory, instance: Uuid::new_v4().to_string() })
    }

    /// An agent on the callers' core that has the instance.
    pub(crate) async fn agent(&self, cores: Cores) -> Result<Server> {
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

    /// A request that posts an event of the instance.
    pub(crate) fn request(&self, to: SocketAddr) -> Vec<u8> {
        request(to, &self.instance, "0d2d0a68-4ae2-4ad3-9b2d-7a6b9d0b9d40")
    }
}
