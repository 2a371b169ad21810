//! The thread that does to segments what nobody should wait for: lays the next one out, and takes dropped ones
//! away.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use tracing::{debug, error};
use uuid::Uuid;

use super::disk::{Disk, DiskFile, replace};
use super::ids_file;
use super::segment::{self, SEGMENT_HEADER, SegmentHeader};
use super::segments::Segment;

/// Files of dropped segments that are kept to be used again: laying a new one out costs the disk as much as all
/// that is then written to it.
const SPARES: usize = 4;
pub(super) const SPARE: &str = ".spare";
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A segment that is laid out and known by its name, and has no batch yet.
#[derive(Debug)]
pub(super) struct LaidOut {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) capacity: u64,
}

enum Job {
    LayOut { number: u64, capacity: u64 },
    Drop { segment: Arc<Segment>, ids: Vec<ids_file::Id> },
    RemoveIds(u64),
}

/// Who does the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hands {
    /// A thread, so that nobody waits.
    Thread,
    /// Whoever gives a job, at once: what happens then follows from what is given alone.
    Own,
}

/// The thread, as the writer has it.
pub(super) struct Keeper {
    at_work: AtWork,
    asked: bool,
}

enum AtWork {
    Thread {
        jobs: Option<Sender<Job>>,
        laid_out: Receiver<io::Result<LaidOut>>,
        thread: Option<JoinHandle<()>>,
    },
    Own {
        room: Room,
        laid_out: Option<io::Result<LaidOut>>,
    },
}

impl Keeper {
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        store_id: Uuid,
        spares: Vec<String>,
        hands: Hands,
    ) -> io::Result<Self> {
        let next_spare = spares.iter().filter_map(|name| segment::number_of(name, SPARE)).max().unwrap_or(0);
        let room = Room { disk, store_id, spares, next_spare, retiring: VecDeque::new(), held: Vec::new() };
        let at_work = match hands {
            Hands::Own => AtWork::Own { room, laid_out: None },
            Hands::Thread => {
                let ((jobs, todo), (done, laid_out)) = (channel(), channel());
                let thread =
                    Builder::new().name("segments".to_owned()).spawn(move || room.run(&todo, &done))?;
                AtWork::Thread { jobs: Some(jobs), laid_out, thread: Some(thread) }
            }
        };
        Ok(Self { at_work, asked: false })
    }

    /// Has a segment laid out, unless one already is.
    pub(super) fn lay_out(&mut self, number: u64, capacity: u64) {
        if !std::mem::replace(&mut self.asked, true) {
            self.give(Job::LayOut { number, capacity });
        }
    }

    /// The segment that was asked for. Waits for it.
    pub(super) fn laid_out(&mut self) -> io::Result<LaidOut> {
        self.asked = false;
        let ended = || io::Error::other("the thread that lays segments out has ended");
        match &mut self.at_work {
            AtWork::Thread { laid_out, .. } => laid_out.recv().unwrap_or_else(|_| Err(ended())),
            AtWork::Own { laid_out, .. } => laid_out.take().unwrap_or_else(|| Err(ended())),
        }
    }

    /// Writes down the ids of a segment, then uses its file for another or takes it away. Nobody waits for it.
    pub(super) fn drop_segment(&mut self, segment: Arc<Segment>, ids: Vec<ids_file::Id>) {
        self.give(Job::Drop { segment, ids });
    }

    /// Takes away the ids of a segment that was dropped. Nobody waits for it.
    pub(super) fn remove_ids(&mut self, segment: u64) {
        self.give(Job::RemoveIds(segment));
    }

    fn give(&mut self, job: Job) {
        match &mut self.at_work {
            AtWork::Thread { jobs: Some(jobs), .. } => {
                // If the thread has ended, the next segment is never laid out, which is told then.
                let _ = jobs.send(job);
            }
            AtWork::Thread { jobs: None, .. } => {}
            AtWork::Own { room, laid_out } => {
                if let Some(done) = room.work(job) {
                    *laid_out = Some(done);
                }
            }
        }
    }
}

impl Drop for Keeper {
    /// Waits until all is done that it was given.
    fn drop(&mut self) {
        match &mut self.at_work {
            AtWork::Thread { jobs, thread, .. } => {
                *jobs = None;
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
            }
            AtWork::Own { room, .. } => room.let_go(),
        }
    }
}

struct Room {
    disk: Arc<dyn Disk>,
    store_id: Uuid,
    spares: Vec<String>,
    next_spare: u64,
    /// Dropped segments whose names have yet to go, oldest first, with their new names.
    retiring: VecDeque<(Arc<Segment>, String)>,
    /// Dropped segments that a reader may still have, with their new names: they must not be written to.
    held: Vec<(Arc<Segment>, String)>,
}

impl Room {
    fn run(mut self, todo: &Receiver<Job>, done: &Sender<io::Result<LaidOut>>) {
        for job in todo {
            if let Some(laid_out) = self.work(job) {
                let _ = done.send(laid_out);
            }
        }
        self.let_go();
    }

    fn work(&mut self, job: Job) -> Option<io::Result<LaidOut>> {
        match job {
            Job::LayOut { number, capacity } => {
                self.let_go();
                return Some(self.lay_out(number, capacity));
            }
            Job::Drop { segment, ids } => {
                self.keep_ids(segment.number, ids);
                let spare = self.spare_name();
                self.retiring.push_back((segment, spare));
                self.retire();
                self.let_go();
            }
            Job::RemoveIds(segment) => self.remove(&ids_file::name(segment)),
        }
        None
    }

    fn keep_ids(&self, number: u64, ids: Vec<ids_file::Id>) {
        if ids.is_empty() {
            return;
        }
        let name = ids_file::name(number);
        if let Err(error) = replace(&*self.disk, &name, &ids_file::encode(&ids)) {
            let file = self.disk.path(&name);
            error!(file = %file.display(), ids = ids.len(), %error, "event ids of dropped events could not be kept");
        }
    }

    /// Takes segments out of the log. Each one's name goes for certain before the next one's does: a log has no gap.
    /// One that cannot be taken out stays in it, and is tried again with the next.
    fn retire(&mut self) {
        while let Some((segment, spare)) = self.retiring.pop_front() {
            let name = segment::name(segment.number);
            let renamed = match self.disk.rename(&name, &spare) {
                // The last try came so far.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                renamed => renamed,
            };
            if let Err(error) = renamed.and_then(|()| self.disk.sync()) {
                self.tell(&name, &error);
                return self.retiring.push_front((segment, spare));
            }
            self.held.push((segment, spare));
        }
    }

    /// Keeps the files of those that no reader has any longer for later use, if they are not too many.
    fn let_go(&mut self) {
        for (segment, spare) in std::mem::take(&mut self.held) {
            if Arc::strong_count(&segment) > 1 {
                self.held.push((segment, spare));
            } else if self.spares.len() < SPARES {
                self.spares.push(spare);
            } else {
                self.remove(&spare);
            }
        }
    }

    fn spare_name(&mut self) -> String {
        self.next_spare += 1;
        format!("{:020}{SPARE}", self.next_spare)
    }

    fn remove(&self, name: &str) {
        if let Err(error) = self.disk.remove(name) {
            self.tell(name, &error);
        }
    }

    fn tell(&self, name: &str, error: &io::Error) {
        error!(file = %self.disk.path(name).display(), %error, "a file that is no longer needed could not be taken away");
    }

    fn lay_out(&mut self, number: u64, capacity: u64) -> io::Result<LaidOut> {
        let header = SegmentHeader { store_id: self.store_id, number, secret: segment::secret() };
        let name = self.spares.pop().unwrap_or_else(|| self.spare_name());
        let made = self.fill(&name, header, capacity);
        if made.is_err() {
            // What there is of it takes room that is wanted.
            let _ = self.disk.remove(&name);
        }
        debug!(number, ok = made.is_ok(), "segment laid out");
        made
    }

    fn fill(&self, name: &str, header: SegmentHeader, capacity: u64) -> io::Result<LaidOut> {
        let file = match self.disk.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(name)?,
            Err(error) => return Err(error),
        };
        file.write_at(&header.encode(), 0)?;
        let mut end = file.length()?.max(SEGMENT_HEADER as u64);
        while end < capacity {
            let zeros = ZEROS.len().min((capacity - end) as usize);
            file.write_at(&ZEROS[..zeros], end)?;
            end += zeros as u64;
        }
        file.sync()?;
        self.disk.rename(name, &segment::name(header.number))?;
        self.disk.sync()?;
        Ok(LaidOut { header, file, capacity: end })
    }
}
