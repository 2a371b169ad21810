//! `Inspector`: what operators see.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tonic::{Request, Response, Status};

use super::core::Command;
use super::{Phase, Shared, caller, not_permitted};
use crate::convert;
use crate::engine::Opening;
use crate::journal::consumers::Change;
use crate::proto;
use crate::proto::inspector_server::Inspector as Service;
use crate::readers::{self, PageSize, explain};
use crate::status::Refusal;

pub(super) struct Inspector(pub(super) Arc<Shared>);

fn operators_only<T>(request: &Request<T>) -> Result<(), Refusal> {
    match caller(request)?.operator {
        true => Ok(()),
        false => Err(not_permitted("this is for operators: root, or the user that runs the agent")),
    }
}

#[tonic::async_trait]
impl Service for Inspector {
    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        operators_only(&request)?;
        let shared = &self.0;
        let report = shared.ask(Command::Report).await?;
        let readers = shared.config.max_readers - shared.readers.available_permits();
        Ok(Response::new(proto::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            host: shared.config.host.to_string(),
            started_at: Some(convert::timestamp(shared.started_at)),
            stopping: shared.phase() != Phase::Running,
            durability: shared.config.durability.to_string(),
            log: Some(proto::LogStatus {
                log_id: shared.log.id().to_string(),
                head: shared.log.head().0,
                oldest: shared.log.oldest().0,
                bytes: report.log_bytes,
                dropped_early: report.dropped_early,
                ids: report.ids,
                ids_dropped_early: report.ids_dropped_early,
            }),
            open_waits: report.open_waits as u64,
            readers: readers as u64,
            connections: shared.connections.load(Ordering::Relaxed) as u64,
            counts: Some(proto::Counts {
                woke: report.events.woke,
                retained: report.events.retained,
                duplicate: report.events.duplicate,
                rejected: report.events.rejected + shared.rejected.load(Ordering::Relaxed),
                waits_opened: report.waits.opened,
                waits_completed: report.waits.completed,
                waits_failed: report.waits.failed,
                waits_timed_out: report.waits.timed_out,
                waits_cancelled: report.waits.cancelled,
                waits_closed: report.waits.closed,
            }),
            limits: shared.config.limits().map(|(name, value)| (name.to_owned(), value)).collect(),
        }))
    }

    async fn list_waits(
        &self,
        request: Request<proto::ListWaitsRequest>,
    ) -> Result<Response<proto::ListWaitsResponse>, Status> {
        operators_only(&request)?;
        let request = request.into_inner();
        let instance = match request.instance_uuid.as_str() {
            "" => None,
            text => Some(convert::parse("instance_uuid", text)?),
        };
        let most = convert::page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => Opening(0),
            token => Opening(token.parse().map_err(|_| convert::bad_page_token(token))?),
        };
        let waits = self.0.ask(|reply| Command::List { instance, after, most, reply }).await?;
        let log_id = self.0.log.id();
        let mut bytes = PageSize::default();
        let infos = waits.iter().map(|wait| convert::to_wait_info(log_id, wait));
        let page: Vec<_> = infos.take_while(|info| bytes.add(info)).collect();
        let more = waits.len() == most || page.len() < waits.len();
        let last = waits[..page.len()].last().filter(|_| more);
        Ok(Response::new(proto::ListWaitsResponse {
            next_page_token: last.map(|last| last.opening.0.to_string()).unwrap_or_default(),
            waits: page,
        }))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        operators_only(&request)?;
        let shared = &self.0;
        let request = request.into_inner();
        let instance = convert::parse("instance_uuid", &request.instance_uuid)?;
        let size = convert::page_size(request.page_size)?;
        let from = explain::From::token(&request.page_token)?;
        let _permit = readers::permit(&shared.readers, shared.config.max_readers)?;
        let (after, most) = (from.moment(), size + 1);
        let moments = shared.ask(|reply| Command::History { instance, after, most, reply }).await?;
        let acked = async |positions| shared.change(|reply| Change::Acked { positions, reply }).await;
        let page = explain::page(Arc::clone(&shared.log), instance, &moments, from, size, acked).await?;
        Ok(Response::new(proto::ExplainResponse {
            now: Some(convert::timestamp(shared.clock.now())),
            ..page
        }))
    }
}
