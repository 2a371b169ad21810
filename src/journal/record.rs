//! A record's bytes: one event or one CancelInstance, as the log keeps it.
//!
//! Little-endian. The fixed part is first, so that a reader that looks for one instance passes over the
//! others' records without decoding them.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | length of all that follows |
//! | 1 | kind: 1 event, 2 CancelInstance |
//! | 1 | event: status; CancelInstance: 1 if the caller is an operator |
//! | 8 | `received_at` |
//! | 16 | the instance |
//! | 16 | event: its id; CancelInstance: the caller's uid, then zeros |
//! | 8 | `held_for` in nanoseconds; all ones: none |
//! | 8 | `occurred_at`; all ones: none |
//! | 2, 2, 4 | lengths of name, tag and data (CancelInstance: of nothing, nothing, `why`) |
//! | … | name, tag, data |

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use thiserror::Error;
use uuid::Uuid;

use crate::clock::Time;
use crate::event::{Caller, CancelInstance, Event, EventId, InstanceId, Status};

const KIND_EVENT: u8 = 1;
const KIND_CANCEL_INSTANCE: u8 = 2;
const LENGTH: usize = 4;
const FIXED: usize = 1 + 1 + 8 + 16 + 16 + 8 + 8 + 2 + 2 + 4;
const NONE: u64 = u64::MAX;

/// The bytes are not a record's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a whole record")]
pub struct Damaged;

/// Appends an event's record.
pub fn put_event(buf: &mut BytesMut, event: &Event, received_at: Time) {
    let fixed = Fixed {
        kind: KIND_EVENT,
        detail: match event.status {
            Status::Completed => 1,
            Status::Failed => 2,
            Status::InProgress => 3,
        },
        received_at,
        instance: event.instance,
        id: event.id.0.into_bytes(),
        held_for: event.held_for.map_or(NONE, |held| held.as_nanos() as u64),
        occurred_at: event.occurred_at.map_or(NONE, Time::as_nanos),
    };
    fixed.put(buf, event.key.name().as_bytes(), event.key.tag().as_bytes(), &event.data);
}

/// Appends a CancelInstance's record.
pub fn put_cancel_instance(buf: &mut BytesMut, cancel: &CancelInstance, received_at: Time) {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&cancel.caller.uid.to_le_bytes());
    let fixed = Fixed {
        kind: KIND_CANCEL_INSTANCE,
        detail: u8::from(cancel.caller.operator),
        received_at,
        instance: cancel.instance,
        id,
        held_for: NONE,
        occurred_at: NONE,
    };
    fixed.put(buf, b"", b"", cancel.why.as_bytes());
}

struct Fixed {
    kind: u8,
    detail: u8,
    received_at: Time,
    instance: InstanceId,
    id: [u8; 16],
    held_for: u64,
    occurred_at: u64,
}

impl Fixed {
    fn put(&self, buf: &mut BytesMut, name: &[u8], tag: &[u8], data: &[u8]) {
        let length = FIXED + name.len() + tag.len() + data.len();
        let mut head = [0; LENGTH + FIXED];
        let mut rest = &mut head[..];
        rest.put_u32_le(length as u32);
        rest.put_u8(self.kind);
        rest.put_u8(self.detail);
        rest.put_u64_le(self.received_at.as_nanos());
        rest.put_slice(self.instance.0.as_bytes());
        rest.put_slice(&self.id);
        rest.put_u64_le(self.held_for);
        rest.put_u64_le(self.occurred_at);
        rest.put_u16_le(name.len() as u16);
        rest.put_u16_le(tag.len() as u16);
        rest.put_u32_le(data.len() as u32);

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
#[expect(missing_docs, reason = "the fields are Event's")]
pub struct EventRecord<'a> {
    pub id: EventId,
    pub instance: InstanceId,
    pub name: &'a str,
    pub tag: &'a str,
    pub status: Status,
    pub data: &'a [u8],
    pub received_at: Time,
    pub occurred_at: Option<Time>,
    pub held_for: Option<Duration>,
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
pub struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    /// Cuts the first record off `bytes`.
    ///
    /// # Errors
    ///
    /// If the bytes end before it does.
    pub fn cut(bytes: &mut &'a [u8]) -> Result<Self, Damaged> {
        let mut rest = *bytes;
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        if length < FIXED {
            return Err(Damaged);
        }
        let (record, rest) = rest.split_at_checked(length).ok_or(Damaged)?;
        *bytes = rest;
        Ok(Self(record))
    }

    /// The instance that it is about.
    pub fn instance(&self) -> InstanceId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[10..26]);
        InstanceId(Uuid::from_bytes(id))
    }

    /// Decodes it.
    ///
    /// # Errors
    ///
    /// If a part of it is not what it should be.
    pub fn decode(&self) -> Result<Record<'a>, Damaged> {
        let mut rest = self.0;
        let [kind, detail] = take(&mut rest)?;
        let received_at = Time::from_nanos(u64::from_le_bytes(take(&mut rest)?));
        let instance = InstanceId(Uuid::from_bytes(take(&mut rest)?));
        let id: [u8; 16] = take(&mut rest)?;
        let held_for = u64::from_le_bytes(take(&mut rest)?);
        let occurred_at = u64::from_le_bytes(take(&mut rest)?);
        let name_len = u16::from_le_bytes(take(&mut rest)?) as usize;
        let tag_len = u16::from_le_bytes(take(&mut rest)?) as usize;
        let data_len = u32::from_le_bytes(take(&mut rest)?) as usize;
        let (name, rest) = rest.split_at_checked(name_len).ok_or(Damaged)?;
        let (tag, data) = rest.split_at_checked(tag_len).ok_or(Damaged)?;
        if data.len() != data_len {
            return Err(Damaged);
        }
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Damaged);
        match kind {
            KIND_EVENT => Ok(Record::Event(EventRecord {
                id: EventId(Uuid::from_bytes(id)),
                instance,
                name: text(name)?,
                tag: text(tag)?,
                status: match detail {
                    1 => Status::Completed,
                    2 => Status::Failed,
                    3 => Status::InProgress,
                    _ => return Err(Damaged),
                },
                data,
                received_at,
                occurred_at: (occurred_at != NONE).then_some(Time::from_nanos(occurred_at)),
                held_for: (held_for != NONE).then_some(Duration::from_nanos(held_for)),
            })),
            KIND_CANCEL_INSTANCE => {
                let mut uid = &id[..];
                Ok(Record::CancelInstance(CancelRecord {
                    instance,
                    caller: Caller { uid: u32::from_le_bytes(take(&mut uid)?), operator: detail != 0 },
                    why: text(data)?,
                    received_at,
                }))
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
