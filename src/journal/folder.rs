//! The folder of a log: made where it is missing, and locked, so that no two agents write to one log.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

const LOCK: &str = "lock";

/// The folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// It could not be made, or not be written to.
    #[error(
        "cannot use {path} as the folder of the log: {error}; name another with --data-dir, or see to its owner and mode"
    )]
    Unusable {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another agent has it.
    #[error(
        "{path} is in use by another agent, process {pid}; stop that one, or name another folder with --data-dir"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other agent's process id, as it wrote it down.
        pid: String,
    },
}

/// A folder that this process has for itself, until it is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing (mode 0700) and takes its lock.
    ///
    /// # Errors
    ///
    /// If it cannot be written to, or another process has its lock.
    pub fn lock(path: &Path) -> Result<Self, FolderError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |error| FolderError::Unusable { path, error }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable(path))?;
        let file = path.join(LOCK);
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&file);
        let mut lock = opened.map_err(unusable(&file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                return Err(FolderError::InUse { path: path.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&file)(error)),
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(unusable(&file))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What tells this boot of the machine from all others.
pub fn boot_id() -> String {
    // Where the system does not tell, every start counts as another boot.
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| uuid::Uuid::new_v4().to_string(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_with_the_first_ones_process_id() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a/b");
        let first = Folder::lock(&path).expect("the first");
        let error = Folder::lock(&path).expect_err("the second").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Folder::lock(&path).expect("the next");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = Folder::lock(Path::new("/proc/none/of/this")).expect_err("no such folder").to_string();
        assert!(error.contains("/proc/none/of/this") && error.contains("--data-dir"), "{error}");
    }
}
