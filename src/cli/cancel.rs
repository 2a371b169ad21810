//! `wakeful cancel`: ends a wait, or all of an instance's.

use std::process::ExitCode;

use super::args;
use super::output::Out;
use super::table::Table;
use super::target::Target;
use super::usage;
use super::words;
use crate::event::{InstanceId, WaitId};
use crate::proto::waits_client::WaitsClient;
use crate::proto::{CancelInstanceRequest, CancelInstanceResponse, CancelRequest};

/// End an open wait, or all waits of an instance, with the outcome CANCELLED
///
/// Called by root or by the agent's own user it ends anyone's waits; by others, their own.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub struct Args {
    /// The wait to end, a UUID, as `waits` lists it
    #[arg(value_name = "WAIT_ID", group = "which")]
    wait: Option<WaitId>,

    /// End every wait of this instance that was opened before now, also one whose client is just then away
    #[arg(long, value_name = "UUID", group = "which", value_parser = args::instance)]
    instance: Option<InstanceId>,

    /// Told to whoever waits, at most 1,024 characters [default: none]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,

    #[command(flatten)]
    target: Target,
}

/// Cancels, and says what was ended.
///
/// # Errors
///
/// If the agent cannot be asked, or refuses: no such wait is open, or the caller may not end it.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut client = WaitsClient::new(args.target.channel()?).max_decoding_message_size(usize::MAX);
    match (args.wait, args.instance) {
        (Some(wait), _) => {
            let request = CancelRequest { wait_id: wait.to_string(), why: args.why };
            let reply = args.target.ask(client.cancel(request)).await?;
            if out.is_json() {
                out.json(&reply)?;
            } else {
                out.line(format_args!("cancelled wait {wait}"))?;
            }
        }
        (None, Some(instance)) => {
            let request = CancelInstanceRequest { instance_uuid: instance.to_string(), why: args.why };
            let reply = args.target.ask(client.cancel_instance(request)).await?;
            if out.is_json() {
                out.json(&reply)?;
            } else {
                out.text(&instance_text(instance, &reply))?;
            }
        }
        (None, None) => return Err(usage("name the wait to end, or --instance UUID".to_owned())),
    }
    Ok(ExitCode::SUCCESS)
}

fn instance_text(instance: InstanceId, reply: &CancelInstanceResponse) -> String {
    let position = reply.cursor.as_ref().map_or(0, |cursor| cursor.position);
    let left_out = u64::from(reply.waits_left_out);
    let count = words::count(reply.waits.len() as u64 + left_out, "wait");
    let rows: Vec<[String; 2]> = reply
        .waits
        .iter()
        .map(|wait| {
            let open: Vec<String> = wait.keys.iter().map(|key| words::key(&key.name, &key.tag)).collect();
            [wait.wait_id.clone(), words::some(&open, open.len())]
        })
        .collect();
    let table = Table::new(&["WAIT", "STILL WAITED FOR"]).lines(&rows);
    let rest = match left_out {
        0 => String::new(),
        _ => format!("and {left_out} more\n"),
    };
    format!("cancelled {count} of instance {instance}, at position {position}\n{table}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{CancelledWait, Cursor, Key};

    #[test]
    fn cancelling_an_instance_names_each_wait_that_it_ended() {
        let reply = CancelInstanceResponse {
            cursor: Some(Cursor { log_id: "l".into(), position: 9 }),
            waits: vec![CancelledWait {
                wait_id: "w".into(),
                keys: vec![Key { name: "n".into(), tag: "t".into() }],
            }],
            waits_left_out: 0,
        };
        let instance = InstanceId::random();
        assert_eq!(
            instance_text(instance, &reply),
            format!(
                "cancelled 1 wait of instance {instance}, at position 9\nWAIT  STILL WAITED FOR\nw     n:t\n"
            )
        );
        let reply = CancelInstanceResponse { waits_left_out: 2_000, ..reply };
        assert_eq!(
            instance_text(instance, &reply),
            format!(
                "cancelled 2001 waits of instance {instance}, at position 9\nWAIT  STILL WAITED FOR\nw     n:t\n\
                 and 2000 more\n"
            )
        );
    }
}
