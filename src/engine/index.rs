//! An index of the log: which positions a key has, oldest first, and when each was received.
//!
//! It holds about 75 bytes a position and no data, in tables that are dropped whole as the log is. A
//! look-up follows the chain of one key, not all that the instance has had.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::time::Duration;

use hashbrown::HashTable;

use super::EventBrief;
use crate::clock::Time;
use crate::event::{Caller, CancelInstance, EventId, InstanceId, KeyHash, Position, Status};
use crate::journal::events;

/// Positions a table. Few in tests, so that what they ask about lies in several.
const TABLE: usize = if cfg!(test) { 8 } else { 32_768 };
/// Emptied tables kept, at some 2.5 MB each: a segment of the log drops two or three at once.
const SPARES: usize = 4;
const NONE: u64 = u64::MAX;
const END: u32 = u32::MAX;

struct Entry {
    hash: KeyHash,
    id: EventId,
    received_at: Time,
    held_for: u64,
    occurred_at: u64,
    /// The table's entry before this one with the same key.
    previous: u32,
    /// `None` for a CancelInstance, which has no key.
    status: Option<Status>,
}

struct Table {
    first: Position,
    entries: Vec<Entry>,
    /// The newest entry of each key.
    newest: HashTable<u32>,
    cancels: HashMap<InstanceId, Vec<(Position, Cancelled)>>,
}

/// A CancelInstance in the log.
#[derive(Clone, Debug)]
pub(super) struct Cancelled {
    pub(super) caller: Caller,
    pub(super) why: String,
}

/// The index of the positions that the log keeps.
pub(super) struct Index {
    tables: VecDeque<Table>,
    /// Tables whose positions have gone, emptied. Fresh memory costs more than all else that is done to an
    /// event, and a log at its size drops a table as often as it needs one.
    spares: Vec<Table>,
    oldest: Position,
    head: Position,
    /// When the newest record before the oldest was received. `None`: the log has dropped nothing.
    before_oldest: Option<Time>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            tables: VecDeque::new(),
            spares: Vec::new(),
            oldest: Position(1),
            head: Position(0),
            before_oldest: None,
        }
    }

    /// All that the log had is added: it reaches from `oldest` to `head`, and what came before was received at
    /// `before` at the latest.
    pub(super) fn restored(&mut self, oldest: Position, head: Position, before: Option<Time>) {
        self.oldest = oldest;
        self.head = head;
        self.before_oldest = before;
    }

    pub(super) fn oldest(&self) -> Position {
        self.oldest
    }

    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// Gets ready to add an event with this key.
    pub(super) fn expect(&self, hash: KeyHash) {
        let newest = self.tables.back().map(|table| &table.newest);
        black_box(newest.and_then(|newest| newest.find(hash.bits(), |&number| black_box(number) == END)));
    }

    pub(super) fn add_event(&mut self, position: Position, event: &events::Entry, received_at: Time) {
        let table = self.table_for(position);
        let number = table.entries.len() as u32;
        let mut entry = Entry {
            hash: event.hash,
            id: event.id,
            received_at,
            held_for: event.held_for.map_or(NONE, |held| held.as_nanos() as u64),
            occurred_at: event.occurred_at.map_or(NONE, Time::as_nanos),
            previous: END,
            status: Some(event.status),
        };
        let (entries, newest) = (&table.entries, &mut table.newest);
        let same = |&other: &u32| entries[other as usize].hash == event.hash;
        match newest.entry(event.hash.bits(), same, |&other| entries[other as usize].hash.bits()) {
            hashbrown::hash_table::Entry::Occupied(mut newest) => {
                entry.previous = std::mem::replace(newest.get_mut(), number);
            }
            hashbrown::hash_table::Entry::Vacant(newest) => {
                newest.insert(number);
            }
        }
        table.entries.push(entry);
        self.head = position;
    }

    pub(super) fn add_cancel(&mut self, position: Position, cancel: &CancelInstance, received_at: Time) {
        let table = self.table_for(position);
        table.entries.push(Entry {
            hash: KeyHash::default(),
            id: EventId(uuid::Uuid::nil()),
            received_at,
            held_for: NONE,
            occurred_at: NONE,
            previous: END,
            status: None,
        });
        let cancelled = Cancelled { caller: cancel.caller, why: cancel.why.clone() };
        table.cancels.entry(cancel.instance).or_default().push((position, cancelled));
        self.head = position;
    }

    /// Forgets what is before `oldest`.
    pub(super) fn drop_before(&mut self, oldest: Position) {
        if oldest <= self.oldest {
            return;
        }
        self.before_oldest = self.received_at(oldest.before());
        self.oldest = oldest;
        while let Some(mut gone) = self.tables.pop_front_if(|table| table.end() <= oldest) {
            if self.spares.len() < SPARES {
                gone.clear();
                self.spares.push(gone);
            }
        }
    }

    /// When the newest record up to a position from oldest − 1 to the head was received: itself, unless it is
    /// in a gap. `None` if the log never had one.
    pub(super) fn received_at(&self, position: Position) -> Option<Time> {
        let tables = self.tables.partition_point(|table| table.first <= position);
        match self.tables.get(tables.wrapping_sub(1)) {
            Some(table) if position >= self.oldest => {
                let offset = (position.0 - table.first.0) as usize;
                table.entries.get(offset).or(table.entries.last()).map(|entry| entry.received_at)
            }
            _ => self.before_oldest,
        }
    }

    /// The place just before the first position received at `moment` or later. `None` if the log may have
    /// dropped positions that were.
    pub(super) fn place_before(&self, moment: Time) -> Option<Position> {
        if self.before_oldest.is_some_and(|dropped| dropped >= moment) {
            return None;
        }
        let tables = &self.tables;
        let at = tables.partition_point(|t| t.entries.last().is_some_and(|e| e.received_at < moment));
        let Some(table) = tables.get(at) else { return Some(self.head) };
        let offset = table.entries.partition_point(|entry| entry.received_at < moment);
        Some(Position(table.first.0 + offset as u64).before())
    }

    /// What came on each of the keys after `after`, in the order of positions, each with the key's number. No
    /// more of it is in memory than one table has.
    pub(super) fn after(&self, after: Position, keys: &[KeyHash]) -> impl Iterator<Item = (u16, EventBrief)> {
        let after = after.max(self.oldest.before());
        let tables = self.tables.iter().skip_while(move |table| table.end() <= after.next());
        tables.flat_map(move |table| {
            let mut found = Vec::new();
            for (key, hash) in keys.iter().enumerate() {
                table.chain(*hash, after, |event| found.push((key as u16, event)));
            }
            found.sort_unstable_by_key(|(_, event)| event.position);
            found
        })
    }

    /// The first CancelInstance of the instance after `after` that `ends` says is one for it.
    pub(super) fn cancel_after(
        &self,
        after: Position,
        instance: InstanceId,
        ends: impl Fn(&Cancelled) -> bool,
    ) -> Option<(Position, &Cancelled)> {
        let after = after.max(self.oldest.before());
        self.tables
            .iter()
            .filter_map(|table| table.cancels.get(&instance))
            .flatten()
            .find(|(position, cancelled)| *position > after && ends(cancelled))
            .map(|(position, cancelled)| (*position, cancelled))
    }

    fn table_for(&mut self, position: Position) -> &mut Table {
        // Positions in a table have no gap, so that a position is also an offset.
        let fits =
            self.tables.back().is_some_and(|table| table.entries.len() < TABLE && table.end() == position);
        if !fits {
            let table = self.spares.pop().unwrap_or_else(Table::new);
            self.tables.push_back(Table { first: position, ..table });
        }
        let last = self.tables.len() - 1;
        &mut self.tables[last]
    }
}

impl Table {
    fn new() -> Self {
        Self {
            first: Position(0),
            entries: Vec::with_capacity(TABLE),
            newest: HashTable::with_capacity(TABLE),
            cancels: HashMap::new(),
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.newest.clear();
        self.cancels.clear();
    }

    /// The position after its last.
    fn end(&self) -> Position {
        Position(self.first.0 + self.entries.len() as u64)
    }

    /// Calls `found` with each event of the key after `after`, newest first.
    fn chain(&self, hash: KeyHash, after: Position, mut found: impl FnMut(EventBrief)) {
        let same = |&other: &u32| self.entries[other as usize].hash == hash;
        let mut next = self.newest.find(hash.bits(), same).copied().unwrap_or(END);
        while let Some(entry) = self.entries.get(next as usize) {
            let position = Position(self.first.0 + u64::from(next));
            if position <= after {
                return;
            }
            if let Some(status) = entry.status {
                found(EventBrief {
                    position,
                    id: entry.id,
                    status,
                    received_at: entry.received_at,
                    occurred_at: (entry.occurred_at != NONE).then_some(Time::from_nanos(entry.occurred_at)),
                    held_for: (entry.held_for != NONE).then_some(Duration::from_nanos(entry.held_for)),
                });
            }
            next = entry.previous;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, KeyRef};

    const VM: InstanceId = InstanceId(uuid::Uuid::nil());

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn event() -> events::Entry {
        let event = Event::new(VM, KeyRef::new("a", "", 255).expect("a valid key"));
        let events: events::Events = [event].into_iter().collect();
        *events.iter().next().expect("one event")
    }

    /// Records at these positions, each received at the second of its position.
    fn index(positions: impl IntoIterator<Item = u64>) -> Index {
        let mut index = Index::new();
        for position in positions {
            index.add_event(Position(position), &event(), at(position));
        }
        index
    }

    fn found(index: &Index, after: u64) -> Vec<u64> {
        index.after(Position(after), &[event().hash]).map(|(_, event)| event.position.0).collect()
    }

    #[test]
    fn a_place_in_a_gap_was_received_with_what_comes_before_the_gap() {
        let mut index = index((1..=3).chain(10..=12));
        let received = |index: &Index, position| index.received_at(Position(position));
        assert_eq!(
            [0, 3, 7, 10].map(|p| received(&index, p)),
            [None, Some(at(3)), Some(at(3)), Some(at(10))]
        );
        assert_eq!(found(&index, 7), [10, 11, 12]);
        assert_eq!([3, 4, 10].map(|s| index.place_before(at(s))), [2, 9, 9].map(|p| Some(Position(p))));
        // The newest that was dropped is before the gap.
        index.drop_before(Position(10));
        assert_eq!(received(&index, 9), Some(at(3)));
        assert_eq!([3, 4].map(|s| index.place_before(at(s))), [None, Some(Position(9))]);
    }

    #[test]
    fn what_is_dropped_is_not_found_also_while_its_table_is_kept() {
        let mut index = index(1..=3 * TABLE as u64);
        for oldest in [2, TABLE as u64, TABLE as u64 + 3, 3 * TABLE as u64 + 1] {
            index.drop_before(Position(oldest));
            assert_eq!(found(&index, 0), (oldest..=3 * TABLE as u64).collect::<Vec<_>>());
            assert_eq!(index.received_at(Position(oldest - 1)), Some(at(oldest - 1)));
        }
        assert!(index.tables.is_empty());
        assert_eq!(
            (index.oldest(), index.head()),
            (Position(3 * TABLE as u64 + 1), Position(3 * TABLE as u64))
        );
    }
}
