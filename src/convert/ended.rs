//! Ended waits, to the log's notes and back.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Time;
use crate::engine::{Answer, FailurePolicy, KeyState, Kind, Opened, Opening, Outcome, WaitView, Why};
use crate::event::{InstanceId, Key, Position, WaitId};
use crate::journal::note::{EndedWaitNote, KeyNote};
use crate::journal::record::Damaged;

/// An ended wait as the log keeps it; `None` while it is open.
pub fn to_note(wait: &WaitView) -> Option<EndedWaitNote> {
    let (outcome, ended_at) = wait.ended.as_ref()?;
    let (why, why_text) = match &outcome.why {
        Why::Itself => (0, ""),
        Why::NeverArmed => (1, ""),
        Why::Cancelled(text) => (2, text.as_str()),
        Why::InstanceCancelled(text) => (3, text.as_str()),
        Why::LogGone => (4, ""),
    };
    let keys = wait.keys.iter().zip(outcome.answers.iter());
    Some(EndedWaitNote {
        id: wait.id.0.as_bytes().to_vec(),
        opening: wait.opening.0,
        instance: wait.instance.0.as_bytes().to_vec(),
        uid: wait.uid,
        keys: keys.map(|(key, answer)| to_key_note(key, answer)).collect(),
        collect: wait.policy == FailurePolicy::Collect,
        opened_position: wait.opened.position.0,
        counts_from: wait.opened.counts_from.map(Time::as_nanos),
        opened_at: wait.opened_at.as_nanos(),
        timeout: u64::try_from(wait.timeout.as_nanos()).unwrap_or(u64::MAX),
        deadline: wait.deadline.as_nanos(),
        unarmed: wait.unarmed,
        kind: match outcome.kind {
            Kind::Completed => 1,
            Kind::Failed => 2,
            Kind::TimedOut => 3,
            Kind::Cancelled => 4,
        },
        why,
        why_text: why_text.to_owned(),
        at: outcome.at.0,
        ended_at: ended_at.as_nanos(),
    })
}

/// An ended wait as it was.
///
/// # Errors
///
/// If the note is not one that [`to_note`] has made.
pub fn from_note(note: EndedWaitNote) -> Result<WaitView, Damaged> {
    let (keys, answers): (Vec<_>, Vec<_>) =
        note.keys.into_iter().map(from_key_note).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let answers: Arc<[Answer]> = answers.into();
    let kind = match note.kind {
        1 => Kind::Completed,
        2 => Kind::Failed,
        3 => Kind::TimedOut,
        4 => Kind::Cancelled,
        _ => return Err(Damaged),
    };
    let why = match note.why {
        0 => Why::Itself,
        1 => Why::NeverArmed,
        2 => Why::Cancelled(note.why_text),
        3 => Why::InstanceCancelled(note.why_text),
        4 => Why::LogGone,
        _ => return Err(Damaged),
    };
    let outcome = Outcome { kind, why, at: Position(note.at), answers: Arc::clone(&answers) };
    Ok(WaitView {
        id: WaitId(uuid(&note.id)?),
        opening: Opening(note.opening),
        instance: InstanceId(uuid(&note.instance)?),
        uid: note.uid,
        keys: keys.into(),
        answers,
        policy: if note.collect { FailurePolicy::Collect } else { FailurePolicy::FailFast },
        opened: Opened {
            position: Position(note.opened_position),
            counts_from: note.counts_from.map(Time::from_nanos),
        },
        opened_at: Time::from_nanos(note.opened_at),
        timeout: Duration::from_nanos(note.timeout),
        deadline: Time::from_nanos(note.deadline),
        unarmed: note.unarmed,
        ended: Some((outcome, Time::from_nanos(note.ended_at))),
    })
}

fn to_key_note(key: &Key, answer: &Answer) -> KeyNote {
    KeyNote {
        name: key.name().to_owned(),
        tag: key.tag().to_owned(),
        state: match answer.state {
            KeyState::Open => 0,
            KeyState::Completed => 1,
            KeyState::Failed => 2,
            KeyState::Skipped => 3,
        },
        position: answer.position.0,
        received_at: answer.received_at.as_nanos(),
    }
}

fn from_key_note(note: KeyNote) -> Result<(Key, Answer), Damaged> {
    let state = match note.state {
        0 => KeyState::Open,
        1 => KeyState::Completed,
        2 => KeyState::Failed,
        3 => KeyState::Skipped,
        _ => return Err(Damaged),
    };
    let answer =
        Answer { state, position: Position(note.position), received_at: Time::from_nanos(note.received_at) };
    Ok((Key::new(note.name, note.tag, usize::MAX).map_err(|_| Damaged)?, answer))
}

fn uuid(bytes: &[u8]) -> Result<Uuid, Damaged> {
    Uuid::from_slice(bytes).map_err(|_| Damaged)
}
