//! The writer's half of the log on disk: batches, appended and synced, and segments that come and go.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tracing::error;

use super::disk::Disk;
use super::ids::Ids;
use super::keeper::Keeper;
use super::meta::Meta;
use super::retention::{Facts, Goes, Retention, warn_of_drop};
use super::segment::{self, BATCH_HEADER, BatchHeader, SEGMENT_HEADER, span};
use super::segments::{Segment, Segments};
use crate::clock::Time;
use crate::event::{LogId, Position};
use crate::plant::{self, Plant};

/// A batch was not written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// There is no room. What was written of it is cut off, and the next may fit.
    #[error("the disk of the log is full ({file}: {error})")]
    Full {
        /// Which file did not fit.
        file: PathBuf,
        /// What the system said.
        error: String,
    },
    /// For another reason, and the log is as it was: its next file cannot be made for want of file descriptors, say.
    #[error("the log cannot be written for now ({file}: {error}); it is tried again")]
    NotNow {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        error: String,
    },
    /// Nobody knows what is on the disk. Nothing more is written until the next start has found out.
    #[error(
        "the log cannot be written ({file}: {error}); nothing more is accepted until the agent is started anew"
    )]
    Failed {
        /// Which file failed.
        file: PathBuf,
        /// What the system said.
        error: String,
    },
}

/// The log on disk, as the one who writes it has it.
pub struct Store {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) meta: Meta,
    /// Whether a batch is synced before it counts as written.
    pub(super) sync: bool,
    pub(super) retention: Retention,
    pub(super) segments: Arc<Segments>,
    pub(super) keeper: Keeper,
    /// The segment that is written, and how many bytes it has.
    pub(super) current: Arc<Segment>,
    pub(super) capacity: u64,
    /// The number of the next batch.
    pub(super) number: u64,
    pub(super) next: Position,
    /// When the newest record was received.
    pub(super) newest: Time,
    /// A batch that is being made: room for its header, then its body.
    pub(super) batch: Vec<u8>,
    pub(super) failed: Option<WriteError>,
    /// The files with the ids of dropped segments, oldest first, each with its last position.
    pub(super) ids_files: VecDeque<(u64, Position)>,
    pub(super) dropped_early: u64,
    /// A segment was begun, and nobody has asked about it yet: when the newest record before it was received.
    pub(super) begun: Option<Time>,
}

impl Store {
    /// What was found at this start counts from now on as new.
    pub fn set_found(&self, now: Time) {
        self.segments.with(|segments| segments.iter().for_each(|segment| segment.set_found(now)));
    }

    /// The log's id.
    pub fn log_id(&self) -> LogId {
        self.meta.log_id()
    }

    /// What readers read.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// The position of the next record.
    pub fn next(&self) -> Position {
        self.next
    }

    /// When the newest record was received; the start of 1970, if there was none.
    pub fn newest(&self) -> Time {
        self.newest
    }

    /// Bytes in use, those of segments' and batches' headers too.
    pub fn bytes(&self) -> u64 {
        self.segments.with(|segments| segments.iter().map(|segment| segment.used()).sum())
    }

    /// Positions dropped because of the log's size, before their time.
    pub fn dropped_early(&self) -> u64 {
        self.dropped_early
    }

    /// Whether the batch, as it is, will begin a segment. What is known only from notes has to be noted in it again
    /// then, for the older segments will be dropped.
    pub fn begins_segment(&self, now: Time) -> bool {
        let full = self.current.used() + span(self.batch.len().max(BATCH_HEADER)) > self.capacity;
        let old = now.since(self.current.created()) > self.retention.segment_span();
        full || (old && self.current.used() > SEGMENT_HEADER as u64)
    }

    /// If a segment was begun without such a batch since this was last asked: when the newest record before it was
    /// received.
    pub fn begun(&mut self) -> Option<Time> {
        self.begun.take()
    }

    /// The body of the batch that is being made, to be added to.
    pub fn body(&mut self) -> &mut Vec<u8> {
        if self.batch.len() < BATCH_HEADER {
            self.batch.resize(BATCH_HEADER, 0);
        }
        &mut self.batch
    }

    /// Bytes in the body of the batch that is being made.
    pub fn body_len(&self) -> usize {
        self.batch.len().saturating_sub(BATCH_HEADER)
    }

    /// Writes the batch and, if that was promised, brings it to the disk. The first `count` records of its body
    /// take positions, from [`next`](Self::next) on.
    ///
    /// # Errors
    ///
    /// If it could not be written: then it is as if it had never been.
    pub fn append(&mut self, count: u32, received_at: Time) -> Result<(), WriteError> {
        self.body();
        let written = self.write(count, received_at);
        self.batch.clear();
        if let Err(failed @ WriteError::Failed { .. }) = &written
            && self.failed.is_none()
        {
            error!(error = %failed, "the log cannot be written");
            self.failed = Some(failed.clone());
        }
        written
    }

    /// Drops what need not be kept any longer. `pinned`: what comes after it may yet be asked for. Gives the oldest
    /// position kept, if that has changed.
    pub fn retain(&mut self, now: Time, pinned: Option<Position>, ids: &Ids) -> Option<Position> {
        let mut oldest = None;
        let mut bytes = self.bytes();
        while let Some((front, only)) = self.front() {
            let Some(goes) = self.retention.judge(now, facts(&front), bytes, only, pinned) else { break };
            if only {
                // It goes once another is begun, and has in it what has to be.
                if front.used() > SEGMENT_HEADER as u64 {
                    let _ = self.begin_segment(now, 0);
                }
                break;
            }
            self.segments.pop_front();
            bytes -= front.used();
            let (first, last) = (front.first, front.end().before());
            if goes == Goes::Early {
                self.dropped_early += front.end().0 - first.0;
                warn_of_drop(front.end().0 - first.0, front.end());
            }
            let ids: Vec<_> = ids.of(first, last).collect();
            if !ids.is_empty() {
                self.ids_files.push_back((front.number, last));
            }
            self.keeper.drop_segment(front, ids);
            oldest = Some(self.segments.oldest());
        }
        let known_from = ids.oldest();
        while let Some((number, _)) =
            self.ids_files.pop_front_if(|(_, last)| known_from.is_none_or(|p| *last < p))
        {
            self.keeper.remove_ids(number);
        }
        oldest
    }

    /// Whether there is a segment before the one that is written.
    pub fn has_older(&self) -> bool {
        self.front().is_some_and(|(_, only)| !only)
    }

    /// The position after the last of the oldest segment, unless that is the one that is written.
    pub fn oldest_end(&self) -> Option<Position> {
        self.front().and_then(|(front, only)| (!only).then(|| front.end()))
    }

    /// The oldest position that would be kept if nothing was pinned; `None` while the log is within its size.
    pub fn oldest_by_size(&self) -> Option<Position> {
        let bytes = self.bytes();
        self.segments.with(|segments| self.retention.oldest_by_size(bytes, segments.iter().map(facts)))
    }

    /// When the oldest segment will be past its age.
    pub fn next_drop(&self) -> Option<Time> {
        let (front, only) = self.front()?;
        let empty = only && front.used() == SEGMENT_HEADER as u64;
        (!empty).then(|| front.newest().plus(self.retention.age))
    }

    /// Brings all to the disk and says so there, for the next start to know.
    ///
    /// # Errors
    ///
    /// If it cannot be written. The next start then takes it as a crash.
    pub fn close(mut self) -> io::Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        if !self.sync {
            self.segments.with(|segments| segments.iter().try_for_each(|segment| segment.file.sync()))?;
        }
        self.current.file.sync()?;
        self.meta.clean = true;
        self.meta.write(&*self.disk)
    }

    fn write(&mut self, count: u32, received_at: Time) -> Result<(), WriteError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let length = self.batch.len() - BATCH_HEADER;
        let batch = BatchHeader {
            length: u32::try_from(length).unwrap_or(u32::MAX),
            count,
            number: self.number,
            first: self.next,
            received_at,
        };
        let span = span(self.batch.len());
        let begins = self.begins_segment(received_at);
        if begins {
            self.begin_segment(received_at, span)?;
        }
        batch.seal(&mut self.batch, self.current.secret);
        self.batch.resize(span as usize, 0);
        let (file, offset) = (&self.current.file, self.current.used());
        if plant::is(Plant::AnswerBeforeSync) {
            let _ = file.sync();
        }
        if let Err(error) = file.write_at(&self.batch, offset) {
            // Its header gone, nothing of it is a batch.
            let cut = file.write_at(&[0; BATCH_HEADER], offset).and_then(|()| file.sync());
            return Err(match cut {
                Ok(()) => self.error(&segment::name(self.current.number), &error),
                Err(error) => self.failure(&segment::name(self.current.number), &error),
            });
        }
        if self.sync
            && !plant::is(Plant::AnswerBeforeSync)
            && let Err(error) = file.sync()
        {
            return Err(self.failure(&segment::name(self.current.number), &error));
        }
        if begins {
            // It has what only notes tell: whoever made the batch was told before.
            self.begun = None;
        }
        self.current.add(&batch, received_at);
        self.number += 1;
        self.next = batch.end();
        self.newest = received_at;
        Ok(())
    }

    /// Goes on in the next segment, which has room for a batch of so many bytes.
    fn begin_segment(&mut self, now: Time, span: u64) -> Result<(), WriteError> {
        let needed = SEGMENT_HEADER as u64 + span;
        let mut tried = false;
        loop {
            let number = self.current.number + 1;
            let name = segment::name(number);
            let capacity = needed.max(SEGMENT_HEADER as u64 + self.retention.segment_bytes());
            self.keeper.lay_out(number, capacity);
            let laid_out = match self.keeper.laid_out() {
                Ok(laid_out) => laid_out,
                // It may have failed long ago, when it was asked for ahead of its need.
                Err(_) if !std::mem::replace(&mut tried, true) => continue,
                Err(error) => return Err(self.error(&name, &error)),
            };
            self.capacity = laid_out.capacity;
            let (secret, file) = (laid_out.header.secret, laid_out.file);
            self.current = Arc::new(Segment::new(number, secret, file, self.next, now));
            self.segments.push(Arc::clone(&self.current));
            self.begun = Some(self.newest);
            // One that was laid out before so large a batch was thought of stays empty.
            if self.capacity >= needed {
                self.keeper.lay_out(number + 1, SEGMENT_HEADER as u64 + self.retention.segment_bytes());
                return Ok(());
            }
        }
    }

    fn front(&self) -> Option<(Arc<Segment>, bool)> {
        self.segments.with(|segments| Some((Arc::clone(segments.front()?), segments.len() == 1)))
    }

    /// The log is as it was: the next try may do.
    fn error(&self, name: &str, error: &io::Error) -> WriteError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WriteError::Full { file: self.disk.path(name), error: error.to_string() }
            }
            _ => WriteError::NotNow { file: self.disk.path(name), error: error.to_string() },
        }
    }

    fn failure(&self, name: &str, error: &io::Error) -> WriteError {
        WriteError::Failed { file: self.disk.path(name), error: error.to_string() }
    }
}

fn facts(segment: &Arc<Segment>) -> Facts {
    Facts { last: segment.end().before(), bytes: segment.used(), newest: segment.newest() }
}
