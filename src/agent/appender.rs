//! Whoever appends to the log: the engine's task while it is in memory, and else the journal's thread.

use std::convert::Infallible;

use tokio::sync::{mpsc, oneshot};

use super::core::{CancelFrom, Command, EventsFrom};
use crate::event::Position;
use crate::journal::store::WriteError;
use crate::journal::writer::{Sink, Writer};
use crate::journal::{Append, Appended};

/// The journal's thread, as the services have it.
pub(super) type Journal = Writer<EventsFrom, CancelFrom>;

/// Takes what the journal's thread has done to the engine's task.
pub(super) struct ToCore {
    pub(super) core: mpsc::UnboundedSender<Command>,
    /// Dropped with the thread.
    pub(super) _alive: oneshot::Sender<Infallible>,
}

impl Sink<EventsFrom, CancelFrom> for ToCore {
    // The task can be gone only when the process is about to be.

    fn committed(&mut self, head: Position, batch: Vec<Appended<EventsFrom, CancelFrom>>) {
        let _ = self.core.send(Command::Appended { head, batch });
    }

    fn refused(&mut self, append: Append<EventsFrom, CancelFrom>, error: &WriteError) {
        // A caller that has gone needs no answer.
        match append {
            Append::Events(_, from) => drop(from.reply.send(Err(error.into()))),
            Append::CancelInstance(_, reply) => drop(reply.send(Err(error.into()))),
        }
    }

    fn dropped(&mut self, oldest: Position) {
        let _ = self.core.send(Command::Dropped(oldest));
    }

    fn held(&mut self, oldest: Position) {
        let _ = self.core.send(Command::Held(oldest));
    }
}
