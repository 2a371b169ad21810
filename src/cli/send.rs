//! `wakeful send`: hands events to an agent, and says what became of each.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use prost_types::Timestamp;

use super::ages::NONE;
use super::args;
use super::output::Out;
use super::table::Table;
use super::target::Target;
use super::usage;
use super::words;
use crate::convert;
use crate::event::{EventId, InstanceId, Key};
use crate::proto::dispatch_result::Disposition;
use crate::proto::event::Status;
use crate::proto::event_receiver_client::EventReceiverClient;
use crate::proto::{DispatchRequest, DispatchResult, Event};

/// Send events about an instance, and print what became of each
///
/// All events given go in one request. Exits 1 if any was REJECTED.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The instance that the events are about, a UUID
    #[arg(value_parser = args::instance)]
    instance: InstanceId,

    /// What happened, and to what; the tag begins after the first colon
    #[arg(required = true, value_name = "NAME[:TAG]", value_parser = args::key)]
    keys: Vec<Key>,

    /// What became of the work
    #[arg(long, value_enum, default_value_t = StatusArg::Completed)]
    status: StatusArg,

    /// The event's id: sent again with the same id, it is a DUPLICATE and wakes nobody twice. For one event
    /// only; without it the agent gives each event an id [default: none]
    #[arg(long, value_name = "UUID")]
    event_id: Option<EventId>,

    /// Text for whoever reads the log, at most 4 KiB [default: none]
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,

    /// How long the events were kept before this, 30s say: a wait that was opened meanwhile takes them for
    /// stale [default: not kept]
    #[arg(long, value_name = "SPAN", value_parser = args::span)]
    held_for: Option<Duration>,

    /// When it happened, by the sender's clock; only shown [default: not given]
    #[arg(long, value_name = "RFC3339")]
    occurred_at: Option<Timestamp>,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusArg {
    /// The work is done
    Completed,
    /// The work has failed
    Failed,
    /// The work goes on; another event will follow
    InProgress,
}

impl From<StatusArg> for Status {
    fn from(status: StatusArg) -> Self {
        match status {
            StatusArg::Completed => Self::Completed,
            StatusArg::Failed => Self::Failed,
            StatusArg::InProgress => Self::InProgress,
        }
    }
}

/// Sends the events. The exit code is 1 if any was rejected.
///
/// # Errors
///
/// If the agent cannot be asked, or refuses the request as a whole.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    if args.event_id.is_some() && args.keys.len() > 1 {
        return Err(usage(format!(
            "--event-id is the id of one event, and {} are to be sent: send them one by one",
            args.keys.len()
        )));
    }
    let mut client = EventReceiverClient::new(args.target.channel()?).max_decoding_message_size(usize::MAX);
    let request = DispatchRequest { events: events(&args) };
    let reply = args.target.ask(client.dispatch(request)).await?;
    if out.is_json() {
        out.json(&reply)?;
    } else {
        out.text(&table(&args.keys, &reply.results))?;
    }
    let rejected = reply.results.iter().any(|result| result.disposition() == Disposition::Rejected);
    Ok(if rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn events(args: &Args) -> Vec<Event> {
    args.keys
        .iter()
        .map(|key| Event {
            event_id: args.event_id.map(|id| id.to_string()).unwrap_or_default(),
            instance_uuid: args.instance.to_string(),
            name: key.name().to_owned(),
            tag: key.tag().to_owned(),
            status: Status::from(args.status).into(),
            data: args.data.clone().unwrap_or_default().into_bytes(),
            occurred_at: args.occurred_at,
            held_for: args.held_for.map(convert::duration),
            position: 0,
            received_at: None,
        })
        .collect()
}

fn table(keys: &[Key], results: &[DispatchResult]) -> String {
    let rows: Vec<[String; 4]> = keys.iter().zip(results).map(|(key, result)| row(key, result)).collect();
    Table::new(&["EVENT", "DISPOSITION", "POSITION", ""]).lines(&rows)
}

fn row(key: &Key, result: &DispatchResult) -> [String; 4] {
    let (disposition, note) = match result.disposition() {
        Disposition::Unspecified => ("?".to_owned(), String::new()),
        Disposition::Woke => (format!("WOKE {}", result.woke), String::new()),
        Disposition::Retained => ("RETAINED".to_owned(), "it answered no open wait".to_owned()),
        Disposition::Duplicate => ("DUPLICATE".to_owned(), "it had come before, at this position".to_owned()),
        Disposition::Rejected => {
            ("REJECTED".to_owned(), format!("{}: {}", words::reason(result.reason()), result.message))
        }
    };
    let position = if result.position == 0 { NONE.to_owned() } else { result.position.to_string() };
    [key.to_string(), disposition, position, note]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::reason::Code as Reason;

    #[test]
    fn each_event_has_a_line_with_its_disposition() {
        let keys = ["a:1", "b", "c"].map(|text| args::key(text).unwrap());
        let results = [
            DispatchResult {
                disposition: Disposition::Woke.into(),
                woke: 2,
                position: 7,
                ..Default::default()
            },
            DispatchResult { disposition: Disposition::Retained.into(), position: 8, ..Default::default() },
            DispatchResult {
                disposition: Disposition::Rejected.into(),
                reason: Reason::OverLimit.into(),
                message: "events[2].data is too long".into(),
                ..Default::default()
            },
        ];
        assert_eq!(
            table(&keys, &results),
            "EVENT  DISPOSITION  POSITION\n\
             a:1    WOKE 2       7\n\
             b      RETAINED     8         it answered no open wait\n\
             c      REJECTED     -         OVER_LIMIT: events[2].data is too long\n"
        );
    }
}
