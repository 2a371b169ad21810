//! `wakeful events`: lists what is in the log.

use std::process::ExitCode;

use super::ages::{self, age, rough};
use super::args;
use super::output::{Out, complain};
use super::pages;
use super::table::Table;
use super::target::Target;
use super::words;
use crate::clock::Time;
use crate::convert::to_cursor;
use crate::event::{Cursor, InstanceId};
use crate::proto::event_log_client::EventLogClient;
use crate::proto::{Event, EventFilter, ListEventsRequest, ListEventsResponse};

/// List the events in the agent's log, oldest first
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,

    /// List what came after this place, LOG_ID:POSITION [default: from the oldest event kept]
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,

    #[command(flatten)]
    limit: pages::Limit,

    #[command(flatten)]
    target: Target,
}

/// Which events are asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Filter {
    /// Only events about this instance; may be repeated [default: all]
    #[arg(long = "instance", value_name = "UUID", value_parser = args::instance)]
    instances: Vec<InstanceId>,

    /// Only events of this name; may be repeated [default: all]
    #[arg(long = "name", value_name = "NAME", value_parser = args::name)]
    names: Vec<String>,
}

impl Filter {
    /// Whether every event fits.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.names.is_empty()
    }

    /// The filter as the wire has it.
    pub fn to_proto(&self) -> EventFilter {
        EventFilter {
            instance_uuids: self.instances.iter().map(InstanceId::to_string).collect(),
            names: self.names.clone(),
        }
    }
}

/// Prints the list.
///
/// # Errors
///
/// If the agent cannot be asked, or refuses.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let client = EventLogClient::new(args.target.channel()?).max_decoding_message_size(usize::MAX);
    let now = ages::local_now();
    let mut table = Table::new(&["POSITION", "RECEIVED", "STATUS", "INSTANCE", "EVENT"]);
    let mut last = String::new();
    let ask = async |page_size, page_token| {
        let request = ListEventsRequest {
            filter: Some(args.filter.to_proto()),
            after: args.after.map(to_cursor),
            page_size,
            page_token,
        };
        args.target.ask(client.clone().list_events(request)).await
    };
    let listed = pages::print(args.limit.entries(), out, ask, |out, page: &ListEventsResponse| {
        let rows: Vec<[String; 5]> = page.events.iter().map(|event| row(now, event)).collect();
        if let Some(event) = page.events.last() {
            last = format!("{}:{}", page.log_id, event.position);
        }
        Ok(out.text(&table.lines(&rows))?)
    })
    .await?;

    if !out.is_json() && listed.entries == 0 {
        out.line(if args.filter.is_empty() && args.after.is_none() {
            "the log has no events"
        } else {
            "no events in the log fit"
        })?;
    }
    if !out.is_json() && listed.more {
        out.flush()?;
        complain(&format!("there are more: go on with --after {last}, or ask for --all"));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(now: Time, event: &Event) -> [String; 5] {
    [
        event.position.to_string(),
        age(now, event.received_at.as_ref()),
        words::status(event).to_owned(),
        event.instance_uuid.clone(),
        what(event),
    ]
}

/// The event's key, with how long a gateway kept it.
pub fn what(event: &Event) -> String {
    let key = words::key(&event.name, &event.tag);
    match event.held_for.as_ref().and_then(ages::span) {
        Some(span) => format!("{key}  (held for {})", rough(span)),
        None => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_with_its_age() {
        let event = Event {
            position: 12,
            instance_uuid: "i".into(),
            name: "network-vif-plugged".into(),
            tag: "p".into(),
            received_at: Some(prost_types::Timestamp { seconds: 100, nanos: 0 }),
            held_for: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(
            row(Time::from_nanos(103_500_000_000), &event),
            ["12", "3s ago", "completed", "i", "network-vif-plugged:p  (held for 1m 30s)"]
        );
    }
}
