//! What the engine is told at a start of the log as it was found.

use super::{Engine, WaitView};
use crate::clock::Time;
use crate::event::{CancelInstance, LogId, Position};
use crate::journal::events::Entry;

impl Engine {
    /// An event that was in the log at the start. No wait is open yet.
    pub fn restore_event(&mut self, position: Position, event: &Entry, received_at: Time) {
        self.index.add_event(position, event, received_at);
    }

    /// A CancelInstance that was in the log at the start.
    pub fn restore_cancel(&mut self, position: Position, cancel: &CancelInstance, received_at: Time) {
        self.index.add_cancel(position, cancel, received_at);
    }

    /// A wait that had ended.
    pub fn restore_ended(&mut self, wait: WaitView) {
        self.ended.add(wait);
    }

    /// All is restored: which log it is, how far it reaches, and when the newest record that it has dropped was
    /// received. `None`: it has dropped none.
    pub fn restored(&mut self, log_id: LogId, oldest: Position, head: Position, before: Option<Time>) {
        self.log_id = log_id;
        self.index.restored(oldest, head, before);
    }

    /// The waits that have ended since this was last asked.
    pub fn take_ended(&mut self) -> std::vec::Drain<'_, WaitView> {
        self.just_ended.drain(..)
    }
}
