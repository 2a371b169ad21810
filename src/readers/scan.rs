//! A reader's way through the log.

use std::collections::VecDeque;
use std::sync::Arc;

use tonic::Code;
use tracing::error;

use crate::engine::OpenError;
use crate::event::{Cursor, InstanceId, Position};
use crate::journal::log::{Block, Log, ReadError};
use crate::journal::record::{CancelRecord, EventRecord, Raw, Record};
use crate::proto::reason::Code as Reason;
use crate::status::Refusal;

/// What a reader lets through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these instances; empty: of all.
    pub instances: Vec<InstanceId>,
    /// Of these names; empty: of all.
    pub names: Vec<String>,
}

/// A place in the log that moves on, and what of it is let through.
pub struct Scan {
    log: Arc<Log>,
    filter: Filter,
    at: Position,
    /// Blocks that were read and not yet looked at to their end.
    ready: VecDeque<Block>,
    /// It was asked for from the oldest record on, whichever that is, and has found nothing yet.
    from_oldest: bool,
}

/// How a scan went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has looked at some records; there may be more.
    Moved,
    /// It is at the head.
    AtHead,
    /// The caller has taken enough.
    Enough,
}

/// A record that the filter lets through.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// An event.
    Event(Position, EventRecord<'a>),
    /// A CancelInstance. A filter by name lets none through.
    CancelInstance(Position, CancelRecord<'a>),
}

impl Scan {
    /// A scan from after a place on.
    pub fn new(log: Arc<Log>, filter: Filter, after: Position) -> Self {
        Self { log, filter, at: after, ready: VecDeque::new(), from_oldest: false }
    }

    /// A scan of all that the log has.
    pub fn from_oldest(log: Arc<Log>, filter: Filter) -> Self {
        let after = log.oldest().before();
        Self { from_oldest: true, ..Self::new(log, filter, after) }
    }

    /// The last position looked at.
    pub fn at(&self) -> Position {
        self.at
    }

    /// The same, as a cursor.
    pub fn cursor(&self) -> Cursor {
        self.log.cursor(self.at)
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Looks at one block's records, until `take` says that it has enough: it is shown each that the filter
    /// lets through, and says whether to go on.
    ///
    /// # Errors
    ///
    /// If what comes next has been dropped meanwhile, or cannot be read.
    pub async fn step(&mut self, mut take: impl FnMut(Found<'_>) -> bool + Send) -> Result<Step, Refusal> {
        if self.ready.is_empty() {
            match self.log.read(self.at).await {
                Err(ReadError::Expired { oldest }) if self.from_oldest => {
                    self.at = oldest;
                    return Ok(Step::Moved);
                }
                read => self.ready = read.map_err(|error| self.refuse(error))?,
            }
        }
        let Some(block) = self.ready.pop_front() else { return Ok(Step::AtHead) };
        let mut take = |found: Found<'_>| {
            self.from_oldest = false;
            take(found)
        };
        for record in block.records(self.at) {
            let found = record.and_then(|(position, raw)| {
                self.at = position;
                Ok(if self.filter.admits_instance(&raw) { Some((position, raw.decode()?)) } else { None })
            });
            let more = match found {
                Ok(Some((position, Record::Event(event)))) => {
                    !self.filter.admits_name(event.event.key.name()) || take(Found::Event(position, event))
                }
                Ok(Some((position, Record::CancelInstance(cancel)))) => {
                    !self.filter.names.is_empty() || take(Found::CancelInstance(position, cancel))
                }
                Ok(None) => true,
                Err(damaged) => return Err(self.refuse(ReadError::Damaged(damaged.to_string()))),
            };
            if !more {
                if self.at < block.last() {
                    self.ready.push_front(block.clone());
                }
                return Ok(Step::Enough);
            }
        }
        Ok(Step::Moved)
    }

    fn refuse(&self, error: ReadError) -> Refusal {
        match error {
            ReadError::Expired { oldest } => {
                let oldest = self.log.cursor(oldest);
                OpenError::Expired { asked: self.cursor().to_string(), oldest }.into()
            }
            ReadError::Damaged(damage) => {
                error!(after = %self.at, damage, "the log cannot be read");
                let message = format!("the log cannot be read past {}: {damage}", self.at);
                Refusal::new(Code::DataLoss, Reason::LogDamaged, message)
            }
        }
    }
}

impl Filter {
    fn admits_instance(&self, raw: &Raw<'_>) -> bool {
        self.instances.is_empty() || self.instances.contains(&raw.instance())
    }

    fn admits_name(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|admitted| admitted == name)
    }
}
