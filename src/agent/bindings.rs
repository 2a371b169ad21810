//! `Bindings`: drivers tell what this host has.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::info;

use super::announce::to_bindings;
use super::bound::{Changed, routable};
use super::{Phase, Shared, caller, stopping};
use crate::convert::{self, bindings};
use crate::event::InstanceId;
use crate::proto;
use crate::proto::bindings_server::Bindings as Service;
use crate::proto::reason::Code as Reason;
use crate::status::Refusal;

pub(super) struct Bindings(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Service for Bindings {
    async fn bind(
        &self,
        request: Request<proto::BindRequest>,
    ) -> Result<Response<proto::BindResponse>, Status> {
        let shared = self.admit(&request)?;
        let request = request.into_inner();
        let instance = convert::parse("instance_uuid", &request.instance_uuid)?;
        let role = bindings::role("role", request.role)?;
        let most = shared.config.max_bindings;
        let bound = shared.bound.bind(shared.clock.now(), instance, role, most);
        let bound = bound.ok_or_else(|| {
            let text = format!("max_bindings is {most}, and so many instances are on this host");
            Refusal::exhausted("max_bindings", text)
        })?;
        let routable = shared.keep_and_tell(bound).await?;
        Ok(Response::new(proto::BindResponse { routable }))
    }

    async fn unbind(
        &self,
        request: Request<proto::UnbindRequest>,
    ) -> Result<Response<proto::UnbindResponse>, Status> {
        let shared = self.admit(&request)?;
        let request = request.into_inner();
        let instance = convert::parse("instance_uuid", &request.instance_uuid)?;
        let why = bindings::unbound_why("why", request.why)?;
        let routable = shared.keep_and_tell(shared.bound.unbind(instance, why)).await?;
        Ok(Response::new(proto::UnbindResponse { routable }))
    }

    async fn replace(
        &self,
        request: Request<proto::ReplaceRequest>,
    ) -> Result<Response<proto::ReplaceResponse>, Status> {
        let shared = self.admit(&request)?;
        let told = request.into_inner().bindings;
        let bound = shared.config.max_bindings;
        if told.len() > bound {
            let text = format!("has {}, the limit max_bindings is {bound}", told.len());
            return Err(Refusal::field("bindings", Reason::OverLimit, &text)
                .with("limit", "max_bindings")
                .into());
        }
        let mut roles = BTreeMap::new();
        for (at, binding) in told.iter().enumerate() {
            let instance = convert::parse(&format!("bindings[{at}].instance_uuid"), &binding.instance_uuid)?;
            roles.insert(instance, bindings::role(&format!("bindings[{at}].role"), binding.role)?);
        }
        let (changed, bound, unbound) = shared.bound.replace(shared.clock.now(), &roles);
        if bound + unbound > 0 {
            info!(bound, unbound, "bindings replaced");
        }
        let routable = shared.keep_and_tell(changed).await?;
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(proto::ReplaceResponse { bound: count(bound), unbound: count(unbound), routable }))
    }

    async fn list_bindings(
        &self,
        request: Request<proto::ListBindingsRequest>,
    ) -> Result<Response<proto::ListBindingsResponse>, Status> {
        caller(&request)?;
        let request = request.into_inner();
        let size = convert::page_size(request.page_size)?;
        let after: Option<InstanceId> = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| convert::bad_page_token(token))?),
        };
        let held = self.0.bound.list(after, size);
        let last = held.last().filter(|_| held.len() == size).map(|(instance, _)| instance.to_string());
        Ok(Response::new(proto::ListBindingsResponse {
            bindings: held.iter().flat_map(|(instance, held)| to_bindings(*instance, held)).collect(),
            next_page_token: last.unwrap_or_default(),
        }))
    }
}

impl Bindings {
    fn admit<T>(&self, request: &Request<T>) -> Result<&Arc<Shared>, Refusal> {
        caller(request)?;
        match self.0.phase() {
            Phase::Stopping => Err(stopping()),
            Phase::Running | Phase::Draining => Ok(&self.0),
        }
    }
}

impl Shared {
    /// Brings a change to the disk and waits until the gateways know it, for `bind_timeout` at most: whether they do,
    /// where there are any.
    async fn keep_and_tell(&self, changed: Changed) -> Result<Option<bool>, Refusal> {
        if let Some(journal) = &self.journal
            && changed.something
        {
            journal.flush().await;
            if let Some(error) = &*journal.state().borrow() {
                return Err(error.into());
            }
        }
        Ok(self.routable(changed.version).await)
    }

    /// Whether every gateway that is reachable has taken in this version, once that is known; `None` where there are
    /// no gateways.
    pub(super) async fn routable(&self, version: u64) -> Option<bool> {
        if self.bound.gateways.is_empty() {
            return None;
        }
        let routable = routable(&self.bound, version);
        Some(tokio::time::timeout(self.config.bind_timeout.0, routable).await.unwrap_or(false))
    }
}
