//! A delivery's bytes, and what is noted of those that have ended.
//!
//! Both are protocol buffers with their length before them: records first, as many as the batch's header counts, then
//! notes.

use bytes::Buf;
use prost::Message;
use uuid::Uuid;

use super::Delivery;
use crate::clock::Time;
use crate::event::{EventId, InstanceId, Status};
use crate::journal::record::Damaged;

/// A delivery, as it is kept.
#[derive(Clone, PartialEq, Message)]
struct DeliveryRecord {
    /// Its ticket, if it was copied forward; 0: its position is its ticket.
    #[prost(uint64, tag = "1")]
    ticket: u64,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    instance: Vec<u8>,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    tag: String,
    #[prost(uint32, tag = "6")]
    status: u32,
    #[prost(bool, tag = "7")]
    starts_work: bool,
    #[prost(uint64, tag = "8")]
    kept_at: u64,
    /// Empty: nobody knows yet.
    #[prost(string, tag = "9")]
    host: String,
}

/// Deliveries that have ended, by their tickets.
#[derive(Clone, PartialEq, Message)]
struct EndedNote {
    #[prost(uint64, repeated, tag = "1")]
    tickets: Vec<u64>,
}

const STATUSES: [Status; 3] = [Status::Completed, Status::Failed, Status::InProgress];

/// Appends a delivery, with its ticket if that is not its position.
pub(super) fn put(delivery: &Delivery, ticket: Option<u64>, buf: &mut Vec<u8>) {
    let record = DeliveryRecord {
        ticket: ticket.unwrap_or(0),
        id: delivery.id.0.as_bytes().to_vec(),
        instance: delivery.instance.0.as_bytes().to_vec(),
        name: delivery.name.to_string(),
        tag: delivery.tag.to_string(),
        status: STATUSES.iter().position(|status| *status == delivery.status).unwrap_or(0) as u32,
        starts_work: delivery.starts_work,
        kept_at: delivery.kept_at.as_nanos(),
        host: delivery.host.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    // It fails only where there is no room, and a Vec makes room.
    let _ = record.encode_length_delimited(buf);
}

/// Takes the next delivery off, with its ticket if that is not its position.
pub(super) fn take(bytes: &mut &[u8]) -> Result<(Delivery, Option<u64>), Damaged> {
    let record = DeliveryRecord::decode_length_delimited(bytes).map_err(|_| Damaged)?;
    let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).map_err(|_| Damaged);
    let host = match record.host.is_empty() {
        true => None,
        false => Some(record.host.parse().map_err(|_| Damaged)?),
    };
    let delivery = Delivery {
        id: EventId(uuid(&record.id)?),
        instance: InstanceId(uuid(&record.instance)?),
        name: record.name.into(),
        tag: record.tag.into(),
        status: *STATUSES.get(record.status as usize).ok_or(Damaged)?,
        starts_work: record.starts_work,
        kept_at: Time::from_nanos(record.kept_at),
        host,
    };
    Ok((delivery, Some(record.ticket).filter(|ticket| *ticket > 0)))
}

/// Appends that deliveries have ended.
pub(super) fn put_ended(tickets: impl Iterator<Item = u64>, buf: &mut Vec<u8>) {
    let _ = EndedNote { tickets: tickets.collect() }.encode_length_delimited(buf);
}

/// Takes the tickets of a note off; `None` at the end.
pub(super) fn take_ended(bytes: &mut &[u8]) -> Result<Option<Vec<u64>>, Damaged> {
    match bytes.has_remaining() {
        true => EndedNote::decode_length_delimited(bytes).map(|note| Some(note.tickets)).map_err(|_| Damaged),
        false => Ok(None),
    }
}
