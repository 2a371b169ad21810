//! What the log is written to: one folder of files, real or one that fails on purpose.

pub mod faulty;
pub mod real;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A folder. What is done to its names is there after a crash for certain only once it was synced.
pub trait Disk: Send + Sync + Debug {
    /// The names in it.
    ///
    /// # Errors
    ///
    /// Whatever the system says; so it is for all of these.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A file that is there, to read and write.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// A new file, empty; one of this name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, and takes that from whichever has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Brings what was done to names to the disk.
    fn sync(&self) -> io::Result<()>;
    /// Where a file of this name is, to be told to people.
    fn path(&self, name: &str) -> PathBuf;
}

/// A file. What is written is there after a crash for certain only once it was synced.
pub trait DiskFile: Send + Sync + Debug {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills as much of `buf` as the file has from `offset` on; gives how much that was.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of it. After an error a part of it may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts it to so many bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Brings what was written to the disk, with its length. After an error nobody knows what is there.
    fn sync(&self) -> io::Result<()>;
}

/// Reads a whole file.
///
/// # Errors
///
/// If it cannot be read.
pub fn read_all(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes a whole file such that after a crash it is there whole, or as it was before.
///
/// # Errors
///
/// If it cannot be written.
pub fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.new");
    let file = disk.create(&new)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(&new, name)?;
    disk.sync()
}
