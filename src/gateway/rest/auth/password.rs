//! The file of a password.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What others than the owner and the group may do.
const OTHERS: u32 = 0o007;

/// A file of a password cannot be used. Nothing of what stands there is shown.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// It could not be read.
    #[error("cannot read the password of {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no secret.
    #[error(
        "{path} has the mode {mode:04o}, and a password is nobody else's: it must be 0600, or 0640 for a group"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Nothing is in it.
    #[error("{0} is empty; it must have a password in its one line")]
    Empty(PathBuf),
}

/// A password, which is never shown.
pub(super) struct Password(pub(super) String);

/// Reads the password of `path`: all that stands there, without the end of its line.
///
/// # Errors
///
/// If it cannot be read, or others than its owner and its group may use it.
pub(super) fn read(path: &Path) -> Result<Password, PasswordError> {
    let unreadable = |error| PasswordError::Unreadable { path: path.to_owned(), error };
    let mode = fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(PasswordError::Open { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    match password.is_empty() {
        true => Err(PasswordError::Empty(path.to_owned())),
        false => Ok(Password(password.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_a_line_of_a_file_that_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let read_as = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&path).map(|password| password.0);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            read.map_err(|error| error.to_string())
        };
        for mode in [0o400, 0o600, 0o640] {
            assert_eq!(read_as("s3cret \n", mode).as_deref(), Ok("s3cret "));
        }
        for mode in [0o604, 0o602, 0o644, 0o777] {
            let error = read_as("s3cret", mode).unwrap_err();
            assert!(error.contains(&format!("{mode:04o}")) && !error.contains("s3cret"), "{error}");
        }
        assert!(read_as("\n", 0o600).unwrap_err().contains("is empty"));
        fs::remove_file(&path).unwrap();
        assert!(read(&path).is_err());
    }
}
