//! A reader's way through the log.

use std::sync::Arc;

use tonic::Code;
use tracing::error;

use crate::engine::OpenError;
use crate::event::{Cursor, InstanceId, Position};
use crate::journal::log::{Expired, Log};
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
        Self { log, filter, at: after, from_oldest: false }
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
    /// If what comes next has been dropped meanwhile.
    pub fn step(&mut self, mut take: impl FnMut(Found<'_>) -> bool) -> Result<Step, Refusal> {
        let block = match self.log.block_after(self.at) {
            Err(expired) if self.from_oldest => {
                self.at = expired.oldest;
                return Ok(Step::Moved);
            }
            found => found.map_err(|expired| self.expired(expired))?,
        };
        let Some(block) = block else { return Ok(Step::AtHead) };
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
                Err(damaged) => {
                    error!(block = %block.first, %damaged, "a block of the log cannot be read");
                    let message = format!("the log cannot be read past {}: {damaged}", self.at);
                    return Err(Refusal::new(Code::DataLoss, Reason::LogDamaged, message));
                }
            };
            if !more {
                return Ok(Step::Enough);
            }
        }
        Ok(Step::Moved)
    }

    fn expired(&self, expired: Expired) -> Refusal {
        let oldest = self.log.cursor(expired.oldest);
        OpenError::Expired { asked: self.cursor().to_string(), oldest }.into()
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
