//! A folder in memory that fails on purpose, and forgets in a crash what was not synced.
//!
//! After a crash any of the blocks that were written since their file's last sync may be there or not, each by
//! itself, and any of the changes to names since the folder's last sync. That is worse than what file systems
//! do; what gets through it gets through them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

const BLOCK: usize = 4096;

/// A folder in memory. Clones are the same folder.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    faults: Faults,
    used: u64,
    syncs: u64,
    /// Raised by each crash: what was opened before it is dead.
    life: u64,
    /// The machine is down.
    down: bool,
}

/// What is to go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Bytes that fit on it; `None`: without end.
    pub room: Option<u64>,
    /// Once it has synced so many times, a sync fails, and what it was to bring to the disk is not there, though
    /// it can still be read.
    pub sync_fails_after: Option<u64>,
    /// Once so many bytes were written, writes fail, the first of them midway.
    pub write_fails_after: Option<u64>,
    /// Once it has synced so many times, the machine goes down when it is asked to sync: from then on nothing is
    /// served until [`FaultyDisk::crash`].
    pub dies_after_syncs: Option<u64>,
    /// Batches find no room, also where they are to be written over what is there.
    pub full_segments: bool,
    /// Files cannot be given another name.
    pub renames_fail: bool,
    /// Segments' files cannot be given another name.
    pub no_retiring: bool,
    /// Syncs of segments say that they are done, and bring nothing to the disk.
    pub syncs_lie: bool,
}

#[derive(Debug, Default)]
struct Contents {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    truncated: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Put(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    number: usize,
    life: u64,
}

impl FaultyDisk {
    /// Says what is to go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// How many syncs there were, of files and of the folder.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// Whether the machine has gone down.
    pub fn is_down(&self) -> bool {
        self.lock().down
    }

    /// The process is killed: what it had opened is dead, and what it wrote is as it left it, synced or not.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.faults = Faults::default();
    }

    /// The machine goes down and comes up again: what was not synced may be gone, as the `coin` has it. Files
    /// that were open are dead.
    pub fn crash(&self, mut coin: impl FnMut() -> bool) {
        let mut state = self.lock();
        state.life += 1;
        state.down = false;
        for change in std::mem::take(&mut state.changes) {
            if coin() {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        for file in &mut state.files {
            file.crash(&mut coin);
        }
        state.faults = Faults::default();
        state.measure();
    }

    /// Another folder with the same in it, all of it durable.
    pub fn fork(&self) -> Self {
        let state = self.lock();
        let mut fork = State::default();
        for (name, &number) in &state.names {
            fork.names.insert(name.clone(), fork.files.len());
            let bytes = &state.files[number].cached;
            fork.files.push(Contents {
                cached: bytes.clone(),
                durable: bytes.clone(),
                ..Contents::default()
            });
        }
        fork.durable_names = fork.names.clone();
        fork.measure();
        Self(Arc::new(Mutex::new(fork)))
    }

    /// Changes what a file has, behind everyone's back.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if let Some(&number) = state.names.get(name) {
            let file = &mut state.files[number];
            change(&mut file.cached);
            file.durable = file.cached.clone();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, number: usize, life: u64) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { disk: self.clone(), number, life })
    }
}

impl State {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn number_of(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn is_named(&self, number: usize, start: &str) -> bool {
        self.names.iter().any(|(name, of)| *of == number && name.starts_with(start))
    }

    fn measure(&mut self) {
        let named: BTreeSet<_> = self.names.values().collect();
        self.used = named.iter().map(|&&number| self.files[number].cached.len() as u64).sum();
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.down {
            return Err(io::Error::other("the machine is down"));
        }
        self.syncs += 1;
        match &mut self.faults.dies_after_syncs {
            Some(0) => {
                self.down = true;
                return Err(io::Error::other("the machine went down"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        match self.faults.sync_fails_after {
            Some(0) => Err(io::Error::other("the disk fails on purpose")),
            Some(left) => {
                self.faults.sync_fails_after = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, number: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut fits = bytes.len();
        let mut fault = None;
        // Zeros go through: what a log is laid out and cut back with.
        if self.faults.full_segments && offset > 0 && bytes.iter().any(|byte| *byte != 0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(left) = &mut self.faults.write_fails_after {
            if fits as u64 > *left {
                fits = *left as usize;
                fault = Some(io::Error::other("the disk fails on purpose"));
            }
            *left -= fits as u64;
        }
        let file = &mut self.files[number];
        if let Some(room) = self.faults.room {
            let grows = (offset + fits).saturating_sub(file.cached.len()) as u64;
            let over = (self.used + grows).saturating_sub(room);
            if over > 0 {
                fits = fits.saturating_sub(over as usize);
                fault = Some(io::ErrorKind::StorageFull.into());
            }
        }
        if file.cached.len() < offset + fits {
            self.used += (offset + fits - file.cached.len()) as u64;
            file.cached.resize(offset + fits, 0);
        }
        file.cached[offset..offset + fits].copy_from_slice(&bytes[..fits]);
        file.dirty.extend(offset / BLOCK..(offset + fits).div_ceil(BLOCK));
        fault.map_or(Ok(()), Err)
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Put(name, number) => {
                names.insert(name.clone(), *number);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, number) => {
                if names.get(from) == Some(number) {
                    names.remove(from);
                }
                names.insert(to.clone(), *number);
            }
        }
    }
}

impl Contents {
    fn crash(&mut self, coin: &mut impl FnMut() -> bool) {
        if self.truncated && coin() {
            self.durable.truncate(self.cached.len());
        }
        for block in std::mem::take(&mut self.dirty) {
            let end = self.cached.len().min((block + 1) * BLOCK);
            let start = block * BLOCK;
            if start < end && coin() {
                if self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                self.durable[start..end].copy_from_slice(&self.cached[start..end]);
            }
        }
        self.cached = self.durable.clone();
        self.truncated = false;
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock();
        Ok(self.file(state.number_of(name)?, state.life))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        let number = state.files.len();
        state.files.push(Contents::default());
        state.change(Change::Put(name.to_owned(), number));
        state.measure();
        Ok(self.file(number, state.life))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        let number = state.number_of(from)?;
        if state.faults.renames_fail || (state.faults.no_retiring && from.ends_with(".segment")) {
            return Err(io::Error::other("the disk fails on purpose"));
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned(), number));
        state.measure();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.number_of(name)?;
        state.change(Change::Remove(name.to_owned()));
        state.measure();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.sync()?;
        state.changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/faulty").join(name)
    }
}

impl FaultyFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        match state.life == self.life && !state.down {
            true => Ok(state),
            false => Err(io::Error::other("the machine went down since this file was opened")),
        }
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.number].cached.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state()?;
        let bytes = &state.files[self.number].cached;
        let start = usize::try_from(offset).map_err(io::Error::other)?.min(bytes.len());
        let read = buf.len().min(bytes.len() - start);
        buf[..read].copy_from_slice(&bytes[start..start + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.state()?.write(self.number, bytes, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let file = &mut state.files[self.number];
        file.cached.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        file.truncated = true;
        state.measure();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let synced = state.sync();
        let lies = state.faults.syncs_lie && !state.is_named(self.number, "log.json");
        if state.down || lies {
            return synced;
        }
        let file = &mut state.files[self.number];
        file.dirty.clear();
        file.truncated = false;
        if synced.is_ok() {
            file.durable = file.cached.clone();
        }
        synced
    }
}
