//! `EventReceiver`: checks events, hands them over, and answers what became of them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::core::EventsFrom;
use super::{Phase, Shared, stopping};
use crate::convert;
use crate::engine::Disposition;
use crate::event::{EventId, Invalid};
use crate::journal::Append;
use crate::journal::events::Events;
use crate::net::wire::service::event_receiver_server::EventReceiver;
use crate::net::wire::{self, DispatchResult};
use crate::proto;
use crate::proto::dispatch_result::Disposition as Told;
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
        request: Request<wire::DispatchRequest>,
    ) -> Result<Response<wire::DispatchResponse>, Status> {
        let mut pending = Pending::hand_over(&self.0, request.into_inner())?;
        let dispositions = (&mut pending.answer).await.map_err(|_| stopping())??;
        Ok(Response::new(pending.into_response(&self.0, dispositions)))
    }

    type DispatchStreamStream = Pipeline;

    async fn dispatch_stream(
        &self,
        request: Request<Streaming<wire::DispatchRequest>>,
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
    /// One for each event.
    results: Vec<Known>,
    answer: oneshot::Receiver<Result<Vec<Disposition>, Refusal>>,
    bytes: usize,
}

/// What is known of an event before it is in the log.
enum Known {
    /// It was taken, and given this id if it had none.
    Taken(Option<EventId>),
    /// It was not.
    Rejected(Box<proto::DispatchResult>),
}

impl Pending {
    /// Checks a request and hands its valid events over.
    fn hand_over(shared: &Arc<Shared>, request: wire::DispatchRequest) -> Result<Self, Status> {
        if shared.phase() == Phase::Stopping {
            return Err(stopping().into());
        }
        let (found, bound) = (request.count()?, shared.bounds.events);
        if found == 0 {
            let refusal = Refusal::field("events", Reason::MissingField, "has no event; give at least one");
            return Err(refusal.into());
        }
        if found > bound {
            let over = Invalid::over("max_events", found, bound, "events");
            return Err(Refusal::invalid("events", &over).into());
        }
        let mut events = Events::with_capacity(found);
        let mut results = Vec::with_capacity(found);
        for (number, event) in request.events().enumerate() {
            results.push(match convert::event(&event?, &shared.bounds) {
                Ok(event) => {
                    events.push(&event);
                    Known::Taken((!event.id_given).then_some(event.id))
                }
                Err(fault) => Known::Rejected(Box::new(rejected(number, fault))),
            });
        }
        let rejected = results.len() - events.len();
        if rejected > 0 {
            shared.rejected.fetch_add(rejected as u64, Ordering::Relaxed);
        }
        // What answers it is kept as long, also for an event that is not taken.
        let bytes = events.weight() + results.iter().map(Known::weight).sum::<usize>();
        let (reply, answer) = oneshot::channel();
        let weight = Weight::take(shared, bytes)?;
        shared.append(Append::Events(events, EventsFrom { weight, reply }));
        Ok(Self { results, answer, bytes })
    }

    fn into_response(self, shared: &Shared, dispositions: Vec<Disposition>) -> wire::DispatchResponse {
        let mut dispositions = dispositions.into_iter();
        let results = self.results.into_iter().enumerate().filter_map(|(number, known)| match known {
            Known::Rejected(result) => Some(DispatchResult::Rejected(result)),
            Known::Taken(event_id) => dispositions.next().map(|became| result(number, became, event_id)),
        });
        wire::DispatchResponse { results: results.collect(), log_id: shared.log.id() }
    }
}

impl Known {
    fn weight(&self) -> usize {
        size_of::<DispatchResult>()
            + match self {
                Self::Taken(_) => 0,
                Self::Rejected(result) => {
                    size_of::<proto::DispatchResult>() + result.field.len() + result.message.len()
                }
            }
    }
}

fn result(number: usize, became: Disposition, event_id: Option<EventId>) -> DispatchResult {
    let (disposition, woke, position) = match became {
        Disposition::Woke(woke, position) => (Told::Woke, woke, position),
        Disposition::Retained(position) => (Told::Retained, 0, position),
        Disposition::Duplicate(position) => (Told::Duplicate, 0, position),
        Disposition::IdReused => {
            return DispatchResult::Rejected(Box::new(proto::DispatchResult {
                disposition: Told::Rejected.into(),
                reason: Reason::EventIdReused.into(),
                field: format!("events[{number}].event_id"),
                message: "the event_id was used before, for an event of other content".into(),
                ..Default::default()
            }));
        }
    };
    DispatchResult::Kept { disposition, woke, position: position.0, event_id }
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
    requests: Streaming<wire::DispatchRequest>,
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
                Some(Ok(request)) => Pending::hand_over(&self.shared, request),
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
    type Item = Result<wire::DispatchResponse, Status>;

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
        Poll::Ready(Some(match answer.unwrap_or_else(|_| Err(stopping())) {
            Ok(dispositions) => Ok(pending.into_response(&self.shared, dispositions)),
            Err(refusal) => {
                self.ended = Some(None);
                self.pending.clear();
                Err(refusal.into())
            }
        }))
    }
}
