//! `wakeful status`: how the agent is.

use std::process::ExitCode;

use super::ages::{self, rough};
use super::output::Out;
use super::table::Table;
use super::target::Target;
use super::words::count;
use crate::clock::Time;
use crate::proto::inspector_client::InspectorClient;
use crate::proto::{Counts, GetStatusRequest, GetStatusResponse, LogStatus};

/// Print how the agent is: its log, its load, its counts, its limits
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
}

/// Prints the status.
///
/// # Errors
///
/// If the agent cannot be asked.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut client = InspectorClient::new(args.target.channel()?);
    let reply = args.target.ask(client.get_status(GetStatusRequest {})).await?;
    if out.is_json() {
        out.json(&reply)?;
    } else {
        out.text(&text(ages::local_now(), &reply))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(now: Time, status: &GetStatusResponse) -> String {
    let log = status.log.clone().unwrap_or_default();
    let counts = status.counts.unwrap_or_default();
    let up = status.started_at.as_ref().and_then(ages::time).map(|at| rough(now.since(at)));
    let state = if status.stopping { "stopping" } else { "running" };

    let row = |name: &str, value: String| [name.to_owned(), value];
    let mut rows = vec![
        row("agent", format!("{} {} on {}", status.version, state, status.host)),
        row("up", up.unwrap_or_else(|| ages::NONE.to_owned())),
        row("durability", status.durability.clone()),
        row("log", log.log_id.clone()),
        row("positions", positions(&log)),
        row("event ids", ids(&log)),
        row("open waits", status.open_waits.to_string()),
        row("readers", status.readers.to_string()),
        row("connections", status.connections.to_string()),
        row("events", events(&counts)),
        row("waits", waits(&counts)),
    ];
    let mut limits: Vec<_> = status.limits.iter().collect();
    limits.sort();
    for (at, (name, value)) in limits.into_iter().enumerate() {
        rows.push(row(if at == 0 { "limits" } else { "" }, format!("{name} = {value}")));
    }
    Table::new(&["", ""]).lines(&rows)
}

fn positions(log: &LogStatus) -> String {
    let dropped = match log.dropped_early {
        0 => String::new(),
        dropped => format!("; {dropped} dropped early, because of the log's size"),
    };
    if log.oldest > log.head {
        format!("none kept, head {}{dropped}", log.head)
    } else {
        format!("{} to {}, {}{dropped}", log.oldest, log.head, bytes(log.bytes))
    }
}

fn ids(log: &LogStatus) -> String {
    match log.ids_dropped_early {
        0 => format!("{} remembered", log.ids),
        dropped => format!("{} remembered; {dropped} forgotten early, because of their number", log.ids),
    }
}

fn events(counts: &Counts) -> String {
    format!(
        "{} woke, {} retained, {} duplicate, {} rejected",
        counts.woke, counts.retained, counts.duplicate, counts.rejected
    )
}

fn waits(counts: &Counts) -> String {
    format!(
        "{} opened: {} completed, {} failed, {} timed out, {} cancelled, {} closed by their clients",
        counts.waits_opened,
        counts.waits_completed,
        counts.waits_failed,
        counts.waits_timed_out,
        counts.waits_cancelled,
        counts.waits_closed
    )
}

/// Bytes in a unit that keeps the number short, to one decimal.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return count(bytes, "byte");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn bytes_are_shown_in_a_fitting_unit() {
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(256 * 1024 * 1024), "256.0 MiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn a_status_is_a_line_a_thing_with_limits_in_order() {
        let status = GetStatusResponse {
            version: "0.1.0".into(),
            host: "h".into(),
            started_at: Some(Timestamp { seconds: 10, nanos: 0 }),
            durability: "none".into(),
            log: Some(LogStatus {
                log_id: "l".into(),
                head: 4,
                oldest: 2,
                bytes: 2048,
                ..Default::default()
            }),
            limits: HashMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
            ..Default::default()
        };
        let text = text(Time::from_nanos(135_000_000_000), &status);
        assert!(text.starts_with("agent        0.1.0 running on h\nup           2m 5s\n"), "{text}");
        assert!(text.contains("positions    2 to 4, 2.0 KiB\n"), "{text}");
        assert!(text.ends_with("limits       a = 1\n             b = 2\n"), "{text}");
    }

    #[test]
    fn a_log_that_keeps_nothing_says_so() {
        let log = LogStatus { head: 7, oldest: 8, dropped_early: 3, ..Default::default() };
        assert_eq!(positions(&log), "none kept, head 7; 3 dropped early, because of the log's size");
    }
}
