//! `EventLog`: hands what is asked of the log to readers.

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::consumer::Consumer;
use super::{Phase, Shared, caller, stopping};
use crate::convert;
use crate::event::{self, Cursor, Position};
use crate::journal::consumers::Change;
use crate::proto;
use crate::proto::event_log_server::EventLog as Service;
use crate::proto::reason::Code as Reason;
use crate::readers::{self, Filter, Scan, list, watch};
use crate::status::Refusal;

pub(super) struct EventLog(pub(super) Arc<Shared>);

impl EventLog {
    fn scan(&self, filter: Filter, after: Position) -> Scan {
        Scan::new(Arc::clone(&self.0.log), filter, after)
    }

    fn check(&self, after: Option<&proto::Cursor>) -> Result<Option<Position>, Refusal> {
        let after = after.map(|after| convert::cursor("after", after)).transpose()?;
        after.map(|after| readers::check_cursor(&self.0.log, after)).transpose()
    }
}

#[tonic::async_trait]
impl Service for EventLog {
    type WatchStream = ReceiverStream<Result<proto::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let shared = &self.0;
        caller(&request)?;
        if shared.phase() == Phase::Stopping {
            return Err(stopping().into());
        }
        let request = request.into_inner();
        let filter = convert::filter(request.filter)?;
        let after = self.check(request.after.as_ref())?;
        let permit = readers::permit(&shared.readers, shared.config.max_readers)?;
        let (after, consumer) = match request.consumer.as_str() {
            "" => (after.unwrap_or_else(|| shared.log.head()), None),
            name => {
                let consumer = Consumer::attach(shared, consumer_name(name)?, after).await?;
                (consumer.from(), Some(consumer))
            }
        };
        Ok(Response::new(watch::start(self.scan(filter, after), consumer, permit, shared.stopped())))
    }

    async fn ack(&self, request: Request<proto::AckRequest>) -> Result<Response<proto::AckResponse>, Status> {
        let shared = &self.0;
        caller(&request)?;
        let request = request.into_inner();
        let name = consumer_name(&request.consumer)?;
        let missing = || Refusal::field("cursor", Reason::MissingField, "is needed: all up to it is done");
        let cursor = convert::cursor("cursor", &request.cursor.ok_or_else(missing)?)?;
        if cursor.log_id != shared.log.id() {
            readers::check_cursor(&shared.log, cursor)?;
        }
        let why = convert::why(request.why)?;
        if !request.failed && !why.is_empty() {
            let text = "is given, and `failed` is not";
            return Err(Refusal::field("why", Reason::ConflictingFields, text).into());
        }
        let (failure, position) = (request.failed.then_some(why), cursor.position);
        let acknowledged = shared.change(|reply| Change::Ack { name, position, failure, reply }).await?;
        let cursor = acknowledged.map_err(|error| shared.refuse_consumer(error))?;
        Ok(Response::new(proto::AckResponse { cursor: Some(convert::to_cursor(shared.log.cursor(cursor))) }))
    }

    async fn list_consumers(
        &self,
        request: Request<proto::ListConsumersRequest>,
    ) -> Result<Response<proto::ListConsumersResponse>, Status> {
        let shared = &self.0;
        caller(&request)?;
        let request = request.into_inner();
        let size = convert::page_size(request.page_size)?;
        let mut all = shared.change(Change::List).await?;
        all.retain(|consumer| consumer.name > request.page_token);
        let more = all.len() > size;
        all.truncate(size);
        let next_page_token = all.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
        let consumers = all.into_iter().map(|consumer| convert::to_consumer(&shared.log, consumer)).collect();
        Ok(Response::new(proto::ListConsumersResponse { consumers, next_page_token }))
    }

    async fn remove_consumer(
        &self,
        request: Request<proto::RemoveConsumerRequest>,
    ) -> Result<Response<proto::RemoveConsumerResponse>, Status> {
        let shared = &self.0;
        caller(&request)?;
        let name = consumer_name(&request.into_inner().consumer)?;
        let removed = shared.change(|reply| Change::Remove { name, reply }).await?;
        removed.map_err(|error| shared.refuse_consumer(error))?;
        Ok(Response::new(proto::RemoveConsumerResponse {}))
    }

    async fn list_events(
        &self,
        request: Request<proto::ListEventsRequest>,
    ) -> Result<Response<proto::ListEventsResponse>, Status> {
        let shared = &self.0;
        caller(&request)?;
        let request = request.into_inner();
        let filter = convert::filter(request.filter)?;
        let size = convert::page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => self.check(request.after.as_ref())?,
            token => {
                let cursor: Cursor = token.parse().map_err(|_| convert::bad_page_token(token))?;
                Some(readers::check_cursor(&shared.log, cursor)?)
            }
        };
        let _permit = readers::permit(&shared.readers, shared.config.max_readers)?;
        let scan = match after {
            Some(after) => self.scan(filter, after),
            None => Scan::from_oldest(Arc::clone(&shared.log), filter),
        };
        Ok(Response::new(list::page(scan, size).await?))
    }
}

fn consumer_name(name: &str) -> Result<String, Refusal> {
    event::check_name(name).map_err(|invalid| Refusal::invalid("consumer", &invalid))?;
    Ok(name.to_owned())
}
