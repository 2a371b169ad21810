//! What goes out.

use std::time::Duration;

use prost_types::Timestamp;

use crate::clock::Time;
use crate::engine::{Answer, EventBrief, FailurePolicy, KeyState, Kind, Opened, Outcome, WaitView, Why};
use crate::event::{Cursor, InstanceId, Key, LogId, Position, Status};
use crate::journal::acks::AckView;
use crate::journal::consumers::ConsumerView;
use crate::journal::log::Log;
use crate::journal::record::EventRecord;
use crate::proto;
use crate::proto::reason::Code as Reason;

/// A moment, for the wire.
pub fn timestamp(time: Time) -> Timestamp {
    let nanos = time.as_nanos();
    Timestamp { seconds: (nanos / 1_000_000_000) as i64, nanos: (nanos % 1_000_000_000) as i32 }
}

/// A span, for the wire.
pub fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: span.subsec_nanos() as i32,
    }
}

/// A place, for the wire.
pub fn to_cursor(cursor: Cursor) -> proto::Cursor {
    proto::Cursor { log_id: cursor.log_id.to_string(), position: cursor.position.0 }
}

/// An event from the log, for the wire, data included.
pub fn to_event(position: Position, record: &EventRecord<'_>) -> proto::Event {
    let event = &record.event;
    proto::Event {
        event_id: event.id.to_string(),
        instance_uuid: event.instance.to_string(),
        name: event.key.name().to_owned(),
        tag: event.key.tag().to_owned(),
        status: to_status(event.status).into(),
        data: event.data.to_owned(),
        occurred_at: event.occurred_at.map(timestamp),
        held_for: event.held_for.map(duration),
        position: position.0,
        received_at: Some(timestamp(record.received_at)),
    }
}

/// An event as a wait's stream is told of it, without its data.
pub fn to_brief(instance: InstanceId, key: &Key, brief: &EventBrief) -> proto::Event {
    proto::Event {
        event_id: brief.id.to_string(),
        instance_uuid: instance.to_string(),
        name: key.name().to_owned(),
        tag: key.tag().to_owned(),
        status: to_status(brief.status).into(),
        data: Vec::new(),
        occurred_at: brief.occurred_at.map(timestamp),
        held_for: brief.held_for.map(duration),
        position: brief.position.0,
        received_at: Some(timestamp(brief.received_at)),
    }
}

fn to_status(status: Status) -> proto::event::Status {
    match status {
        Status::Completed => proto::event::Status::Completed,
        Status::Failed => proto::event::Status::Failed,
        Status::InProgress => proto::event::Status::InProgress,
    }
}

/// What keys have come to, for the wire.
pub fn to_key_states(keys: &[Key], answers: &[Answer]) -> Vec<proto::KeyState> {
    let state = |state| match state {
        KeyState::Open => proto::key_state::State::Open,
        KeyState::Completed => proto::key_state::State::Completed,
        KeyState::Failed => proto::key_state::State::Failed,
        KeyState::Skipped => proto::key_state::State::Skipped,
    };
    let both = keys.iter().zip(answers);
    both.map(|(key, answer)| proto::KeyState {
        name: key.name().to_owned(),
        tag: key.tag().to_owned(),
        state: state(answer.state).into(),
        position: answer.position.0,
        received_at: (answer.position != Position(0)).then(|| timestamp(answer.received_at)),
    })
    .collect()
}

/// Keys, for the wire.
pub fn to_keys(keys: Vec<Key>) -> Vec<proto::Key> {
    let to_key = |key: Key| proto::Key { name: key.name().to_owned(), tag: key.tag().to_owned() };
    keys.into_iter().map(to_key).collect()
}

/// When a wait was first opened, for the wire.
pub fn to_opened(opened: &Opened) -> proto::Opened {
    proto::Opened { position: opened.position.0, counts_from: opened.counts_from.map(timestamp) }
}

/// How a wait ended, for the wire.
pub fn to_outcome(log_id: LogId, keys: &[Key], outcome: &Outcome) -> proto::Outcome {
    let kind = match outcome.kind {
        Kind::Completed => proto::outcome::Kind::Completed,
        Kind::Failed => proto::outcome::Kind::Failed,
        Kind::TimedOut => proto::outcome::Kind::TimedOut,
        Kind::Cancelled => proto::outcome::Kind::Cancelled,
    };
    let (reason, why) = match &outcome.why {
        Why::Itself => (Reason::Unspecified, ""),
        Why::NeverArmed => (Reason::NeverArmed, ""),
        Why::Cancelled(why) => (Reason::Cancelled, why.as_str()),
        Why::InstanceCancelled(why) => (Reason::InstanceCancelled, why.as_str()),
        Why::LogGone => (Reason::LogGone, ""),
    };
    proto::Outcome {
        kind: kind.into(),
        reason: reason.into(),
        why: why.to_owned(),
        cursor: Some(to_cursor(Cursor { log_id, position: outcome.at })),
        keys: to_key_states(keys, &outcome.answers),
    }
}

/// A wait, for operators.
pub fn to_wait_info(log_id: LogId, wait: &WaitView) -> proto::WaitInfo {
    let policy = match wait.policy {
        FailurePolicy::FailFast => proto::wait_request::FailurePolicy::FailFast,
        FailurePolicy::Collect => proto::wait_request::FailurePolicy::Collect,
    };
    proto::WaitInfo {
        wait_id: wait.id.to_string(),
        instance_uuid: wait.instance.to_string(),
        keys: to_key_states(&wait.keys, &wait.answers),
        opened_at: Some(timestamp(wait.opened_at)),
        deadline: Some(timestamp(wait.deadline)),
        unarmed: wait.unarmed,
        timeout: Some(duration(wait.timeout)),
        failure_policy: policy.into(),
        opened: Some(to_opened(&wait.opened)),
        uid: wait.uid,
        outcome: wait.ended.as_ref().map(|(outcome, _)| to_outcome(log_id, &wait.keys, outcome)),
        ended_at: wait.ended.as_ref().map(|(_, at)| timestamp(*at)),
    }
}

/// A consumer of this log, as it stands.
pub fn to_consumer(log: &Log, consumer: ConsumerView) -> proto::Consumer {
    let (failed_position, failed_why) = consumer.failure.map_or((0, String::new()), |(at, why)| (at.0, why));
    proto::Consumer {
        name: consumer.name,
        cursor: Some(to_cursor(log.cursor(consumer.cursor))),
        behind: log.head().0.saturating_sub(consumer.cursor.0),
        attached: consumer.attached,
        seen_at: Some(timestamp(consumer.seen_at)),
        expired: consumer.expired,
        repaired: consumer.repaired,
        failed_position,
        failed_why,
    }
}

/// What a consumer said of an event.
pub fn to_acknowledgement(ack: AckView) -> proto::Acknowledgement {
    proto::Acknowledgement {
        consumer: ack.consumer,
        at: Some(timestamp(ack.at)),
        position: ack.named.0,
        failed: ack.failure.is_some(),
        why: ack.failure.unwrap_or_default(),
    }
}
