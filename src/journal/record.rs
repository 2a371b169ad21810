//! A record's bytes: one event or one CancelInstance, as the log keeps it.
//!
//! Little-endian. The fixed part is first, so that a reader that looks for one instance passes over the
//! others' records without decoding them.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | length of all that follows |
//! | 8 | `held_for` in nanoseconds; all ones: none |
//! | 8 | `occurred_at`; all ones: none |
//! | 1 | kind: 1 event, 2 CancelInstance |
//! | 1 | event: status, and 128 if the sender gave the id; CancelInstance: 1 if the caller is an operator |
//! | 2 | length of the name (CancelInstance: 0) |
//! | 4 | length of the tag (CancelInstance: 0) |
//! | 16 | the instance |
//! | 16 | event: its id; CancelInstance: the caller's uid, then zeros |
//! | … | name, tag, and to the end the data (CancelInstance: `why`) |
//!
//! What an event's content is, all but when it happened and how long it was kept, is one stretch of it. When
//! it was received and its position are its batch's.

use std::time::Duration;

use bytes::BufMut;
use thiserror::Error;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Time;
use crate::event::{Caller, CancelInstance, Event, EventId, InstanceId, KeyRef, Status};

const KIND_EVENT: u8 = 1;
const KIND_CANCEL_INSTANCE: u8 = 2;
const ID_GIVEN: u8 = 128;
const LENGTH: usize = 4;
const TIMES: usize = 8 + 8;
const FIXED: usize = TIMES + 1 + 1 + 2 + 4 + 16 + 16;
const NONE: u64 = u64::MAX;

/// The bytes are not a record's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a whole record")]
pub struct Damaged;

/// Appends an event's record.
pub fn put_event(buf: &mut Vec<u8>, event: &Event<'_>) {
    let status = match event.status {
        Status::Completed => 1,
        Status::Failed => 2,
        Status::InProgress => 3,
    };
    let fixed = Fixed {
        held_for: event.held_for.map_or(NONE, |held| held.as_nanos() as u64),
        occurred_at: event.occurred_at.map_or(NONE, Time::as_nanos),
        kind: KIND_EVENT,
        detail: status | if event.id_given { ID_GIVEN } else { 0 },
        instance: event.instance,
        id: event.id.0.into_bytes(),
    };
    fixed.put(buf, event.key.name().as_bytes(), event.key.tag().as_bytes(), event.data);
}

/// Appends a CancelInstance's record.
pub fn put_cancel_instance(buf: &mut Vec<u8>, cancel: &CancelInstance) {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&cancel.caller.uid.to_le_bytes());
    let fixed = Fixed {
        held_for: NONE,
        occurred_at: NONE,
        kind: KIND_CANCEL_INSTANCE,
        detail: u8::from(cancel.caller.operator),
        instance: cancel.instance,
        id,
    };
    fixed.put(buf, b"", b"", cancel.why.as_bytes());
}

/// Of an event's record, its content as 64 bits: the same id with another digest is another event. It is
/// the same in each process, for ids outlive them. A sender that finds two events with one digest fools
/// itself alone.
pub fn digest(record: &[u8]) -> u64 {
    xxh3_64(record.get(LENGTH + TIMES..).unwrap_or_default())
}

struct Fixed {
    held_for: u64,
    occurred_at: u64,
    kind: u8,
    detail: u8,
    instance: InstanceId,
    id: [u8; 16],
}

impl Fixed {
    fn put(&self, buf: &mut Vec<u8>, name: &[u8], tag: &[u8], data: &[u8]) {
        let length = FIXED + name.len() + tag.len() + data.len();
        let mut head = [0; LENGTH + FIXED];
        let mut rest = &mut head[..];
        rest.put_u32_le(length as u32);
        rest.put_u64_le(self.held_for);
        rest.put_u64_le(self.occurred_at);
        rest.put_u8(self.kind);
        rest.put_u8(self.detail);
        rest.put_u16_le(name.len() as u16);
        rest.put_u32_le(tag.len() as u32);
        rest.put_slice(self.instance.0.as_bytes());
        rest.put_slice(&self.id);

        buf.reserve(LENGTH + length);
        buf.extend_from_slice(&head);
        buf.extend_from_slice(name);
        buf.extend_from_slice(tag);
        buf.extend_from_slice(data);
    }
}

/// A record, read where it lies.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// An event.
    Event(EventRecord<'a>),
    /// A CancelInstance.
    CancelInstance(CancelRecord<'a>),
}

/// An event's record.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct EventRecord<'a> {
    pub event: Event<'a>,
    pub received_at: Time,
}

/// A CancelInstance's record.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are CancelInstance's")]
pub struct CancelRecord<'a> {
    pub instance: InstanceId,
    pub caller: Caller,
    pub why: &'a str,
    pub received_at: Time,
}

/// One record's bytes, cut out but not yet decoded.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// Without its length.
    bytes: &'a [u8],
    received_at: Time,
}

impl<'a> Raw<'a> {
    /// Cuts the first record off the `bytes` of a batch that was received at this moment.
    ///
    /// # Errors
    ///
    /// If they do not begin with a whole one.
    pub fn cut(bytes: &mut &'a [u8], received_at: Time) -> Result<Self, Damaged> {
        let mut rest = *bytes;
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        if length < FIXED {
            return Err(Damaged);
        }
        let (record, rest) = rest.split_at_checked(length).ok_or(Damaged)?;
        *bytes = rest;
        Ok(Self { bytes: record, received_at })
    }

    /// Of an event, its content as [`digest`] has it.
    pub fn digest(&self) -> u64 {
        xxh3_64(&self.bytes[TIMES..])
    }

    /// The instance that it is about.
    pub fn instance(&self) -> InstanceId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.bytes[TIMES + 8..TIMES + 24]);
        InstanceId(Uuid::from_bytes(id))
    }

    /// Decodes it.
    ///
    /// # Errors
    ///
    /// If a part of it is not what it should be.
    pub fn decode(&self) -> Result<Record<'a>, Damaged> {
        let mut rest = self.bytes;
        let held_for = u64::from_le_bytes(take(&mut rest)?);
        let occurred_at = u64::from_le_bytes(take(&mut rest)?);
        let [kind, detail] = take(&mut rest)?;
        let name_len = u16::from_le_bytes(take(&mut rest)?) as usize;
        let tag_len = u32::from_le_bytes(take(&mut rest)?) as usize;
        let instance = InstanceId(Uuid::from_bytes(take(&mut rest)?));
        let id: [u8; 16] = take(&mut rest)?;
        let (name, rest) = rest.split_at_checked(name_len).ok_or(Damaged)?;
        let (tag, data) = rest.split_at_checked(tag_len).ok_or(Damaged)?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Damaged);
        let received_at = self.received_at;
        match kind {
            KIND_EVENT => {
                let event = Event {
                    id: EventId(Uuid::from_bytes(id)),
                    id_given: detail & ID_GIVEN != 0,
                    instance,
                    key: KeyRef::from_log(text(name)?, text(tag)?),
                    status: match detail & !ID_GIVEN {
                        1 => Status::Completed,
                        2 => Status::Failed,
                        3 => Status::InProgress,
                        _ => return Err(Damaged),
                    },
                    data,
                    occurred_at: (occurred_at != NONE).then_some(Time::from_nanos(occurred_at)),
                    held_for: (held_for != NONE).then_some(Duration::from_nanos(held_for)),
                };
                Ok(Record::Event(EventRecord { event, received_at }))
            }
            KIND_CANCEL_INSTANCE => {
                let mut uid = &id[..];
                let caller = Caller { uid: u32::from_le_bytes(take(&mut uid)?), operator: detail != 0 };
                let why = text(data)?;
                Ok(Record::CancelInstance(CancelRecord { instance, caller, why, received_at }))
            }
            _ => Err(Damaged),
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Damaged> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(Damaged)?;
    *bytes = rest;
    Ok(*taken)
}
