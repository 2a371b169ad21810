//! How a wait ended, and what its keys have come to.

use std::fmt;

use crate::clock::Time;
use crate::convert::{timestamp, to_cursor};
use crate::engine::{KeyState, Kind};
use crate::event::{Cursor, LogId, Position};
use crate::proto;
use crate::proto::reason::Code as Reason;

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub kind: Kind,
    /// NEVER_ARMED, CANCELLED, INSTANCE_CANCELLED, LOG_GONE or CURSOR_EXPIRED, where one applies.
    pub reason: Option<Reason>,
    /// What the canceller gave as its reason; or, of an outcome that is not confirmed, why it is not.
    pub why: String,
    /// What each key came to.
    pub keys: Vec<KeyAnswer>,
    /// The last position looked at.
    pub cursor: Cursor,
    /// The agent gave it. Not so: the agent could not be asked once more, or no longer has the log, and the
    /// client says what it knows. A key that it shows as open may have been answered meanwhile.
    pub confirmed: bool,
}

impl Outcome {
    /// Whether every key was met or skipped.
    pub fn is_completed(&self) -> bool {
        self.kind == Kind::Completed
    }

    /// What one key came to.
    pub fn key(&self, name: &str, tag: &str) -> Option<&KeyAnswer> {
        self.keys.iter().find(|key| key.name == name && key.tag == tag)
    }
}

/// A key of a wait, and what it has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// What was to happen.
    pub name: String,
    /// What it was to happen to; may be empty.
    pub tag: String,
    /// What it has come to.
    pub state: KeyState,
    /// The place of the event that answered it. `None` while it is open or skipped.
    pub position: Option<Position>,
    /// When that event was received, by the log's clock.
    pub received_at: Option<Time>,
}

impl fmt::Display for KeyAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.tag.is_empty() { Ok(()) } else { write!(f, ":{}", self.tag) }
    }
}

pub(super) fn answers(keys: &[proto::KeyState]) -> Vec<KeyAnswer> {
    keys.iter()
        .map(|key| KeyAnswer {
            name: key.name.clone(),
            tag: key.tag.clone(),
            state: match key.state() {
                proto::key_state::State::Completed => KeyState::Completed,
                proto::key_state::State::Failed => KeyState::Failed,
                proto::key_state::State::Skipped => KeyState::Skipped,
                proto::key_state::State::Open | proto::key_state::State::Unspecified => KeyState::Open,
            },
            position: (key.position > 0).then_some(Position(key.position)),
            received_at: key.received_at.as_ref().and_then(time),
        })
        .collect()
}

pub(super) fn cursor(cursor: &proto::Cursor) -> Option<Cursor> {
    let log_id: LogId = cursor.log_id.parse().ok()?;
    Some(Cursor { log_id, position: Position(cursor.position) })
}

/// `None` if the agent's outcome is of no kind, or has no place.
pub(super) fn outcome(outcome: &proto::Outcome) -> Option<Outcome> {
    let kind = match outcome.kind() {
        proto::outcome::Kind::Completed => Kind::Completed,
        proto::outcome::Kind::Failed => Kind::Failed,
        proto::outcome::Kind::TimedOut => Kind::TimedOut,
        proto::outcome::Kind::Cancelled => Kind::Cancelled,
        proto::outcome::Kind::Unspecified => return None,
    };
    Some(Outcome {
        kind,
        reason: Some(outcome.reason()).filter(|reason| *reason != Reason::Unspecified),
        why: outcome.why.clone(),
        keys: answers(&outcome.keys),
        cursor: cursor(outcome.cursor.as_ref()?)?,
        confirmed: true,
    })
}

impl From<&Outcome> for proto::Outcome {
    fn from(outcome: &Outcome) -> Self {
        let kind = match outcome.kind {
            Kind::Completed => proto::outcome::Kind::Completed,
            Kind::Failed => proto::outcome::Kind::Failed,
            Kind::TimedOut => proto::outcome::Kind::TimedOut,
            Kind::Cancelled => proto::outcome::Kind::Cancelled,
        };
        Self {
            kind: kind.into(),
            reason: outcome.reason.unwrap_or(Reason::Unspecified).into(),
            why: outcome.why.clone(),
            cursor: Some(to_cursor(outcome.cursor)),
            keys: outcome.keys.iter().map(proto::KeyState::from).collect(),
        }
    }
}

impl From<&KeyAnswer> for proto::KeyState {
    fn from(key: &KeyAnswer) -> Self {
        let state = match key.state {
            KeyState::Open => proto::key_state::State::Open,
            KeyState::Completed => proto::key_state::State::Completed,
            KeyState::Failed => proto::key_state::State::Failed,
            KeyState::Skipped => proto::key_state::State::Skipped,
        };
        Self {
            name: key.name.clone(),
            tag: key.tag.clone(),
            state: state.into(),
            position: key.position.map_or(0, |position| position.0),
            received_at: key.received_at.map(timestamp),
        }
    }
}

fn time(stamp: &prost_types::Timestamp) -> Option<Time> {
    let seconds = u64::try_from(stamp.seconds).ok()?.checked_mul(1_000_000_000)?;
    Some(Time::from_nanos(seconds.checked_add(u64::try_from(stamp.nanos).ok()?)?))
}
