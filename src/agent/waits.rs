//! `Waits`: opens waits, and does what drivers ask of those that are open.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tonic::{Request, Response, Status};
use tracing::debug;

use super::bound::Changed;
use super::core::Command;
use super::streams::{Binding, WaitStream};
use super::{Phase, Shared, caller, stopping};
use crate::convert;
use crate::engine::Ask;
use crate::event::CancelInstance;
use crate::journal::Append;
use crate::proto;
use crate::proto::waits_server::Waits as Service;
use crate::readers::PageSize;
use crate::status::Refusal;

/// How often it is looked whose time has run out.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Waits(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Service for Waits {
    type WaitStream = WaitStream;

    async fn wait(&self, request: Request<proto::WaitRequest>) -> Result<Response<WaitStream>, Status> {
        let shared = &self.0;
        let caller = caller(&request)?;
        if shared.phase() != Phase::Running {
            return Err(stopping().into());
        }
        let opening = shared.next_opening();
        let ask = convert::ask(request.into_inner(), caller.uid, opening, &shared.bounds)?;
        debug!(wait_id = %ask.id, instance = %ask.instance, keys = ask.keys.len(), "wait");
        let binding = self.bind(&ask);
        let stream =
            WaitStream::prepare(shared, ask.id, opening, ask.instance, Arc::clone(&ask.keys), binding);
        let opened = shared.ask(|reply| Command::Open { ask, reply }).await?;
        opened.inspect_err(|_| stream.refused()).map_err(Refusal::from)?;
        Ok(Response::new(stream))
    }

    async fn arm(&self, request: Request<proto::ArmRequest>) -> Result<Response<proto::ArmResponse>, Status> {
        let caller = caller(&request)?;
        let id = convert::wait_id(&request.into_inner().wait_id)?;
        let armed = self.0.ask(|reply| Command::Arm { id, caller, reply }).await?;
        let deadline = armed.map_err(Refusal::from)?;
        Ok(Response::new(proto::ArmResponse { deadline: Some(convert::timestamp(deadline)) }))
    }

    async fn skip(
        &self,
        request: Request<proto::SkipRequest>,
    ) -> Result<Response<proto::SkipResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = convert::wait_id(&request.wait_id)?;
        let keys = convert::keys("keys", request.keys, &self.0.bounds)?;
        let skipped = self.0.ask(|reply| Command::Skip { id, caller, keys, reply }).await?;
        Ok(Response::new(proto::SkipResponse { skipped: skipped.map_err(Refusal::from)? }))
    }

    async fn cancel(
        &self,
        request: Request<proto::CancelRequest>,
    ) -> Result<Response<proto::CancelResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = convert::wait_id(&request.wait_id)?;
        let why = convert::why(request.why)?;
        let cancelled = self.0.ask(|reply| Command::Cancel { id, caller, why, reply }).await?;
        cancelled.map_err(Refusal::from)?;
        Ok(Response::new(proto::CancelResponse {}))
    }

    async fn cancel_instance(
        &self,
        request: Request<proto::CancelInstanceRequest>,
    ) -> Result<Response<proto::CancelInstanceResponse>, Status> {
        let shared = &self.0;
        let caller = caller(&request)?;
        if shared.phase() == Phase::Stopping {
            return Err(stopping().into());
        }
        let request = request.into_inner();
        let record = CancelInstance {
            instance: convert::parse("instance_uuid", &request.instance_uuid)?,
            caller,
            why: convert::why(request.why)?,
        };
        let (reply, cancelled) = oneshot::channel();
        shared.append(Append::CancelInstance(record, reply));
        let cancelled = cancelled.await.map_err(|_| stopping())??;
        let ended = cancelled.waits.len();
        let mut bytes = PageSize::default();
        let waits = cancelled
            .waits
            .into_iter()
            .map(|(id, keys)| proto::CancelledWait { wait_id: id.to_string(), keys: convert::to_keys(keys) });
        let waits: Vec<_> = waits.take_while(|wait| bytes.add(wait)).collect();
        Ok(Response::new(proto::CancelInstanceResponse {
            cursor: Some(convert::to_cursor(shared.log.cursor(cancelled.position))),
            waits_left_out: u32::try_from(ended - waits.len()).unwrap_or(u32::MAX),
            waits,
        }))
    }
}

impl Waits {
    /// Where there are gateways, has events for the instance come here for as long as the wait is open.
    fn bind(&self, ask: &Ask) -> Option<Binding> {
        let shared = &self.0;
        if shared.bound.gateways.is_empty() || ask.timeout.is_zero() {
            return None;
        }
        let unarmed = if ask.start_on_arm { shared.config.max_unarmed.0 } else { Duration::ZERO };
        let until = shared.clock.now().plus(ask.timeout).plus(unarmed);
        let Changed { version, .. } = shared.bound.wait(ask.instance, ask.id, until);
        let shared = Arc::clone(shared);
        let routable = async move { shared.routable(version).await.unwrap_or(false) };
        Some(Binding { routable: Some(Box::pin(routable)) })
    }
}

/// Takes back what was bound for waits whose time has run out while their clients were away.
pub(super) async fn expire(shared: Arc<Shared>) {
    let mut stopped = pin!(shared.stopped());
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return,
            () = sleep(LOOK_EVERY) => {}
        }
        shared.bound.expire(shared.clock.now());
    }
}
