//! `Outbox`: what waits, and what did not go as it should.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tonic::{Request, Response, Status};

use super::ends::{Ended, How, Refused};
use super::post::Post;
use crate::convert;
use crate::proto::ended_delivery::How as ProtoHow;
use crate::proto::outbox_server::Outbox as Service;
use crate::proto::{self, EndedDelivery, HostQueue};
use crate::readers::PageSize;

pub(super) struct Outboxes(pub(super) Arc<Post>);

#[tonic::async_trait]
impl Service for Outboxes {
    async fn list_outbox(
        &self,
        request: Request<proto::ListOutboxRequest>,
    ) -> Result<Response<proto::ListOutboxResponse>, Status> {
        let size = convert::page_size(request.into_inner().page_size)?;
        let now = self.0.clock().now();
        let mut bytes = PageSize::default();
        let queues = self.0.queues.all().into_iter().filter_map(|(host, queue)| {
            let (depth, oldest) = queue.depth();
            let tried = queue.tried().clone();
            (depth > 0 || tried.failures > 0).then(|| HostQueue {
                host: host.map(|host| host.to_string()).unwrap_or_default(),
                depth: depth as u64,
                oldest_age: oldest.map(|oldest| convert::duration(now.since(oldest))),
                failures: tried.failures,
                error: tried.error.unwrap_or_default(),
                next_try: tried.next.map(convert::timestamp),
            })
        });
        let hosts = queues.collect();
        let ended = self.0.ends.newest_ended(size).into_iter().map(to_ended);
        let ended = ended.take_while(|ended| bytes.add(ended)).collect();
        let counts = self.0.ends.counts();
        Ok(Response::new(proto::ListOutboxResponse {
            hosts,
            ended,
            counts: Some(proto::OutboxCounts {
                delivered: counts.delivered,
                expired: counts.expired,
                moved: counts.moved,
                rejected: counts.rejected,
                refused: counts.refused,
            }),
            bytes: self.0.outbox.gauges().bytes.load(Ordering::Relaxed),
            now: Some(convert::timestamp(now)),
        }))
    }

    async fn list_refusals(
        &self,
        request: Request<proto::ListRefusalsRequest>,
    ) -> Result<Response<proto::ListRefusalsResponse>, Status> {
        let size = convert::page_size(request.into_inner().page_size)?;
        let mut bytes = PageSize::default();
        let refusals = self.0.ends.newest_refused(size).into_iter().map(to_refusal);
        Ok(Response::new(proto::ListRefusalsResponse {
            refusals: refusals.take_while(|refusal| bytes.add(refusal)).collect(),
            now: Some(convert::timestamp(self.0.clock().now())),
        }))
    }
}

fn to_ended(ended: Ended) -> EndedDelivery {
    let how = match ended.how {
        How::Expired => ProtoHow::Expired,
        How::Moved => ProtoHow::Moved,
        How::Rejected => ProtoHow::Rejected,
    };
    EndedDelivery {
        at: Some(convert::timestamp(ended.at)),
        how: how.into(),
        event: Some(proto::Event {
            event_id: ended.id.to_string(),
            instance_uuid: ended.instance.to_string(),
            name: ended.name,
            tag: ended.tag,
            ..proto::Event::default()
        }),
        host: ended.host.map(|host| host.to_string()).unwrap_or_default(),
        why: ended.why,
    }
}

fn to_refusal(refused: Refused) -> proto::Refusal {
    proto::Refusal {
        at: Some(convert::timestamp(refused.at)),
        code: refused.code.into(),
        instance_uuid: refused.instance.map(|instance| instance.to_string()).unwrap_or_default(),
        name: refused.name,
        tag: refused.tag,
        why: refused.why,
    }
}
