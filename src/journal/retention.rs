//! How much of the log is kept, and of the ids.

use std::time::Duration;

use tracing::warn;

use crate::clock::Time;
use crate::event::Position;

/// A log has so many segments at the least, so that dropping one never drops much of it.
const SEGMENTS: u64 = 32;

/// How much of the log is kept, and of the ids.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Only what may yet be asked for is kept. The age and the bytes then say no more than how large a segment
    /// grows.
    pub while_needed: bool,
    /// How long events are kept.
    pub age: Duration,
    /// How many bytes of records are kept. It wins over the age.
    pub bytes: u64,
    /// How many bytes are kept at most for waits that may yet ask from an older place, and for consumers.
    pub held_bytes: u64,
    /// How long ids are kept.
    pub id_window: Duration,
    /// How many ids are kept. It wins over the window.
    pub max_ids: usize,
}

/// A segment, as far as it counts here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) last: Position,
    pub(super) bytes: u64,
    /// When its newest record was received; if it was found at a start, the start.
    pub(super) newest: Time,
}

/// Why a segment is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    /// It is past its age.
    Old,
    /// The log is over its size.
    Early,
}

impl Retention {
    /// Bytes of a segment.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.bytes / SEGMENTS
    }

    /// How long a segment is written before another is begun.
    pub(super) fn segment_span(&self) -> Duration {
        self.age / SEGMENTS as u32
    }

    /// Whether the oldest segment is to go, of a log of so many bytes. What is after `pinned` is needed, and is
    /// kept while the log is within `held_bytes`. `newest`: it is the only one.
    pub(super) fn judge(
        &self,
        now: Time,
        oldest: Facts,
        bytes: u64,
        newest: bool,
        pinned: Option<Position>,
    ) -> Option<Goes> {
        let old = oldest.newest < now.minus(self.age);
        let over = bytes > self.bytes;
        let needed = pinned.is_some_and(|pinned| pinned < oldest.last);
        if self.while_needed {
            return (!needed && !newest).then_some(Goes::Old);
        }
        if needed && bytes <= self.held_bytes {
            return None;
        }
        if old {
            return Some(Goes::Old);
        }
        (over && !newest).then_some(Goes::Early)
    }

    /// The oldest position that would be kept if nothing was pinned; `None` while the log, of these segments, is
    /// within its size.
    pub(super) fn oldest_by_size(
        &self,
        bytes: u64,
        segments: impl Iterator<Item = Facts>,
    ) -> Option<Position> {
        let mut over = bytes.checked_sub(self.bytes).filter(|over| *over > 0)?;
        let mut oldest = None;
        for segment in segments {
            oldest = Some(segment.last.next());
            let Some(rest) = over.checked_sub(segment.bytes).filter(|rest| *rest > 0) else { break };
            over = rest;
        }
        oldest
    }
}

/// Says that events were dropped before their time.
pub(super) fn warn_of_drop(dropped: u64, oldest: Position) {
    warn!(dropped, oldest = oldest.0, "log over its size: events dropped before their time");
}
