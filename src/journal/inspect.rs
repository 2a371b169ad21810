//! A look at the log of a stopped agent, which changes nothing.

use std::path::PathBuf;

use super::disk::Disk;
use super::meta::{self, Meta};
use super::recovery::read_meta;
use super::scan::{Found, StartError, pass};
use super::segment::{self, BatchHeader, LOST, SEGMENT_HEADER};
use crate::clock::Time;
use crate::event::Position;

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// What is known of the log as a whole.
    pub meta: Meta,
    /// Its segments that can be read, oldest first.
    pub segments: Vec<SegmentReport>,
    /// What is missing or is not what was written: with any of it a start ends, unless told to repair.
    pub damages: Vec<StartError>,
    /// A last write that was torn: its file, and from which byte on.
    pub torn: Option<(PathBuf, u64)>,
}

/// One segment.
#[derive(Clone, Copy, Debug, Default)]
pub struct SegmentReport {
    /// Its number.
    pub number: u64,
    /// How many batches it has.
    pub batches: u64,
    /// The first position in it, 0 if there is none.
    pub first: Position,
    /// How many positions it has.
    pub records: u64,
    /// Bytes of it in use.
    pub bytes: u64,
}

/// A batch, as it lies there.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The position of its first record.
    pub first: Position,
    /// How many records its body begins with; notes follow.
    pub count: u32,
    /// When they were received.
    pub received_at: Time,
    /// Its body.
    pub body: &'a [u8],
}

/// Reads all segments, and shows each whole batch once, in order.
///
/// # Errors
///
/// If a file cannot be read, or is a newer agent's.
pub fn look(disk: &dyn Disk, mut show: impl FnMut(Batch<'_>)) -> Result<Report, StartError> {
    let missing =
        || StartError::Damaged { file: disk.path(meta::NAME), offset: 0, what: "it is missing".to_owned() };
    let meta = read_meta(disk)?.ok_or_else(missing)?;
    let mut segments: Vec<SegmentReport> = Vec::new();
    let mut damages = Vec::new();
    let end = pass(disk, meta.store_id, |found| {
        match found {
            Found::Segment(header, _) => {
                let bytes = SEGMENT_HEADER as u64;
                segments.push(SegmentReport { number: header.number, bytes, ..SegmentReport::default() });
            }
            Found::Batch(offset, batch, body) => {
                if let Some(segment) = segments.last_mut() {
                    count(segment, offset, batch);
                }
                if batch.count != LOST {
                    let BatchHeader { first, count, received_at, .. } = *batch;
                    show(Batch { first, count, received_at, body });
                }
            }
            Found::Again(batch) => {
                if let Some(segment) = segments.last_mut() {
                    count(segment, SEGMENT_HEADER as u64, batch);
                }
            }
            Found::Lost { damage, .. } | Found::Unreadable { damage, .. } => damages.push(damage),
        }
        Ok(())
    })?;
    let torn = end.torn.map(|(number, byte)| (disk.path(&segment::name(number)), byte));
    Ok(Report { meta, segments, damages, torn })
}

fn count(segment: &mut SegmentReport, offset: u64, batch: &BatchHeader) {
    if segment.records == 0 {
        segment.first = batch.first;
    }
    segment.batches += 1;
    segment.records += u64::from(batch.records());
    segment.bytes = offset + batch.span();
}
