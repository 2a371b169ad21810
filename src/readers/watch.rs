//! A stream of the log, from a place on.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::scan::{Found, Scan, Step};
use crate::convert;
use crate::engine::HEARTBEAT;
use crate::event::Position;
use crate::proto;
use crate::proto::reason::Code as Reason;
use crate::status::Refusal;

/// Messages that may lie ready for a watcher that does not read. Past that its task waits, and the log goes
/// on without it.
const READY: usize = 64;

/// How often a watch with a name says how far it has looked.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// A watch with a name, as whoever keeps its cursor is told of it.
pub trait Named: Send + 'static {
    /// It has sent events up to `sent`, and looked up to `at`.
    fn looked(&mut self, sent: Position, at: Position);
    /// Ready once another has taken its name.
    fn ended(&mut self) -> impl Future<Output = ()> + Send;
}

/// Starts a watch: a task that reads the log and fills the stream, until its reader is gone or `stopped` is
/// ready.
pub fn start(
    mut scan: Scan,
    mut name: Option<impl Named>,
    permit: OwnedSemaphorePermit,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> ReceiverStream<Result<proto::WatchResponse, Status>> {
    let (sender, receiver) = mpsc::channel(READY);
    tokio::spawn(async move {
        let _permit = permit;
        tokio::select! {
            biased;
            // Its reader has gone.
            () = sender.closed() => {}
            () = stopped => {
                let message = "the agent is stopping; watch again from the last cursor";
                let status = Refusal::new(Code::Unavailable, Reason::Stopping, message).into();
                // A reader that does not read finds its stream ended without a word.
                let _ = sender.try_send(Err(status));
            }
            Err(refusal) = follow(&mut scan, name.as_mut(), &sender) => {
                let _ = sender.send(Err(refusal.into())).await;
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn follow(
    scan: &mut Scan,
    mut name: Option<&mut impl Named>,
    sender: &Sender<Result<proto::WatchResponse, Status>>,
) -> Result<(), Refusal> {
    let mut ready = Vec::new();
    let cursor_only =
        |scan: &Scan| proto::WatchResponse { cursor: Some(convert::to_cursor(scan.cursor())), event: None };
    if sender.send(Ok(cursor_only(scan))).await.is_err() {
        return Ok(());
    }
    let mut beats = interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats.reset();
    let mut says = interval(SAY_EVERY);
    says.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = Position(0);
    loop {
        let log = std::sync::Arc::clone(scan.log());
        let step = scan
            .step(|found| {
                if let Found::Event(position, event) = found {
                    sent = position;
                    ready.push(proto::WatchResponse {
                        cursor: Some(convert::to_cursor(log.cursor(position))),
                        event: Some(convert::to_event(position, &event)),
                    });
                }
                ready.len() < READY
            })
            .await?;
        for message in ready.drain(..) {
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        let more = async {
            match step {
                Step::Moved | Step::Enough => yield_now().await,
                Step::AtHead => log.past(scan.at()).await,
            }
        };
        // The cadence does not depend on whether the log moves: a filter may let nothing of it through.
        tokio::select! {
            biased;
            _ = beats.tick() => {
                if sender.send(Ok(cursor_only(scan))).await.is_err() {
                    return Ok(());
                }
            }
            _ = says.tick(), if name.is_some() => {
                if let Some(name) = &mut name {
                    name.looked(sent, scan.at());
                }
            }
            () = taken_over(&mut name) => {
                let message = "the consumer was opened by another stream, or removed";
                return Err(Refusal::new(Code::Aborted, Reason::TakenOver, message));
            }
            () = more => {}
        }
    }
}

async fn taken_over(name: &mut Option<&mut impl Named>) {
    match name {
        Some(name) => name.ended().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::clock::Time;
    use crate::event::{Caller, CancelInstance, InstanceId};
    use crate::journal::memory::MemoryJournal;
    use crate::journal::retention::Retention;
    use crate::readers::scan::Filter;

    struct Nameless;

    impl Named for Nameless {
        fn looked(&mut self, _: Position, _: Position) {}

        async fn ended(&mut self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_that_lets_nothing_of_a_busy_log_through_is_told_every_30_s_how_far_it_has_looked() {
        let bytes = 1 << 30;
        let retention = Retention {
            while_needed: false,
            age: Duration::from_secs(3_600),
            bytes,
            held_bytes: bytes,
            id_window: Duration::from_secs(3_600),
            max_ids: 1_024,
        };
        let mut journal = MemoryJournal::new(retention);
        let log = std::sync::Arc::clone(journal.log());
        tokio::spawn(async move {
            loop {
                let instance = InstanceId(uuid::Uuid::nil());
                let caller = Caller { uid: 0, operator: true };
                let cancel = CancelInstance { instance, caller, why: String::new() };
                journal.commit_cancel(Time::default(), cancel);
                sleep(Duration::from_millis(10)).await;
            }
        });
        let filter = Filter { names: vec!["never".into()], ..Filter::default() };
        let readers = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let permit = readers.acquire_owned().await.expect("a permit");
        let scan = Scan::new(log, filter, Position(0));
        let mut stream = start(scan, None::<Nameless>, permit, std::future::pending());
        let mut told = Vec::new();
        for _ in 0..4 {
            let message = stream.next().await.expect("a message").expect("no refusal");
            assert_eq!(message.event, None);
            told.push(message.cursor.expect("a cursor").position);
        }
        // A position each 10 ms, so the log itself tells the time.
        let expected = [0, 3_000, 6_000, 9_000];
        let near = told.iter().zip(expected).all(|(told, expected)| told.abs_diff(expected) < 100);
        assert!(near, "{told:?}");
    }
}
