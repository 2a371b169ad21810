//! One opening of a wait, told from its beginning: what each record and each deed did to it.

use crate::clock::Time;
use crate::engine::{
    Answer, Ask, Effect, EventBrief, FailurePolicy, HEARTBEAT, KeyState, Kind, Limits, Mark, Opened, Opening,
    Outcome, UNREAD, Why,
};
use crate::event::{CancelInstance, Event, InstanceId, Key, Position, Status, WaitId};

pub(super) struct Record {
    pub(super) position: Position,
    pub(super) received_at: Time,
    pub(super) what: What,
}

pub(super) enum What {
    Event(Event<'static>),
    Cancel(CancelInstance),
}

pub(super) enum Deed {
    Arm,
    Skip(Vec<Key>),
    Cancel(String),
    Close,
    TakeOver,
}

pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) now: Time,
    /// How much had happened before.
    pub(super) turn: usize,
    /// Where it looks from, what it counts as its opening, and what was in the log then.
    pub(super) after: Position,
    pub(super) opened: Opened,
    pub(super) oldest: Position,
    pub(super) head: Position,
    /// The wait that it is, if that had ended already.
    pub(super) ended: Option<Opening>,
}

/// All that became of one opening of a wait.
#[derive(Clone)]
pub(super) struct Story {
    pub(super) id: WaitId,
    pub(super) opening: Opening,
    pub(super) instance: InstanceId,
    pub(super) uid: u32,
    pub(super) keys: Vec<Key>,
    pub(super) opened: Opened,
    pub(super) told: Vec<Effect>,
    pub(super) answers: Box<[Answer]>,
    pub(super) deadline: Time,
    pub(super) unarmed: bool,
    pub(super) beat: Time,
    /// The cursor told at the last beat.
    pub(super) beat_at: Position,
    pub(super) end: Option<End>,
}

#[derive(Clone)]
pub(super) enum End {
    Outcome(Outcome, Ended),
    /// Closed, or taken over.
    Gone,
    /// It had ended before, and only got its outcome again.
    Before,
}

/// When a wait ended. What ends at one turn ends in the order of `place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ended {
    pub(super) turn: usize,
    /// False if in its look, which is before what happened that turn.
    pub(super) later: bool,
    pub(super) place: (Time, Opening),
    pub(super) at: Time,
}

impl Asked {
    pub(super) fn begin(&self, limits: Limits) -> Story {
        let ask = &self.ask;
        let answers = match &ask.resume {
            Some(resume) => resume.answers.clone(),
            None => ask.keys.iter().map(|_| Answer::default()).collect(),
        };
        Story {
            id: ask.id,
            opening: ask.opening,
            instance: ask.instance,
            uid: ask.uid,
            keys: ask.keys.to_vec(),
            opened: self.opened,
            told: Vec::new(),
            answers,
            deadline: self.now.plus(if ask.start_on_arm { limits.max_unarmed } else { ask.timeout }),
            unarmed: ask.start_on_arm,
            beat: self.now.plus(HEARTBEAT),
            beat_at: self.head,
            end: None,
        }
    }

    /// What a wait is told that had ended before it was opened again.
    pub(super) fn tell_again(&self, ended: Option<&Story>) -> Story {
        let ended = ended.expect("it was asked before");
        let Some(End::Outcome(outcome, _)) = &ended.end else { panic!("it had ended") };
        let registered = self.registered(outcome.at, ended.deadline, ended.opened, &ended.answers);
        let (id, opening) = (ended.id, self.ask.opening);
        let told = vec![registered, Effect::Outcome { id, opening, outcome: outcome.clone() }];
        Story { opening, told, end: Some(End::Before), ..ended.clone() }
    }

    pub(super) fn registered(
        &self,
        at: Position,
        deadline: Time,
        opened: Opened,
        answers: &[Answer],
    ) -> Effect {
        let (id, opening, timeout) = (self.ask.id, self.ask.opening, self.ask.timeout);
        Effect::Registered { id, opening, at, deadline, timeout, opened, answers: answers.into() }
    }
}

impl Story {
    pub(super) fn see(&mut self, asked: &Asked, record: &Record, looked: Position, when: Ended) {
        if self.end.is_some() {
            return;
        }
        let ask = &asked.ask;
        match &record.what {
            What::Cancel(cancel) => {
                let of_it = cancel.instance == self.instance && record.position > self.opened.position;
                if of_it && (cancel.caller.operator || cancel.caller.uid == self.uid) {
                    self.end(Kind::Cancelled, Why::InstanceCancelled(cancel.why.clone()), looked, when);
                }
            }
            What::Event(event) if event.instance == self.instance && record.position > asked.after => {
                let Some(number) = self.keys.iter().position(|key| key.as_ref() == event.key) else { return };
                if self.answers[number].state == KeyState::Skipped {
                    return;
                }
                let mark = Mark {
                    superseded: self.answers[number].state != KeyState::Open,
                    stale: self.is_stale(event, record),
                };
                let state = match event.status {
                    Status::Completed => Some(KeyState::Completed),
                    Status::Failed => Some(KeyState::Failed),
                    Status::InProgress if ask.in_progress_fails => Some(KeyState::Failed),
                    Status::InProgress => None,
                };
                let mut change = None;
                if let Some(state) = state
                    && !mark.superseded
                    && !mark.stale
                {
                    let answer = Answer { state, position: record.position, received_at: record.received_at };
                    self.answers[number] = answer;
                    change = Some((number as u16, answer));
                }
                let brief = EventBrief {
                    position: record.position,
                    id: event.id,
                    status: event.status,
                    received_at: record.received_at,
                    occurred_at: event.occurred_at,
                    held_for: event.held_for,
                };
                self.progress(looked, Some((number as u16, brief)), change, mark);
                self.end_if_answered(ask.policy, looked, when);
            }
            What::Event(_) => {}
        }
    }

    pub(super) fn is_stale(&self, event: &Event<'_>, record: &Record) -> bool {
        let Some(moment) = self.opened.counts_from else { return false };
        match event.held_for {
            Some(held) => record.received_at.minus(held) < moment,
            None => record.position <= self.opened.position && record.received_at < moment,
        }
    }

    pub(super) fn end_if_answered(&mut self, policy: FailurePolicy, at: Position, when: Ended) {
        let failed = self.answers.iter().any(|answer| answer.state == KeyState::Failed);
        let all = self.answers.iter().all(|answer| answer.state != KeyState::Open);
        match (failed, all, policy) {
            (true, _, FailurePolicy::FailFast) | (true, true, _) => {
                self.end(Kind::Failed, Why::Itself, at, when);
            }
            (false, true, _) => self.end(Kind::Completed, Why::Itself, at, when),
            _ => {}
        }
    }

    pub(super) fn tick(&mut self, now: Time, head: Position, when: Ended) {
        if now >= self.deadline {
            let why = if self.unarmed { Why::NeverArmed } else { Why::Itself };
            self.end(Kind::TimedOut, why, head, when);
        }
        if self.end.is_none() && now >= self.beat {
            self.progress(head, None, None, Mark::default());
            self.beat = now.plus(HEARTBEAT);
            self.beat_at = head;
        }
    }

    pub(super) fn take(&mut self, asked: &Asked, deed: &Deed, now: Time, head: Position, when: Ended) {
        if self.end.is_some() {
            return;
        }
        match deed {
            Deed::Arm => {
                self.unarmed = false;
                self.deadline = now.plus(asked.ask.timeout);
            }
            Deed::Skip(keys) => {
                for key in keys {
                    let open = |n: &usize| self.keys[*n] == *key && self.answers[*n].state == KeyState::Open;
                    if let Some(number) = (0..self.keys.len()).find(open) {
                        let skipped = Answer { state: KeyState::Skipped, ..Answer::default() };
                        self.answers[number] = skipped;
                        self.progress(head, None, Some((number as u16, skipped)), Mark::default());
                    }
                }
                self.end_if_answered(asked.ask.policy, head, when);
            }
            Deed::Cancel(why) => self.end(Kind::Cancelled, Why::Cancelled(why.clone()), head, when),
            Deed::Close => self.end = Some(End::Gone),
            Deed::TakeOver => {
                self.told.push(Effect::TakenOver { id: self.id, opening: self.opening });
                self.end = Some(End::Gone);
            }
        }
    }

    pub(super) fn progress(
        &mut self,
        at: Position,
        event: Option<(u16, EventBrief)>,
        change: Option<(u16, Answer)>,
        mark: Mark,
    ) {
        self.told.push(Effect::Progress {
            id: self.id,
            opening: self.opening,
            at,
            event,
            change,
            mark,
            dropped: 0,
        });
    }

    /// What a look has told it, within the bound of a stream.
    pub(super) fn leave_out_all_but_the_newest(&mut self) {
        let all = self.told.iter().filter(|told| matches!(told, Effect::Progress { .. })).count();
        let too_many = all.saturating_sub(UNREAD);
        self.told.drain(..too_many);
        if let Some(Effect::Progress { dropped, .. }) = self.told.first_mut() {
            *dropped = too_many as u32;
        }
    }

    pub(super) fn end(&mut self, kind: Kind, why: Why, at: Position, when: Ended) {
        if self.end.is_none() {
            let outcome = Outcome { kind, why, at, answers: self.answers.as_ref().into() };
            self.told.push(Effect::Outcome { id: self.id, opening: self.opening, outcome: outcome.clone() });
            self.end = Some(End::Outcome(outcome, when));
        }
    }

    /// Whether the newest event, just handed over, met or failed a key of it.
    pub(super) fn was_answered_by(&self, newest: Position) -> bool {
        self.told.iter().any(|effect| {
            matches!(effect, Effect::Progress { event: Some((_, event)), change: Some(_), .. }
                if event.position == newest)
        })
    }
}
