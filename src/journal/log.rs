//! The log as readers see it: whole segments, up to the committed head.
//!
//! Readers share it with the one task that appends. They never wait for each other longer than it takes
//! to clone a few handles, and a segment that was dropped lives on while a reader holds its blocks.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::record::{Damaged, Raw};
use super::segments::Segments;
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
    source: Source,
    head: AtomicU64,
    /// Tells those that wait that the head has moved.
    moved: Notify,
}

/// Where its blocks are.
#[derive(Debug)]
enum Source {
    Memory(RwLock<Blocks>),
    Disk(Arc<Segments>, Reads),
}

/// Where segments are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// On a thread that may block.
    Thread,
    /// Where the reader is: for a disk that is in memory.
    InPlace,
}

#[derive(Debug)]
struct Blocks {
    blocks: VecDeque<Block>,
    /// The oldest position kept.
    oldest: Position,
}

impl Log {
    /// An empty log in memory.
    pub fn new(id: LogId) -> Self {
        let blocks = Blocks { blocks: VecDeque::new(), oldest: Position(1) };
        Self {
            id,
            source: Source::Memory(RwLock::new(blocks)),
            head: AtomicU64::new(0),
            moved: Notify::new(),
        }
    }

    /// A log on disk, up to its head.
    pub fn on_disk(id: LogId, segments: Arc<Segments>, reads: Reads, head: Position) -> Self {
        Self { id, source: Source::Disk(segments, reads), head: AtomicU64::new(head.0), moved: Notify::new() }
    }

    /// Which log it is.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The newest committed position.
    pub fn head(&self) -> Position {
        Position(self.head.load(Ordering::Acquire))
    }

    /// The oldest position kept; the head's next if none is.
    pub fn oldest(&self) -> Position {
        match &self.source {
            Source::Memory(blocks) => read(blocks).oldest,
            Source::Disk(segments, _) => segments.oldest(),
        }
    }

    /// A place in this log.
    pub fn cursor(&self, position: Position) -> Cursor {
        Cursor { log_id: self.id, position }
    }

    /// Ready once the head is past a place.
    pub async fn past(&self, at: Position) {
        let mut moved = pin!(self.moved.notified());
        loop {
            // Before the head is looked at, so that no move is missed in between.
            moved.as_mut().enable();
            if self.head() > at {
                return;
            }
            moved.as_mut().await;
            moved.set(self.moved.notified());
        }
    }

    /// Some committed blocks in their order, from the one on that holds the record after `after`; none at the
    /// head.
    ///
    /// # Errors
    ///
    /// If that record has been dropped, or cannot be read.
    pub async fn read(&self, after: Position) -> Result<VecDeque<Block>, ReadError> {
        // What is past the head is not yet known to all who may be asked about it.
        let head = self.head();
        match &self.source {
            Source::Memory(blocks) => read(blocks).after(after),
            Source::Disk(segments, reads) if after < head => {
                let segments = Arc::clone(segments);
                let mut blocks = match reads {
                    Reads::InPlace => segments.read(after)?,
                    Reads::Thread => {
                        let read = spawn_blocking(move || segments.read(after)).await;
                        read.map_err(|error| ReadError::Damaged(error.to_string()))??
                    }
                };
                blocks.retain(|block| block.first <= head);
                Ok(blocks)
            }
            Source::Disk(segments, _) if after < segments.oldest().before() => {
                Err(ReadError::Expired { oldest: segments.oldest().before() })
            }
            Source::Disk(..) => Ok(VecDeque::new()),
        }
    }

    /// Appends what was committed to a log in memory, and moves the head.
    pub(super) fn push(&self, block: Block) {
        let head = block.last();
        if let Source::Memory(blocks) = &self.source {
            write(blocks).blocks.push_back(block);
        }
        self.publish(head);
    }

    /// Moves the head: readers see what is up to it.
    pub fn publish(&self, head: Position) {
        if self.head.swap(head.0, Ordering::AcqRel) != head.0 {
            self.moved.notify_waiters();
        }
    }

    /// Drops what is before `oldest` from a log in memory.
    pub(super) fn drop_before(&self, oldest: Position) {
        if let Source::Memory(blocks) = &self.source {
            write(blocks).drop_before(oldest);
        }
    }
}

impl Blocks {
    fn after(&self, after: Position) -> Result<VecDeque<Block>, ReadError> {
        if after < self.oldest.before() {
            return Err(ReadError::Expired { oldest: self.oldest.before() });
        }
        let at = self.blocks.partition_point(|block| block.last() <= after);
        Ok(self.blocks.get(at).cloned().into_iter().collect())
    }

    fn drop_before(&mut self, oldest: Position) {
        self.oldest = self.oldest.max(oldest);
        while self.blocks.front().is_some_and(|block| block.last() < oldest) {
            self.blocks.pop_front();
        }
    }
}

// A panic while one of these was held left the list whole: every change to it is one call.

fn read(blocks: &RwLock<Blocks>) -> RwLockReadGuard<'_, Blocks> {
    blocks.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(blocks: &RwLock<Blocks>) -> RwLockWriteGuard<'_, Blocks> {
    blocks.write().unwrap_or_else(PoisonError::into_inner)
}
