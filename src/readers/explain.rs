//! What happened to one instance, in the order of time.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::yield_now;

use super::PageSize;
use super::scan::{Filter, Found, Scan, Step};
use crate::clock::Time;
use crate::convert;
use crate::engine::{Moment, Moments, Opening};
use crate::event::{InstanceId, Position};
use crate::journal::acks::AckView;
use crate::journal::log::Log;
use crate::proto;
use crate::proto::explain_entry::What;
use crate::status::Refusal;

/// A place in the time line: when, what kind of thing, and which of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at: Time,
    kind: Kind,
    number: u64,
}

/// What happened, in the order in which it is told where the moment is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Record = 0,
    WaitOpened = 1,
    WaitEnded = 2,
}

/// From where a page goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct From {
    /// After this place: the last that was told. `None`: from the start.
    after: Option<Place>,
    /// What the log has up to here was told, so that it need not be looked through again.
    position: Position,
}

impl From {
    /// Where a page token says; the start for an empty one.
    ///
    /// # Errors
    ///
    /// If it is not one that a page before has given.
    pub fn token(token: &str) -> Result<Self, Refusal> {
        if token.is_empty() {
            return Ok(Self::default());
        }
        let mut parts = token.splitn(4, '.').map(str::parse::<u64>);
        let mut next = || parts.next().and_then(Result::ok).ok_or_else(|| convert::bad_page_token(token));
        let (at, kind, number, position) = (next()?, next()?, next()?, next()?);
        let kind = match kind {
            0 => Kind::Record,
            1 => Kind::WaitOpened,
            2 => Kind::WaitEnded,
            _ => return Err(convert::bad_page_token(token)),
        };
        let after = Place { at: Time::from_nanos(at), kind, number };
        Ok(Self { after: Some(after), position: Position(position) })
    }

    fn to_token(self) -> Option<String> {
        let Place { at, kind, number } = self.after?;
        Some(format!("{}.{}.{number}.{}", at.as_nanos(), kind as u8, self.position))
    }

    /// After which moment the page's waits were opened and ended.
    pub fn moment(&self) -> Moment {
        let first = Moment { at: Time::default(), ended: false, opening: Opening(0) };
        self.after.map_or(first, |Place { at, kind, number }| match kind {
            Kind::Record => Moment { at, ..first },
            Kind::WaitOpened => Moment { at, ended: false, opening: Opening(number) },
            Kind::WaitEnded => Moment { at, ended: true, opening: Opening(number) },
        })
    }
}

/// Up to `size` entries, fewer where they are large: what the log has of the instance, and its waits, of
/// which one more than `size` are given if there are so many. `acked` tells what consumers have said of events.
///
/// # Errors
///
/// If what comes next is dropped from the log meanwhile.
pub async fn page(
    log: Arc<Log>,
    instance: InstanceId,
    moments: &Moments,
    mut from: From,
    size: usize,
    acked: impl AsyncFnOnce(Vec<Position>) -> Result<Vec<Vec<AckView>>, Refusal>,
) -> Result<proto::ExplainResponse, Refusal> {
    let log_id = log.id();
    let mut entries = records(log, instance, moments.head, from.position, size).await?;
    let positions: Vec<_> = entries.iter().map(|(place, _)| Position(place.number)).collect();
    let mut acked: HashMap<_, _> = positions.iter().copied().zip(acked(positions.clone()).await?).collect();
    entries.extend(moments.waits.iter().map(|(moment, wait)| {
        let info = convert::to_wait_info(log_id, wait);
        let (kind, what) = match moment.ended {
            false => (Kind::WaitOpened, What::WaitOpened(info)),
            true => (Kind::WaitEnded, What::WaitEnded(info)),
        };
        (Place { at: moment.at, kind, number: moment.opening.0 }, what)
    }));
    entries.sort_by_key(|(place, _)| *place);
    let mut page = Vec::new();
    let mut bytes = PageSize::default();
    let mut entries = entries.into_iter();
    for (place, what) in entries.by_ref() {
        let acknowledged = match place.kind {
            Kind::Record => acked.remove(&Position(place.number)).unwrap_or_default(),
            Kind::WaitOpened | Kind::WaitEnded => Vec::new(),
        };
        let entry = proto::ExplainEntry {
            at: Some(convert::timestamp(place.at)),
            what: Some(what),
            acknowledged: acknowledged.into_iter().map(convert::to_acknowledgement).collect(),
        };
        if page.len() == size || !bytes.add(&entry) {
            // Nothing of the instance is in the log between where the page began and the first that it
            // leaves out; with none left out, none is up to the head.
            let mut rest = std::iter::once(place).chain(entries.map(|(place, _)| place));
            let left_out = rest.find(|place| place.kind == Kind::Record);
            from.position = left_out.map_or(moments.head, |place| Position(place.number).before());
            let next_page_token = from.to_token().unwrap_or_default();
            return Ok(proto::ExplainResponse { entries: page, next_page_token, now: None });
        }
        from.after = Some(place);
        page.push(entry);
    }
    Ok(proto::ExplainResponse { entries: page, ..Default::default() })
}

/// What the log has of an instance after a position, up to a head: one more than `size`, to know whether there
/// is another page.
async fn records(
    log: Arc<Log>,
    instance: InstanceId,
    head: Position,
    after: Position,
    size: usize,
) -> Result<Vec<(Place, What)>, Refusal> {
    let filter = Filter { instances: vec![instance], names: Vec::new() };
    // What the log has dropped since the last page is not there to be told.
    let mut scan = if after < log.oldest().before() {
        Scan::from_oldest(log, filter)
    } else {
        Scan::new(log, filter, after)
    };
    let mut entries = Vec::new();
    while scan.at() < head {
        let step = scan
            .step(|found| {
                let (place, what) = record(found);
                // What came after the waits were looked at is not told before what else came by then.
                let more = place.number <= head.0;
                if more {
                    entries.push((place, what));
                }
                more && entries.len() <= size
            })
            .await?;
        match step {
            Step::Moved => yield_now().await,
            Step::AtHead | Step::Enough => break,
        }
    }
    Ok(entries)
}

fn record(found: Found<'_>) -> (Place, What) {
    match found {
        Found::Event(position, event) => (
            Place { at: event.received_at, kind: Kind::Record, number: position.0 },
            What::Event(convert::to_event(position, &event)),
        ),
        Found::CancelInstance(position, cancel) => (
            Place { at: cancel.received_at, kind: Kind::Record, number: position.0 },
            What::InstanceCancelled(proto::InstanceCancelled {
                position: position.0,
                why: cancel.why.to_owned(),
                uid: cancel.caller.uid,
                operator: cancel.caller.operator,
            }),
        ),
    }
}
