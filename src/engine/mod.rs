//! The rules: which waits an event answers, and how each wait ends.
//!
//! The engine is plain state. It has no sockets, no disk, no locks and no clock: time comes in as an
//! argument, what must happen comes out as [`Effect`]s, and [`Engine::next_wake`] says when it next wants
//! [`Engine::tick`] to be called. One task owns it and hands it things in one order, so "look into the log,
//! then register" is one step by construction.
//!
//! ```text
//!             open                 every key answered ─────────▶ COMPLETED or FAILED
//!   (look) ─────────▶ open ──┬──▶ a key failed, FAIL_FAST ─────▶ FAILED
//!      │                │    ├──▶ deadline, or never armed ────▶ TIMED_OUT
//!      │       arm, skip└◀───┤
//!      │                     ├──▶ Cancel, CancelInstance, stop ▶ CANCELLED
//!      └── what the look ────┤
//!          finds may end it  └──▶ stream closed, taken over ───▶ (nothing is left)
//! ```

mod ended;
mod index;
mod open;
mod restore;
#[cfg(test)]
mod tests;
mod view;
mod wait;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table;
use thiserror::Error;

use crate::clock::Time;
use crate::event::{
    Caller, CancelInstance, EventId, InstanceId, Key, KeyHash, LogId, Position, Status, WaitId,
};
use crate::journal::events::{Entry, Events};
use crate::journal::{Committed, Verdict};
use ended::Ended;
use index::Index;
pub use open::OpenError;
pub use view::Moments;
use wait::Wait;
pub use wait::{
    Answer, Ask, Attempt, Effect, FailurePolicy, KeyState, Kind, Mark, Moment, Opened, Outcome, Resume,
    Start, WaitView, Why,
};

/// How often a stream is told how far its wait has looked, so that its client always has a recent place to
/// ask again from.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

/// Progress that a stream holds for a driver that does not read, and that a look into the log tells of: the
/// newest. Few in the engine's tests, so that what they look at is more.
pub const UNREAD: usize = if cfg!(test) { 4 } else { 64 };

/// Waits that are told before their time, at once.
const RELEASED_AT_ONCE: usize = 256;

/// The number of one opening of a wait: never given out twice, so that what is late for an older opening
/// of an id cannot touch a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening(pub u64);

/// An event as waits are told of it: without its key, which the wait has, and its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are Event's")]
pub struct EventBrief {
    pub position: Position,
    pub id: EventId,
    pub status: Status,
    pub received_at: Time,
    pub occurred_at: Option<Time>,
    pub held_for: Option<Duration>,
}

/// What became of a dispatched event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It met or failed a key of so many open waits.
    Woke(u32, Position),
    /// It is in the log and answered no open wait.
    Retained(Position),
    /// Its id is known with the same content; the first one's position.
    Duplicate(Position),
    /// Its id is known with other content.
    IdReused,
}

/// The engine's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Waits open at once.
    pub waits: usize,
    /// Waits of one instance open at once.
    pub instance_waits: usize,
    /// Ended waits remembered.
    pub ended_waits: usize,
    /// Bytes of them remembered.
    pub ended_bytes: u64,
    /// How long an ended wait is remembered.
    pub ended_age: Duration,
    /// How long a wait may go unarmed.
    pub max_unarmed: Duration,
}

/// Why a wait could not be armed, skipped or cancelled.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WaitError {
    /// No such wait is open.
    #[error("no wait {0} is open; if it has ended, its stream has the outcome")]
    NotFound(WaitId),
    /// It is another user's.
    #[error("wait {0} is another user's")]
    NotPermitted(WaitId),
}

/// How many waits have ended how, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WaitCounts {
    pub opened: u64,
    pub completed: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub cancelled: u64,
    /// Closed by their client, or taken over.
    pub closed: u64,
}

/// The waits that wait for one key of one instance.
struct Waiters {
    hash: KeyHash,
    /// Each with the key's number in the wait, in the order of opening.
    waits: Vec<(Opening, u16)>,
}

struct Beat {
    due: Time,
    opening: Opening,
    /// How far the wait had looked when its stream was last told so.
    told: Position,
}

/// The open waits, and an index of the log that they ask.
pub struct Engine {
    log_id: LogId,
    limits: Limits,
    index: Index,
    waits: BTreeMap<Opening, Box<Wait>>,
    by_id: HashMap<WaitId, Opening>,
    by_instance: HashMap<InstanceId, BTreeSet<Opening>>,
    by_key: HashTable<Waiters>,
    deadlines: BTreeSet<(Time, Opening)>,
    /// Every stream's next heartbeat. All have the same cadence, so the first is always the next due.
    beats: VecDeque<Beat>,
    ended: Ended,
    just_ended: Vec<WaitView>,
    counts: WaitCounts,
}

impl Engine {
    /// An engine over an empty log.
    pub fn new(log_id: LogId, limits: Limits) -> Self {
        Self {
            log_id,
            limits,
            index: Index::new(),
            waits: BTreeMap::new(),
            by_id: HashMap::new(),
            by_instance: HashMap::new(),
            by_key: HashTable::new(),
            deadlines: BTreeSet::new(),
            beats: VecDeque::new(),
            ended: Ended::new(limits),
            just_ended: Vec::new(),
            counts: WaitCounts::default(),
        }
    }

    /// Takes in a committed batch: finds the waits that each event answers. Gives a disposition for each.
    pub fn commit(&mut self, batch: &Committed<Events>, out: &mut Vec<Effect>) -> Vec<Disposition> {
        self.expect(batch.records());
        let events = batch.records().iter().zip(batch.verdicts());
        events
            .map(|(event, verdict)| match *verdict {
                Verdict::New(position) => {
                    self.index.add_event(position, event, batch.received_at());
                    match self.wake(position, event, batch.received_at(), out) {
                        0 => Disposition::Retained(position),
                        woke => Disposition::Woke(woke, position),
                    }
                }
                Verdict::Duplicate(position) => Disposition::Duplicate(position),
                Verdict::IdReused => Disposition::IdReused,
            })
            .collect()
    }

    /// Takes in a committed CancelInstance. Gives the waits that it ended, each with its open keys.
    pub fn cancel_instance(
        &mut self,
        cancel: &Committed<CancelInstance>,
        out: &mut Vec<Effect>,
    ) -> Vec<(WaitId, Vec<Key>)> {
        let mut ended = Vec::new();
        for verdict in cancel.verdicts() {
            let Verdict::New(position) = *verdict else { continue };
            let record = cancel.records();
            self.index.add_cancel(position, record, cancel.received_at());
            for opening in self.openings_of(record.instance) {
                let Some(wait) = self.waits.get(&opening) else { continue };
                if !wait.is_ended_by_cancel(position, record.caller) {
                    continue;
                }
                ended.push((wait.id, wait.open_keys()));
                let why = Why::InstanceCancelled(record.why.clone());
                self.end(cancel.received_at(), opening, Kind::Cancelled, why, position, out);
            }
        }
        ended
    }

    /// Starts, or starts anew, a wait's timeout. Gives its new deadline.
    ///
    /// # Errors
    ///
    /// If no such wait is open, or it is another user's.
    pub fn arm(&mut self, now: Time, id: WaitId, caller: Caller) -> Result<Time, WaitError> {
        let opening = self.opening_of(id, caller)?;
        let wait = self.waits.get_mut(&opening).ok_or(WaitError::NotFound(id))?;
        self.deadlines.remove(&(wait.deadline, opening));
        wait.arm(now);
        self.deadlines.insert((wait.deadline, opening));
        Ok(wait.deadline)
    }

    /// Takes keys out of a wait. Gives how many of them were open.
    ///
    /// # Errors
    ///
    /// If no such wait is open, or it is another user's.
    pub fn skip(
        &mut self,
        now: Time,
        id: WaitId,
        caller: Caller,
        keys: &[Key],
        out: &mut Vec<Effect>,
    ) -> Result<u32, WaitError> {
        let opening = self.opening_of(id, caller)?;
        let head = self.index.head();
        let wait = self.waits.get_mut(&opening).ok_or(WaitError::NotFound(id))?;
        let mut skipped = 0;
        for key in keys {
            skipped += u32::from(wait.skip(key, head, out));
        }
        if let Some(kind) = wait.end_if_answered() {
            self.end(now, opening, kind, Why::Itself, head, out);
        }
        Ok(skipped)
    }

    /// Ends a wait with the outcome CANCELLED.
    ///
    /// # Errors
    ///
    /// If no such wait is open, or it is another user's.
    pub fn cancel(
        &mut self,
        now: Time,
        id: WaitId,
        caller: Caller,
        why: String,
        out: &mut Vec<Effect>,
    ) -> Result<(), WaitError> {
        let opening = self.opening_of(id, caller)?;
        self.end(now, opening, Kind::Cancelled, Why::Cancelled(why), self.index.head(), out);
        Ok(())
    }

    /// Forgets a wait whose stream has closed. One that has ended, or was taken over, is left alone.
    pub fn close(&mut self, opening: Opening) {
        if self.remove(opening).is_some() {
            self.counts.closed += 1;
        }
    }

    /// Ends the waits whose deadline has passed, and tells the others how far they have looked.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Effect>) {
        let head = self.index.head();
        while let Some(&(deadline, opening)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let unarmed = self.waits.get(&opening).is_some_and(|wait| wait.unarmed);
            let why = if unarmed { Why::NeverArmed } else { Why::Itself };
            self.end(now, opening, Kind::TimedOut, why, head, out);
        }
        while self.beats.front().is_some_and(|beat| beat.due <= now) {
            self.beat(now, out);
        }
        self.ended.expire(now);
    }

    /// Tells waits that hold what is before `oldest` in the log how far they have looked, before it is their
    /// time: a few at once, since there may be many. Those need it no longer then.
    pub fn release(&mut self, now: Time, oldest: Position, out: &mut Vec<Effect>) {
        for _ in 0..RELEASED_AT_ONCE {
            if self.pinned().is_none_or(|pinned| pinned >= oldest.before()) {
                return;
            }
            self.beat(now, out);
        }
    }

    /// Tells the wait whose turn it is how far it has looked.
    fn beat(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(Beat { opening, .. }) = self.beats.pop_front() else { return };
        if let Some(wait) = self.waits.get(&opening) {
            let head = self.index.head();
            out.push(Effect::looked(wait.id, opening, head));
            self.beats.push_back(Beat { due: now.plus(HEARTBEAT), opening, told: head });
        }
    }

    /// When [`tick`](Self::tick) next has something to do.
    pub fn next_wake(&self) -> Option<Time> {
        let deadline = self.deadlines.first().map(|&(deadline, _)| deadline);
        let beat = self.beats.front().map(|beat| beat.due);
        deadline.into_iter().chain(beat).min()
    }

    /// Ends every wait CANCELLED, because the agent stops; `log_gone`: and its log with it.
    pub fn stop(&mut self, now: Time, log_gone: bool, out: &mut Vec<Effect>) {
        let head = self.index.head();
        while let Some((&opening, _)) = self.waits.first_key_value() {
            let why = if log_gone { Why::LogGone } else { Why::Cancelled("the agent stops".to_owned()) };
            self.end(now, opening, Kind::Cancelled, why, head, out);
        }
    }

    /// Tells every wait to ask again of the next process.
    pub fn go_away(&mut self, out: &mut Vec<Effect>) {
        let at = self.index.head();
        out.extend(self.waits.values().map(|wait| Effect::GoingAway {
            id: wait.id,
            opening: wait.opening,
            at,
        }));
        while let Some((&opening, _)) = self.waits.first_key_value() {
            self.remove(opening);
        }
    }

    /// The oldest place from which the client of an open wait may yet ask again.
    pub fn pinned(&mut self) -> Option<Position> {
        while self.beats.front().is_some_and(|beat| !self.waits.contains_key(&beat.opening)) {
            self.beats.pop_front();
        }
        self.beats.front().map(|beat| beat.told)
    }

    /// Forgets what the log has dropped.
    pub fn drop_before(&mut self, oldest: Position) {
        self.index.drop_before(oldest);
    }

    /// Gets ready to look up the keys of many events: the memory that this needs is then fetched at once.
    fn expect(&self, events: &Events) {
        for event in events.iter() {
            let same = |waiters: &Waiters| black_box(waiters).hash == event.hash;
            black_box(self.by_key.find(event.hash.bits(), same).is_some());
            self.index.expect(event.hash);
        }
    }

    /// Shows an event to the waits that wait for its key. Gives how many keys it met or failed.
    fn wake(&mut self, position: Position, event: &Entry, received_at: Time, out: &mut Vec<Effect>) -> u32 {
        let Some(waiters) = self.by_key.find(event.hash.bits(), |waiters| waiters.hash == event.hash) else {
            return 0;
        };
        let brief = EventBrief {
            position,
            id: event.id,
            status: event.status,
            received_at,
            occurred_at: event.occurred_at,
            held_for: event.held_for,
        };
        let mut woke = 0;
        let mut ends = Vec::new();
        for &(opening, key) in &waiters.waits {
            let Some(wait) = self.waits.get_mut(&opening) else { continue };
            let seen = wait.see(key, brief, position, |progress| out.push(progress));
            woke += u32::from(seen.answered);
            ends.extend(seen.end.map(|kind| (opening, kind)));
        }
        for (opening, kind) in ends {
            self.end(received_at, opening, kind, Why::Itself, position, out);
        }
        woke
    }

    fn end(
        &mut self,
        now: Time,
        opening: Opening,
        kind: Kind,
        why: Why,
        at: Position,
        out: &mut Vec<Effect>,
    ) {
        if let Some(wait) = self.remove(opening) {
            self.conclude(now, *wait, kind, why, at, out);
        }
    }

    fn conclude(&mut self, now: Time, wait: Wait, kind: Kind, why: Why, at: Position, out: &mut Vec<Effect>) {
        let count = match kind {
            Kind::Completed => &mut self.counts.completed,
            Kind::Failed => &mut self.counts.failed,
            Kind::TimedOut => &mut self.counts.timed_out,
            Kind::Cancelled => &mut self.counts.cancelled,
        };
        *count += 1;
        let outcome = Outcome { kind, why, at, answers: Arc::clone(&wait.answers) };
        let ended = WaitView { ended: Some((outcome.clone(), now)), ..wait.view() };
        self.just_ended.push(ended.clone());
        self.ended.add(ended);
        out.push(Effect::Outcome { id: wait.id, opening: wait.opening, outcome });
    }

    fn register(&mut self, wait: Box<Wait>) {
        let opening = wait.opening;
        for (key, &hash) in wait.hashes.iter().enumerate() {
            match self.by_key.entry(hash.bits(), |other| other.hash == hash, |other| other.hash.bits()) {
                hash_table::Entry::Occupied(mut waiters) => {
                    waiters.get_mut().waits.push((opening, key as u16))
                }
                hash_table::Entry::Vacant(waiters) => {
                    waiters.insert(Waiters { hash, waits: vec![(opening, key as u16)] });
                }
            }
        }
        self.by_id.insert(wait.id, opening);
        self.by_instance.entry(wait.instance).or_default().insert(opening);
        self.deadlines.insert((wait.deadline, opening));
        self.waits.insert(opening, wait);
    }

    /// Takes a wait out of every table.
    fn remove(&mut self, opening: Opening) -> Option<Box<Wait>> {
        let wait = self.waits.remove(&opening)?;
        for &hash in &wait.hashes {
            let found = self.by_key.find_entry(hash.bits(), |waiters| waiters.hash == hash);
            if let Ok(mut waiters) = found {
                waiters.get_mut().waits.retain(|&(other, _)| other != opening);
                if waiters.get().waits.is_empty() {
                    waiters.remove();
                }
            }
        }
        self.by_id.remove(&wait.id);
        if let Some(openings) = self.by_instance.get_mut(&wait.instance) {
            openings.remove(&opening);
            if openings.is_empty() {
                self.by_instance.remove(&wait.instance);
            }
        }
        self.deadlines.remove(&(wait.deadline, opening));
        Some(wait)
    }

    fn openings_of(&self, instance: InstanceId) -> Vec<Opening> {
        self.by_instance.get(&instance).into_iter().flatten().copied().collect()
    }

    fn opening_of(&self, id: WaitId, caller: Caller) -> Result<Opening, WaitError> {
        let opening = *self.by_id.get(&id).ok_or(WaitError::NotFound(id))?;
        match self.waits.get(&opening) {
            Some(wait) if caller.may_act_for(wait.uid) => Ok(opening),
            _ => Err(WaitError::NotPermitted(id)),
        }
    }
}
