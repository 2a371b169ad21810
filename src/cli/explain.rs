//! `wakeful explain`: what happened to an instance, in the order of time.

use std::process::ExitCode;

use super::ages;
use super::args;
use super::output::Out;
use super::pages;
use super::story::Story;
use super::table::Table;
use super::target::Target;
use crate::event::InstanceId;
use crate::proto::inspector_client::InspectorClient;
use crate::proto::{ExplainRequest, ExplainResponse};

/// Tell what happened to an instance: why did its operation wait, or time out?
///
/// A time line, oldest first: events as they came, waits as they were opened and ended, with near misses
/// named, an event with another tag, say, or one that came before its wait was opened.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The instance, a UUID
    #[arg(value_parser = args::instance)]
    instance: InstanceId,

    #[command(flatten)]
    target: Target,
}

/// Prints the time line.
///
/// # Errors
///
/// If the agent cannot be asked, or refuses.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let client = InspectorClient::new(args.target.channel()?).max_decoding_message_size(usize::MAX);
    let mut story = None;
    let mut table = Table::new(&["TIME", "AGE", "WHAT"]);
    let ask = async |page_size, page_token| {
        let request = ExplainRequest { instance_uuid: args.instance.to_string(), page_size, page_token };
        args.target.ask(client.clone().explain(request)).await
    };
    let listed = pages::print(None, out, ask, |out, page: &ExplainResponse| {
        let story = story.get_or_insert_with(|| {
            Story::new(page.now.as_ref().and_then(ages::time).unwrap_or_else(ages::local_now))
        });
        let rows: Vec<[String; 3]> = page.entries.iter().map(|entry| story.line(entry)).collect();
        Ok(out.text(&table.lines(&rows))?)
    })
    .await?;

    if !out.is_json() && listed.entries == 0 {
        out.line(format_args!(
            "nothing is known of instance {}: no event came and no wait was opened since the log's oldest",
            args.instance
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
