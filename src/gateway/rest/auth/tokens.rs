//! The tokens of a file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tracing::{error, info};

use super::{Caller, Roles};
use crate::clock::Time;

/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file of tokens cannot be used.
#[derive(Debug, Error)]
pub enum TokensError {
    /// It could not be read.
    #[error("cannot read the tokens of {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not valid; the text has the line, and nothing of what stands there.
    #[error("{path}: {text}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
}

/// The tokens of a file, read again when it changes.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    roles: Roles,
    uri: Option<String>,
    table: Mutex<Table>,
}

/// Each token's owner by the token's hash: so what is compared is nothing that a caller can choose.
type Owners = HashMap<[u8; 32], Caller>;

#[derive(Debug)]
struct Table {
    owners: Arc<Owners>,
    looked_at: Time,
    /// The file as it was when it was last read, well or not; `None` if it could not be found.
    found: Option<Stamp>,
}

/// What tells that a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    length: u64,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
            length: found.len(),
        })
    }
}

impl Tokens {
    /// Reads the tokens of `path`. Who has one of `roles` may send. `uri`, where tokens are to be had, is told to
    /// callers without one.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not valid.
    pub fn open(path: &Path, roles: Roles, uri: Option<String>, now: Time) -> Result<Self, TokensError> {
        // Before it is read: what is written in between is then seen at the next look.
        let found = Stamp::of(path).ok();
        let table = Table { owners: Arc::new(read(path, &roles)?), looked_at: now, found };
        Ok(Self { path: path.to_owned(), roles, uri, table: Mutex::new(table) })
    }

    pub(super) fn uri(&self) -> Option<&str> {
        self.uri.as_deref()
    }

    pub(super) fn caller(&self, token: &[u8], now: Time) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        self.owners(now).get(&hash).cloned()
    }

    /// The table in force, read anew if the file has changed.
    fn owners(&self, now: Time) -> Arc<Owners> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(table.looked_at) >= LOOK_EVERY {
            table.looked_at = now;
            let found = Stamp::of(&self.path).ok();
            if found != table.found {
                table.found = found;
                match read(&self.path, &self.roles) {
                    Ok(owners) => {
                        info!(path = %self.path.display(), tokens = owners.len(), "tokens read again");
                        table.owners = Arc::new(owners);
                    }
                    Err(error) => error!(%error, "the tokens as they were before stay in force"),
                }
            }
        }
        Arc::clone(&table.owners)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: String,
    roles: Vec<String>,
    project_id: Option<String>,
    name: String,
}

fn read(path: &Path, allowed: &Roles) -> Result<Owners, TokensError> {
    let malformed = |text: String| TokensError::Malformed { path: path.to_owned(), text };
    let text =
        fs::read_to_string(path).map_err(|error| TokensError::Unreadable { path: path.to_owned(), error })?;
    // The error's own text would show what stands there, and that may be a token, put in by mistake.
    let file: TokenFile = toml::from_str(&text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(before).filter(|&byte| byte == b'\n').count() + 1;
        malformed(format!(
            "line {line} is not valid: a [[token]] has sha256, roles and name, and may have project_id"
        ))
    })?;
    let mut owners = HashMap::new();
    for Entry { sha256, roles, project_id, name } in file.token {
        let hash = hash_of(&sha256).ok_or_else(|| {
            malformed(format!("sha256 of {name:?} is not 64 hexadecimal digits, the hash of a token"))
        })?;
        let may_send = allowed.has_one_of(roles.iter().map(String::as_str));
        if let Some(other) = owners.insert(hash, Caller { name: name.clone(), may_send, project_id }) {
            return Err(malformed(format!("{:?} and {name:?} have the same sha256", other.name)));
        }
    }
    Ok(owners)
}

fn hash_of(hex: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let digits = hex.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}
