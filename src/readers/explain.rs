//! What happened to one instance, in the order of time.

use tokio::task::yield_now;

use super::PageSize;
use super::scan::{Found, Scan, Step};
use crate::clock::Time;
use crate::convert;
use crate::engine::WaitView;
use crate::proto;
use crate::proto::explain_entry::What;
use crate::status::Refusal;

/// A place in the time line: when, what kind of thing, and which of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
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

impl Place {
    /// The place that a page token names; the start for an empty one.
    ///
    /// # Errors
    ///
    /// If it is not one that a page before has given.
    pub fn from_token(token: &str) -> Result<Option<Self>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let mut parts = token.splitn(3, '.').map(str::parse::<u64>);
        let mut next = || parts.next().and_then(Result::ok).ok_or_else(|| convert::bad_page_token(token));
        let (at, kind, number) = (next()?, next()?, next()?);
        let kind = match kind {
            0 => Kind::Record,
            1 => Kind::WaitOpened,
            2 => Kind::WaitEnded,
            _ => return Err(convert::bad_page_token(token)),
        };
        Ok(Some(Self { at: Time::from_nanos(at), kind, number }))
    }

    fn to_token(self) -> String {
        format!("{}.{}.{}", self.at.as_nanos(), self.kind as u8, self.number)
    }
}

/// Up to `size` entries after a place, fewer where they are large: what the log has of the instance, and its
/// waits.
///
/// # Errors
///
/// If what comes next is dropped from the log meanwhile.
pub async fn page(
    mut scan: Scan,
    waits: &[WaitView],
    after: Option<Place>,
    size: usize,
) -> Result<proto::ExplainResponse, Refusal> {
    let log_id = scan.log().id();
    let is_past = |place: Place| after.is_none_or(|after| place > after);
    let mut entries = Vec::new();
    let mut records = 0;
    loop {
        let step = scan
            .step(|found| {
                let (place, what) = record(found);
                if is_past(place) {
                    entries.push((place, what));
                    records += 1;
                }
                // One more than fits, to know whether there is another page.
                records <= size
            })
            .await?;
        match step {
            Step::Moved => yield_now().await,
            Step::AtHead | Step::Enough => break,
        }
    }
    for wait in waits {
        let info = convert::to_wait_info(log_id, wait);
        let mut add = |at, kind, what| {
            let place = Place { at, kind, number: wait.opening.0 };
            if is_past(place) {
                entries.push((place, what));
            }
        };
        if let Some((_, at)) = &wait.ended {
            add(*at, Kind::WaitEnded, What::WaitEnded(info.clone()));
        }
        add(wait.opened_at, Kind::WaitOpened, What::WaitOpened(info));
    }
    entries.sort_by_key(|(place, _)| *place);
    let mut page = Vec::new();
    let mut bytes = PageSize::default();
    let mut last = None;
    let mut more = false;
    for (place, what) in entries {
        let entry = proto::ExplainEntry { at: Some(convert::timestamp(place.at)), what: Some(what) };
        more = page.len() == size || !bytes.add(&entry);
        if more {
            break;
        }
        last = Some(place);
        page.push(entry);
    }
    let next_page_token = last.filter(|_| more).map(Place::to_token).unwrap_or_default();
    Ok(proto::ExplainResponse { entries: page, next_page_token, now: None })
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
