//! `EventReceiver`: checks events, hands them over, and answers what became of them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::core::Command;
use super::{Phase, Shared, stopping};
use crate::convert;
use crate::engine::Disposition;
use crate::event::{Event, Invalid};
use crate::proto;
use crate::proto::dispatch_result::Disposition as Told;
use crate::proto::event_receiver_server::EventReceiver;
use crate::proto::reason::Code as Reason;
use crate::status::{self, Refusal};

/// How far a stream reads ahead of its replies: so many requests, and so many bytes.
const AHEAD: usize = 256;
const AHEAD_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Receiver(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl EventReceiver for Receiver {
    async fn dispatch(
        &self,
        request: Request<proto::DispatchRequest>,
    ) -> Result<Response<proto::DispatchResponse>, Status> {
        let mut pending = Pending::hand_over(&self.0, request.into_inner())?;
        let dispositions = (&mut pending.answer).await.map_err(|_| stopping())?;
        Ok(Response::new(pending.into_response(&self.0, dispositions)))
    }

    type DispatchStreamStream = Pipeline;

    async fn dispatch_stream(
        &self,
        request: Request<Streaming<proto::DispatchRequest>>,
    ) -> Result<Response<Pipeline>, Status> {
        Ok(Response::new(Pipeline {
            shared: Arc::clone(&self.0),
            requests: request.into_inner(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            ended: None,
            stopped: Box::pin(self.0.stopped()),
        }))
    }
}

/// Bytes of events that are handed over, given back once they are in the log.
pub(super) struct Weight {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Weight {
    fn take(shared: &Arc<Shared>, bytes: usize) -> Result<Self, Refusal> {
        let bound = shared.config.max_handed_over;
        let before = shared.handed_over.fetch_add(bytes, Ordering::Relaxed);
        let weight = Self { shared: Arc::clone(shared), bytes };
        // However large it is, a request alone goes through: its own size has a bound of its own.
        if before > 0 && (before + bytes) as u64 > bound.0 {
            let message = format!("max_handed_over is {bound}, and so much is not yet in the log");
            return Err(Refusal::exhausted("max_handed_over", message));
        }
        Ok(weight)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.shared.handed_over.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request that was handed over and not yet answered.
struct Pending {
    /// One for each event; those of events that were not rejected are filled in by the answer.
    results: Vec<proto::DispatchResult>,
    answer: oneshot::Receiver<Vec<Disposition>>,
    bytes: usize,
}

impl Pending {
    /// Checks a request and hands its valid events over.
    fn hand_over(shared: &Arc<Shared>, request: proto::DispatchRequest) -> Result<Self, Refusal> {
        if shared.phase() == Phase::Stopping {
            return Err(stopping());
        }
        let (found, bound) = (request.events.len(), shared.bounds.events);
        if found == 0 {
            return Err(Refusal::field("events", Reason::MissingField, "has no event; give at least one"));
        }
        if found > bound {
            return Err(Refusal::invalid("events", &Invalid::over("max_events", found, bound, "events")));
        }
        let mut events = Vec::with_capacity(found);
        let mut results = Vec::with_capacity(found);
        let mut bytes = 0;
        for (number, event) in request.events.into_iter().enumerate() {
            results.push(match convert::event(event, &shared.bounds) {
                Ok(event) => {
                    let key = event.key.name().len() + event.key.tag().len();
                    bytes += size_of::<Event>() + key + event.data.len();
                    let event_id = if event.id_given { String::new() } else { event.id.to_string() };
                    events.push(event);
                    proto::DispatchResult { event_id, ..Default::default() }
                }
                Err(fault) => rejected(number, fault),
            });
            // What answers it is kept as long, also for an event that is not taken.
            bytes += results.last().map_or(0, weight_of);
        }
        let rejected = results.len() - events.len();
        if rejected > 0 {
            shared.rejected.fetch_add(rejected as u64, Ordering::Relaxed);
        }
        let (reply, answer) = oneshot::channel();
        let weight = Weight::take(shared, bytes)?;
        shared.send(Command::Dispatch { events, weight, reply });
        Ok(Self { results, answer, bytes })
    }

    fn into_response(mut self, shared: &Shared, dispositions: Vec<Disposition>) -> proto::DispatchResponse {
        let open = self.results.iter_mut().enumerate();
        let open = open.filter(|(_, result)| result.disposition == Told::Unspecified as i32);
        for ((number, result), disposition) in open.zip(dispositions) {
            match disposition {
                Disposition::Woke(woke, position) => {
                    result.disposition = Told::Woke.into();
                    result.woke = woke;
                    result.position = position.0;
                }
                Disposition::Retained(position) => {
                    result.disposition = Told::Retained.into();
                    result.position = position.0;
                }
                Disposition::Duplicate(position) => {
                    result.disposition = Told::Duplicate.into();
                    result.position = position.0;
                }
                Disposition::IdReused => {
                    result.disposition = Told::Rejected.into();
                    result.reason = Reason::EventIdReused.into();
                    result.field = format!("events[{number}].event_id");
                    result.message = "the event_id was used before, for an event of other content".into();
                }
            }
        }
        proto::DispatchResponse { results: self.results, log_id: shared.log.id().to_string() }
    }
}

fn weight_of(result: &proto::DispatchResult) -> usize {
    size_of::<proto::DispatchResult>() + result.event_id.len() + result.field.len() + result.message.len()
}

fn rejected(number: usize, (field, invalid): convert::EventFault) -> proto::DispatchResult {
    let field = format!("events[{number}].{field}");
    proto::DispatchResult {
        disposition: Told::Rejected.into(),
        reason: status::reason_of(&invalid).into(),
        message: format!("{field} {invalid}"),
        field,
        ..Default::default()
    }
}

/// A `DispatchStream`: reads ahead of its replies, within bounds, and gives those in the requests' order.
pub(super) struct Pipeline {
    shared: Arc<Shared>,
    requests: Streaming<proto::DispatchRequest>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// The requests have ended; with the status that is still to be told, after the replies.
    ended: Option<Option<Status>>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Pipeline {
    /// Hands over what has come in.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        while self.ended.is_none() && self.pending.len() < AHEAD && self.pending_bytes < AHEAD_BYTES {
            let Poll::Ready(request) = Pin::new(&mut self.requests).poll_next(cx) else {
                if self.stopped.as_mut().poll(cx).is_ready() {
                    self.ended = Some(Some(stopping().into()));
                }
                return;
            };
            let handed_over = match request {
                Some(Ok(request)) => Pending::hand_over(&self.shared, request).map_err(Status::from),
                Some(Err(status)) => Err(status::with_reason(status)),
                None => {
                    self.ended = Some(None);
                    return;
                }
            };
            match handed_over {
                Ok(pending) => {
                    self.pending_bytes += pending.bytes;
                    self.pending.push_back(pending);
                }
                Err(status) => self.ended = Some(Some(status)),
            }
        }
    }
}

impl Stream for Pipeline {
    type Item = Result<proto::DispatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.read_ahead(cx);
        let Some(first) = self.pending.front_mut() else {
            return match &mut self.ended {
                Some(status) => Poll::Ready(status.take().map(Err)),
                None => Poll::Pending,
            };
        };
        let Poll::Ready(answer) = Pin::new(&mut first.answer).poll(cx) else { return Poll::Pending };
        let Some(pending) = self.pending.pop_front() else { return Poll::Ready(None) };
        self.pending_bytes -= pending.bytes;
        Poll::Ready(Some(match answer {
            Ok(dispositions) => Ok(pending.into_response(&self.shared, dispositions)),
            Err(_) => {
                self.ended = Some(None);
                self.pending.clear();
                Err(stopping().into())
            }
        }))
    }
}
