//! `wakeful waits`: lists the waits that are open.

use std::process::ExitCode;

use super::ages::{self, age};
use super::args;
use super::output::{Out, complain};
use super::pages;
use super::table::Table;
use super::target::Target;
use super::words;
use crate::clock::Time;
use crate::event::InstanceId;
use crate::proto::inspector_client::InspectorClient;
use crate::proto::{ListWaitsRequest, ListWaitsResponse, WaitInfo};

/// A wait's keys are shown up to so many; all are in the JSON.
const SHOWN_KEYS: usize = 3;

/// List the waits that are open, oldest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this instance's [default: all]
    #[arg(long, value_name = "UUID", value_parser = args::instance)]
    instance: Option<InstanceId>,

    #[command(flatten)]
    limit: pages::Limit,

    #[command(flatten)]
    target: Target,
}

/// Prints the list.
///
/// # Errors
///
/// If the agent cannot be asked, or refuses.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let client = InspectorClient::new(args.target.channel()?).max_decoding_message_size(usize::MAX);
    let now = ages::local_now();
    let mut table = Table::new(&["WAIT", "INSTANCE", "OPENED", "TIMES OUT", "CAME", "WAITS FOR"]);
    let ask = async |page_size, page_token| {
        let instance_uuid = args.instance.map(|id| id.to_string()).unwrap_or_default();
        let request = ListWaitsRequest { instance_uuid, page_size, page_token };
        args.target.ask(client.clone().list_waits(request)).await
    };
    let listed = pages::print(args.limit.entries(), out, ask, |out, page: &ListWaitsResponse| {
        let rows: Vec<[String; 6]> = page.waits.iter().map(|wait| row(now, wait)).collect();
        Ok(out.text(&table.lines(&rows))?)
    })
    .await?;

    if !out.is_json() && listed.entries == 0 {
        out.line(match args.instance {
            Some(instance) => format!("no waits of instance {instance} are open"),
            None => "no waits are open".to_owned(),
        })?;
    }
    if !out.is_json() && listed.more {
        out.flush()?;
        complain("there are more: ask for a higher --limit, or for --all");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(now: Time, wait: &WaitInfo) -> [String; 6] {
    let deadline = age(now, wait.deadline.as_ref());
    let (open, answered): (Vec<_>, Vec<_>) = wait.keys.iter().partition(|key| words::is_open(key));
    let open: Vec<String> = open.iter().map(|key| words::key(&key.name, &key.tag)).collect();
    [
        wait.wait_id.clone(),
        wait.instance_uuid.clone(),
        age(now, wait.opened_at.as_ref()),
        if wait.unarmed { format!("{deadline}, unless armed") } else { deadline },
        format!("{} of {}", answered.len(), wait.keys.len()),
        words::some(&open, SHOWN_KEYS),
    ]
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;
    use crate::proto::KeyState;
    use crate::proto::key_state::State;

    #[test]
    fn an_open_wait_is_a_line_with_what_it_waits_for() {
        let key = |tag: &str, state: State| KeyState {
            name: "n".into(),
            tag: tag.into(),
            state: state.into(),
            ..Default::default()
        };
        let wait = WaitInfo {
            wait_id: "w".into(),
            instance_uuid: "i".into(),
            keys: vec![key("1", State::Open), key("2", State::Completed), key("3", State::Open)],
            opened_at: Some(Timestamp { seconds: 100, nanos: 0 }),
            deadline: Some(Timestamp { seconds: 400, nanos: 0 }),
            ..Default::default()
        };
        let now = Time::from_nanos(150_000_000_000);
        assert_eq!(row(now, &wait), ["w", "i", "50s ago", "in 4m 10s", "1 of 3", "n:1, n:3"]);
        let unarmed = WaitInfo { unarmed: true, ..wait };
        assert_eq!(row(now, &unarmed)[3], "in 4m 10s, unless armed");
    }
}
