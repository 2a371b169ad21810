//! What is known of a log as a whole, in a file that is always replaced whole: a line of JSON, and below it the
//! line's xxh3-64 in hexadecimal.

use std::io;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::disk::{Disk, read_all, replace};
use super::segment::FORMAT;
use crate::event::LogId;

pub(super) const NAME: &str = "log.json";

/// What is known of a log as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// The version of the format.
    pub format: u32,
    /// The folder's id, the same as long as it is there.
    pub store_id: Uuid,
    /// The log's.
    log_id: Uuid,
    /// Whether what is written was synced before it was acknowledged.
    pub synced: bool,
    /// The machine's boot that the newest agent ran in.
    pub boot_id: String,
    /// Whether that agent stopped by itself, with all that was written synced.
    pub clean: bool,
}

/// It cannot be used.
#[derive(Debug)]
pub(super) enum BadMeta {
    Io(io::Error),
    Damaged(String),
    Newer(u32),
}

impl Meta {
    pub(super) fn new(synced: bool, boot_id: &str) -> Self {
        Self {
            format: FORMAT,
            store_id: Uuid::new_v4(),
            log_id: LogId::random().0,
            synced,
            boot_id: boot_id.to_owned(),
            clean: false,
        }
    }

    /// The log's id.
    pub fn log_id(&self) -> LogId {
        LogId(self.log_id)
    }

    /// What was given out before can no longer be told from what will be: it is another log now.
    pub(super) fn renew(&mut self) {
        self.log_id = LogId::random().0;
    }

    /// `None` if there is no such file.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>, BadMeta> {
        let bytes = match read_all(disk, NAME) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BadMeta::Io(error)),
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let (line, checksum) =
            bytes.split_at(bytes.iter().position(|&byte| byte == b'\n').unwrap_or_default());
        if checksum != checksum_of(line).as_bytes() {
            return Err(BadMeta::Damaged("its checksum is wrong".to_owned()));
        }
        let damaged = |error: serde_json::Error| BadMeta::Damaged(error.to_string());
        // A newer format may have other keys.
        let Format { format } = serde_json::from_slice(line).map_err(damaged)?;
        if format > FORMAT {
            return Err(BadMeta::Newer(format));
        }
        serde_json::from_slice(line).map(Some).map_err(damaged)
    }

    pub(super) fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        let checksum = checksum_of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        replace(disk, NAME, &bytes)
    }
}

fn checksum_of(line: &[u8]) -> String {
    format!("\n{:016x}\n", xxh3_64(line))
}
