//! What a client remembers of its wait, and what follows from it: what to ask next, and when to stop asking.
//!
//! Nothing of an open wait is on the agent's disk, so this is where a wait outlives a connection. It is plain
//! state: messages and moments come in, requests and an end come out. The moments are the client's own and
//! are never compared with the agent's.
//!
//! ```text
//!   ask ──▶ heard ──▶ heard … ──▶ end            the agent gave the outcome
//!    ▲        │
//!    │      lost ◀── cut, GoingAway, UNAVAILABLE, silence past the deadline
//!    └────────┤
//!             └─ out of time: ask once more with timeout 0 ──▶ end, unconfirmed if nobody answers
//! ```

use std::time::Duration;

use tonic::Status;
use uuid::Uuid;

use super::error::{Error, is_lost};
use super::outcome::{self, Outcome};
use crate::clock::Time;
use crate::convert::{duration, to_cursor};
use crate::engine::{FailurePolicy, Kind, Start};
use crate::event::{Cursor, InstanceId, WaitId};
use crate::proto::key_state::State;
use crate::proto::reason::Code as Reason;
use crate::proto::wait_request::FailurePolicy as ProtoPolicy;
use crate::proto::wait_response::Message;
use crate::proto::{Attempt, KeyState, Opened, WaitRequest, WaitResponse};
use crate::status;

/// How long an agent that is asked once more, after the time has run out, may take to answer.
pub(super) const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How long past the deadline a stream may be silent before it is taken as lost.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How long a wait that is not armed outlives its agent: the agent's own default bound for such waits.
pub(super) const MAX_UNARMED: Duration = Duration::from_secs(3600);

const NO_SENSE: &str = "a Registered or an Outcome lacks what each has";

/// What a wait asks for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) id: WaitId,
    pub(super) instance: InstanceId,
    pub(super) start: Start,
    pub(super) timeout: Duration,
    pub(super) start_on_arm: bool,
    pub(super) policy: FailurePolicy,
    pub(super) in_progress_fails: bool,
}

/// What the caller wants the agent to know, and it does not know yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// The timeout starts.
    Arm,
    /// These keys no longer count.
    Skip(Vec<crate::proto::Key>),
    /// The wait is to end, for this reason.
    Cancel(String),
    /// The order cannot be put into a call of its own: ask again, which tells everything.
    AskAgain,
}

/// What to do after something has come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on listening.
    #[default]
    Listen,
    /// The stream is of no more use: ask again.
    AskAgain,
    /// The wait has ended.
    Ended,
}

/// What a client remembers of one wait.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    question: Question,
    /// As the first Registered gave it. `None` until then.
    opened: Option<Opened>,
    /// The newest place, and what each key had come to there, as the agent wrote it.
    cursor: Option<Cursor>,
    keys: Vec<KeyState>,
    routable: Option<bool>,
    armed: bool,
    /// When the time runs out. Before arming: when the wait is given up if the agent stays away.
    deadline: Time,
    /// The timeout that the agent has been told.
    asked_timeout: Duration,
    /// Keys that the caller has skipped, whether or not the agent has heard of it.
    skipped: Vec<(String, String)>,
    /// Why the caller has cancelled the wait, if it has.
    cancelled: Option<String>,
    unsaid: Unsaid,
    away: bool,
    /// Tells the agent an ask that was on its way for long from a newer one.
    attempt: Attempt,
    /// The time has run out, and the agent is asked to look once more, until this moment.
    looking_until: Option<Time>,
    end: Option<Result<Outcome, Error>>,
}

#[derive(Clone, Debug, Default)]
struct Unsaid {
    arm: bool,
    /// So many of the newest `skipped`.
    skips: usize,
    cancel: bool,
}

impl Memory {
    /// The memory of a wait that has not been asked for yet, at `now`.
    pub(super) fn new(now: Time, question: Question, keys: Vec<KeyState>) -> Self {
        Self {
            armed: !question.start_on_arm,
            deadline: now,
            asked_timeout: question.timeout,
            question,
            opened: None,
            cursor: None,
            keys,
            routable: None,
            skipped: Vec::new(),
            cancelled: None,
            unsaid: Unsaid::default(),
            away: true,
            attempt: Attempt { client: Uuid::new_v4().as_u128() as u64 | 1, number: 0 },
            looking_until: None,
            end: None,
        }
    }

    /// What to ask the agent at `now`. It tells the agent all that the caller has ordered but Cancel.
    pub(super) fn ask(&mut self, now: Time) -> WaitRequest {
        let mut timeout = self.question.timeout;
        if self.opened.is_some() && self.armed {
            timeout = self.deadline.since(now);
        }
        if self.opened.is_some() && now >= self.deadline {
            timeout = Duration::ZERO;
            self.looking_until.get_or_insert(now.plus(LOOK_WITHIN));
        }
        self.asked_timeout = timeout;
        self.unsaid.arm = false;
        self.unsaid.skips = 0;
        self.attempt.number += 1;

        let (after, lookback) = match (self.cursor, self.question.start) {
            (Some(cursor), _) | (None, Start::After(cursor)) => (Some(to_cursor(cursor)), None),
            (None, Start::Lookback(span)) => (None, Some(duration(span))),
            (None, Start::Head) => (None, None),
        };
        let policy = match self.question.policy {
            FailurePolicy::FailFast => ProtoPolicy::FailFast,
            FailurePolicy::Collect => ProtoPolicy::Collect,
        };
        WaitRequest {
            wait_id: self.question.id.to_string(),
            instance_uuid: self.question.instance.to_string(),
            keys: self.keys.iter().map(key_of).collect(),
            after,
            lookback,
            timeout: Some(duration(timeout)),
            failure_policy: policy.into(),
            in_progress_fails: self.question.in_progress_fails,
            start_on_arm: !self.armed && self.looking_until.is_none(),
            opened: self.opened,
            attempt: Some(self.attempt),
            key_states: if self.opened.is_some() { self.keys.clone() } else { Vec::new() },
        }
    }

    /// Takes in what the stream brought at `now`.
    pub(super) fn hear(&mut self, now: Time, message: WaitResponse) -> Next {
        self.away = false;
        let (cursor, keys) = match message.message {
            Some(Message::Registered(registered)) => {
                let Some(opened) = registered.opened else { return self.no_sense() };
                if registered.cursor.as_ref().and_then(outcome::cursor).is_none() {
                    return self.no_sense();
                }
                if self.opened.is_none() {
                    self.opened = Some(opened);
                    let span = if self.armed { self.question.timeout } else { MAX_UNARMED };
                    self.deadline = now.plus(span);
                }
                self.routable = registered.routable;
                (registered.cursor, registered.keys)
            }
            Some(Message::Progress(progress)) => (progress.cursor, progress.keys),
            Some(Message::GoingAway(going)) => {
                self.look_at(going.cursor.as_ref(), going.keys);
                return self.lose(now);
            }
            Some(Message::Outcome(outcome)) => {
                return match outcome::outcome(&outcome) {
                    Some(outcome) => self.finish(Ok(outcome)),
                    None => self.no_sense(),
                };
            }
            // A message that this client does not know yet.
            None => return Next::Listen,
        };
        self.look_at(cursor.as_ref(), keys);
        Next::Listen
    }

    /// Takes in that the stream, or an ask, ended with this status at `now`.
    pub(super) fn hear_status(&mut self, now: Time, status: Status) -> Next {
        match status::reason(&status) {
            Some(Reason::TakenOver) => self.finish(Err(Error::TakenOver(self.question.id))),
            Some(reason @ (Reason::CursorOfAnotherLog | Reason::CursorExpired)) if self.opened.is_some() => {
                let reason = if reason == Reason::CursorOfAnotherLog {
                    Reason::LogGone
                } else {
                    Reason::CursorExpired
                };
                self.conclude(Kind::Cancelled, Some(reason), status.message().to_owned())
            }
            _ if is_lost(&status) => self.lose(now),
            reason => self.finish(Err(Error::Refused { reason, status: Box::new(status) })),
        }
    }

    /// The connection is gone, or as good as gone, at `now`.
    pub(super) fn lose(&mut self, now: Time) -> Next {
        self.away = true;
        if let Some(why) = self.cancelled.take() {
            return self.conclude(Kind::Cancelled, Some(Reason::Cancelled), why);
        }
        if self.looking_until.is_none_or(|until| now < until) {
            return Next::AskAgain;
        }
        let reason = (!self.armed).then_some(Reason::NeverArmed);
        let why = "not confirmed: the agent could not be asked once more when the time had run out";
        self.conclude(Kind::TimedOut, reason, why.to_owned())
    }

    /// The time starts at `now`, or starts anew; unless it has already run out.
    pub(super) fn arm(&mut self, now: Time) {
        if self.looking_until.is_none() {
            self.armed = true;
            self.deadline = now.plus(self.question.timeout);
            self.unsaid.arm = true;
        }
    }

    /// These keys no longer count. Keys that are not of this wait are left.
    pub(super) fn skip(&mut self, keys: impl IntoIterator<Item = (String, String)>) {
        for (name, tag) in keys {
            if self.keys.iter().any(|key| key.name == name && key.tag == tag) {
                self.skipped.push((name, tag));
                self.unsaid.skips += 1;
            }
        }
        self.mark_skipped();
    }

    /// The wait is to end.
    pub(super) fn cancel(&mut self, why: String) {
        if self.away {
            self.conclude(Kind::Cancelled, Some(Reason::Cancelled), why);
        } else if self.cancelled.is_none() {
            self.cancelled = Some(why);
            self.unsaid.cancel = true;
        }
    }

    /// The next thing to tell an agent that has registered the wait. Each is given once.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        if std::mem::take(&mut self.unsaid.cancel) {
            return Some(Order::Cancel(self.cancelled.clone().unwrap_or_default()));
        }
        if std::mem::take(&mut self.unsaid.arm) {
            // Arm counts by the timeout that the agent was last told, which after a lost stream was what
            // was left.
            let same = self.asked_timeout == self.question.timeout;
            return Some(if same { Order::Arm } else { Order::AskAgain });
        }
        let skips = std::mem::take(&mut self.unsaid.skips);
        let newest = &self.skipped[self.skipped.len() - skips..];
        let keys =
            newest.iter().map(|(name, tag)| crate::proto::Key { name: name.clone(), tag: tag.clone() });
        (skips > 0).then(|| Order::Skip(keys.collect()))
    }

    /// When a stream that stands is to be taken as lost for want of an outcome. An unarmed wait's end is
    /// the agent's to tell.
    pub(super) fn listen_until(&self) -> Option<Time> {
        self.looking_until.or_else(|| self.armed.then(|| self.deadline.plus(GRACE)))
    }

    /// When to ask again: `pause` after `now`, or earlier if the time runs out.
    pub(super) fn ask_at(&self, now: Time, pause: Duration) -> Time {
        now.plus(pause).min(self.looking_until.unwrap_or(self.deadline)).max(now)
    }

    /// Until when an ask made at `now` may stay unanswered; `most` is the longest.
    pub(super) fn answer_until(&self, now: Time, most: Duration) -> Time {
        now.plus(most).min(self.looking_until.unwrap_or(self.deadline))
    }

    /// How the wait ended, once it has.
    pub(super) fn end(&self) -> Option<&Result<Outcome, Error>> {
        self.end.as_ref()
    }

    /// Ends the wait with an error, unless it has ended. Says whether it did.
    pub(super) fn give_up(&mut self, error: Error) -> bool {
        let open = self.end.is_none();
        self.end.get_or_insert(Err(error));
        open
    }

    pub(super) fn id(&self) -> WaitId {
        self.question.id
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    pub(super) fn keys(&self) -> &[KeyState] {
        &self.keys
    }

    pub(super) fn is_away(&self) -> bool {
        self.away
    }

    pub(super) fn opened(&self) -> Option<Opened> {
        self.opened
    }

    pub(super) fn routable(&self) -> Option<bool> {
        self.routable
    }

    /// What is left of the time at `now`. `None` before arming.
    pub(super) fn time_left(&self, now: Time) -> Option<Duration> {
        self.armed.then(|| self.deadline.since(now))
    }

    fn look_at(&mut self, cursor: Option<&crate::proto::Cursor>, keys: Vec<KeyState>) {
        let Some(cursor) = cursor.and_then(outcome::cursor) else { return };
        self.cursor = Some(cursor);
        self.keys = keys;
        self.mark_skipped();
    }

    /// A message may be older than the order to skip.
    fn mark_skipped(&mut self) {
        for key in self.keys.iter_mut().filter(|key| matches!(key.state(), State::Open | State::Unspecified))
        {
            if self.skipped.iter().any(|(name, tag)| *name == key.name && *tag == key.tag) {
                key.set_state(State::Skipped);
            }
        }
    }

    /// Ends the wait by what the client knows.
    fn conclude(&mut self, kind: Kind, reason: Option<Reason>, why: String) -> Next {
        let Some(cursor) = self.cursor else { return self.no_sense() };
        let keys = outcome::answers(&self.keys);
        self.finish(Ok(Outcome { kind, reason, why, keys, cursor, confirmed: false }))
    }

    fn no_sense(&mut self) -> Next {
        self.finish(Err(Error::Malformed(NO_SENSE)))
    }

    fn finish(&mut self, end: Result<Outcome, Error>) -> Next {
        self.end.get_or_insert(end);
        Next::Ended
    }
}

fn key_of(key: &KeyState) -> crate::proto::Key {
    crate::proto::Key { name: key.name.clone(), tag: key.tag.clone() }
}

#[cfg(test)]
mod tests;
