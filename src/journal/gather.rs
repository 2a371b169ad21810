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

    /// Decides about what is handed in, and adds the records of what is new to the batch's `body`.
    pub(super) fn add(&mut self, append: Append<E, C>, ids: &mut Ids, body: &mut Vec<u8>) {
        let verdicts = match &append {
            Append::Events(events, _) => self.add_events(events, ids, body),
            Append::CancelInstance(cancel, _) => vec![self.add_cancel(cancel, body)],
        };
        self.decided.push(Decided { append, verdicts });
    }

    fn add_events(&mut self, events: &Events, ids: &mut Ids, body: &mut Vec<u8>) -> Vec<Verdict> {
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

    fn add_cancel(&mut self, cancel: &CancelInstance, body: &mut Vec<u8>) -> Verdict {
        record::put_cancel_instance(body, cancel);
        let position = self.next;
        self.next = position.next();
        Verdict::New(position)
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
