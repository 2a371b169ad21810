//! The log as readers see it: whole segments, up to the committed head.
//!
//! Readers share it with the one task that appends. They never wait for each other longer than it takes
//! to clone a few handles, and a segment that was dropped lives on while a reader holds its blocks.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use super::record::{Damaged, Raw};
use crate::clock::Time;
use crate::event::{Cursor, LogId, Position};

/// The records that were committed together.
#[derive(Clone, Debug)]
pub struct Block {
    /// The first one's position; the others follow without a gap.
    pub first: Position,
    /// How many there are.
    pub count: u32,
    /// When they were received.
    pub received_at: Time,
    /// Their bytes.
    pub bytes: Bytes,
}

impl Block {
    /// The last one's position.
    pub fn last(&self) -> Position {
        Position(self.first.0 + u64::from(self.count) - 1)
    }

    /// Its records with their positions, those after `after` only.
    pub fn records(&self, after: Position) -> impl Iterator<Item = Result<(Position, Raw<'_>), Damaged>> {
        let mut bytes = &self.bytes[..];
        let (first, received_at) = (self.first.0, self.received_at);
        (0..u64::from(self.count))
            .map(move |n| Raw::cut(&mut bytes, received_at).map(|raw| (Position(first + n), raw)))
            .filter(move |record| !matches!(record, Ok((position, _)) if *position <= after))
    }
}

/// The log could not be read from a place on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// The place is no longer in it.
    #[error("the log reaches back to {oldest} only")]
    Expired {
        /// The oldest place that there is.
        oldest: Position,
    },
    /// What is there is not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// The log, shared by whoever appends and all who read.
#[derive(Debug)]
pub struct Log {
    id: LogId,
    blocks: RwLock<Blocks>,
    head: watch::Sender<Position>,
}

#[derive(Debug)]
struct Blocks {
    blocks: VecDeque<Block>,
    /// The oldest position kept.
    oldest: Position,
}

impl Log {
    /// An empty log.
    pub fn new(id: LogId) -> Self {
        Self {
            id,
            blocks: RwLock::new(Blocks { blocks: VecDeque::new(), oldest: Position(1) }),
            head: watch::Sender::new(Position(0)),
        }
    }

    /// Which log it is.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The newest committed position.
    pub fn head(&self) -> Position {
        *self.head.borrow()
    }

    /// The oldest position kept; the head's next if none is.
    pub fn oldest(&self) -> Position {
        self.blocks().oldest
    }

    /// A place in this log.
    pub fn cursor(&self, position: Position) -> Cursor {
        Cursor { log_id: self.id, position }
    }

    /// Tells when the head moves.
    pub fn watch_head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Some committed blocks in their order, from the one on that holds the record after `after`; none at the
    /// head.
    ///
    /// # Errors
    ///
    /// If that record has been dropped, or cannot be read.
    pub async fn read(self: &Arc<Self>, after: Position) -> Result<VecDeque<Block>, ReadError> {
        let log = self.blocks();
        if after < log.oldest.before() {
            return Err(ReadError::Expired { oldest: log.oldest.before() });
        }
        let at = log.blocks.partition_point(|block| block.last() <= after);
        Ok(log.blocks.get(at).cloned().into_iter().collect())
    }

    /// Appends what was committed, and moves the head.
    pub(super) fn push(&self, block: Block) {
        let head = block.last();
        self.blocks.write().unwrap_or_else(PoisonError::into_inner).blocks.push_back(block);
        self.head.send_replace(head);
    }

    /// Drops what is before `oldest`.
    pub(super) fn drop_before(&self, oldest: Position) {
        let mut log = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        log.oldest = log.oldest.max(oldest);
        while log.blocks.front().is_some_and(|block| block.last() < oldest) {
            log.blocks.pop_front();
        }
    }

    fn blocks(&self) -> RwLockReadGuard<'_, Blocks> {
        // A panic while it was held left the list whole: every change to it is one call.
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }
}
