//! A pass through the segments of a stopped log: each whole batch once, in order, and what is wrong on the way.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

use super::disk::{Disk, DiskFile};
use super::record::Damaged;
use super::segment::{
    self, BATCH_HEADER, BadHeader, BatchHeader, FORMAT, LOST, SEGMENT_HEADER, SegmentHeader,
};
use crate::event::Position;

/// A log cannot be started from.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file or the folder could not be read or written.
    #[error("{file}: {error}")]
    Io {
        /// Which.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What is there is not what was written, and what comes after it is.
    #[error(
        "{file}: damaged at byte {offset}: {what}. `wakeful journal check {}` tells more; \
         `wakeful agent --repair` starts without what cannot be read, in a log of a new id",
        file.parent().unwrap_or(file).display()
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// From which byte on.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A newer agent wrote it.
    #[error(
        "{file}: written in format {found}, and this agent knows formats up to {known}; start the newer agent"
    )]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this agent knows.
        known: u32,
    },
}

/// What a pass finds.
pub(super) enum Found<'a> {
    /// A segment begins.
    Segment(&'a SegmentHeader, &'a Arc<dyn DiskFile>),
    /// A batch that was not there before, at this byte of it.
    Batch(u64, &'a BatchHeader, &'a [u8]),
    /// The batch before once more, at the start of a segment.
    Again(&'a BatchHeader),
    /// Something is wrong, and what comes after it is not: batches are missing. Where they were, and what can
    /// stand there instead.
    Lost { damage: StartError, segment: u64, offset: u64, instead: Option<BatchHeader> },
    /// A segment that says nothing of itself.
    Unreadable { damage: StartError, segment: u64 },
}

/// How a pass ended.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The number of the next batch.
    pub(super) number: u64,
    /// The position after the last.
    pub(super) next: Position,
    /// The newest segment's number, 0 if there is none.
    pub(super) newest_segment: u64,
    /// Bytes of all segments.
    pub(super) bytes: u64,
    /// What comes after the last batch began to be one, at this byte of this segment.
    pub(super) torn: Option<(u64, u64)>,
}

/// Passes through the segments, oldest first.
///
/// # Errors
///
/// If a file cannot be read, is newer, or `found` does not go on.
pub(super) fn pass(
    disk: &dyn Disk,
    store_id: Uuid,
    mut found: impl FnMut(Found<'_>) -> Result<(), StartError>,
) -> Result<End, StartError> {
    let mut end = End { number: 0, next: Position(1), ..End::default() };
    let mut first = true;
    // Where the last batch ended: there is what is missing before the next one.
    let mut tail: Option<(u64, u64)> = None;
    let mut bytes = Vec::new();
    for number in numbers(disk, ".segment")? {
        let name = segment::name(number);
        let file = load(disk, &name, &mut bytes)?;
        end.newest_segment = number;
        end.bytes += bytes.len() as u64;
        let damaged = |offset: u64, what: &str| StartError::Damaged {
            file: disk.path(&name),
            offset,
            what: what.to_owned(),
        };
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) if header.store_id == store_id && header.number == number => header,
            Err(BadHeader::Newer(found)) => {
                return Err(StartError::Newer { file: disk.path(&name), found, known: FORMAT });
            }
            Ok(_) => {
                let damage = damaged(0, "the header is another segment's");
                found(Found::Unreadable { damage, segment: number })?;
                continue;
            }
            Err(BadHeader::Damaged) => {
                let damage = damaged(0, "the header is not whole");
                found(Found::Unreadable { damage, segment: number })?;
                continue;
            }
        };
        found(Found::Segment(&header, &file))?;
        let mut at = SEGMENT_HEADER;
        while let Some(from) = next_batch(&bytes, at, header.secret, end.number) {
            let Some((batch, body)) = BatchHeader::decode(&bytes[from..], header.secret) else { break };
            let is_next = first || batch.number == end.number || batch.count == LOST;
            if from == at && !first && batch.number + 1 == end.number && at == SEGMENT_HEADER {
                found(Found::Again(&batch))?;
            } else {
                if from > at || !is_next {
                    let here = if from > at { Some((number, at as u64)) } else { tail };
                    let (segment, offset) = here.unwrap_or((number, at as u64));
                    let damage = StartError::Damaged {
                        file: disk.path(&segment::name(segment)),
                        offset,
                        what: format!(
                            "batches up to {} are missing, {} is there",
                            batch.number - 1,
                            batch.number
                        ),
                    };
                    let length = if from > at { (from - at - BATCH_HEADER) as u32 } else { 0 };
                    let lost = BatchHeader {
                        length,
                        count: LOST,
                        number: batch.number - 1,
                        first: end.next,
                        ..batch
                    };
                    found(Found::Lost { damage, segment, offset, instead: here.map(|_| lost) })?;
                }
                found(Found::Batch(from as u64, &batch, body))?;
                first = false;
                end.number = batch.number + 1;
                end.next = batch.end();
                end.torn = None;
            }
            at = from + batch.span() as usize;
            tail = Some((number, at as u64));
        }
        let begun = bytes.get(at..).and_then(BatchHeader::peek);
        if begun.is_some_and(|batch| batch.number == end.number && end.number > 0) {
            end.torn = Some((number, at as u64));
        }
    }
    Ok(end)
}

/// Where the next whole batch begins, at `from` or after it.
fn next_batch(bytes: &[u8], from: usize, secret: u64, number: u64) -> Option<usize> {
    let may_be = |at: usize| {
        BatchHeader::peek(&bytes[at..]).is_some_and(|batch| {
            batch.number.saturating_add(1) >= number && batch.bytes() <= bytes.len() - at
        })
    };
    (from..bytes.len())
        .step_by(8)
        .find(|&at| may_be(at) && BatchHeader::decode(&bytes[at..], secret).is_some())
}

/// The numbers of the files whose names end so, in their order.
pub(super) fn numbers(disk: &dyn Disk, ending: &str) -> Result<Vec<u64>, StartError> {
    let names = disk.list().map_err(|error| StartError::Io { file: disk.path(""), error })?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| segment::number_of(name, ending)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads a whole file into memory that is used again.
fn load(disk: &dyn Disk, name: &str, bytes: &mut Vec<u8>) -> Result<Arc<dyn DiskFile>, StartError> {
    let mut read = || {
        let file = disk.open(name)?;
        bytes.resize(usize::try_from(file.length()?).map_err(io::Error::other)?, 0);
        let read = file.read_at(bytes, 0)?;
        bytes.truncate(read);
        Ok(file)
    };
    read().map_err(|error| StartError::Io { file: disk.path(name), error })
}

/// A batch's records are not what they should be, though its checksum is right.
pub(super) fn not_records(disk: &dyn Disk, segment: u64, offset: u64, _: Damaged) -> StartError {
    StartError::Damaged {
        file: disk.path(&segment::name(segment)),
        offset,
        what: "the batch is whole, but its records are not: another program wrote it".to_owned(),
    }
}
