//! The ids of a dropped segment's events, in a file of their own: ids outlive events.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `wakeids\n` |
//! | 4 | version of the format, 1 |
//! | 4 | 0 |
//! | 32 each | the id, the digest of the content, the position |
//! | 8 | xxh3-64 of all before |

use bytes::{Buf, BufMut};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::record::Damaged;
use super::segment::FORMAT;
use crate::event::{EventId, Position};

pub(super) const ENDING: &str = ".ids";
const MAGIC: &[u8; 8] = b"wakeids\n";
const HEADER: usize = 16;
const ID: usize = 32;
const CHECKSUM: usize = 8;

/// An event's id, the digest of its content, and its position.
pub type Id = (EventId, u64, Position);

/// The name of the file with the ids of the segment of this number.
pub(super) fn name(segment: u64) -> String {
    format!("{segment:020}{ENDING}")
}

pub(super) fn encode(ids: &[Id]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + ids.len() * ID + CHECKSUM);
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(FORMAT);
    bytes.put_u32_le(0);
    for (id, digest, position) in ids {
        bytes.put_slice(id.0.as_bytes());
        bytes.put_u64_le(*digest);
        bytes.put_u64_le(position.0);
    }
    let checksum = xxh3_64(&bytes);
    bytes.put_u64_le(checksum);
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Id>, Damaged> {
    let (content, mut checksum) =
        bytes.split_last_chunk::<CHECKSUM>().map(|(c, s)| (c, &s[..])).ok_or(Damaged)?;
    if checksum.get_u64_le() != xxh3_64(content) {
        return Err(Damaged);
    }
    let mut rest = content.strip_prefix(MAGIC).ok_or(Damaged)?;
    if rest.len() < HEADER - MAGIC.len() || rest.get_u32_le() != FORMAT {
        return Err(Damaged);
    }
    rest.advance(4);
    let ids = rest.chunks_exact(ID).map(|mut id| {
        let mut uuid = [0; 16];
        id.copy_to_slice(&mut uuid);
        (EventId(Uuid::from_bytes(uuid)), id.get_u64_le(), Position(id.get_u64_le()))
    });
    Ok(ids.collect())
}
