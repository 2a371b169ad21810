//! `EventLog`: hands what is asked of the log to readers.

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Phase, Shared, caller, stopping};
use crate::convert;
use crate::event::{Cursor, Position};
use crate::proto;
use crate::proto::event_log_server::EventLog as Service;
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
        let after = self.check(request.after.as_ref())?.unwrap_or_else(|| shared.log.head());
        let permit = readers::permit(&shared.readers, shared.config.max_readers)?;
        Ok(Response::new(watch::start(self.scan(filter, after), permit, shared.stopped())))
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
