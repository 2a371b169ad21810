//! The outbox: what the gateway has accepted and an agent has not yet acknowledged.
//!
//! It is a log of the same batches and segments as an agent's. A record is one *delivery*: an event for one host. What
//! has ended is told by notes, and a segment goes once nothing in it is still to be delivered. What lags behind is
//! copied forward, so that a dead host does not hold the others' room.

mod book;
mod record;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::clock::Time;
use crate::directory::Host;
use crate::event::{EventId, InstanceId, Status};
use crate::journal::store::WriteError;

pub use self::book::{Book, Kept, Ticket};
pub use self::writer::{Opened, Outbox, Sink};

/// An event for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The gateway's id of the event: the same for each host, and whenever it is sent again.
    pub id: EventId,
    /// The instance.
    pub instance: InstanceId,
    /// What happened.
    pub name: Arc<str>,
    /// To what; often empty.
    pub tag: Arc<str>,
    /// What became of the work.
    pub status: Status,
    /// It starts work, and ends no wait.
    pub starts_work: bool,
    /// When it was accepted.
    pub kept_at: Time,
    /// Where it is to go. `None`: nobody knows yet.
    pub host: Option<Host>,
}

/// How much the outbox may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of deliveries that have not ended.
    pub bytes: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// How long a segment is written before another is begun.
    pub segment_span: Duration,
}

/// Deliveries were not kept.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeepError {
    /// There is no room for them.
    #[error("the outbox has {held} bytes to deliver, and its limit max_outbox is {bound}")]
    TooMuch {
        /// Bytes that it holds.
        held: u64,
        /// The limit.
        bound: u64,
    },
    /// They could not be written.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
    /// It is being stopped.
    #[error("the gateway is stopping")]
    Stopping,
}
