//! The segments as readers see them: what was synced of each, found by position.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::disk::DiskFile;
use super::log::{Block, ReadError};
use super::segment::{BATCH_HEADER, BatchHeader, SEGMENT_HEADER, name};
use crate::clock::Time;
use crate::event::Position;

/// A reader finds its place by skipping over so many bytes of batches at the most.
const SPOT_EVERY: u64 = 64 * 1024;
/// What a reader is given at once, unless a single batch is larger.
const AT_ONCE: usize = 256 * 1024;

/// One segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) secret: u64,
    pub(super) file: Arc<dyn DiskFile>,
    /// The first position in it; the next one to be given out, while there is none.
    pub(super) first: Position,
    created: AtomicU64,
    /// The position after its last one. It, and the two below, move once what they speak of is synced.
    end: AtomicU64,
    used: AtomicU64,
    newest: AtomicU64,
    spots: Mutex<Vec<Spot>>,
    /// The number of its first batch; 0 while it has none.
    first_batch: AtomicU64,
}

/// Where in a segment a batch begins.
#[derive(Clone, Copy, Debug)]
struct Spot {
    first: Position,
    offset: u64,
}

impl Segment {
    pub(super) fn new(number: u64, secret: u64, file: Arc<dyn DiskFile>, first: Position, now: Time) -> Self {
        Self {
            number,
            secret,
            file,
            first,
            created: AtomicU64::new(now.as_nanos()),
            end: AtomicU64::new(first.0),
            used: AtomicU64::new(SEGMENT_HEADER as u64),
            newest: AtomicU64::new(now.as_nanos()),
            spots: Mutex::default(),
            first_batch: AtomicU64::new(0),
        }
    }

    /// The same, still without a batch, with another first position.
    pub(super) fn beginning_at(&self, first: Position) -> Self {
        Self::new(self.number, self.secret, Arc::clone(&self.file), first, self.created())
    }

    /// A batch is there for all to read.
    pub(super) fn add(&self, batch: &BatchHeader, newest: Time) {
        let offset = self.used();
        let mut spots = self.spots.lock().unwrap_or_else(PoisonError::into_inner);
        if spots.last().is_none_or(|spot| offset >= spot.offset + SPOT_EVERY) {
            spots.push(Spot { first: batch.first, offset });
        }
        drop(spots);
        if offset == SEGMENT_HEADER as u64 {
            self.first_batch.store(batch.number, Ordering::Relaxed);
        }
        self.newest.store(newest.as_nanos(), Ordering::Relaxed);
        self.end.store(batch.end().0, Ordering::Relaxed);
        // Whoever sees it sees what the others were before.
        self.used.store(offset + batch.span(), Ordering::Release);
    }

    /// It was found at this start, which for its age counts as new.
    pub(super) fn set_found(&self, now: Time) {
        self.created.store(now.as_nanos(), Ordering::Relaxed);
        self.newest.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn created(&self) -> Time {
        Time::from_nanos(self.created.load(Ordering::Relaxed))
    }

    /// Bytes of it that are in use, its header's too.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// The number of its first batch.
    pub(super) fn first_batch(&self) -> Option<u64> {
        Some(self.first_batch.load(Ordering::Relaxed)).filter(|number| *number > 0)
    }

    pub(super) fn end(&self) -> Position {
        Position(self.end.load(Ordering::Relaxed))
    }

    /// When the newest record in it was received; if it was there at the start, the start.
    pub(super) fn newest(&self) -> Time {
        Time::from_nanos(self.newest.load(Ordering::Relaxed))
    }

    /// Whole batches with what comes after `after`.
    pub(super) fn read(&self, after: Position) -> Result<VecDeque<Block>, ReadError> {
        let end = self.used();
        let mut offset = self.spot(after);
        let mut blocks = VecDeque::new();
        while offset < end && blocks.is_empty() {
            let wanted = AT_ONCE.min((end - offset) as usize);
            let mut bytes = self.fetch(offset, wanted)?;
            if let Some(first) = BatchHeader::peek(&bytes)
                && first.bytes() > bytes.len()
            {
                bytes = self.fetch(offset, first.bytes())?;
            }
            let mut at = 0;
            while let Some(batch) = BatchHeader::peek(&bytes[at..]) {
                if batch.bytes() > bytes.len() - at && at > 0 {
                    break;
                }
                if batch.records() > 0 && batch.end() > after.next() {
                    let (_, body) =
                        BatchHeader::decode(&bytes[at..], self.secret).ok_or_else(|| self.damaged(offset))?;
                    blocks.push_back(Block {
                        first: batch.first,
                        count: batch.count,
                        received_at: batch.received_at,
                        bytes: bytes.slice_ref(body),
                    });
                } else if batch.bytes() > bytes.len() - at {
                    return Err(self.damaged(offset));
                }
                at = bytes.len().min(at + batch.span() as usize);
                offset += batch.span();
            }
        }
        Ok(blocks)
    }

    /// Where to begin to look for what comes after `after`.
    fn spot(&self, after: Position) -> u64 {
        let spots = self.spots.lock().unwrap_or_else(PoisonError::into_inner);
        let at = spots.partition_point(|spot| spot.first <= after.next());
        at.checked_sub(1).map_or(SEGMENT_HEADER as u64, |at| spots[at].offset)
    }

    fn fetch(&self, offset: u64, wanted: usize) -> Result<Bytes, ReadError> {
        let mut bytes = vec![0; wanted];
        let read = self.file.read_at(&mut bytes, offset).map_err(|error| {
            ReadError::Damaged(format!("{} at byte {offset}: {error}", name(self.number)))
        })?;
        match read >= BATCH_HEADER {
            true => {
                bytes.truncate(read);
                Ok(bytes.into())
            }
            false => Err(self.damaged(offset)),
        }
    }

    fn damaged(&self, offset: u64) -> ReadError {
        ReadError::Damaged(format!("{} at byte {offset} is not what was written", name(self.number)))
    }
}

/// All segments of a log that are kept, oldest first. The last is the one that is written.
#[derive(Debug, Default)]
pub struct Segments(RwLock<VecDeque<Arc<Segment>>>);

impl Segments {
    /// The oldest position kept; the next one to be given out if none is.
    pub fn oldest(&self) -> Position {
        self.with(|segments| segments.front().map_or(Position(1), |segment| segment.first))
    }

    /// Whole batches with what comes after `after`, in their order; none if nothing does. It reads from the
    /// disk, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// If the log no longer reaches back there, or what is there is not what was written.
    pub fn read(&self, after: Position) -> Result<VecDeque<Block>, ReadError> {
        let mut from = 0;
        loop {
            let oldest = self.oldest();
            if after < oldest.before() {
                return Err(ReadError::Expired { oldest: oldest.before() });
            }
            let next = |segment: &Arc<Segment>| segment.number >= from && segment.end() > after.next();
            let Some(segment) = self.with(|segments| segments.iter().find(|segment| next(segment)).cloned())
            else {
                return Ok(VecDeque::new());
            };
            let blocks = segment.read(after)?;
            if !blocks.is_empty() {
                return Ok(blocks);
            }
            from = segment.number + 1;
        }
    }

    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push_back(segment);
    }

    pub(super) fn pop_front(&self) -> Option<Arc<Segment>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&VecDeque<Arc<Segment>>) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
