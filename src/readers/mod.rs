//! Those that read the log outside the engine: watch, list and explain.
//!
//! Each is a task of its own, there is a bound on their number, and what they cost the engine is nothing: they
//! share the log's blocks with whoever appends.

pub mod explain;
pub mod list;
mod scan;
pub mod watch;

use std::sync::Arc;

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::scan::{Filter, Found, Scan, Step};
use crate::engine::OpenError;
use crate::event::{Cursor, Position};
use crate::journal::log::Log;
use crate::status::Refusal;

/// A page ends early once its entries come to so many bytes. With the entry that takes it past that it is
/// still well within the 4 MiB that gRPC clients take unless they are told otherwise.
const PAGE_BYTES: usize = 1024 * 1024;

/// How many bytes a page has come to.
#[derive(Debug, Default)]
pub struct PageSize(usize);

impl PageSize {
    /// Whether there is room for an entry; if so, takes it.
    pub fn add(&mut self, entry: &impl Message) -> bool {
        let room = self.has_room();
        if room {
            self.0 += entry.encoded_len();
        }
        room
    }

    /// Whether there is room for one entry more.
    pub fn has_room(&self) -> bool {
        self.0 < PAGE_BYTES
    }
}

/// Leave for one reader more.
///
/// # Errors
///
/// If as many as there may be are running.
pub fn permit(readers: &Arc<Semaphore>, max: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(readers).try_acquire_owned().map_err(|_| {
        Refusal::exhausted("max_readers", format!("max_readers is {max}, and so many are reading"))
    })
}

/// Checks that a place is one of this log, and still in it.
///
/// # Errors
///
/// If it is another log's, past the head, or older than the log reaches.
pub fn check_cursor(log: &Log, asked: Cursor) -> Result<Position, Refusal> {
    let (oldest, head) = (log.cursor(log.oldest().before()), log.cursor(log.head()));
    if asked.log_id != log.id() || asked.position > head.position {
        return Err(OpenError::AnotherLog { asked, oldest, head }.into());
    }
    if asked.position < oldest.position {
        return Err(OpenError::Expired { asked: asked.to_string(), oldest }.into());
    }
    Ok(asked.position)
}
