//! `wakeful watch`: follows the log.

use std::process::ExitCode;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::ages::{NONE, time};
use super::events::{Filter, what};
use super::output::{Out, complain};
use super::target::Target;
use super::words;
use crate::convert::to_cursor;
use crate::event::Cursor;
use crate::proto;
use crate::proto::event_log_client::EventLogClient;
use crate::proto::{AckRequest, Event, WatchRequest, WatchResponse};

/// Exit code of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 128 + 2;
/// An agent that is away is asked again after this long, then after twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// An agent that is away is asked again at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follow the agent's log, and print a line for each event as it comes
///
/// Goes on where it was when the agent has been away. Ends on Ctrl-C, with 130. With --output json, each line
/// is a JSON object with the event and the cursor after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,

    /// Begin after this place, LOG_ID:POSITION [default: the log's head: only what comes from now on]
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,

    /// Go on where this consumer has acknowledged, and acknowledge each event once it is printed
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,

    #[command(flatten)]
    target: Target,
}

/// Follows the log until Ctrl-C.
///
/// # Errors
///
/// If the agent cannot be asked, or no longer has what comes next.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut client = EventLogClient::new(args.target.channel()?).max_decoding_message_size(usize::MAX);
    let mut follower = Follower { args: &args, after: args.after.map(to_cursor), begun: false };
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        ended = follower.follow(&mut client, out) => return ended,
    }
    out.flush()?;
    if let Some(after) = &follower.after {
        complain(&format!("watched up to {}", text(after)));
    }
    Ok(ExitCode::from(INTERRUPTED))
}

struct Follower<'a> {
    args: &'a Args,
    /// The place after the last message: what was printed is never asked for again.
    after: Option<proto::Cursor>,
    begun: bool,
}

impl Follower<'_> {
    async fn follow(
        &mut self,
        client: &mut EventLogClient<Channel>,
        out: &mut Out,
    ) -> anyhow::Result<ExitCode> {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = match self.open(client).await {
                Ok(mut stream) => {
                    let mut ended = None;
                    while ended.is_none() {
                        match stream.message().await {
                            Ok(Some(message)) => {
                                pause = FIRST_PAUSE;
                                let printed = self.take(message, out)?;
                                if let (Some(consumer), Some(cursor)) = (&self.args.consumer, printed) {
                                    let (consumer, cursor) = (consumer.clone(), Some(cursor));
                                    let ack = AckRequest { consumer, cursor, ..Default::default() };
                                    ended = client.ack(ack).await.err();
                                }
                            }
                            Ok(None) => ended = Some(Status::unavailable("the stream has ended")),
                            Err(status) => ended = Some(status),
                        }
                    }
                    ended.unwrap_or_else(|| Status::unavailable("the stream has ended"))
                }
                Err(status) => status,
            };
            if !self.begun || ended.code() != Code::Unavailable {
                return Err(self.args.target.failure(&ended));
            }
            if pause == FIRST_PAUSE {
                let place = self.after.as_ref().map(text).unwrap_or_default();
                complain(&format!(
                    "the agent at {} is away; watching goes on after {place} when it is back",
                    self.args.target.address()
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open(&self, client: &mut EventLogClient<Channel>) -> Result<Streaming<WatchResponse>, Status> {
        let request = WatchRequest {
            filter: Some(self.args.filter.to_proto()),
            // A consumer's place is the agent's to know, once it was told one.
            after: self.after.clone().filter(|_| self.args.consumer.is_none() || !self.begun),
            consumer: self.args.consumer.clone().unwrap_or_default(),
        };
        Ok(client.watch(request).await?.into_inner())
    }

    /// Prints an event. Gives its place.
    fn take(&mut self, message: WatchResponse, out: &mut Out) -> anyhow::Result<Option<proto::Cursor>> {
        let printed = message.cursor.clone().filter(|_| message.event.is_some());
        if let Some(event) = &message.event {
            if out.is_json() {
                out.json(&message)?;
            } else {
                out.line(line(event))?;
            }
            out.flush()?;
        }
        if let Some(after) = message.cursor {
            if !self.begun {
                complain(&format!("watching what comes after {}", text(&after)));
            }
            self.after = Some(after);
        }
        self.begun = true;
        Ok(printed)
    }
}

fn text(cursor: &proto::Cursor) -> String {
    format!("{}:{}", cursor.log_id, cursor.position)
}

/// A line for an event that has just come. It stays on the screen while time goes on, so it has the moment
/// itself rather than an age.
fn line(event: &Event) -> String {
    let at = event.received_at.as_ref().and_then(time).map_or(NONE.to_owned(), |at| at.to_string());
    format!(
        "{at}  {:<11}  {}  {:>6}  {}",
        words::status(event),
        event.instance_uuid,
        event.position,
        what(event)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_followed_event_is_a_line_with_its_moment() {
        let event = Event {
            position: 12,
            instance_uuid: "i".into(),
            name: "n".into(),
            tag: "t".into(),
            status: proto::event::Status::Failed.into(),
            received_at: Some(prost_types::Timestamp { seconds: 0, nanos: 5_000_000 }),
            ..Default::default()
        };
        assert_eq!(line(&event), "1970-01-01T00:00:00.005Z  failed       i      12  n:t");
    }
}
