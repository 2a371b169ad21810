//! The start: reads what is there, makes it durable before anything is served, and goes on from it.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::{info, warn};

use super::disk::{Disk, DiskFile};
use super::ids_file::{self, Id};
pub use super::keeper::Hands;
use super::keeper::{Keeper, SPARE};
use super::meta::{self, BadMeta, Meta};
use super::record::Damaged;
use super::retention::Retention;
use super::scan::{End, Found, StartError, not_records, numbers, pass};
use super::segment::{self, BATCH_HEADER, BatchHeader, FORMAT, LOST, SEGMENT_HEADER, span};
use super::segments::{Segment, Segments};
use super::store::Store;
use crate::clock::Time;
use crate::event::Position;

/// The smallest record, with its length: no more positions than this can have been in lost bytes.
const LEAST_RECORD: u64 = 56;

/// How a log is started.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Whether to sync what is written.
    pub sync: bool,
    /// How much to keep.
    pub retention: Retention,
    /// Go on without what cannot be read.
    pub repair: bool,
    /// The machine's boot: another one after `os` without a clean stop, and the newest may be lost.
    pub boot_id: &'a str,
    /// Who lays segments out and takes them away.
    pub hands: Hands,
}

/// What of a log is shown to whoever keeps its state in memory, as it was written.
pub trait Restore {
    /// Ids of events that are no longer in the log, oldest first. They come before all batches.
    fn ids(&mut self, ids: &[Id]);
    /// A batch: where its positions begin, how many it takes, when it was received, and its body.
    ///
    /// # Errors
    ///
    /// If its records are not records.
    fn batch(&mut self, first: Position, count: u32, received_at: Time, body: &[u8]) -> Result<(), Damaged>;
}

/// A log that was started.
pub struct Started {
    /// To write it.
    pub store: Store,
    /// It has a new id, and its consumers may have missed what was lost.
    pub renewed: bool,
}

impl Store {
    /// Starts from what is in a folder, or anew if nothing is.
    ///
    /// What was written last may never have been synced, and after a failed sync what is read may not be on the
    /// disk: so the last batch is written again into a new segment, and synced, before this returns.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written, is damaged, or is a newer agent's.
    pub fn start(
        disk: Arc<dyn Disk>,
        start: &Start<'_>,
        restore: &mut dyn Restore,
    ) -> Result<Started, StartError> {
        let io = |name: &str| {
            let file = disk.path(name);
            move |error| StartError::Io { file, error }
        };
        let (mut meta, fresh) = match read_meta(&*disk)? {
            Some(meta) => (meta, false),
            None => (Meta::new(start.sync, start.boot_id), true),
        };
        if fresh {
            if let Some(segment) = numbers(&*disk, ".segment")?.first() {
                let what = format!("{} is missing, and segments are there", meta::NAME);
                return Err(StartError::Damaged {
                    file: disk.path(&segment::name(*segment)),
                    offset: 0,
                    what,
                });
            }
            meta.write(&*disk).map_err(io(meta::NAME))?;
        }
        // What a machine that went down had not yet brought to the disk is missing anywhere.
        let torn_anywhere = !meta.synced && !meta.clean && meta.boot_id != start.boot_id;
        let mut scan = Recovery {
            disk: &*disk,
            lenient: start.repair || torn_anywhere,
            segments: VecDeque::new(),
            last: None,
            before_last: Time::default(),
            repairs: Vec::new(),
            aside: Vec::new(),
            restore,
        };
        let ids_files = scan.ids()?;
        let end = pass(&*disk, meta.store_id, |found| scan.take(found))?;
        let Recovery { segments, last, before_last, repairs, aside, .. } = scan;

        let lost = !repairs.is_empty() || !aside.is_empty();
        let renewed = lost || torn_anywhere;
        for (file, offset, bytes) in repairs {
            file.write_at(&bytes, offset).and_then(|()| file.sync()).map_err(io("a repaired segment"))?;
        }
        for number in aside {
            let name = segment::name(number);
            disk.rename(&name, &format!("{name}.damaged")).map_err(io(&name))?;
        }
        if renewed {
            meta.renew();
            warn!(log_id = %meta.log_id(), "positions of the log may have been lost: it goes on as another log");
        }
        if start.sync && !meta.synced {
            // From now on what is there counts as synced.
            for segment in &segments {
                segment.file.sync().map_err(io(&segment::name(segment.number)))?;
            }
        }
        (meta.synced, meta.boot_id, meta.clean) = (start.sync, start.boot_id.to_owned(), false);
        meta.write(&*disk).map_err(io(meta::NAME))?;
        tell_torn(&*disk, &end);

        let next = if renewed { Position(end.next.0 + end.bytes / LEAST_RECORD) } else { end.next };
        let end = End { next, number: end.number.max(1), ..end };
        let mut store = go_on(disk, meta, start, &segments, last, &end)?;
        store.ids_files = ids_files;
        store.begun = Some(before_last);
        Ok(Started { store, renewed })
    }
}

/// Makes the last batch durable, in a segment of its own, and takes away what that makes useless.
fn go_on(
    disk: Arc<dyn Disk>,
    meta: Meta,
    start: &Start<'_>,
    segments: &VecDeque<Arc<Segment>>,
    last: Option<(BatchHeader, Vec<u8>)>,
    end: &End,
) -> Result<Store, StartError> {
    let number = end.newest_segment + 1;
    let retention = start.retention;
    let io = |error| StartError::Io { file: disk.path(&segment::name(number)), error };
    let spares = numbers(&*disk, SPARE)?.into_iter().map(|number| format!("{number:020}{SPARE}")).collect();
    let mut keeper = Keeper::start(Arc::clone(&disk), meta.store_id, spares, start.hands).map_err(io)?;
    let needed = last.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64).max(retention.segment_bytes());
    keeper.lay_out(number, SEGMENT_HEADER as u64 + needed);
    let laid_out = keeper.laid_out().map_err(io)?;
    let first = last.as_ref().map_or(end.next, |(batch, _)| batch.first);
    let current = Segment::new(number, laid_out.header.secret, laid_out.file, first, Time::default());
    let last = match last {
        Some((batch, mut bytes)) => {
            batch.seal(&mut bytes[..batch.bytes()], current.secret);
            let written = current.file.write_at(&bytes, SEGMENT_HEADER as u64);
            written.and_then(|()| current.file.sync()).map_err(io)?;
            current.add(&batch, batch.received_at);
            Some(batch)
        }
        None => None,
    };
    let kept = Segments::default();
    for segment in segments {
        // All that it has, if anything, is that batch.
        if segment.first_batch().is_none_or(|first| last.is_some_and(|last| first == last.number)) {
            disk.remove(&segment::name(segment.number)).map_err(io)?;
            continue;
        }
        // Its end is never written to again, and need take no room.
        if segment.file.length().map_err(io)? > segment.used() {
            segment.file.truncate(segment.used()).map_err(io)?;
        }
        kept.push(Arc::clone(segment));
    }
    disk.sync().map_err(io)?;
    let current = Arc::new(current);
    kept.push(Arc::clone(&current));
    keeper.lay_out(number + 1, SEGMENT_HEADER as u64 + retention.segment_bytes());
    Ok(Store {
        sync: meta.synced,
        meta,
        retention,
        segments: Arc::new(kept),
        keeper,
        current,
        capacity: laid_out.capacity,
        number: end.number,
        next: end.next,
        newest: last.map_or(Time::default(), |batch| batch.received_at),
        batch: Vec::new(),
        failed: None,
        ids_files: VecDeque::new(),
        dropped_early: 0,
        begun: None,
        disk,
    })
}

pub(super) fn read_meta(disk: &dyn Disk) -> Result<Option<Meta>, StartError> {
    let file = disk.path(meta::NAME);
    Meta::read(disk).map_err(|bad| match bad {
        BadMeta::Io(error) => StartError::Io { file, error },
        BadMeta::Damaged(what) => StartError::Damaged { file, offset: 0, what },
        BadMeta::Newer(found) => StartError::Newer { file, found, known: FORMAT },
    })
}

fn tell_torn(disk: &dyn Disk, end: &End) {
    if let Some((segment, offset)) = end.torn {
        let file = disk.path(&segment::name(segment));
        info!(file = %file.display(), offset, "the last write was torn, and is cut off: it was never acknowledged");
    }
}

/// What a pass over the segments comes to.
struct Recovery<'a> {
    disk: &'a dyn Disk,
    /// Goes on where something is missing.
    lenient: bool,
    segments: VecDeque<Arc<Segment>>,
    /// The last batch, whole, and when the one before it was received.
    last: Option<(BatchHeader, Vec<u8>)>,
    before_last: Time,
    /// What is to be written where something was lost, so that the next start finds no damage there.
    repairs: Vec<(Arc<dyn DiskFile>, u64, Vec<u8>)>,
    /// Segments that cannot be read at all.
    aside: Vec<u64>,
    restore: &'a mut dyn Restore,
}

impl Recovery<'_> {
    /// Reads the ids of dropped segments. Of one that is still there, its batches have them.
    fn ids(&mut self) -> Result<VecDeque<(u64, Position)>, StartError> {
        let kept = numbers(self.disk, ".segment")?;
        let mut files = VecDeque::new();
        for number in numbers(self.disk, ids_file::ENDING)? {
            let name = ids_file::name(number);
            let io = |error| StartError::Io { file: self.disk.path(&name), error };
            if kept.contains(&number) {
                self.disk.remove(&name).map_err(io)?;
                continue;
            }
            let bytes = super::disk::read_all(self.disk, &name).map_err(io)?;
            match ids_file::decode(&bytes) {
                Ok(ids) => {
                    self.restore.ids(&ids);
                    files.extend(ids.last().map(|(_, _, position)| (number, *position)));
                }
                Err(damaged) if self.lenient => {
                    warn!(file = %self.disk.path(&name).display(), %damaged, "event ids are lost");
                    self.disk.remove(&name).map_err(io)?;
                }
                Err(damaged) => {
                    let file = self.disk.path(&name);
                    return Err(StartError::Damaged { file, offset: 0, what: damaged.to_string() });
                }
            }
        }
        Ok(files)
    }

    fn take(&mut self, found: Found<'_>) -> Result<(), StartError> {
        match found {
            Found::Segment(header, file) => {
                let first = self.segments.back().map_or(Position(1), |segment| segment.end());
                let file = Arc::clone(file);
                let segment = Segment::new(header.number, header.secret, file, first, Time::default());
                self.segments.push_back(Arc::new(segment));
            }
            Found::Batch(offset, batch, body) => {
                let Some(segment) = self.begun(batch) else { return Ok(()) };
                if batch.count != LOST {
                    self.restore
                        .batch(batch.first, batch.count, batch.received_at, body)
                        .map_err(|damaged| not_records(self.disk, segment.number, offset, damaged))?;
                }
                segment.add(batch, batch.received_at);
                let mut bytes = Vec::new();
                if let Some((before, buffer)) = self.last.take() {
                    self.before_last = before.received_at;
                    bytes = buffer;
                }
                bytes.clear();
                bytes.resize(BATCH_HEADER, 0);
                bytes.extend_from_slice(body);
                bytes.resize(span(bytes.len()) as usize, 0);
                self.last = Some((*batch, bytes));
            }
            Found::Again(batch) => {
                if let Some(segment) = self.begun(batch) {
                    segment.add(batch, batch.received_at);
                }
            }
            Found::Lost { damage, .. } | Found::Unreadable { damage, .. } if !self.lenient => {
                return Err(damage);
            }
            Found::Lost { damage, segment, offset, instead } => {
                warn!(%damage, "batches are lost");
                let at = self.segments.iter().find(|other| other.number == segment);
                if let (Some(batch), Some(at)) = (instead, at) {
                    let mut bytes = vec![0; span(batch.bytes()) as usize];
                    batch.seal(&mut bytes[..batch.bytes()], at.secret);
                    at.add(&batch, batch.received_at);
                    self.repairs.push((Arc::clone(&at.file), offset, bytes));
                }
            }
            Found::Unreadable { damage, segment } => {
                warn!(%damage, "a segment is lost");
                self.aside.push(segment);
            }
        }
        Ok(())
    }

    /// The segment that the pass is in. With its first batch it is known where its positions begin.
    fn begun(&mut self, batch: &BatchHeader) -> Option<Arc<Segment>> {
        let segment = self.segments.pop_back()?;
        let segment = match segment.first_batch() {
            Some(_) => segment,
            None => Arc::new(segment.beginning_at(batch.first)),
        };
        self.segments.push_back(Arc::clone(&segment));
        Some(segment)
    }
}
