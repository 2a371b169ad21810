//! A page of events.

use tokio::task::yield_now;

use super::PageSize;
use super::scan::{Found, Scan, Step};
use crate::convert;
use crate::proto;
use crate::status::Refusal;

/// Up to `size` events from where the scan is, fewer where they are large.
///
/// # Errors
///
/// If what comes next is dropped from the log meanwhile.
pub async fn page(mut scan: Scan, size: usize) -> Result<proto::ListEventsResponse, Refusal> {
    let mut events = Vec::new();
    let mut bytes = PageSize::default();
    let more = loop {
        let step = scan
            .step(|found| {
                if let Found::Event(position, event) = found {
                    let event = convert::to_event(position, &event);
                    bytes.add(&event);
                    events.push(event);
                }
                events.len() < size && bytes.has_room()
            })
            .await?;
        match step {
            // A log may hold millions of records that do not fit; others are to be served between them.
            Step::Moved => yield_now().await,
            Step::AtHead => break false,
            Step::Enough => break scan.at() < scan.log().head(),
        }
    };
    Ok(proto::ListEventsResponse {
        events,
        next_page_token: if more { scan.cursor().to_string() } else { String::new() },
        log_id: scan.log().id().to_string(),
    })
}
