//! What did not go as it should: deliveries that ended without having arrived, and events that were refused.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Time;
use crate::directory::Host;
use crate::event::{EventId, InstanceId};

/// So many of each are remembered, the newest ones.
const REMEMBERED: usize = 10_000;

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It was not to be delivered in time.
    Expired,
    /// Its host no longer has the instance, and no other has it.
    Moved,
    /// Its agent did not take it.
    Rejected,
}

/// A delivery that ended without having arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Time,
    /// How.
    pub how: How,
    /// The event.
    pub id: EventId,
    /// Its instance.
    pub instance: InstanceId,
    /// What happened.
    pub name: String,
    /// To what.
    pub tag: String,
    /// Where it was to go.
    pub host: Option<Host>,
    /// Why, for people.
    pub why: String,
}

/// An event, or a whole request, that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Time,
    /// The code that the caller was told.
    pub code: u16,
    /// The instance, if it is an event's.
    pub instance: Option<InstanceId>,
    /// What happened.
    pub name: String,
    /// To what.
    pub tag: String,
    /// Why, for people.
    pub why: String,
}

/// How many there were since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Delivered.
    pub delivered: u64,
    /// Expired.
    pub expired: u64,
    /// Moved.
    pub moved: u64,
    /// Rejected by an agent.
    pub rejected: u64,
    /// Refused to a caller.
    pub refused: u64,
}

/// What did not go as it should, the newest of it, and how much there was.
#[derive(Debug, Default)]
pub struct Ends(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ended: VecDeque<Ended>,
    refused: VecDeque<Refused>,
    counts: Counts,
}

impl Ends {
    /// So many were delivered.
    pub fn delivered(&self, count: usize) {
        self.lock().counts.delivered += count as u64;
    }

    /// One ended.
    pub fn ended(&self, ended: Ended) {
        let mut inner = self.lock();
        let count = match ended.how {
            How::Expired => &mut inner.counts.expired,
            How::Moved => &mut inner.counts.moved,
            How::Rejected => &mut inner.counts.rejected,
        };
        *count += 1;
        remember(&mut inner.ended, ended);
    }

    /// One was refused.
    pub fn refused(&self, refused: Refused) {
        let mut inner = self.lock();
        inner.counts.refused += 1;
        remember(&mut inner.refused, refused);
    }

    /// How many there were since the start.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The newest that ended without having arrived, the newest first.
    pub fn newest_ended(&self, most: usize) -> Vec<Ended> {
        self.lock().ended.iter().rev().take(most).cloned().collect()
    }

    /// The newest that were refused, the newest first.
    pub fn newest_refused(&self, most: usize) -> Vec<Refused> {
        self.lock().refused.iter().rev().take(most).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whatever panicked while it was held, each change to it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember<T>(all: &mut VecDeque<T>, newest: T) {
    if all.len() == REMEMBERED {
        all.pop_front();
    }
    all.push_back(newest);
}
