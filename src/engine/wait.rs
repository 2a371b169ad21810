//! One wait: what it asks for, what its keys have come to, and when that ends it.

use std::sync::Arc;
use std::time::Duration;

use super::{EventBrief, Opening};
use crate::clock::Time;
use crate::event::{Caller, Cursor, InstanceId, Key, KeyHash, Position, Status, WaitId};
use crate::plant::{self, Plant};

/// From where a wait looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The log's head.
    Head,
    /// After this place.
    After(Cursor),
    /// From the first event received within this span.
    Lookback(Duration),
}

/// What one key's failure does to the wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It ends it, at once.
    #[default]
    FailFast,
    /// It is marked, and the wait goes on until every key has been answered.
    Collect,
}

/// When a wait was first opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The log's head then: a CancelInstance past it ends the wait.
    pub position: Position,
    /// Events sent before this moment are stale. `None`: none is.
    pub counts_from: Option<Time>,
}

/// What a client that asks again remembers of its wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// As its first Registered gave it.
    pub opened: Opened,
    /// What each key had come to at the place it asks from, in the order of the keys.
    pub answers: Box<[Answer]>,
}

/// A wait to open.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The client's id for it.
    pub id: WaitId,
    /// The number of this opening: higher than any before it.
    pub opening: Opening,
    /// The instance.
    pub instance: InstanceId,
    /// The caller's user id.
    pub uid: u32,
    /// What to wait for: at least one, each once.
    pub keys: Arc<[Key]>,
    /// From where to look.
    pub start: Start,
    /// How long to wait. Zero looks once.
    pub timeout: Duration,
    /// The timeout starts when the wait is armed.
    pub start_on_arm: bool,
    /// What a failed key does.
    pub policy: FailurePolicy,
    /// An event in progress counts as failed.
    pub in_progress_fails: bool,
    /// Given if this wait was opened before. `start` is then [`Start::After`].
    pub resume: Option<Resume>,
    /// Which of its client's asks it is, if that says so.
    pub attempt: Option<Attempt>,
}

/// An ask among those that one client makes for one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The client.
    pub client: u64,
    /// Rises with each ask.
    pub number: u32,
}

impl Attempt {
    /// Whether it is an older one of the same client.
    fn is_before(self, other: Self) -> bool {
        self.client == other.client && self.number < other.number
    }
}

/// What a key has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What.
    pub state: KeyState,
    /// By the event at this position; 0 while there is none.
    pub position: Position,
    /// When that was received; the start of 1970 while there is none.
    pub received_at: Time,
}

/// What a key has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyState {
    /// Nothing yet.
    #[default]
    Open,
    /// It was met.
    Completed,
    /// It failed.
    Failed,
    /// It no longer counts.
    Skipped,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every key was met or skipped.
    Completed,
    /// A key failed.
    Failed,
    /// The deadline passed.
    TimedOut,
    /// It was ended from outside.
    Cancelled,
}

/// What ended a wait, besides its keys and its deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing else.
    Itself,
    /// It was to start on Arm, and was never armed.
    NeverArmed,
    /// Cancel, with the text given.
    Cancelled(String),
    /// CancelInstance, with the text given.
    InstanceCancelled(String),
    /// The log ends with the agent.
    LogGone,
}

/// How a wait ended, and what its keys had come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub kind: Kind,
    /// By what.
    pub why: Why,
    /// The last position looked at.
    pub at: Position,
    /// In the order of the keys.
    pub answers: Arc<[Answer]>,
}

/// Why an event changed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The key had already been answered.
    pub superseded: bool,
    /// It was sent before the wait was first opened.
    pub stale: bool,
}

/// What is to be told to a wait's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has the wait's id and its opening's number")]
pub enum Effect {
    /// It is open: the work may start.
    Registered {
        id: WaitId,
        opening: Opening,
        /// Everything before is before this place.
        at: Position,
        deadline: Time,
        /// The span that Arm counts by.
        timeout: Duration,
        opened: Opened,
        /// In the order of the keys.
        answers: Arc<[Answer]>,
    },
    /// An event came on one of its keys; or, without one, it has looked this far.
    Progress {
        id: WaitId,
        opening: Opening,
        /// The last position looked at. Never less than what the stream was told before.
        at: Position,
        /// The event, and which key it is on.
        event: Option<(u16, EventBrief)>,
        /// The key, by its number, that has changed, and what it has come to.
        change: Option<(u16, Answer)>,
        mark: Mark,
        /// Progress left out just before this one. What it changed, Registered has.
        dropped: u32,
    },
    /// It has ended. Nothing follows.
    Outcome { id: WaitId, opening: Opening, outcome: Outcome },
    /// The agent stops, and its log stays. Nothing follows.
    GoingAway {
        id: WaitId,
        opening: Opening,
        /// The last position looked at.
        at: Position,
    },
    /// A newer opening has taken it over. Nothing follows.
    TakenOver { id: WaitId, opening: Opening },
}

impl Effect {
    /// Which opening's stream it is for.
    pub fn stream(&self) -> (WaitId, Opening) {
        match *self {
            Self::Registered { id, opening, .. }
            | Self::Progress { id, opening, .. }
            | Self::Outcome { id, opening, .. }
            | Self::GoingAway { id, opening, .. }
            | Self::TakenOver { id, opening } => (id, opening),
        }
    }

    pub(super) fn looked(id: WaitId, opening: Opening, at: Position) -> Self {
        Self::Progress { id, opening, at, event: None, change: None, mark: Mark::default(), dropped: 0 }
    }
}

/// A wait, open or ended, as operators see it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are Ask's and Outcome's")]
pub struct WaitView {
    pub id: WaitId,
    pub opening: Opening,
    pub instance: InstanceId,
    pub uid: u32,
    pub keys: Arc<[Key]>,
    pub answers: Arc<[Answer]>,
    pub policy: FailurePolicy,
    pub opened: Opened,
    pub opened_at: Time,
    pub timeout: Duration,
    pub deadline: Time,
    pub unarmed: bool,
    /// How it ended, and when. `None` while it is open.
    pub ended: Option<(Outcome, Time)>,
}

/// When a wait was opened, or ended: a place in the time line of its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The moment.
    pub at: Time,
    /// It ended then. At one moment what was opened comes first.
    pub ended: bool,
    /// Which opening.
    pub opening: Opening,
}

impl Moment {
    pub(super) fn of(wait: &WaitView) -> impl Iterator<Item = Self> {
        let end = wait.ended.as_ref().map(|(_, at)| Self { at: *at, ended: true, opening: wait.opening });
        std::iter::once(Self { at: wait.opened_at, ended: false, opening: wait.opening }).chain(end)
    }
}

pub(super) struct Wait {
    pub(super) id: WaitId,
    pub(super) opening: Opening,
    pub(super) instance: InstanceId,
    pub(super) uid: u32,
    keys: Arc<[Key]>,
    pub(super) hashes: Box<[KeyHash]>,
    /// Shared with what the wait's stream is told and with its views: copied when it next changes.
    pub(super) answers: Arc<[Answer]>,
    policy: FailurePolicy,
    in_progress_fails: bool,
    pub(super) opened: Opened,
    pub(super) opened_at: Time,
    timeout: Duration,
    pub(super) deadline: Time,
    pub(super) unarmed: bool,
    attempt: Option<Attempt>,
}

/// What an event did to a wait.
pub(super) struct Seen {
    /// It met or failed a key.
    pub(super) answered: bool,
    /// It ended the wait, so.
    pub(super) end: Option<Kind>,
}

impl Wait {
    pub(super) fn new(now: Time, ask: Ask, opened: Opened, max_unarmed: Duration) -> Self {
        let unarmed = ask.start_on_arm;
        Self {
            id: ask.id,
            opening: ask.opening,
            instance: ask.instance,
            uid: ask.uid,
            hashes: ask.keys.iter().map(|key| KeyHash::of(ask.instance, key.as_ref())).collect(),
            answers: match ask.resume {
                Some(resume) => resume.answers.into(),
                None => vec![Answer::default(); ask.keys.len()].into(),
            },
            keys: ask.keys,
            policy: ask.policy,
            in_progress_fails: ask.in_progress_fails,
            opened,
            opened_at: now,
            timeout: ask.timeout,
            deadline: now.plus(if unarmed { max_unarmed } else { ask.timeout }),
            unarmed,
            attempt: ask.attempt,
        }
    }

    /// Whether an ask for it was overtaken by the one that opened it.
    pub(super) fn has_overtaken(&self, ask: &Ask) -> bool {
        ask.attempt.zip(self.attempt).is_some_and(|(ask, own)| ask.is_before(own))
    }

    /// Takes in an event on one of its keys, and tells its stream. `at` is how far it has now looked.
    pub(super) fn see(
        &mut self,
        key: u16,
        event: EventBrief,
        at: Position,
        mut tell: impl FnMut(Effect),
    ) -> Seen {
        let mut answer = self.answers[usize::from(key)];
        if answer.state == KeyState::Skipped {
            return Seen { answered: false, end: None };
        }
        let mark = Mark { superseded: answer.state != KeyState::Open, stale: self.opened.is_stale(&event) };
        let answered = match event.status {
            _ if mark != Mark::default() => None,
            Status::Completed => Some(KeyState::Completed),
            Status::Failed => Some(KeyState::Failed),
            Status::InProgress => self.in_progress_fails.then_some(KeyState::Failed),
        };
        if let Some(state) = answered {
            answer = Answer { state, position: event.position, received_at: event.received_at };
            Arc::make_mut(&mut self.answers)[usize::from(key)] = answer;
        }
        tell(Effect::Progress {
            id: self.id,
            opening: self.opening,
            at,
            event: Some((key, event)),
            change: answered.map(|_| (key, answer)),
            mark,
            dropped: 0,
        });
        Seen { answered: answered.is_some(), end: answered.and_then(|_| self.end_if_answered()) }
    }

    /// Takes a key out, and tells the stream. Says whether it was an open key of this wait.
    pub(super) fn skip(&mut self, key: &Key, at: Position, out: &mut Vec<Effect>) -> bool {
        let found = self.keys.iter().position(|other| other == key);
        let Some(number) = found.filter(|&number| self.answers[number].state == KeyState::Open) else {
            return false;
        };
        let answer = Answer { state: KeyState::Skipped, ..Answer::default() };
        Arc::make_mut(&mut self.answers)[number] = answer;
        out.push(Effect::Progress {
            id: self.id,
            opening: self.opening,
            at,
            event: None,
            change: Some((number as u16, answer)),
            mark: Mark::default(),
            dropped: 0,
        });
        true
    }

    /// How the wait ends by what its keys have come to, if it does.
    pub(super) fn end_if_answered(&self) -> Option<Kind> {
        let has = |state| self.answers.iter().any(|answer| answer.state == state);
        let failed = has(KeyState::Failed);
        if failed && self.policy == FailurePolicy::FailFast {
            return Some(Kind::Failed);
        }
        if has(KeyState::Open) {
            return None;
        }
        Some(if failed { Kind::Failed } else { Kind::Completed })
    }

    pub(super) fn arm(&mut self, now: Time) {
        self.unarmed = false;
        self.deadline = now.plus(self.timeout);
    }

    pub(super) fn is_ended_by_cancel(&self, position: Position, caller: Caller) -> bool {
        self.opened.position < position && caller.may_act_for(self.uid)
    }

    pub(super) fn open_keys(&self) -> Vec<Key> {
        let keys = self.keys.iter().zip(&*self.answers);
        keys.filter(|(_, answer)| answer.state == KeyState::Open).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn view(&self) -> WaitView {
        WaitView {
            id: self.id,
            opening: self.opening,
            instance: self.instance,
            uid: self.uid,
            keys: Arc::clone(&self.keys),
            answers: Arc::clone(&self.answers),
            policy: self.policy,
            opened: self.opened,
            opened_at: self.opened_at,
            timeout: self.timeout,
            deadline: self.deadline,
            unarmed: self.unarmed,
            ended: None,
        }
    }
}

impl Opened {
    /// Whether an event was sent before the wait counts. One that came straight, after the opening, never
    /// was, whatever the clock says.
    fn is_stale(&self, event: &EventBrief) -> bool {
        if plant::is(Plant::NothingStale) {
            return false;
        }
        if event.held_for.is_none() && event.position > self.position {
            return false;
        }
        let sent_at = event.received_at.minus(event.held_for.unwrap_or_default());
        self.counts_from.is_some_and(|moment| sent_at < moment)
    }
}
