//! Events on their way into the log, already in its form.
//!
//! Where a request is read, each of its events is checked and written as the record that it will be. Past
//! that its bytes are only moved, and what is asked about it stands beside them.

use std::time::Duration;

use super::record::{self, Damaged, Raw, Record};
use crate::clock::Time;
use crate::event::{Event, EventId, KeyHash, Status};

/// The events of one request.
#[derive(Debug, Default)]
pub struct Events {
    entries: Vec<Entry>,
    records: Vec<u8>,
}

/// What is asked about an event on its way.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The sender's id, or the agent's.
    pub id: EventId,
    /// The digest of its content, if the sender gave the id: only such an id is looked up for duplicates.
    pub digest: Option<u64>,
    /// The hash of its instance and key.
    pub hash: KeyHash,
    /// What became of the work.
    pub status: Status,
    /// When it happened, by the sender's clock.
    pub occurred_at: Option<Time>,
    /// How long a gateway kept it.
    pub held_for: Option<Duration>,
    start: u32,
    end: u32,
}

impl Events {
    /// Room for so many.
    pub fn with_capacity(events: usize) -> Self {
        // Most events have no data, and a tag that is a UUID.
        Self { entries: Vec::with_capacity(events), records: Vec::with_capacity(events * 128) }
    }

    /// Adds one.
    pub fn push(&mut self, event: &Event<'_>) {
        let start = self.records.len();
        record::put_event(&mut self.records, event);
        // Only an id that the sender gave is ever looked up.
        let digest = if event.id_given { record::digest(&self.records[start..]) } else { 0 };
        let (start, end) = (start as u32, self.records.len() as u32);
        self.entries.push(Entry { start, end, ..Entry::of(event, digest) });
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that they hold in memory.
    pub fn weight(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.records.capacity()
    }

    /// Bytes of their records.
    pub fn record_bytes(&self) -> usize {
        self.records.len()
    }

    /// Each, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The record of one of these events.
    pub fn record(&self, entry: &Entry) -> &[u8] {
        &self.records[entry.start as usize..entry.end as usize]
    }

    /// One of these events, whole.
    pub fn event(&self, entry: &Entry) -> Result<Event<'_>, Damaged> {
        match Raw::cut(&mut self.record(entry), Time::default())?.decode()? {
            Record::Event(record) => Ok(record.event),
            Record::CancelInstance(_) => Err(Damaged),
        }
    }
}

impl Entry {
    /// What is asked about an event that is in the log.
    pub fn of(event: &Event<'_>, digest: u64) -> Self {
        Self {
            id: event.id,
            digest: event.id_given.then_some(digest),
            hash: KeyHash::of(event.instance, event.key),
            status: event.status,
            occurred_at: event.occurred_at,
            held_for: event.held_for,
            start: 0,
            end: 0,
        }
    }
}

impl<'a> FromIterator<Event<'a>> for Events {
    fn from_iter<I: IntoIterator<Item = Event<'a>>>(events: I) -> Self {
        let mut all = Self::default();
        for event in events {
            all.push(&event);
        }
        all
    }
}
