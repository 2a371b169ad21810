//! `wakeful outbox`: what a gateway has yet to deliver, and what did not go as it should.

use std::process::ExitCode;

use super::ages::{NONE, age, rough, span, time};
use super::output::Out;
use super::table::Table;
use super::target::GatewayTarget;
use super::words;
use crate::clock::Time;
use crate::proto::ended_delivery::How;
use crate::proto::outbox_client::OutboxClient;
use crate::proto::{
    EndedDelivery, HostQueue, ListOutboxRequest, ListOutboxResponse, ListRefusalsRequest, Refusal,
};

/// Show what a gateway has yet to deliver, host by host, and the newest deliveries that came to nothing
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show the newest events that callers were refused instead
    #[arg(long)]
    refusals: bool,

    /// Show at most so many deliveries, or refusals, the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    #[command(flatten)]
    target: GatewayTarget,
}

/// Prints what there is.
///
/// # Errors
///
/// If the gateway cannot be asked, or refuses.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut client = OutboxClient::new(args.target.channel()?).max_decoding_message_size(usize::MAX);
    if args.refusals {
        let request = ListRefusalsRequest { page_size: args.limit };
        let refused = args.target.ask(client.list_refusals(request)).await?;
        if out.is_json() {
            out.json(&refused)?;
            return Ok(ExitCode::SUCCESS);
        }
        let now = refused.now.as_ref().and_then(time).unwrap_or_default();
        let rows: Vec<_> = refused.refusals.iter().map(|refusal| refusal_row(now, refusal)).collect();
        out.text(&Table::new(&["WHEN", "CODE", "INSTANCE", "EVENT", "WHY"]).lines(&rows))?;
        if rows.is_empty() {
            out.line("nothing was refused")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let listed = args.target.ask(client.list_outbox(ListOutboxRequest { page_size: args.limit })).await?;
    match out.is_json() {
        true => out.json(&listed)?,
        false => out.text(&text(&listed))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(listed: &ListOutboxResponse) -> String {
    let now = listed.now.as_ref().and_then(time).unwrap_or_default();
    let hosts: Vec<_> = listed.hosts.iter().map(|host| host_row(now, host)).collect();
    let mut text =
        Table::new(&["HOST", "EVENTS", "OLDEST", "FAILED TRIES", "NEXT TRY", "ERROR"]).lines(&hosts);
    if hosts.is_empty() {
        text.push_str("nothing waits to be delivered\n");
    }
    let ended: Vec<_> = listed.ended.iter().map(|ended| ended_row(now, ended)).collect();
    if !ended.is_empty() {
        text.push('\n');
        text.push_str(&Table::new(&["WHEN", "ENDED", "HOST", "INSTANCE", "EVENT", "WHY"]).lines(&ended));
    }
    let counts = listed.counts.unwrap_or_default();
    text.push_str(&format!(
        "\nsince the start: {} delivered, {} expired, {} moved, {} rejected, {} refused; {} bytes wait\n",
        counts.delivered, counts.expired, counts.moved, counts.rejected, counts.refused, listed.bytes
    ));
    text
}

fn host_row(now: Time, queue: &HostQueue) -> [String; 6] {
    [
        if queue.host.is_empty() { "(not known)".to_owned() } else { queue.host.clone() },
        queue.depth.to_string(),
        queue.oldest_age.as_ref().and_then(span).map_or_else(|| NONE.to_owned(), rough),
        queue.failures.to_string(),
        age(now, queue.next_try.as_ref()),
        queue.error.clone(),
    ]
}

fn ended_row(now: Time, ended: &EndedDelivery) -> [String; 6] {
    let event = ended.event.clone().unwrap_or_default();
    let how = match ended.how() {
        How::Unspecified => NONE,
        how => how.as_str_name(),
    };
    [
        age(now, ended.at.as_ref()),
        how.to_owned(),
        if ended.host.is_empty() { "(not known)".to_owned() } else { ended.host.clone() },
        event.instance_uuid,
        words::key(&event.name, &event.tag),
        ended.why.clone(),
    ]
}

fn refusal_row(now: Time, refusal: &Refusal) -> [String; 5] {
    let whole = || "(the whole request)".to_owned();
    [
        age(now, refusal.at.as_ref()),
        refusal.code.to_string(),
        if refusal.instance_uuid.is_empty() { whole() } else { refusal.instance_uuid.clone() },
        words::key(&refusal.name, &refusal.tag),
        refusal.why.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use prost_types::{Duration, Timestamp};

    use super::*;
    use crate::proto::{Event, OutboxCounts};

    #[test]
    fn what_waits_is_a_line_a_host_and_what_ended_stands_below() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let queue = HostQueue {
            host: "compute-7".into(),
            depth: 12,
            oldest_age: Some(Duration { seconds: 90, nanos: 0 }),
            failures: 3,
            error: "refused".into(),
            next_try: at(105),
        };
        let ended = EndedDelivery {
            at: at(40),
            how: How::Expired.into(),
            event: Some(Event {
                instance_uuid: "i".into(),
                name: "n".into(),
                tag: "t".into(),
                ..Event::default()
            }),
            host: String::new(),
            why: "late".into(),
        };
        let listed = ListOutboxResponse {
            hosts: vec![queue],
            ended: vec![ended],
            counts: Some(OutboxCounts { delivered: 5, expired: 1, ..OutboxCounts::default() }),
            bytes: 2_048,
            now: at(100),
        };
        assert_eq!(
            text(&listed),
            "HOST       EVENTS  OLDEST  FAILED TRIES  NEXT TRY  ERROR\n\
             compute-7  12      1m 30s  3             in 5s     refused\n\
             \n\
             WHEN    ENDED    HOST         INSTANCE  EVENT  WHY\n\
             1m ago  EXPIRED  (not known)  i         n:t    late\n\
             \n\
             since the start: 5 delivered, 1 expired, 0 moved, 0 rejected, 0 refused; 2048 bytes wait\n"
        );
        assert!(text(&ListOutboxResponse::default()).starts_with("nothing waits to be delivered\n"));
    }
}
