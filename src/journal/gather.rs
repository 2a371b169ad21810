//! What is in flight, gathered into one batch: decided, but not yet written.

use super::events::Events;
use super::ids::Ids;
use super::{Append, Appended, Committed, Verdict, record};
use crate::clock::Time;
use crate::event::{CancelInstance, Position};

/// A batch on its way to the disk.
pub(super) struct Gathered<E, C> {
    decided: Vec<Decided<E, C>>,
    received_at: Time,
    first: Position,
    next: Position,
    /// Ids that were remembered for it.
    ids: usize,
}

/// What was handed in, with what was decided about it.
struct Decided<E, C> {
    append: Append<E, C>,
    verdicts: Vec<Verdict>,
}

impl<E, C> Gathered<E, C> {
    /// An empty batch of what is received from `now` on, whose first record gets the position `first`.
    pub(super) fn new(now: Time, first: Position) -> Self {
        Self { decided: Vec::new(), received_at: now, first, next: first, ids: 0 }
    }

    /// Decides about events, and adds the records of those that are new to the batch's `body`.
    pub(super) fn add_events(&mut self, events: Events, with: E, ids: &mut Ids, body: &mut Vec<u8>) {
        let verdicts = self.decide(&events, ids, body);
        self.decided.push(Decided { append: Append::Events(events, with), verdicts });
    }

    /// Adds a CancelInstance.
    pub(super) fn add_cancel(&mut self, cancel: CancelInstance, with: C, body: &mut Vec<u8>) {
        record::put_cancel_instance(body, &cancel);
        let verdicts = vec![Verdict::New(self.next)];
        self.next = self.next.next();
        self.decided.push(Decided { append: Append::CancelInstance(cancel, with), verdicts });
    }

    fn decide(&mut self, events: &Events, ids: &mut Ids, body: &mut Vec<u8>) -> Vec<Verdict> {
        ids.expect(events);
        let mut verdicts = Vec::with_capacity(events.len());
        for event in events.iter() {
            let verdict = ids.decide(self.received_at, event, self.next);
            if let Verdict::New(position) = verdict {
                self.ids += usize::from(event.digest.is_some());
                body.extend_from_slice(events.record(event));
                self.next = position.next();
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    /// Takes out what only repeats other events.
    pub(super) fn take_duplicates(&mut self) -> Vec<Appended<E, C>> {
        let duplicate = |verdict: &Verdict| matches!(verdict, Verdict::Duplicate(_));
        let (duplicates, rest) =
            self.decided.drain(..).partition(|decided| decided.verdicts.iter().all(duplicate));
        self.decided = rest;
        let duplicates: Vec<Decided<E, C>> = duplicates;
        duplicates.into_iter().map(|decided| decided.commit(self.received_at)).collect()
    }

    /// How many positions it takes.
    pub(super) fn count(&self) -> u32 {
        (self.next.0 - self.first.0) as u32
    }

    /// When it was received.
    pub(super) fn received_at(&self) -> Time {
        self.received_at
    }

    /// It is as durable as the agent promises.
    pub(super) fn commit(self) -> Vec<Appended<E, C>> {
        let received_at = self.received_at;
        self.decided.into_iter().map(|decided| decided.commit(received_at)).collect()
    }

    /// It could not be written: takes its ids back. What only repeats events that were committed before is so
    /// still; the rest is given to `refuse`.
    pub(super) fn take_back(
        self,
        ids: &mut Ids,
        mut refuse: impl FnMut(Append<E, C>),
    ) -> Vec<Appended<E, C>> {
        ids.take_back(self.ids);
        let (first, received_at) = (self.first, self.received_at);
        let mut committed = Vec::new();
        for decided in self.decided {
            let known = |verdict: &Verdict| matches!(verdict, Verdict::Duplicate(known) if *known < first);
            if decided.verdicts.iter().all(known) {
                committed.push(decided.commit(received_at));
            } else {
                refuse(decided.append);
            }
        }
        committed
    }
}

impl<E, C> Decided<E, C> {
    fn commit(self, received_at: Time) -> Appended<E, C> {
        let verdicts = self.verdicts;
        match self.append {
            Append::Events(records, with) => {
                Appended::Events(Committed { records, verdicts, received_at }, with)
            }
            Append::CancelInstance(records, with) => {
                Appended::CancelInstance(Committed { records, verdicts, received_at }, with)
            }
        }
    }
}
