//! The task behind an open wait: it listens, so that the newest cursor is kept even while the caller works,
//! and asks again when the connection is lost. What it does is decided by [`Memory`].

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep_until, timeout, timeout_at};
use tonic::{Code, Status, Streaming};

use super::Client;
use super::error::Error;
use super::memory::{Memory, Next, Order};
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::event::WaitId;
use crate::proto::{ArmRequest, CancelRequest, SkipRequest, WaitRequest, WaitResponse};

/// How long an ask, or an order, may stay unanswered. An agent may take 5 s and more to make a wait known to
/// the gateways before it answers.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Pauses between asks of an agent that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

type Telling = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// What listens for one wait.
pub(super) struct Driver {
    agent: Client,
    /// Shared with the handle, which puts orders in and reads the rest.
    memory: watch::Sender<Memory>,
    ordered: watch::Receiver<Memory>,
    backoff: Backoff,
}

impl Driver {
    pub(super) fn new(agent: Client, memory: watch::Sender<Memory>) -> Self {
        let ordered = memory.subscribe();
        // A version 4 UUID's low bits are random.
        let seed = memory.borrow().id().0.as_u128() as u64;
        let backoff = Backoff::new(agent.clock.now(), seed, FIRST_PAUSE, LONGEST_PAUSE);
        Self { agent, memory, ordered, backoff }
    }

    /// Runs until the wait has ended, from a stream whose Registered has been heard.
    pub(super) async fn run(mut self, stream: Streaming<WaitResponse>) {
        let mut stream = Some(stream);
        loop {
            let next = match &mut stream {
                Some(standing) => {
                    let next = self.listen(standing).await;
                    stream = None;
                    next
                }
                None => self.ask_again(&mut stream).await,
            };
            if next == Next::Ended {
                return;
            }
        }
    }

    /// Listens until the stream brings no more, and tells the agent what the caller orders meanwhile.
    async fn listen(&mut self, stream: &mut Streaming<WaitResponse>) -> Next {
        let mut telling: Option<Telling> = None;
        loop {
            if telling.is_none() {
                match self.next_order() {
                    Some(Order::AskAgain) => return self.update(Memory::lose),
                    Some(order) => telling = Some(Box::pin(tell(self.agent.clone(), self.id(), order))),
                    None => {}
                }
            }
            let until = self.memory.borrow().listen_until();
            let next = tokio::select! {
                biased;
                message = stream.message() => self.update(|memory, now| hear(memory, now, message)),
                told = finished(&mut telling) => {
                    telling = None;
                    match told {
                        Ok(()) => Next::Listen,
                        // Asking again tells the agent all of it.
                        Err(_) => self.update(Memory::lose),
                    }
                }
                () = moment(&self.agent, until) => self.update(Memory::lose),
                _ = self.ordered.changed() => Next::Listen,
            };
            if next != Next::Listen {
                return next;
            }
        }
    }

    /// Asks once more after a pause, and puts the stream, once it is registered, into `stream`.
    async fn ask_again(&mut self, stream: &mut Option<Streaming<WaitResponse>>) -> Next {
        let now = self.agent.clock.now();
        let pause = self.backoff.lost(now);
        let at = self.memory.borrow().ask_at(now, pause);
        if self.unless_ended(sleep_until(self.agent.clock.instant(at))).await.is_none() {
            return Next::Ended;
        }
        // The time to look once more may have run out during the pause.
        if self.update(Memory::lose) == Next::Ended {
            return Next::Ended;
        }

        let (request, until) =
            self.update(|memory, now| (memory.ask(now), memory.answer_until(now, ANSWER_WITHIN)));
        // Boxed, or the task of every open wait would keep 4 KB of room for it all the time.
        let asking = Box::pin(ask(self.agent.clone(), request));
        let asking = timeout_at(self.agent.clock.instant(until), asking);
        let Some(answer) = self.unless_ended(asking).await else { return Next::Ended };
        let (opened, message) = match answer {
            Err(_too_late) => return self.update(Memory::lose),
            Ok(Err(status)) => return self.update(|memory, now| memory.hear_status(now, status)),
            Ok(Ok(answer)) => answer,
        };
        let next = self.update(|memory, now| memory.hear(now, message));
        if next == Next::Listen {
            self.backoff.connected(self.agent.clock.now());
            *stream = Some(opened);
        }
        next
    }

    /// Runs `future` to its end, or until the caller has ended the wait.
    async fn unless_ended<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            value = future => Some(value),
            _ = self.ordered.wait_for(|memory| memory.end().is_some()) => None,
        }
    }

    /// Taking an order is no news to anyone, least of all to this task.
    fn next_order(&self) -> Option<Order> {
        let mut order = None;
        self.memory.send_if_modified(|memory| {
            order = memory.next_order();
            false
        });
        order
    }

    fn update<T: Default>(&self, change: impl FnOnce(&mut Memory, Time) -> T) -> T {
        let now = self.agent.clock.now();
        let mut result = T::default();
        self.memory.send_modify(|memory| result = change(memory, now));
        result
    }

    fn id(&self) -> WaitId {
        self.memory.borrow().id()
    }
}

impl Drop for Driver {
    /// Whoever waits for an outcome must not wait for a task that is no more.
    fn drop(&mut self) {
        self.memory.send_if_modified(|memory| memory.give_up(Error::Stopped));
    }
}

/// Opens a stream. Gives it with its first message.
pub(super) async fn ask(
    agent: Client,
    request: WaitRequest,
) -> Result<(Streaming<WaitResponse>, WaitResponse), Status> {
    let mut stream = agent.waits().wait(request).await?.into_inner();
    match stream.message().await? {
        Some(message) => Ok((stream, message)),
        None => Err(Status::unavailable("the agent closed the stream before it answered")),
    }
}

async fn tell(agent: Client, id: WaitId, order: Order) -> Result<(), Status> {
    let (mut waits, wait_id) = (agent.waits(), id.to_string());
    let call = async {
        match order {
            Order::Arm => waits.arm(ArmRequest { wait_id }).await.map(drop),
            Order::Skip(keys) => waits.skip(SkipRequest { wait_id, keys }).await.map(drop),
            Order::Cancel(why) => waits.cancel(CancelRequest { wait_id, why }).await.map(drop),
            Order::AskAgain => Ok(()),
        }
    };
    match timeout(ANSWER_WITHIN, call).await {
        // It has ended: its stream has the outcome.
        Ok(Err(status)) if status.code() == Code::NotFound => Ok(()),
        Ok(result) => result,
        Err(_too_late) => Err(Status::deadline_exceeded("the agent did not answer")),
    }
}

fn hear(memory: &mut Memory, now: Time, message: Result<Option<WaitResponse>, Status>) -> Next {
    match message {
        Ok(Some(message)) => memory.hear(now, message),
        Ok(None) => memory.lose(now),
        Err(status) => memory.hear_status(now, status),
    }
}

async fn finished(telling: &mut Option<Telling>) -> Result<(), Status> {
    match telling {
        Some(telling) => telling.await,
        None => pending().await,
    }
}

async fn moment(agent: &Client, at: Option<Time>) {
    match at {
        Some(at) => sleep_until(agent.clock.instant(at)).await,
        None => pending().await,
    }
}
