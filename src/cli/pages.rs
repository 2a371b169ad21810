//! Lists that an agent gives a page at a time.

use super::output::{JsonPages, Out, Reply};
use crate::proto::{
    ExplainResponse, ListBindingsResponse, ListConsumersResponse, ListEventsResponse, ListResponse,
    ListWaitsResponse,
};

/// The most that an agent puts into one page.
const PAGE: u32 = 1_000;

/// How much of a list to print.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Limit {
    /// Print at most so many, the oldest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// Print all there are
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Limit {
    /// At most so many entries; `None` for all.
    pub fn entries(self) -> Option<u32> {
        (!self.all).then_some(self.limit)
    }
}

/// One page of a list.
pub trait Page: Reply {
    /// The name of the field that has the list.
    const LIST: &'static str;

    /// How many entries it has.
    fn entries(&self) -> usize;

    /// What to ask the next page with; empty if there is none.
    fn next(&self) -> &str;
}

macro_rules! page {
    ($name:ident, $list:ident) => {
        impl Page for $name {
            const LIST: &'static str = stringify!($list);

            fn entries(&self) -> usize {
                self.$list.len()
            }

            fn next(&self) -> &str {
                &self.next_page_token
            }
        }
    };
}

page!(ExplainResponse, entries);
page!(ListBindingsResponse, bindings);
page!(ListConsumersResponse, consumers);
page!(ListEventsResponse, events);
page!(ListResponse, bindings);
page!(ListWaitsResponse, waits);

/// What a list turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// How many entries were printed.
    pub entries: u64,
    /// There are more than the limit let through.
    pub more: bool,
}

/// Asks for page after page, up to `limit` entries, and prints each as it comes: for programs as one JSON
/// document, for people with `show`.
///
/// # Errors
///
/// If a page cannot be had, or cannot be printed.
pub async fn print<P: Page>(
    limit: Option<u32>,
    out: &mut Out,
    mut ask: impl AsyncFnMut(u32, String) -> anyhow::Result<P>,
    mut show: impl FnMut(&mut Out, &P) -> anyhow::Result<()>,
) -> anyhow::Result<Listed> {
    let mut json = JsonPages::new(P::LIST);
    let mut entries: u64 = 0;
    let mut token = String::new();
    let more = loop {
        let wanted = limit.map_or(u64::from(PAGE), |limit| u64::from(limit).saturating_sub(entries));
        let page = ask(u32::try_from(wanted).unwrap_or(PAGE).min(PAGE), token).await?;
        entries += page.entries() as u64;
        if out.is_json() {
            json.page(out, &page)?;
        } else {
            show(out, &page)?;
        }
        token = page.next().to_owned();
        let full = limit.is_some_and(|limit| entries >= u64::from(limit));
        if token.is_empty() || full {
            break !token.is_empty();
        }
    };
    if out.is_json() {
        json.end(out)?;
    }
    Ok(Listed { entries, more })
}
