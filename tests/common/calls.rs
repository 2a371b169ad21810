//! Calls of an agent, and what its refusals say.

use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use uuid::Uuid;
use wakeful::proto::event_receiver_client::EventReceiverClient;
use wakeful::proto::wait_response::Message;
use wakeful::proto::waits_client::WaitsClient;
use wakeful::proto::{
    Cursor, DispatchRequest, DispatchResult, Event, Key, Outcome, Progress, Registered, WaitRequest,
    WaitResponse, dispatch_result::Disposition,
};

use super::soon;

pub(crate) fn uuid() -> String {
    Uuid::new_v4().to_string()
}

pub(crate) fn event(instance: &str, name: &str, tag: &str) -> Event {
    Event { instance_uuid: instance.into(), name: name.into(), tag: tag.into(), ..Event::default() }
}

pub(crate) fn key(name: &str, tag: &str) -> Key {
    Key { name: name.into(), tag: tag.into() }
}

pub(crate) fn cursor(log_id: &str, position: u64) -> Cursor {
    Cursor { log_id: log_id.into(), position }
}

pub(crate) fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// A request for a wait for these keys, each a name and a tag.
pub(crate) fn wait_for(instance: &str, keys: &[(&str, &str)]) -> WaitRequest {
    WaitRequest {
        instance_uuid: instance.into(),
        keys: keys.iter().map(|(name, tag)| key(name, tag)).collect(),
        ..WaitRequest::default()
    }
}

pub(crate) async fn try_dispatch(
    channel: &Channel,
    events: Vec<Event>,
) -> Result<Vec<DispatchResult>, Status> {
    let mut receiver = EventReceiverClient::new(channel.clone());
    let response = soon("the answer to a dispatch", receiver.dispatch(DispatchRequest { events })).await?;
    Ok(response.into_inner().results)
}

pub(crate) async fn dispatch(channel: &Channel, events: Vec<Event>) -> Vec<DispatchResult> {
    try_dispatch(channel, events).await.expect("the events dispatched")
}

/// Dispatches one event. Gives what became of it, how many waits it woke, and its position.
pub(crate) async fn send(channel: &Channel, event: Event) -> (Disposition, u32, u64) {
    let results = dispatch(channel, vec![event]).await;
    assert_eq!(results.len(), 1);
    (results[0].disposition(), results[0].woke, results[0].position)
}

/// Serves as a sign that the agent is well: an event is taken in and answered.
pub(crate) async fn assert_serves(channel: &Channel) {
    let (disposition, ..) = send(channel, event(&uuid(), "good-request", "")).await;
    assert_eq!(disposition, Disposition::Retained);
}

/// A wait's stream, past its Registered.
pub(crate) struct Wait {
    pub(crate) registered: Registered,
    stream: Streaming<WaitResponse>,
}

pub(crate) async fn try_open(
    channel: &Channel,
    request: impl tonic::IntoRequest<WaitRequest>,
) -> Result<Wait, Status> {
    let stream = soon("the wait's stream", WaitsClient::new(channel.clone()).wait(request)).await?;
    let mut stream = stream.into_inner();
    match soon("the wait's first message", stream.message()).await?.and_then(|first| first.message) {
        Some(Message::Registered(registered)) => Ok(Wait { registered, stream }),
        other => panic!("the first message is {other:?}"),
    }
}

pub(crate) async fn open(channel: &Channel, request: impl tonic::IntoRequest<WaitRequest>) -> Wait {
    try_open(channel, request).await.expect("the wait opened")
}

impl Wait {
    pub(crate) fn id(&self) -> &str {
        &self.registered.wait_id
    }

    /// Where the wait was opened.
    pub(crate) fn cursor(&self) -> Cursor {
        self.registered.cursor.clone().expect("a cursor in Registered")
    }

    /// The next message; `None` at the stream's end.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Status> {
        let message = soon("the wait's next message", self.stream.message()).await?;
        Ok(message.map(|message| message.message.expect("a message in the response")))
    }

    /// The next message, which has to be a Progress.
    pub(crate) async fn progress(&mut self) -> Progress {
        match self.next().await {
            Ok(Some(Message::Progress(progress))) => progress,
            other => panic!("not a Progress: {other:?}"),
        }
    }

    /// The next message, which has to be the outcome, and the stream's last.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        match self.next().await {
            Ok(Some(Message::Outcome(outcome))) => {
                assert!(matches!(self.next().await, Ok(None)), "the outcome is the last message");
                outcome
            }
            other => panic!("not an Outcome: {other:?}"),
        }
    }

    /// The outcome, whatever Progress comes before it.
    pub(crate) async fn outcome_at_last(&mut self) -> Outcome {
        loop {
            match self.next().await {
                Ok(Some(Message::Progress(_))) => {}
                Ok(Some(Message::Outcome(outcome))) => {
                    assert!(matches!(self.next().await, Ok(None)), "the outcome is the last message");
                    return outcome;
                }
                other => panic!("neither Progress nor Outcome: {other:?}"),
            }
        }
    }

    /// The status that ends the stream next.
    pub(crate) async fn refused(&mut self) -> Status {
        match self.next().await {
            Err(status) => status,
            Ok(other) => panic!("not a status: {other:?}"),
        }
    }
}

/// What a refusal says: its code, its reason, the field at fault, and the limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) field: String,
    pub(crate) limit: String,
}

pub(crate) fn said(status: &Status) -> Said {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let field = violations.first().map(|violation| violation.field.clone()).unwrap_or_default();
    match status.get_details_error_info() {
        Some(info) => {
            assert_eq!(info.domain, "wakeful");
            let limit = info.metadata.get("limit").cloned().unwrap_or_default();
            Said { code: status.code(), reason: info.reason, field, limit }
        }
        None => Said { code: status.code(), reason: String::new(), field, limit: String::new() },
    }
}

/// Code and reason of a refusal, for those that no field is at fault for.
pub(crate) fn why(status: &Status) -> (Code, String) {
    let said = said(status);
    (said.code, said.reason)
}
