//! `wakeful consumers`: lists the consumers, or forgets one.

use std::process::ExitCode;

use super::ages::{self, age};
use super::output::{Out, complain};
use super::pages;
use super::table::Table;
use super::target::Target;
use crate::clock::Time;
use crate::proto::event_log_client::EventLogClient;
use crate::proto::{Consumer, ListConsumersRequest, ListConsumersResponse, RemoveConsumerRequest};

/// List the consumers, the watches whose places the agent keeps, or forget one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Forget this one: its stream ends, and nothing of the log is kept for it any longer
    #[arg(long, value_name = "NAME")]
    remove: Option<String>,

    #[command(flatten)]
    limit: pages::Limit,

    #[command(flatten)]
    target: Target,
}

/// Prints the list, or says which is forgotten.
///
/// # Errors
///
/// If the agent cannot be asked, or refuses.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut client = EventLogClient::new(args.target.channel()?).max_decoding_message_size(usize::MAX);
    if let Some(consumer) = args.remove {
        let request = RemoveConsumerRequest { consumer: consumer.clone() };
        let removed = args.target.ask(client.remove_consumer(request)).await?;
        match out.is_json() {
            true => out.json(&removed)?,
            false => out.line(format!("consumer {consumer} is forgotten"))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let now = ages::local_now();
    let mut table = Table::new(&["CONSUMER", "CURSOR", "BEHIND", "STREAM", "STATE"]);
    let ask = async |page_size, page_token| {
        let request = ListConsumersRequest { page_size, page_token };
        args.target.ask(client.clone().list_consumers(request)).await
    };
    let listed = pages::print(args.limit.entries(), out, ask, |out, page: &ListConsumersResponse| {
        let rows: Vec<[String; 5]> = page.consumers.iter().map(|consumer| row(now, consumer)).collect();
        Ok(out.text(&table.lines(&rows))?)
    })
    .await?;
    if !out.is_json() && listed.entries == 0 {
        out.line("there are no consumers".to_owned())?;
    }
    if !out.is_json() && listed.more {
        out.flush()?;
        complain("there are more: ask for a higher --limit, or for --all");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(now: Time, consumer: &Consumer) -> [String; 5] {
    let seen = age(now, consumer.seen_at.as_ref());
    let mut state = Vec::new();
    if consumer.expired {
        state.push("expired: open it with --after".to_owned());
    }
    if consumer.repaired {
        state.push("the log was repaired: it may have missed events".to_owned());
    }
    if consumer.failed_position > 0 {
        state.push(format!("failed at {}: {}", consumer.failed_position, consumer.failed_why));
    }
    [
        consumer.name.clone(),
        consumer.cursor.as_ref().map_or(0, |cursor| cursor.position).to_string(),
        consumer.behind.to_string(),
        if consumer.attached { "open".to_owned() } else { format!("last seen {seen}") },
        if state.is_empty() { "well".to_owned() } else { state.join("; ") },
    ]
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn a_consumer_is_a_line_with_its_place_and_what_is_wrong_with_it() {
        let now = Time::from_nanos(150_000_000_000);
        let consumer = Consumer {
            name: "power".into(),
            behind: 7,
            seen_at: Some(Timestamp { seconds: 100, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(row(now, &consumer), ["power", "0", "7", "last seen 50s ago", "well"]);
        let failed = Consumer {
            attached: true,
            expired: true,
            failed_position: 3,
            failed_why: "no host".into(),
            ..consumer
        };
        assert_eq!(row(now, &failed)[3..], ["open", "expired: open it with --after; failed at 3: no host"]);
    }
}
