//! What the tests play with: a log in memory, an engine, the time that it is, and what each stream was told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use uuid::Uuid;

use crate::clock::Time;
use crate::convert::ended::{from_note, to_note};
use crate::engine::{
    Answer, Ask, Disposition, Effect, Engine, FailurePolicy, KeyState, Kind, Limits, OpenError, Opened,
    Opening, Outcome, Resume, Start, WaitCounts, WaitError,
};
use crate::event::{
    Caller, CancelInstance, Cursor, Event, EventId, InstanceId, Key, KeyRef, Position, Status, WaitId,
};
use crate::journal::events::{Entry, Events};
use crate::journal::memory::MemoryJournal;
use crate::journal::record::Record;
use crate::journal::retention::Retention;
use crate::journal::{Committed, Verdict};

pub(super) const VM: InstanceId = InstanceId(Uuid::from_u128(0xa));
pub(super) const OTHER_VM: InstanceId = InstanceId(Uuid::from_u128(0xb));
pub(super) const USER: Caller = Caller { uid: 1_000, operator: false };
pub(super) const OTHER_USER: Caller = Caller { uid: 2_000, operator: false };
pub(super) const OPERATOR: Caller = Caller { uid: 0, operator: true };
/// When every world starts.
pub(super) const START: Time = Time::from_nanos(1_000_000_000_000);

pub(super) const LIMITS: Limits = Limits {
    waits: 100,
    instance_waits: 100,
    ended_waits: 100,
    ended_bytes: 1 << 20,
    ended_age: Duration::from_secs(3_600),
    max_unarmed: Duration::from_secs(3_600),
};
pub(super) const RETENTION: Retention = Retention {
    while_needed: false,
    age: Duration::from_secs(3_600),
    bytes: 1 << 20,
    held_bytes: 1 << 22,
    id_window: Duration::from_secs(7_200),
    max_ids: 1_024,
};

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many seconds after the start.
pub(super) fn at(seconds: u64) -> Time {
    START.plus(secs(seconds))
}

pub(super) fn wait_id(number: u128) -> WaitId {
    WaitId(Uuid::from_u128(0x100 + number))
}

pub(super) fn event_id(number: u128) -> EventId {
    EventId(Uuid::from_u128(0x200 + number))
}

/// `NAME` or `NAME:TAG`.
pub(super) fn key(text: &str) -> Key {
    let key = key_ref(text);
    Key::new(key.name().to_owned(), key.tag().to_owned(), 255).expect("a valid key")
}

pub(super) fn key_ref(text: &str) -> KeyRef<'_> {
    let (name, tag) = text.split_once(':').unwrap_or((text, ""));
    KeyRef::new(name, tag, 255).expect("a valid key")
}

/// A user's wait on [`VM`] from the head on, for 100 s.
pub(super) fn ask(keys: &[&str]) -> Ask {
    Ask {
        id: wait_id(1),
        opening: Opening(0),
        instance: VM,
        uid: USER.uid,
        keys: keys.iter().map(|text| key(text)).collect(),
        start: Start::Head,
        timeout: secs(100),
        start_on_arm: false,
        policy: FailurePolicy::FailFast,
        in_progress_fails: false,
        resume: None,
        attempt: None,
    }
}

pub(super) fn completed(text: &str) -> Event<'_> {
    Event::new(VM, key_ref(text))
}

pub(super) fn failed(text: &str) -> Event<'_> {
    Event { status: Status::Failed, ..completed(text) }
}

pub(super) fn in_progress(text: &str) -> Event<'_> {
    Event { status: Status::InProgress, ..completed(text) }
}

/// As a gateway delivers it that has kept it for `held`.
pub(super) fn held(held: Duration, event: Event<'_>) -> Event<'_> {
    Event { held_for: Some(held), ..event }
}

/// As a sender sends it that gives it an id.
pub(super) fn with_id(number: u128, event: Event<'_>) -> Event<'_> {
    Event { id: event_id(number), id_given: true, ..event }
}

/// What the journal has committed and the engine has yet to take in.
enum Handed {
    Events(Committed<Events>),
    Cancel(Committed<CancelInstance>),
}

/// What the engine said of something handed to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Dispositions(Vec<Disposition>),
    Ended(Vec<(WaitId, Vec<Key>)>),
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) journal: MemoryJournal,
    pub(super) engine: Engine,
    queue: VecDeque<Handed>,
    asked: BTreeMap<Opening, Ask>,
    told: BTreeMap<Opening, Vec<Effect>>,
    openings: u64,
    /// What was counted by the engines before this one.
    counted: WaitCounts,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(LIMITS, RETENTION)
    }

    pub(super) fn with(limits: Limits, retention: Retention) -> Self {
        let journal = MemoryJournal::new(retention);
        Self {
            now: START,
            engine: Engine::new(journal.log().id(), limits),
            journal,
            queue: VecDeque::new(),
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
            openings: 0,
            counted: WaitCounts::default(),
        }
    }

    /// Lets time pass as the agent does, with a tick whenever the engine wants one. Gives when those were.
    pub(super) fn pass(&mut self, span: Duration) -> Vec<Time> {
        let end = self.now.plus(span);
        let mut ticks = Vec::new();
        while let Some(due) = self.engine.next_wake().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            ticks.push(self.now);
            self.tick();
            assert!(
                self.engine.next_wake().is_none_or(|next| next > self.now),
                "it wants the same tick again"
            );
        }
        self.now = end;
        ticks
    }

    /// Lets time pass that the agent sleeps through.
    pub(super) fn oversleep(&mut self, span: Duration) {
        self.now = self.now.plus(span);
    }

    pub(super) fn tick(&mut self) {
        let mut out = Vec::new();
        self.engine.tick(self.now, &mut out);
        self.tell(out);
    }

    pub(super) fn send(&mut self, event: Event<'_>) -> Disposition {
        self.send_all(vec![event])[0]
    }

    pub(super) fn send_all(&mut self, events: Vec<Event<'_>>) -> Vec<Disposition> {
        self.accept(events);
        match self.hand_over().pop() {
            Some(Said::Dispositions(dispositions)) => dispositions,
            other => panic!("events were handed over last, not {other:?}"),
        }
    }

    /// Appends events to the log, while the engine does other things yet. Gives what the log decided.
    pub(super) fn accept(&mut self, events: Vec<Event<'_>>) -> Vec<Verdict> {
        let batch = self.journal.commit(self.now, events.into_iter().collect());
        let verdicts = batch.verdicts().to_vec();
        self.queue.push_back(Handed::Events(batch));
        verdicts
    }

    pub(super) fn accept_cancel(&mut self, cancel: CancelInstance) {
        self.queue.push_back(Handed::Cancel(self.journal.commit_cancel(self.now, cancel)));
    }

    /// Hands the engine what was accepted, in order.
    pub(super) fn hand_over(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some(handed) = self.queue.pop_front() {
            let mut out = Vec::new();
            said.push(match handed {
                Handed::Events(batch) => Said::Dispositions(self.engine.commit(&batch, &mut out)),
                Handed::Cancel(cancel) => Said::Ended(self.engine.cancel_instance(&cancel, &mut out)),
            });
            self.tell(out);
        }
        said
    }

    pub(super) fn cancel_instance(
        &mut self,
        instance: InstanceId,
        caller: Caller,
    ) -> Vec<(WaitId, Vec<Key>)> {
        self.accept_cancel(CancelInstance { instance, caller, why: "deleted".to_owned() });
        match self.hand_over().pop() {
            Some(Said::Ended(ended)) => ended,
            other => panic!("a CancelInstance was handed over last, not {other:?}"),
        }
    }

    pub(super) fn open(&mut self, ask: Ask) -> Opening {
        self.try_open(ask).expect("the wait opens")
    }

    /// With the number that the next opening has.
    pub(super) fn numbered(&self, ask: Ask) -> Ask {
        Ask { opening: Opening(self.openings + 1), ..ask }
    }

    pub(super) fn try_open(&mut self, ask: Ask) -> Result<Opening, OpenError> {
        let ask = self.numbered(ask);
        self.openings += 1;
        let mut out = Vec::new();
        let opened = self.engine.open(self.now, ask.clone(), &mut out);
        assert!(opened.is_ok() || out.is_empty(), "a wait that is refused tells nobody");
        self.tell(out);
        opened?;
        let opening = ask.opening;
        self.asked.insert(opening, ask);
        Ok(opening)
    }

    pub(super) fn arm(&mut self, id: WaitId, caller: Caller) -> Result<Time, WaitError> {
        self.engine.arm(self.now, id, caller)
    }

    pub(super) fn skip(&mut self, id: WaitId, caller: Caller, keys: &[Key]) -> Result<u32, WaitError> {
        let mut out = Vec::new();
        let skipped = self.engine.skip(self.now, id, caller, keys, &mut out);
        self.tell(out);
        skipped
    }

    pub(super) fn cancel(&mut self, id: WaitId, caller: Caller, why: &str) -> Result<(), WaitError> {
        let mut out = Vec::new();
        let cancelled = self.engine.cancel(self.now, id, caller, why.to_owned(), &mut out);
        self.tell(out);
        cancelled
    }

    pub(super) fn close(&mut self, opening: Opening) {
        self.engine.close(opening);
    }

    pub(super) fn stop(&mut self) {
        let mut out = Vec::new();
        self.engine.stop(self.now, true, &mut out);
        self.tell(out);
    }

    /// The agent is killed and started anew: what is left is the log, and the notes of the waits that had ended.
    /// What was accepted and not yet handed over is in the log.
    pub(super) fn crash(&mut self) {
        self.counted = self.counts();
        self.counted.closed += self.engine.open_waits() as u64;
        self.queue.clear();
        let log = Arc::clone(self.journal.log());
        let mut engine = Engine::new(log.id(), self.engine.limits);
        let before = self.engine.index.received_at(log.oldest().before());
        let mut at = log.oldest().before();
        while at < log.head() {
            let blocks = log.read(at).now_or_never().expect("it is in memory").expect("it is kept");
            for record in blocks.iter().flat_map(|block| block.records(at)) {
                let (position, raw) = record.expect("a record");
                match raw.decode().expect("a record") {
                    Record::Event(record) => {
                        let entry = Entry::of(&record.event, raw.digest());
                        engine.restore_event(position, &entry, record.received_at);
                    }
                    Record::CancelInstance(record) => {
                        let (instance, caller, why) = (record.instance, record.caller, record.why.to_owned());
                        let cancel = CancelInstance { instance, caller, why };
                        engine.restore_cancel(position, &cancel, record.received_at);
                    }
                }
            }
            at = blocks.back().expect("it is not at the head").last();
        }
        for wait in self.engine.ended.in_order() {
            let note = to_note(wait).expect("it has ended");
            engine.restore_ended(from_note(note).expect("a whole note"));
        }
        engine.restored(log.id(), log.oldest(), log.head(), before);
        self.engine = engine;
    }

    /// What all engines together have counted.
    pub(super) fn counts(&self) -> WaitCounts {
        let (now, before) = (self.engine.counts(), self.counted);
        WaitCounts {
            opened: before.opened + now.opened,
            completed: before.completed + now.completed,
            failed: before.failed + now.failed,
            timed_out: before.timed_out + now.timed_out,
            cancelled: before.cancelled + now.cancelled,
            closed: before.closed + now.closed,
        }
    }

    /// Drops what the log need not keep, as the agent does. Gives the oldest position kept.
    pub(super) fn retain(&mut self) -> Position {
        let pinned = self.engine.pinned();
        let oldest = self.journal.retain(self.now, pinned);
        self.engine.drop_before(oldest);
        oldest
    }

    pub(super) fn cursor(&self, position: u64) -> Cursor {
        self.journal.log().cursor(Position(position))
    }

    /// Every stream that there has been, in the order of opening, with all that it was told.
    pub(super) fn streams(&self) -> impl Iterator<Item = (Opening, &[Effect])> {
        self.told.iter().map(|(opening, told)| (*opening, &told[..]))
    }

    pub(super) fn told(&self, opening: Opening) -> &[Effect] {
        self.told.get(&opening).map_or(&[], |told| &told[..])
    }

    pub(super) fn opened(&self, opening: Opening) -> Opened {
        match self.told(opening).first() {
            Some(Effect::Registered { opened, .. }) => *opened,
            other => panic!("Registered is first, not {other:?}"),
        }
    }

    pub(super) fn outcome(&self, opening: Opening) -> Option<&Outcome> {
        self.told(opening).iter().find_map(|effect| match effect {
            Effect::Outcome { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    pub(super) fn kind(&self, opening: Opening) -> Option<Kind> {
        self.outcome(opening).map(|outcome| outcome.kind)
    }

    /// What the keys have come to, by what the stream was told.
    pub(super) fn states(&self, opening: Opening) -> Vec<KeyState> {
        let (_, answers) = remembered(self.told(opening));
        answers.iter().map(|answer| answer.state).collect()
    }

    /// How the events that the stream was told of were marked: (superseded, stale).
    pub(super) fn marks(&self, opening: Opening) -> Vec<(bool, bool)> {
        let marks = self.told(opening).iter().filter_map(|effect| match effect {
            Effect::Progress { event: Some(_), mark, .. } => Some((mark.superseded, mark.stale)),
            _ => None,
        });
        marks.collect()
    }

    /// The same ask as a client makes it again that has read so many messages of this stream.
    pub(super) fn again_after(&self, opening: Opening, messages: usize) -> Ask {
        let (position, answers) = remembered(&self.told(opening)[..messages]);
        Ask {
            start: Start::After(self.journal.log().cursor(position)),
            resume: Some(Resume { opened: self.opened(opening), answers }),
            ..self.asked[&opening].clone()
        }
    }

    /// The same ask as a client makes it again that has read all messages of this stream.
    pub(super) fn again(&self, opening: Opening) -> Ask {
        self.again_after(opening, self.told(opening).len())
    }

    /// Takes down what streams are told, and holds each to what every stream may rely on.
    fn tell(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let (id, opening) = effect.stream();
            let told = self.told.entry(opening).or_default();
            let registered = matches!(effect, Effect::Registered { .. });
            assert_eq!(told.is_empty(), registered, "{id}: Registered comes first, and once: {effect:?}");
            if let Some(last) = told.last() {
                let is_last = matches!(last, Effect::Outcome { .. } | Effect::TakenOver { .. });
                assert!(!is_last, "{id}: {effect:?} after {last:?}");
            }
            let last = told.iter().filter_map(cursor_of).next_back();
            assert!(
                last <= cursor_of(&effect).or(last),
                "{id}: the cursor goes back: {effect:?} after {last:?}"
            );
            if let Effect::Outcome { outcome, .. } = &effect {
                assert_eq!(*remembered(told).1, *outcome.answers, "{id}: the stream was not told all");
            }
            told.push(effect);
        }
    }
}

/// The newest cursor in what a stream was told, and what each key has come to by then.
pub(super) fn remembered(told: &[Effect]) -> (Position, Box<[Answer]>) {
    let Some(Effect::Registered { at, answers, .. }) = told.first() else {
        panic!("Registered is first in {told:?}");
    };
    let mut answers: Box<[Answer]> = answers.as_ref().into();
    for effect in told {
        if let Effect::Progress { change: Some((key, answer)), .. } = effect {
            answers[usize::from(*key)] = *answer;
        }
    }
    (told.iter().filter_map(cursor_of).next_back().unwrap_or(*at), answers)
}

fn cursor_of(effect: &Effect) -> Option<Position> {
    match effect {
        Effect::Registered { at, .. } | Effect::Progress { at, .. } => Some(*at),
        Effect::Outcome { outcome, .. } => Some(outcome.at),
        Effect::GoingAway { at, .. } => Some(*at),
        Effect::TakenOver { .. } => None,
    }
}

impl Engine {
    /// Holds the tables to say the same: what each wait needs is in them, and nothing else.
    pub(super) fn assert_whole(&self) {
        let waits = || self.waits.values();
        assert_eq!(self.by_id.len(), self.waits.len());
        assert_eq!(self.deadlines.len(), self.waits.len());
        assert_eq!(self.by_instance.values().map(|all| all.len()).sum::<usize>(), self.waits.len());
        assert!(self.by_instance.values().all(|all| !all.is_empty()));
        assert_eq!(
            self.by_key.iter().map(|waiters| waiters.waits.len()).sum::<usize>(),
            waits().map(|wait| wait.hashes.len()).sum::<usize>()
        );
        assert!(self.by_key.iter().all(|waiters| !waiters.waits.is_empty()));
        for wait in waits() {
            assert_eq!(self.by_id[&wait.id], wait.opening);
            assert!(self.deadlines.contains(&(wait.deadline, wait.opening)));
            assert_eq!(self.beats.iter().filter(|beat| beat.opening == wait.opening).count(), 1);
        }
    }

    /// Holds the engine to have nothing left of any wait but what it remembers of ended ones.
    pub(super) fn assert_empty(&mut self) {
        assert_eq!(self.pinned(), None);
        self.assert_whole();
        assert_eq!((self.waits.len(), self.beats.len()), (0, 0));
        assert_eq!((self.by_instance.len(), self.by_key.len()), (0, 0));
        assert_eq!(self.next_wake(), None);
    }
}
