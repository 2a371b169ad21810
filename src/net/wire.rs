//! The messages of `EventReceiver`, read and written where they lie.
//!
//! They are what an agent handles by the million, and a string of its own for each field would cost more than
//! all else that is done to an event. What is accepted, and what a reply's bytes are, is as prost has it: a test
//! holds them side by side.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, decode_varint, encode_key, encode_varint, message,
    skip_field,
};
use prost_types::{Duration, Timestamp};
use thiserror::Error;
use tonic::Status;
use tonic::codec::DecodeBuf;

use super::codec::{FromWire, ToWire};
use crate::event::{EventId, LogId};
use crate::proto;
use crate::status;

/// The service with these messages, as generated.
pub mod service {
    #![allow(
        missing_docs,
        clippy::all,
        unreachable_pub,
        reason = "generated; the documentation is in proto/"
    )]

    include!(concat!(env!("OUT_DIR"), "/lean/wakeful.v1.rs"));
}

/// A message is not a valid encoding of its type.
#[derive(Debug, Error)]
pub enum Undecodable {
    /// As prost has it.
    #[error(transparent)]
    Prost(#[from] prost::DecodeError),
    /// A string is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A length goes past the end.
    #[error("a field is longer than its message")]
    Truncated,
}

/// `DispatchRequest`, not yet looked into.
#[derive(Debug)]
pub struct DispatchRequest(Bytes);

impl FromWire for DispatchRequest {
    fn from_wire(buf: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        Ok(Self(buf.copy_to_bytes(buf.remaining())))
    }
}

impl DispatchRequest {
    /// The bytes of one, not looked at yet.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// How many events it has. Each is looked at only as far as to find the next.
    ///
    /// # Errors
    ///
    /// If it is not a sequence of fields.
    pub fn count(&self) -> Result<usize, Undecodable> {
        let mut count = 0;
        for event in self.parts() {
            event?;
            count += 1;
        }
        Ok(count)
    }

    /// Its events, in order.
    pub fn events(&self) -> impl Iterator<Item = Result<Event<'_>, Undecodable>> {
        self.parts().map(|part| Event::read(part?))
    }

    fn parts(&self) -> impl Iterator<Item = Result<&[u8], Undecodable>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                match next_event(&mut rest) {
                    Ok(Some(event)) => return Some(Ok(event)),
                    Ok(None) => {}
                    Err(undecodable) => {
                        rest = &[];
                        return Some(Err(undecodable));
                    }
                }
            }
            None
        })
    }
}

fn next_event<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Undecodable> {
    match decode_key(rest)? {
        (1, wire_type) => Ok(Some(length_delimited(wire_type, rest)?)),
        (tag, wire_type) => {
            skip_field(wire_type, tag, rest, DecodeContext::default())?;
            Ok(None)
        }
    }
}

/// `Event` as a sender gave it. What the agent alone sets is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the message's")]
pub struct Event<'a> {
    pub event_id: &'a str,
    pub instance_uuid: &'a str,
    pub name: &'a str,
    pub tag: &'a str,
    pub status: i32,
    pub data: &'a [u8],
    pub occurred_at: Option<Timestamp>,
    pub held_for: Option<Duration>,
}

impl<'a> Event<'a> {
    fn read(mut rest: &'a [u8]) -> Result<Self, Undecodable> {
        let rest = &mut rest;
        let context = DecodeContext::default();
        let mut event = Self::default();
        while !rest.is_empty() {
            let (tag, wire_type) = decode_key(rest)?;
            match tag {
                1 => event.event_id = text("event_id", wire_type, rest)?,
                2 => event.instance_uuid = text("instance_uuid", wire_type, rest)?,
                3 => event.name = text("name", wire_type, rest)?,
                4 => event.tag = text("tag", wire_type, rest)?,
                5 => event.status = varint(wire_type, rest)? as i32,
                6 => event.data = length_delimited(wire_type, rest)?,
                7 => {
                    let at = event.occurred_at.get_or_insert_default();
                    message::merge(wire_type, at, rest, context.clone())?;
                }
                8 => {
                    let held = event.held_for.get_or_insert_default();
                    message::merge(wire_type, held, rest, context.clone())?;
                }
                9 => {
                    varint(wire_type, rest)?;
                }
                10 => message::merge(wire_type, &mut Timestamp::default(), rest, context.clone())?,
                _ => skip_field(wire_type, tag, rest, context.clone())?,
            }
        }
        Ok(event)
    }
}

fn varint(wire_type: WireType, rest: &mut &[u8]) -> Result<u64, Undecodable> {
    check_wire_type(WireType::Varint, wire_type)?;
    Ok(decode_varint(rest)?)
}

fn length_delimited<'a>(wire_type: WireType, rest: &mut &'a [u8]) -> Result<&'a [u8], Undecodable> {
    check_wire_type(WireType::LengthDelimited, wire_type)?;
    let length = usize::try_from(decode_varint(rest)?).map_err(|_| Undecodable::Truncated)?;
    let (field, after) = rest.split_at_checked(length).ok_or(Undecodable::Truncated)?;
    *rest = after;
    Ok(field)
}

fn text<'a>(field: &'static str, wire_type: WireType, rest: &mut &'a [u8]) -> Result<&'a str, Undecodable> {
    std::str::from_utf8(length_delimited(wire_type, rest)?).map_err(|_| Undecodable::NotUtf8(field))
}

impl From<Undecodable> for Status {
    fn from(error: Undecodable) -> Self {
        status::undecodable(&error)
    }
}

/// `DispatchResponse`.
#[derive(Debug)]
pub struct DispatchResponse {
    /// One for each event, in the request's order.
    pub results: Vec<DispatchResult>,
    /// The log that the positions belong to.
    pub log_id: LogId,
}

/// `DispatchResult`.
#[derive(Debug)]
pub enum DispatchResult {
    /// It has a position.
    Kept {
        /// WOKE, RETAINED or DUPLICATE.
        disposition: proto::dispatch_result::Disposition,
        /// How many open waits it met or failed a key of.
        woke: u32,
        /// Its position, or the first one's.
        position: u64,
        /// The id that the agent gave it.
        event_id: Option<EventId>,
    },
    /// It was not taken.
    Rejected(Box<proto::DispatchResult>),
}

/// The most bytes of a [`DispatchResult::Kept`]: three keys with numbers, and an id.
const KEPT: usize = 2 + 6 + 11 + 2 + 36;

impl ToWire for DispatchResponse {
    fn to_wire(&self, buf: &mut impl BufMut) {
        for result in &self.results {
            match result {
                DispatchResult::Kept { disposition, woke, position, event_id } => {
                    let mut bytes = [0; KEPT];
                    let mut rest = &mut bytes[..];
                    put_number(1, *disposition as u64, &mut rest);
                    put_number(2, u64::from(*woke), &mut rest);
                    put_number(3, *position, &mut rest);
                    if let Some(id) = event_id {
                        put_uuid(4, id.0, &mut rest);
                    }
                    let length = KEPT - rest.len();
                    encode_key(1, WireType::LengthDelimited, buf);
                    encode_varint(length as u64, buf);
                    buf.put_slice(&bytes[..length]);
                }
                DispatchResult::Rejected(result) => message::encode(1, &**result, buf),
            }
        }
        put_uuid(2, self.log_id.0, buf);
    }
}

impl DispatchResult {
    /// Bytes that it holds in memory.
    pub fn weight(&self) -> usize {
        let beside = match self {
            Self::Kept { .. } => 0,
            Self::Rejected(result) => size_of::<proto::DispatchResult>() + result.encoded_len(),
        };
        size_of::<Self>() + beside
    }
}

fn put_number(tag: u32, number: u64, buf: &mut impl BufMut) {
    if number != 0 {
        encode_key(tag, WireType::Varint, buf);
        encode_varint(number, buf);
    }
}

fn put_uuid(tag: u32, id: uuid::Uuid, buf: &mut impl BufMut) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    id.hyphenated().encode_lower(&mut text);
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(text.len() as u64, buf);
    buf.put_slice(&text);
}

#[cfg(test)]
mod tests;
