//! The journal of `durability = "none"`: the log in memory, appended to by the engine's own task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tracing::warn;

use super::ids::{Ids, Seen};
use super::log::{Block, Log};
use super::record;
use super::{Committed, Verdict};
use crate::clock::Time;
use crate::event::{CancelInstance, Event, LogId, Position};

/// A log has so many segments at the least, so that dropping one never drops much of it.
const SEGMENTS: u64 = 32;

/// How much of the log is kept, and of the ids.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How long events are kept.
    pub age: Duration,
    /// How many bytes of records are kept. It wins over the age.
    pub bytes: u64,
    /// How many bytes are kept at most for waits that may yet ask from an older place.
    pub held_bytes: u64,
    /// How long ids are kept.
    pub id_window: Duration,
    /// How many ids are kept. It wins over the window.
    pub max_ids: usize,
}

#[derive(Debug)]
struct Segment {
    last: Position,
    bytes: u64,
    created: Time,
    newest: Time,
}

/// The log in memory, with the one who decides what is a duplicate.
pub struct MemoryJournal {
    log: Arc<Log>,
    retention: Retention,
    ids: Ids,
    head: Position,
    buf: BytesMut,
    segments: VecDeque<Segment>,
    bytes: u64,
    dropped_early: u64,
}

impl MemoryJournal {
    /// An empty log with a new id.
    pub fn new(retention: Retention) -> Self {
        Self {
            log: Arc::new(Log::new(LogId::random())),
            ids: Ids::new(retention.id_window, retention.max_ids),
            retention,
            head: Position(0),
            buf: BytesMut::new(),
            segments: VecDeque::new(),
            bytes: 0,
            dropped_early: 0,
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

    /// Decides which of the events are new and appends those.
    pub fn commit(&mut self, now: Time, events: Vec<Event>) -> Committed<Vec<Event>> {
        let first = self.head.next();
        self.ids.expect(events.iter().filter(|event| event.id_given).map(|event| event.id));
        let verdicts = events.iter().map(|event| self.append(now, event)).collect();
        self.publish(now, first);
        Committed { verdicts, records: events, received_at: now }
    }

    /// Appends a CancelInstance.
    pub fn commit_cancel(&mut self, now: Time, cancel: CancelInstance) -> Committed<CancelInstance> {
        let first = self.head.next();
        record::put_cancel_instance(&mut self.buf, &cancel, now);
        self.head = first;
        self.publish(now, first);
        Committed { verdicts: vec![Verdict::New(first)], records: cancel, received_at: now }
    }

    /// Drops what need not be kept any longer. `pinned` is the oldest place from which an open wait may
    /// yet ask again. Gives the oldest position kept.
    pub fn retain(&mut self, now: Time, pinned: Option<Position>) -> Position {
        self.ids.expire(now);
        let horizon = now.minus(self.retention.age);
        let mut oldest = None;
        while let Some(segment) = self.segments.front() {
            let old = segment.newest < horizon;
            let over = self.bytes > self.retention.bytes;
            let needed = pinned.is_some_and(|pinned| pinned < segment.last);
            let newest = self.segments.len() == 1 && !old;
            if newest || !(old || over) || (needed && self.bytes <= self.retention.held_bytes) {
                break;
            }
            let dropped_from = oldest.unwrap_or_else(|| self.log.oldest());
            let next = segment.last.next();
            self.bytes -= segment.bytes;
            if !old {
                let dropped = next.0 - dropped_from.0;
                self.dropped_early += dropped;
                warn!(dropped, oldest = next.0, "log over its size: events dropped before their time");
            }
            self.segments.pop_front();
            oldest = Some(next);
        }
        if let Some(oldest) = oldest {
            self.log.drop_before(oldest);
        }
        self.log.oldest()
    }

    /// When the log next wants to be asked to retain, if nothing is appended before.
    pub fn next_retain(&self) -> Option<Time> {
        let past = Duration::from_nanos(1);
        self.segments.front().map(|segment| segment.newest.plus(self.retention.age).plus(past))
    }

    fn append(&mut self, now: Time, event: &Event) -> Verdict {
        let position = self.head.next();
        if event.id_given {
            let digest = event.digest();
            match self.ids.look_up(event.id, digest) {
                Seen::Same(position) => return Verdict::Duplicate(position),
                Seen::Reused => return Verdict::IdReused,
                Seen::Never => self.ids.remember(now, event.id, digest, position),
            }
        }
        record::put_event(&mut self.buf, event, now);
        self.head = position;
        Verdict::New(position)
    }

    fn publish(&mut self, now: Time, first: Position) {
        if self.buf.is_empty() {
            return;
        }
        let bytes = self.buf.split().freeze();
        let length = bytes.len() as u64;
        let limit = self.retention.bytes / SEGMENTS;
        let span = self.retention.age / SEGMENTS as u32;
        match self.segments.back_mut() {
            Some(segment) if segment.bytes + length <= limit && now.since(segment.created) <= span => {
                segment.last = self.head;
                segment.bytes += length;
                segment.newest = now;
            }
            _ => {
                // One allocation a segment: its blocks share it, and it goes when the last of them does.
                self.buf = BytesMut::with_capacity(limit as usize);
                self.segments.push_back(Segment {
                    last: self.head,
                    bytes: length,
                    created: now,
                    newest: now,
                });
            }
        }
        self.bytes += length;
        let count = (self.head.0 - first.0 + 1) as u32;
        self.log.push(Block { first, count, bytes });
    }
}
