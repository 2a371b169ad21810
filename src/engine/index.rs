//! An index of the log: which positions a key has, oldest first, and when each was received.
//!
//! It holds about 75 bytes a position and no data, in tables that are dropped whole as the log is. A
//! look-up follows the chain of one key, not all that the instance has had.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hashbrown::HashTable;

use super::EventBrief;
use crate::clock::Time;
use crate::event::{Caller, CancelInstance, Event, EventId, InstanceId, KeyHash, Position, Status};

/// Positions a table. Few in tests, so that what they ask about lies in several.
const TABLE: usize = if cfg!(test) { 8 } else { 32_768 };
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
    oldest: Position,
    head: Position,
    /// When the position before the oldest was received. `None`: the log has dropped nothing.
    before_oldest: Option<Time>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { tables: VecDeque::new(), oldest: Position(1), head: Position(0), before_oldest: None }
    }

    pub(super) fn oldest(&self) -> Position {
        self.oldest
    }

    pub(super) fn head(&self) -> Position {
        self.head
    }

    pub(super) fn add_event(&mut self, position: Position, event: &Event, received_at: Time) {
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
        self.before_oldest = self.received_at(oldest.before()).or(self.before_oldest);
        self.oldest = oldest;
        while self.tables.front().is_some_and(|table| table.end() <= oldest) {
            self.tables.pop_front();
        }
    }

    /// When a position from oldest − 1 to the head was received. `None` for 0, which never was.
    pub(super) fn received_at(&self, position: Position) -> Option<Time> {
        if position == self.oldest.before() && position < self.oldest {
            return self.before_oldest;
        }
        let table = self.tables.get(self.tables.partition_point(|table| table.end() <= position))?;
        let offset = position.0.checked_sub(table.first.0)?;
        table.entries.get(offset as usize).map(|entry| entry.received_at)
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
        Some(Position(table.first.0 + offset as u64).max(self.oldest).before())
    }

    /// What came on each of the keys after `after`, in the order of positions, each with the key's number.
    pub(super) fn after(&self, after: Position, keys: &[KeyHash]) -> Vec<(u16, EventBrief)> {
        let after = after.max(self.oldest.before());
        let mut found = Vec::new();
        for table in self.tables.iter().skip_while(|table| table.end() <= after.next()) {
            for (key, hash) in keys.iter().enumerate() {
                table.chain(*hash, after, |event| found.push((key as u16, event)));
            }
        }
        found.sort_by_key(|(_, event)| event.position);
        found
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
            // The table before tells how many keys to expect: it need not grow again to hold as many.
            let keys = self.tables.back().map_or(0, |table| table.newest.len());
            self.tables.push_back(Table {
                first: position,
                entries: Vec::with_capacity(TABLE),
                newest: HashTable::with_capacity(keys),
                cancels: HashMap::new(),
            });
        }
        let last = self.tables.len() - 1;
        &mut self.tables[last]
    }
}

impl Table {
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
