//! The journal of `durability = "none"`: the log in memory, appended to by the engine's own task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::consumers::{Change, Consumers, Reach};
use super::events::{Entry, Events};
use super::ids::Ids;
use super::log::{Block, Log};
use super::record;
use super::retention::{Facts, Goes, Retention, warn_of_drop};
use super::{Append, Appended, Committed, Verdict};
use crate::clock::Time;
use crate::event::{CancelInstance, LogId, Position};

/// It is asked to retain no more often: what open waits hold would have it asked again at once.
const RETAIN_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Segment {
    last: Position,
    bytes: u64,
    created: Time,
    newest: Time,
}

impl Segment {
    fn facts(&self) -> Facts {
        Facts { last: self.last, bytes: self.bytes, newest: self.newest }
    }
}

/// The log in memory, with the one who decides what is a duplicate.
pub struct MemoryJournal {
    log: Arc<Log>,
    retention: Retention,
    ids: Ids,
    consumers: Consumers,
    head: Position,
    buf: BytesMut,
    /// The buffers of segments before, oldest first. One whose blocks have all gone is used again: fresh
    /// memory costs more than all else that is done to an event.
    used: VecDeque<BytesMut>,
    segments: VecDeque<Segment>,
    bytes: u64,
    dropped_early: u64,
    retained_at: Time,
}

impl MemoryJournal {
    /// An empty log with a new id.
    pub fn new(retention: Retention) -> Self {
        Self {
            log: Arc::new(Log::new(LogId::random())),
            ids: Ids::new(retention.id_window, retention.max_ids),
            consumers: Consumers::new(0, Duration::MAX),
            retention,
            head: Position(0),
            buf: BytesMut::new(),
            used: VecDeque::new(),
            segments: VecDeque::new(),
            bytes: 0,
            dropped_early: 0,
            retained_at: Time::default(),
        }
    }

    /// The same, with consumers.
    #[must_use]
    pub fn with_consumers(self, consumers: Consumers) -> Self {
        Self { consumers, ..self }
    }

    /// Does what is asked of a consumer, and answers it.
    pub fn change(&mut self, now: Time, change: Change) {
        // Here nothing is more durable than it is at once, and nothing is noted.
        if let Some(deferred) = self.consumers.apply(now, self.reach(), change, &mut Vec::new()) {
            deferred.done();
        }
    }

    /// The log, for readers.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Bytes of records kept.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Positions dropped because of the log's size, before their time.
    pub fn dropped_early(&self) -> u64 {
        self.dropped_early
    }

    /// The ids.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Decides about what is handed in, and appends what is new.
    pub fn append<E, C>(&mut self, now: Time, append: Append<E, C>) -> Appended<E, C> {
        match append {
            Append::Events(events, with) => Appended::Events(self.commit(now, events), with),
            Append::CancelInstance(cancel, with) => {
                Appended::CancelInstance(self.commit_cancel(now, cancel), with)
            }
        }
    }

    /// Decides which of the events are new and appends those.
    pub fn commit(&mut self, now: Time, events: Events) -> Committed<Events> {
        self.make_room(now, events.record_bytes());
        let first = self.head.next();
        self.ids.expect(&events);
        let verdicts =
            events.iter().map(|event| self.append_event(now, event, events.record(event))).collect();
        self.publish(now, first);
        Committed { verdicts, records: events, received_at: now }
    }

    /// Appends a CancelInstance.
    pub fn commit_cancel(&mut self, now: Time, cancel: CancelInstance) -> Committed<CancelInstance> {
        let mut bytes = Vec::new();
        record::put_cancel_instance(&mut bytes, &cancel);
        self.make_room(now, bytes.len());
        let first = self.head.next();
        self.buf.extend_from_slice(&bytes);
        self.head = first;
        self.publish(now, first);
        Committed { verdicts: vec![Verdict::New(first)], records: cancel, received_at: now }
    }

    /// Drops what need not be kept any longer. `pinned` is the oldest place from which an open wait may
    /// yet ask again. Gives the oldest position kept.
    pub fn retain(&mut self, now: Time, pinned: Option<Position>) -> Position {
        self.retained_at = now;
        self.ids.expire(now);
        self.consumers.expire(now, &mut Vec::new());
        let pinned = pinned.into_iter().chain(self.consumers.pinned(self.reach())).min();
        let mut oldest = None;
        while let Some(segment) = self.segments.front() {
            let only = self.segments.len() == 1;
            let Some(goes) = self.retention.judge(now, segment.facts(), self.bytes, only, pinned) else {
                break;
            };
            let dropped_from = oldest.unwrap_or_else(|| self.log.oldest());
            let next = segment.last.next();
            self.bytes -= segment.bytes;
            if goes == Goes::Early {
                let dropped = next.0 - dropped_from.0;
                self.dropped_early += dropped;
                warn_of_drop(dropped, next);
            }
            self.segments.pop_front();
            oldest = Some(next);
        }
        // Of what has gone, a buffer or two are kept to be used again.
        while self.used.len() > self.segments.len() + 1 {
            self.used.pop_front();
        }
        if let Some(oldest) = oldest {
            self.log.drop_before(oldest);
        }
        self.log.oldest()
    }

    /// The oldest position that would be kept if no wait held the log; `None` while it is within its size.
    pub fn oldest_by_size(&self) -> Option<Position> {
        self.retention.oldest_by_size(self.bytes, self.segments.iter().map(Segment::facts))
    }

    /// When the log next wants to be asked to retain, if nothing is appended before.
    pub fn next_retain(&self) -> Option<Time> {
        let past = Duration::from_nanos(1);
        let soonest = self.retained_at.plus(RETAIN_EVERY);
        self.segments.front().map(|segment| segment.newest.plus(self.retention.age).plus(past).max(soonest))
    }

    fn reach(&self) -> Reach {
        Reach { oldest: self.log.oldest().before(), head: self.head }
    }

    fn append_event(&mut self, now: Time, event: &Entry, record: &[u8]) -> Verdict {
        let verdict = self.ids.decide(now, event, self.head.next());
        if let Verdict::New(position) = verdict {
            self.buf.extend_from_slice(record);
            self.head = position;
        }
        verdict
    }

    /// Begins a new segment if what comes does not fit the last one, or that is old enough. A segment is one
    /// allocation, which its blocks share.
    fn make_room(&mut self, now: Time, bytes: usize) {
        let (limit, span) = (self.retention.segment_bytes(), self.retention.segment_span());
        let fits = self.segments.back().is_some_and(|segment| {
            segment.bytes + bytes as u64 <= limit && now.since(segment.created) <= span
        });
        if fits || bytes == 0 {
            return;
        }
        let next = self.next_buf(bytes.max(limit as usize));
        self.used.push_back(std::mem::replace(&mut self.buf, next));
        self.segments.push_back(Segment { last: self.head, bytes: 0, created: now, newest: now });
    }

    fn publish(&mut self, now: Time, first: Position) {
        let bytes = self.buf.split().freeze();
        let Some(segment) = self.segments.back_mut() else { return };
        if bytes.is_empty() {
            return;
        }
        segment.last = self.head;
        segment.newest = now;
        segment.bytes += bytes.len() as u64;
        self.bytes += bytes.len() as u64;
        let count = (self.head.0 - first.0 + 1) as u32;
        self.log.push(Block { first, count, received_at: now, bytes });
    }

    fn next_buf(&mut self, capacity: usize) -> BytesMut {
        let free = self.used.iter_mut().position(|buf| buf.try_reclaim(capacity));
        free.and_then(|free| self.used.remove(free)).unwrap_or_else(|| BytesMut::with_capacity(capacity))
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::ReadError;
    use super::*;
    use crate::event::{Caller, Event, InstanceId, KeyRef};

    const VM: InstanceId = InstanceId(uuid::Uuid::nil());
    /// Of one event as [`send`] sends it.
    const RECORD: u64 = 1_000;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn journal(bytes: u64, held_bytes: u64) -> MemoryJournal {
        MemoryJournal::new(Retention {
            while_needed: false,
            age: Duration::from_secs(64),
            bytes,
            held_bytes,
            id_window: Duration::from_secs(100),
            max_ids: 1_024,
        })
    }

    fn event() -> Event<'static> {
        Event::new(VM, KeyRef::new("a", "", 255).expect("a valid key"))
    }

    /// One event a second, from this second on.
    fn send(journal: &mut MemoryJournal, seconds: std::ops::Range<u64>) {
        for second in seconds {
            let mut bytes = Vec::new();
            record::put_event(&mut bytes, &event());
            let data = vec![b'x'; RECORD as usize - bytes.len()];
            journal.commit(at(second), [Event { data: &data, ..event() }].into_iter().collect());
        }
    }

    #[test]
    fn events_are_kept_for_their_age_and_go_soon_after() {
        let mut journal = journal(1 << 30, 1 << 30);
        send(&mut journal, 0..100);
        assert_eq!(journal.bytes(), 100 * RECORD);
        for second in 100..200 {
            let oldest = journal.retain(at(second), None).0;
            // The event at position p came in second p − 1. A segment spans 2 s, and goes with its newest.
            let due = (second - 64 + 1).min(101);
            assert!((due - 2..=due).contains(&oldest), "oldest {oldest}, due {due}");
            assert_eq!(journal.log().oldest().0, oldest);
            assert_eq!(journal.bytes(), (101 - oldest) * RECORD);
        }
        assert_eq!((journal.bytes(), journal.log().oldest()), (0, Position(101)));
        assert_eq!((journal.next_retain(), journal.dropped_early()), (None, 0));
    }

    #[test]
    fn size_wins_over_age_and_what_goes_early_is_counted() {
        let mut journal = journal(20 * RECORD, 1 << 30);
        send(&mut journal, 0..50);
        assert_eq!(journal.retain(at(50), None), Position(31));
        assert_eq!((journal.bytes(), journal.dropped_early()), (20 * RECORD, 30));
        assert_eq!(journal.retain(at(50), None), Position(31));
        assert_eq!(journal.dropped_early(), 30);
    }

    #[test]
    fn open_waits_keep_the_log_from_their_place_on_up_to_held_bytes() {
        let mut journal = journal(20 * RECORD, 40 * RECORD);
        send(&mut journal, 0..30);
        assert_eq!(journal.retain(at(30), Some(Position(4))), Position(5), "what is after the place stays");
        assert_eq!(journal.oldest_by_size(), Some(Position(11)));
        send(&mut journal, 30..60);
        assert_eq!(journal.retain(at(60), Some(Position(4))), Position(21), "held_bytes is the end of it");
        assert_eq!(journal.bytes(), 40 * RECORD);
        assert_eq!(journal.retain(at(60), None), Position(41));
        assert_eq!(journal.oldest_by_size(), None);
    }

    #[test]
    fn it_wants_to_be_asked_when_its_oldest_is_due_but_not_again_at_once() {
        let mut journal = journal(1 << 30, 1 << 30);
        assert_eq!(journal.next_retain(), None);
        send(&mut journal, 10..11);
        let due = Time::from_nanos(at(74).as_nanos() + 1);
        assert_eq!(journal.next_retain(), Some(due));
        assert_eq!(journal.retain(at(74), None), Position(1));
        // A wait holds it.
        assert_eq!(journal.retain(due, Some(Position(0))), Position(1));
        assert_eq!(journal.next_retain(), Some(due.plus(RETAIN_EVERY)));
        assert_eq!(journal.retain(due.plus(RETAIN_EVERY), None), Position(2));
    }

    #[test]
    fn ids_outlive_their_events() {
        let mut journal = journal(1 << 30, 1 << 30);
        let event = Event { id_given: true, ..event() };
        let commit = |journal: &mut MemoryJournal, second| {
            journal.commit(at(second), [event].into_iter().collect()).verdicts().to_vec()
        };
        assert_eq!(commit(&mut journal, 0), [Verdict::New(Position(1))]);
        assert_eq!(journal.retain(at(100), None), Position(2));
        assert_eq!(commit(&mut journal, 100), [Verdict::Duplicate(Position(1))]);
        journal.retain(at(101), None);
        assert_eq!(commit(&mut journal, 101), [Verdict::New(Position(2))]);
    }

    #[tokio::test]
    async fn readers_see_what_is_committed_and_are_told_when_the_head_moves() {
        let mut journal = journal(1 << 30, 1 << 30);
        let log = Arc::clone(journal.log());
        let told = tokio::spawn(async move { log.past(Position(2)).await });
        tokio::task::yield_now().await;
        assert!(!told.is_finished());
        let caller = Caller { uid: 7, operator: false };
        send(&mut journal, 0..2);
        journal.commit_cancel(at(2), CancelInstance { instance: VM, caller, why: "deleted".to_owned() });
        assert_eq!(journal.log().head(), Position(3));
        told.await.expect("no panic");
        let blocks = journal.log().read(Position(2)).await.expect("nothing was dropped");
        let records: Result<Vec<_>, _> = blocks[0].records(Position(0)).collect();
        assert_eq!(records.expect("whole records").len(), 1);
        assert!(journal.log().read(Position(3)).await.expect("nothing was dropped").is_empty());
        journal.retain(at(100), None);
        let gone = journal.log().read(Position(2)).await.expect_err("it was dropped");
        assert_eq!(gone, ReadError::Expired { oldest: Position(3) });
    }
}
