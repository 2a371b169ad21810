//! A segment's bytes: a header, then batches. `docs/journal-format.md` lays them out.
//!
//! All numbers are little-endian, and each batch begins at a multiple of 8.

use bytes::{Buf, BufMut};
use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::clock::Time;
use crate::event::Position;

/// The version of the format that this agent writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Bytes before the first batch.
pub const SEGMENT_HEADER: usize = 64;
/// Bytes before a batch's body.
pub const BATCH_HEADER: usize = 40;
/// The `count` of a batch that stands where others were lost: it has none of them, and the number of the last.
pub const LOST: u32 = u32::MAX;
const MAGIC: &[u8; 8] = b"wakeful\n";
const CHECKSUM: usize = 8;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The folder that it belongs to.
    pub store_id: Uuid,
    /// Its number: they follow each other, though some may be missing after a start.
    pub number: u64,
    /// Seeds the checksums of its batches. Whoever sends events does not know it, so no event's data can pass for
    /// a batch; nor can what an older use of the same file left in it.
    pub secret: u64,
}

/// A segment's header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// It is not what was written.
    Damaged,
    /// A newer agent wrote it, in this version of the format.
    Newer(u32),
}

impl SegmentHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        let mut rest = &mut bytes[..];
        rest.put_slice(MAGIC);
        rest.put_u32_le(FORMAT);
        rest.put_u32_le(0);
        rest.put_slice(self.store_id.as_bytes());
        rest.put_u64_le(self.number);
        rest.put_u64_le(self.secret);
        let checksum = xxh3_64(&bytes[..SEGMENT_HEADER - CHECKSUM]);
        bytes[SEGMENT_HEADER - CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads it from the start of a segment.
    ///
    /// # Errors
    ///
    /// If it is not whole, or a newer agent's.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bytes = bytes.get(..SEGMENT_HEADER).ok_or(BadHeader::Damaged)?;
        let (content, mut checksum) = bytes.split_at(SEGMENT_HEADER - CHECKSUM);
        if checksum.get_u64_le() != xxh3_64(content) {
            return Err(BadHeader::Damaged);
        }
        let mut rest = content.strip_prefix(MAGIC).ok_or(BadHeader::Damaged)?;
        let format = rest.get_u32_le();
        if format > FORMAT {
            return Err(BadHeader::Newer(format));
        }
        rest.advance(4);
        let mut store_id = [0; 16];
        rest.copy_to_slice(&mut store_id);
        let store_id = Uuid::from_bytes(store_id);
        Ok(Self { store_id, number: rest.get_u64_le(), secret: rest.get_u64_le() })
    }
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes of its body.
    pub length: u32,
    /// How many positions it takes. Its body begins with their records, and then has notes.
    pub count: u32,
    /// Its number: it rises by one from batch to batch.
    pub number: u64,
    /// The first of its positions; the next one to be given out, if it takes none.
    pub first: Position,
    /// When its records were received.
    pub received_at: Time,
}

impl BatchHeader {
    /// Writes it, and the checksum of it and the body, into the room before the body.
    pub fn seal(&self, batch: &mut [u8], secret: u64) {
        let mut rest = &mut batch[CHECKSUM..BATCH_HEADER];
        rest.put_u32_le(self.length);
        rest.put_u32_le(self.count);
        rest.put_u64_le(self.number);
        rest.put_u64_le(self.first.0);
        rest.put_u64_le(self.received_at.as_nanos());
        let checksum = xxh3_64_with_seed(&batch[CHECKSUM..], secret);
        batch[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads it without looking at its checksum: it may say anything. `None` if `bytes` end before it does.
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.get(CHECKSUM..BATCH_HEADER)?;
        Some(Self {
            length: rest.get_u32_le(),
            count: rest.get_u32_le(),
            number: rest.get_u64_le(),
            first: Position(rest.get_u64_le()),
            received_at: Time::from_nanos(rest.get_u64_le()),
        })
    }

    /// Reads the whole batch at the start of `bytes`; `None` if there is none.
    pub fn decode(bytes: &[u8], secret: u64) -> Option<(Self, &[u8])> {
        let header = Self::peek(bytes)?;
        let batch = bytes.get(..header.bytes())?;
        let checksum = (&batch[..CHECKSUM]).get_u64_le();
        (checksum == xxh3_64_with_seed(&batch[CHECKSUM..], secret))
            .then_some((header, &batch[BATCH_HEADER..]))
    }

    /// Bytes of the batch, without what fills them up to where the next one begins.
    pub fn bytes(&self) -> usize {
        BATCH_HEADER + self.length as usize
    }

    /// Bytes from its start to the next one's.
    pub fn span(&self) -> u64 {
        span(self.bytes())
    }

    /// How many records it has.
    pub fn records(&self) -> u32 {
        if self.count == LOST { 0 } else { self.count }
    }

    /// The position after its last.
    pub fn end(&self) -> Position {
        Position(self.first.0.saturating_add(u64::from(self.records())))
    }
}

/// So many bytes, up to where a batch may begin.
pub fn span(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(8)
}

/// The name of the segment of this number.
pub fn name(number: u64) -> String {
    format!("{number:020}.segment")
}

/// The number that a file's name, without this ending, stands for.
pub fn number_of(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending).filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}

/// A secret that nobody can guess.
pub fn secret() -> u64 {
    Uuid::new_v4().as_u64_pair().0 ^ Uuid::new_v4().as_u64_pair().1
}
