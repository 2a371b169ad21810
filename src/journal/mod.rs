//! The log: what is accepted, in the order of positions.
//!
//! Whoever appends gives out positions and decides what is a duplicate. What may be answered only after
//! it is as durable as the agent promises is a [`Committed`], and only this module makes those.

pub mod acks;
pub mod bindings;
pub mod consumers;
pub mod disk;
pub mod events;
pub mod folder;
mod gather;
pub mod ids;
pub mod ids_file;
pub mod inspect;
mod keeper;
pub mod log;
pub mod memory;
pub mod meta;
pub mod note;
pub mod record;
pub mod recovery;
pub mod retention;
pub mod scan;
pub mod segment;
pub mod segments;
pub mod store;
pub mod turns;
pub mod writer;

use crate::clock::Time;
use crate::event::{CancelInstance, Position};
use events::Events;

/// What the journal decided about one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Appended, here.
    New(Position),
    /// Known by its id, with the same content.
    Duplicate(Position),
    /// Its id is known with other content: not appended.
    IdReused,
}

/// Records that are as durable as the agent promises. Only then are the waits asked about them, and only
/// what the waits say of them is answered to the sender.
#[derive(Debug)]
pub struct Committed<T> {
    records: T,
    verdicts: Vec<Verdict>,
    received_at: Time,
}

impl<T> Committed<T> {
    /// What was handed in.
    pub fn records(&self) -> &T {
        &self.records
    }

    /// What was decided about each of them, in their order.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// When they were received, by the log's clock.
    pub fn received_at(&self) -> Time {
        self.received_at
    }
}

/// What is handed to whoever appends, with what goes to its answer and comes back.
#[derive(Debug)]
pub enum Append<E, C> {
    /// The events of one request.
    Events(Events, E),
    /// A CancelInstance.
    CancelInstance(CancelInstance, C),
}

/// The same once it is committed.
#[derive(Debug)]
pub enum Appended<E, C> {
    /// The events of one request.
    Events(Committed<Events>, E),
    /// A CancelInstance.
    CancelInstance(Committed<CancelInstance>, C),
}
