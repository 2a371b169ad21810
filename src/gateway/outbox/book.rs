//! What is in the outbox, by its place in the log. Plain state: the writer moves it on as batches are synced.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Delivery, record};
use crate::clock::Time;
use crate::event::Position;
use crate::journal::ids_file::Id;
use crate::journal::record::Damaged;
use crate::journal::recovery::Restore;

/// A delivery's number: the position that it was first kept at. It rises in the order in which events are to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A delivery that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its number.
    pub ticket: Ticket,
    /// What is to be delivered.
    pub delivery: Arc<Delivery>,
}

/// Every delivery that is kept and has not ended.
#[derive(Debug, Default)]
pub struct Book {
    by_place: BTreeMap<Position, Held>,
    places: HashMap<Ticket, Position>,
    bytes: u64,
}

#[derive(Debug)]
struct Held {
    kept: Kept,
    bytes: u64,
}

impl Book {
    /// Bytes of records that have not ended.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many have not ended.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All that have not ended, in the order in which they are to be delivered.
    pub fn in_order(&self) -> Vec<Kept> {
        let mut all: Vec<_> = self.by_place.values().map(|held| held.kept.clone()).collect();
        all.sort_unstable_by_key(|kept| kept.ticket);
        all
    }

    /// One is kept at this place, in so many bytes; or, if its ticket is known, it is from now on kept there.
    pub fn add(&mut self, place: Position, kept: Kept, bytes: u64) {
        if let Some(before) = self.places.insert(kept.ticket, place)
            && let Some(before) = self.by_place.remove(&before)
        {
            self.bytes -= before.bytes;
        }
        self.bytes += bytes;
        self.by_place.insert(place, Held { kept, bytes });
    }

    /// One has ended. Says whether it had not before.
    pub fn end(&mut self, ticket: Ticket) -> bool {
        let Some(place) = self.places.remove(&ticket) else { return false };
        if let Some(held) = self.by_place.remove(&place) {
            self.bytes -= held.bytes;
        }
        true
    }

    /// What comes after this is needed.
    pub fn pinned(&self) -> Option<Position> {
        self.by_place.first_key_value().map(|(place, _)| place.before())
    }

    /// Those that are kept before a place, the oldest first.
    pub fn before(&self, place: Position) -> impl Iterator<Item = &Kept> {
        self.by_place.range(..place).map(|(_, held)| &held.kept)
    }
}

impl Restore for Book {
    fn ids(&mut self, _: &[Id]) {}

    fn batch(&mut self, first: Position, count: u32, _: Time, body: &[u8]) -> Result<(), Damaged> {
        let mut rest = body;
        for place in (first.0..).map(Position).take(count as usize) {
            let before = rest.len();
            let (delivery, ticket) = record::take(&mut rest)?;
            let kept = Kept { ticket: Ticket(ticket.unwrap_or(place.0)), delivery: Arc::new(delivery) };
            self.add(place, kept, (before - rest.len()) as u64);
        }
        while let Some(tickets) = record::take_ended(&mut rest)? {
            for ticket in tickets {
                self.end(Ticket(ticket));
            }
        }
        Ok(())
    }
}
