//! The event ids that were seen, in bounds of age and number.
//!
//! Whoever appends to the log decides with this what is a duplicate, and nobody else does. An id outlives
//! its event.

mod table;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::time::Duration;

use self::table::{Since, Table, Tag};
use super::Verdict;
use super::events::{Entry, Events};
use crate::clock::Time;
use crate::event::{EventId, Position};

/// Ids are forgotten so many at a time.
const CHUNK: usize = 1_024;
/// A table grows by itself, all of it at once: so many small ones never stop the appender for long.
const SHARDS: usize = 256;

/// What is known of an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Never,
    /// It was given to an event of the same content, at this position.
    Same(Position),
    /// It was given to an event of other content.
    Reused,
}

#[derive(Clone, Copy)]
struct Remembered {
    id: EventId,
    digest: u64,
    position: Position,
}

struct Chunk {
    ids: Vec<Remembered>,
    newest: Time,
}

/// The ids seen, oldest first, with tables to find them by.
///
/// A table holds only an id's number in the order of their coming, so that an id costs 32 bytes and some 11
/// to 32 in its table.
pub struct Ids {
    window: Duration,
    max: usize,
    secret: [u64; 2],
    tables: Vec<Table>,
    chunks: VecDeque<Chunk>,
    /// The number of the first id in the first chunk. Numbers wrap.
    first: u32,
    len: usize,
    dropped_early: u64,
}

impl Ids {
    /// Remembers ids for `window`, and `max` of them at most (rounded down to whole chunks of 1,024, but
    /// never below one).
    pub fn new(window: Duration, max: usize) -> Self {
        let random = RandomState::new();
        Self {
            window,
            max: max.max(CHUNK),
            secret: [random.hash_one(1), random.hash_one(2)],
            tables: (0..SHARDS).map(|_| Table::default()).collect(),
            chunks: VecDeque::new(),
            first: 0,
            len: 0,
            dropped_early: 0,
        }
    }

    /// Gets ready to decide about many events: the memory that this needs is then fetched at once.
    pub fn expect(&self, events: &Events) {
        let given = events.iter().filter(|event| event.digest.is_some());
        black_box(given.fold(0, |read, event| {
            let (shard, tag) = self.place(event.id);
            read ^ self.tables[shard].touch(tag)
        }));
    }

    /// Decides whether an event is new; then it gets the position `next`, and its id is remembered. One whose
    /// sender gave no id always is.
    pub fn decide(&mut self, now: Time, event: &Entry, next: Position) -> Verdict {
        if let Some(digest) = event.digest {
            match self.look_up(event.id, digest) {
                Seen::Same(position) => return Verdict::Duplicate(position),
                Seen::Reused => return Verdict::IdReused,
                Seen::Never => self.remember(now, event.id, digest, next),
            }
        }
        Verdict::New(next)
    }

    /// What is known of `id`, for an event whose content has this digest.
    pub fn look_up(&self, id: EventId, digest: u64) -> Seen {
        let (shard, tag) = self.place(id);
        let found = self.tables[shard].find(tag, Since(self.first), |number| self.at(number).id == id);
        match found.map(|number| self.at(number)) {
            None => Seen::Never,
            Some(known) if known.digest == digest => Seen::Same(known.position),
            Some(_) => Seen::Reused,
        }
    }

    /// Remembers an id that [`look_up`](Self::look_up) has never seen.
    pub fn remember(&mut self, now: Time, id: EventId, digest: u64, position: Position) {
        if self.chunks.back().is_none_or(|chunk| chunk.ids.len() == CHUNK) {
            let mut ids = Vec::new();
            if self.len + CHUNK > self.max {
                ids = self.forget_chunk();
                self.dropped_early += ids.len() as u64;
                ids.clear();
            }
            ids.reserve_exact(CHUNK);
            self.chunks.push_back(Chunk { ids, newest: now });
        }
        let number = self.first.wrapping_add(self.len as u32);
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.ids.push(Remembered { id, digest, position });
            chunk.newest = now;
        }
        self.len += 1;
        let (shard, tag) = self.place(id);
        self.tables[shard].insert(tag, number, Since(self.first));
    }

    /// Remembers an id of an event that was found at a start. The older comes first; one that is known is left.
    pub fn restore(&mut self, id: EventId, digest: u64, position: Position) {
        if self.look_up(id, digest) == Seen::Never {
            self.remember(Time::default(), id, digest, position);
        }
    }

    /// What was found at this start counts from now on as new.
    pub fn set_found(&mut self, now: Time) {
        for chunk in &mut self.chunks {
            chunk.newest = now;
        }
    }

    /// Takes back the newest `count` ids: their events could not be written.
    pub fn take_back(&mut self, count: usize) {
        for _ in 0..count {
            while self.chunks.back().is_some_and(|chunk| chunk.ids.is_empty()) {
                self.chunks.pop_back();
            }
            let Some(taken) = self.chunks.back_mut().and_then(|chunk| chunk.ids.pop()) else { return };
            self.len -= 1;
            let number = self.first.wrapping_add(self.len as u32);
            let (shard, tag) = self.place(taken.id);
            self.tables[shard].take_back(tag, number, Since(self.first));
        }
    }

    /// Forgets what is older than the window. A chunk goes as a whole, once its newest id is that old.
    pub fn expire(&mut self, now: Time) {
        let horizon = now.minus(self.window);
        while self.chunks.front().is_some_and(|chunk| chunk.newest < horizon) {
            self.forget_chunk();
        }
    }

    /// The position of the oldest that is remembered.
    pub fn oldest(&self) -> Option<Position> {
        self.chunks.front()?.ids.first().map(|id| id.position)
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many were forgotten because of their number, before their time.
    pub fn dropped_early(&self) -> u64 {
        self.dropped_early
    }

    /// The ids that are remembered of events from `first` to `last`, in their order.
    pub fn of(&self, first: Position, last: Position) -> impl Iterator<Item = (EventId, u64, Position)> {
        let before = |chunk: &Chunk| chunk.ids.last().is_none_or(|id| id.position < first);
        let chunks = self.chunks.range(self.chunks.partition_point(before)..);
        let ids = chunks.flat_map(|chunk| &chunk.ids);
        ids.skip_while(move |id| id.position < first)
            .take_while(move |id| id.position <= last)
            .map(|id| (id.id, id.digest, id.position))
    }

    fn forget_chunk(&mut self) -> Vec<Remembered> {
        let forgotten = self.chunks.pop_front().map(|chunk| chunk.ids).unwrap_or_default();
        self.first = self.first.wrapping_add(forgotten.len() as u32);
        self.len -= forgotten.len();
        forgotten
    }

    /// Which table an id is in, and its tag there. Senders choose ids and do not know the secret, so they
    /// cannot choose which of them meet.
    fn place(&self, id: EventId) -> (usize, Tag) {
        let (high, low) = id.0.as_u64_pair();
        let product = u128::from(high ^ self.secret[0]) * u128::from(low ^ self.secret[1]);
        let hash = (product >> 64) as u64 ^ product as u64;
        ((hash >> 56) as usize % SHARDS, Tag::new(hash))
    }

    fn at(&self, number: u32) -> Remembered {
        let offset = number.wrapping_sub(self.first) as usize;
        self.chunks[offset / CHUNK].ids[offset % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> EventId {
        EventId(uuid::Uuid::from_u128(n))
    }

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_known_id_is_the_same_only_with_the_same_content() {
        let mut ids = Ids::new(Duration::from_secs(10), 10_000);
        assert_eq!(ids.look_up(id(7), 1), Seen::Never);
        ids.remember(at(0), id(7), 1, Position(3));
        assert_eq!(ids.look_up(id(7), 1), Seen::Same(Position(3)));
        assert_eq!(ids.look_up(id(7), 2), Seen::Reused);
    }

    #[test]
    fn ids_are_forgotten_by_age_but_never_within_the_window() {
        let mut ids = Ids::new(Duration::from_secs(10), 1_000_000);
        for n in 0..5_000 {
            ids.remember(at(n as u64 / 1_000), id(n), 0, Position(n as u64));
        }
        ids.expire(at(12));
        for n in 2_000..5_000 {
            assert_eq!(ids.look_up(id(n), 0), Seen::Same(Position(n as u64)), "id {n}");
        }
        assert_eq!(ids.look_up(id(0), 0), Seen::Never);
        ids.expire(at(100));
        assert!(ids.is_empty());
        assert_eq!(ids.dropped_early(), 0);
    }

    #[test]
    fn what_is_taken_back_was_never_seen_and_what_came_before_it_still_is() {
        let mut ids = Ids::new(Duration::from_secs(10), 1_000_000);
        for round in 0..3 {
            for n in 0..3_000 {
                assert_eq!(ids.look_up(id(n), 0), Seen::Never, "id {n} in round {round}");
                ids.remember(at(0), id(n), 0, Position(n as u64));
            }
            ids.take_back(2_500);
            for n in 0..3_000 {
                let known = ids.look_up(id(n), 0) == Seen::Same(Position(n as u64));
                assert_eq!(known, n < 500, "id {n} in round {round}");
            }
            ids.take_back(500);
            assert!(ids.is_empty());
        }
    }

    #[test]
    fn size_wins_over_age_and_what_goes_early_is_counted() {
        let mut ids = Ids::new(Duration::from_secs(10), 4_096);
        for n in 0..10_000 {
            ids.remember(at(0), id(n), 0, Position(n as u64));
            assert!(ids.len() <= 4_096);
        }
        assert_eq!(ids.look_up(id(9_999), 0), Seen::Same(Position(9_999)));
        assert_eq!(ids.look_up(id(0), 0), Seen::Never);
        assert_eq!(ids.dropped_early() as usize + ids.len(), 10_000);
    }
}
