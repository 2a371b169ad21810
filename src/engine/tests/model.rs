//! The rules once more, told the slow way: all that is kept is the list of records, the list of what
//! happened, and who asked what. Whatever is to be known is found by going through those from the start.

use std::collections::VecDeque;

use super::story::{Asked, Deed, End, Ended, Record, Story, What};
use super::world::Said;
use crate::clock::Time;
use crate::engine::{
    Ask, Disposition, KeyState, Kind, Limits, OpenError, Opened, Opening, Start, WaitCounts, WaitError, Why,
};
use crate::event::{
    Caller, CancelInstance, Cursor, Event, InstanceId, Key, KeyRef, LogId, Position, Status, WaitId,
};
use crate::journal::Verdict;

pub(super) struct Model {
    log_id: LogId,
    limits: Limits,
    /// The record at position 1, the one at 2, …
    log: Vec<Record>,
    history: Vec<Happening>,
    asks: Vec<Asked>,
}

enum Happening {
    /// The engine was handed the record at this position.
    Handed(Position),
    /// The log dropped what is before this position.
    Dropped(Position),
    Tick(Time),
    /// Something was done to one wait.
    Done(Opening, Time, Deed),
    Stop(Time),
}

impl Model {
    pub(super) fn new(log_id: LogId, limits: Limits) -> Self {
        Self { log_id, limits, log: Vec::new(), history: Vec::new(), asks: Vec::new() }
    }

    // What happens.

    pub(super) fn accept(&mut self, now: Time, events: &[Event<'static>]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for event in events {
            let known = self.log.iter().find_map(|record| match &record.what {
                What::Event(known) if known.id_given && known.id == event.id => {
                    Some((record.position, content(known) == content(event)))
                }
                _ => None,
            });
            verdicts.push(match known.filter(|_| event.id_given) {
                Some((position, true)) => Verdict::Duplicate(position),
                Some((_, false)) => Verdict::IdReused,
                None => Verdict::New(self.append(now, What::Event(*event))),
            });
        }
        verdicts
    }

    pub(super) fn accept_cancel(&mut self, now: Time, cancel: CancelInstance) -> Position {
        self.append(now, What::Cancel(cancel))
    }

    fn append(&mut self, received_at: Time, what: What) -> Position {
        let position = Position(self.log.len() as u64 + 1);
        self.log.push(Record { position, received_at, what });
        position
    }

    pub(super) fn hand_over(&mut self, verdicts: &[Verdict]) -> Said {
        let dispositions = verdicts.iter().map(|verdict| match *verdict {
            Verdict::Duplicate(position) => Disposition::Duplicate(position),
            Verdict::IdReused => Disposition::IdReused,
            Verdict::New(position) => {
                self.history.push(Happening::Handed(position));
                let stories = self.stories();
                match stories.iter().filter(|story| story.was_answered_by(position)).count() {
                    0 => Disposition::Retained(position),
                    woke => Disposition::Woke(woke as u32, position),
                }
            }
        });
        Said::Dispositions(dispositions.collect())
    }

    pub(super) fn hand_over_cancel(&mut self, position: Position) -> Said {
        let turn = self.history.len();
        self.history.push(Happening::Handed(position));
        let ended_by_it = |story: &Story| match &story.end {
            Some(End::Outcome(_, ended)) if ended.turn == turn && ended.later => {
                let open = story.keys.iter().zip(&story.answers).filter(|(_, a)| a.state == KeyState::Open);
                Some((story.id, open.map(|(key, _)| key.clone()).collect()))
            }
            _ => None,
        };
        Said::Ended(self.stories().iter().filter_map(ended_by_it).collect())
    }

    pub(super) fn tick(&mut self, now: Time) {
        self.history.push(Happening::Tick(now));
    }

    pub(super) fn drop_before(&mut self, oldest: Position) {
        self.history.push(Happening::Dropped(oldest));
    }

    pub(super) fn stop(&mut self, now: Time) {
        self.history.push(Happening::Stop(now));
    }

    pub(super) fn close(&mut self, now: Time, opening: Opening) {
        self.history.push(Happening::Done(opening, now, Deed::Close));
    }

    pub(super) fn arm(&mut self, now: Time, id: WaitId, caller: Caller) -> Result<Time, WaitError> {
        let opening = self.do_to(now, id, caller, Deed::Arm)?;
        Ok(self.story_of(opening).deadline)
    }

    pub(super) fn skip(
        &mut self,
        now: Time,
        id: WaitId,
        caller: Caller,
        keys: &[Key],
    ) -> Result<u32, WaitError> {
        let skipped = |story: Story| story.answers.iter().filter(|a| a.state == KeyState::Skipped).count();
        let before = self.stories();
        let opening = self.do_to(now, id, caller, Deed::Skip(keys.to_vec()))?;
        let before = before.into_iter().find(|story| story.opening == opening).map_or(0, skipped);
        Ok((skipped(self.story_of(opening)) - before) as u32)
    }

    pub(super) fn cancel(
        &mut self,
        now: Time,
        id: WaitId,
        caller: Caller,
        why: &str,
    ) -> Result<(), WaitError> {
        self.do_to(now, id, caller, Deed::Cancel(why.to_owned())).map(|_| ())
    }

    fn do_to(&mut self, now: Time, id: WaitId, caller: Caller, deed: Deed) -> Result<Opening, WaitError> {
        let open = self.open_waits().into_iter().find(|story| story.id == id);
        let story = open.ok_or(WaitError::NotFound(id))?;
        if !caller.operator && caller.uid != story.uid {
            return Err(WaitError::NotPermitted(id));
        }
        self.history.push(Happening::Done(story.opening, now, deed));
        Ok(story.opening)
    }

    pub(super) fn open(&mut self, now: Time, ask: Ask) -> Result<(), OpenError> {
        let open = self.open_waits();
        let live = open.iter().find(|story| story.id == ask.id);
        if live.is_some_and(|live| (live.instance, live.uid) != (ask.instance, ask.uid)) {
            return Err(OpenError::IdTaken(ask.id));
        }
        let (oldest, head) = self.reach();
        let mut asked = Asked {
            now,
            turn: self.history.len(),
            after: head,
            opened: Opened { position: head, counts_from: Some(now) },
            oldest,
            head,
            ended: None,
            ask,
        };
        let ask = &asked.ask;
        if live.is_none()
            && let Some(resume) = &ask.resume
            && let Some(ended) = self.remembered().iter().rfind(|story| story.id == ask.id)
            && (ended.instance, ended.uid, ended.opened) == (ask.instance, ask.uid, resume.opened)
            && ended.keys[..] == ask.keys[..]
        {
            asked.ended = Some(ended.opening);
            self.asks.push(asked);
            return Ok(());
        }
        if live.is_none() {
            let of_instance = open.iter().filter(|story| story.instance == ask.instance).count();
            if open.len() >= self.limits.waits {
                return Err(OpenError::TooMany { limit: "max_waits", bound: self.limits.waits });
            }
            if of_instance >= self.limits.instance_waits {
                let bound = self.limits.instance_waits;
                return Err(OpenError::TooMany { limit: "max_instance_waits", bound });
            }
        }
        self.resolve_start(&mut asked)?;
        if let Some(live) = live {
            self.history.push(Happening::Done(live.opening, now, Deed::TakeOver));
            asked.turn += 1;
        }
        self.asks.push(asked);
        Ok(())
    }

    fn resolve_start(&self, asked: &mut Asked) -> Result<(), OpenError> {
        let cursor = |position| Cursor { log_id: self.log_id, position };
        let (oldest, head) = (cursor(Position(asked.oldest.0 - 1)), cursor(asked.head));
        match asked.ask.start {
            Start::Head => {}
            Start::After(after) => {
                if after.log_id != self.log_id || after.position.0 > head.position.0 {
                    return Err(OpenError::AnotherLog { asked: after, oldest, head });
                }
                if after.position.0 < oldest.position.0 {
                    return Err(OpenError::Expired { asked: after.to_string(), oldest });
                }
                asked.after = after.position;
                let record = self.log.iter().find(|record| record.position == after.position);
                asked.opened.counts_from = record.map(|record| record.received_at);
            }
            Start::Lookback(span) => {
                let moment = asked.now.minus(span);
                let mut handed = self.log[..head.position.0 as usize].iter();
                if let Some(first) = handed.find(|record| record.received_at >= moment) {
                    if first.position < asked.oldest {
                        let asked = format!("{} ago", humantime::format_duration(span));
                        return Err(OpenError::Expired { asked, oldest });
                    }
                    asked.after = Position(first.position.0 - 1);
                }
                asked.opened.counts_from = Some(moment);
            }
        }
        if let Some(resume) = &asked.ask.resume {
            asked.opened = resume.opened;
        }
        Ok(())
    }

    // What there is to know.

    /// The oldest position kept, and the newest handed over.
    fn reach(&self) -> (Position, Position) {
        let (mut oldest, mut head) = (Position(1), Position(0));
        for happening in &self.history {
            match happening {
                Happening::Dropped(position) => oldest = *position,
                Happening::Handed(position) => head = *position,
                _ => {}
            }
        }
        (oldest, head)
    }

    pub(super) fn stories(&self) -> Vec<Story> {
        let mut stories: Vec<Story> = Vec::new();
        for asked in &self.asks {
            let story = match asked.ended {
                Some(of) => asked.tell_again(stories.iter().find(|story| story.opening == of)),
                None => self.tell(asked),
            };
            stories.push(story);
        }
        stories
    }

    fn story_of(&self, opening: Opening) -> Story {
        let stories = self.stories();
        stories.into_iter().find(|story| story.opening == opening).expect("it was asked")
    }

    pub(super) fn open_waits(&self) -> Vec<Story> {
        self.stories().into_iter().filter(|story| story.end.is_none()).collect()
    }

    /// The ended waits still remembered, in the order of their end.
    pub(super) fn remembered(&self) -> Vec<Story> {
        let mut ended: Vec<(Ended, Story)> = Vec::new();
        for story in self.stories() {
            if let Some(End::Outcome(_, when)) = story.end {
                ended.push((when, story));
            }
        }
        ended.sort_by_key(|(when, _)| *when);
        let mut ended = ended.into_iter().peekable();
        let mut kept: VecDeque<(Ended, Story)> = VecDeque::new();
        for turn in 0..=self.history.len() {
            while let Some(next) = ended.next_if(|(when, _)| when.turn == turn) {
                kept.push_back(next);
            }
            while kept.len() > self.limits.ended_waits {
                kept.pop_front();
            }
            if let Some(Happening::Tick(now)) = self.history.get(turn) {
                let horizon = now.minus(self.limits.ended_age);
                while kept.front().is_some_and(|(when, _)| when.at < horizon) {
                    kept.pop_front();
                }
            }
        }
        kept.into_iter().map(|(_, story)| story).collect()
    }

    pub(super) fn counts(&self) -> WaitCounts {
        let stories = self.stories();
        let count = |is: &dyn Fn(&Option<End>) -> bool| stories.iter().filter(|s| is(&s.end)).count() as u64;
        let of = |kind| count(&|end| matches!(end, Some(End::Outcome(outcome, _)) if outcome.kind == kind));
        WaitCounts {
            opened: count(&|end| !matches!(end, Some(End::Before))),
            completed: of(Kind::Completed),
            failed: of(Kind::Failed),
            timed_out: of(Kind::TimedOut),
            cancelled: of(Kind::Cancelled),
            closed: count(&|end| matches!(end, Some(End::Gone))),
        }
    }

    pub(super) fn pinned(&self) -> Option<Position> {
        self.open_waits().iter().map(|story| story.beat_at).min()
    }

    /// When the next deadline or heartbeat is.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.open_waits().iter().map(|story| story.deadline.min(story.beat)).min()
    }

    /// Goes through all that happened as one wait saw it.
    fn tell(&self, asked: &Asked) -> Story {
        let mut story = asked.begin(self.limits);
        let look =
            Ended { turn: asked.turn, later: false, place: (Time::default(), story.opening), at: asked.now };
        let head = asked.head;
        story.end_if_answered(asked.ask.policy, head, look);
        for record in &self.log[..head.0 as usize] {
            if record.position >= asked.oldest {
                story.see(asked, record, head, look);
            }
        }
        if asked.ask.timeout.is_zero() {
            story.end(Kind::TimedOut, Why::Itself, head, look);
        }
        story.leave_out_all_but_the_newest();
        story.told.insert(0, asked.registered(head, story.deadline, asked.opened, &story.answers));

        let mut head = head;
        for (turn, happening) in self.history.iter().enumerate().skip(asked.turn) {
            let then = |place, at| Ended { turn, later: true, place: (place, asked.ask.opening), at };
            let in_order = Time::default();
            match happening {
                Happening::Dropped(_) => {}
                Happening::Handed(position) => {
                    head = *position;
                    let record = &self.log[position.0 as usize - 1];
                    story.see(asked, record, head, then(in_order, record.received_at));
                }
                Happening::Tick(now) => story.tick(*now, head, then(story.deadline, *now)),
                Happening::Stop(now) => {
                    story.end(Kind::Cancelled, Why::LogGone, head, then(in_order, *now));
                }
                Happening::Done(opening, now, deed) if *opening == story.opening => {
                    story.take(asked, deed, *now, head, then(in_order, *now));
                }
                Happening::Done(..) => {}
            }
        }
        story
    }
}

/// What makes two events with one id the same.
fn content(event: &Event<'static>) -> (InstanceId, KeyRef<'static>, Status, &'static [u8]) {
    (event.instance, event.key, event.status, event.data)
}
