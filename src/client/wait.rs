//! A wait: what to ask for, and the handle of one that is open.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::Client;
use super::driver::{ANSWER_WITHIN, Driver, ask};
use super::error::{Error, is_lost};
use super::memory::{Memory, Next, Question};
use super::outcome::{self, KeyAnswer, Outcome};
use crate::engine::{FailurePolicy, Start};
use crate::event::{Cursor, InstanceId, Key, WaitId};
use crate::proto::{KeyState, Opened};

/// How long a wait lasts if it is not told otherwise. The client says it to the agent, so that it can tell
/// what is left of it when it has to ask again.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// A wait to open. The agent checks it, and [`open`](Self::open) gives its refusal.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `open`"]
pub struct WaitBuilder {
    agent: Client,
    question: Question,
    keys: Vec<KeyState>,
}

impl WaitBuilder {
    pub(super) fn new(agent: Client, instance: InstanceId) -> Self {
        let question = Question {
            id: WaitId::random(),
            instance,
            start: Start::Head,
            timeout: DEFAULT_TIMEOUT,
            start_on_arm: false,
            policy: FailurePolicy::default(),
            in_progress_fails: false,
        };
        Self { agent, question, keys: Vec::new() }
    }

    /// Waits for this key too: a name of 1 to 255 printable characters, and a tag, which may be empty.
    pub fn key(mut self, name: impl Into<String>, tag: impl Into<String>) -> Self {
        self.keys.push(KeyState { name: name.into(), tag: tag.into(), ..KeyState::default() });
        self
    }

    /// Waits for these keys too. A wait has 1 to 256.
    pub fn keys<'a>(mut self, keys: impl IntoIterator<Item = &'a Key>) -> Self {
        for key in keys {
            self = self.key(key.name(), key.tag());
        }
        self
    }

    /// Looks from this place on, instead of from the log's head: what is past it counts as if it had just
    /// come.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.question.start = Start::After(cursor);
        self
    }

    /// Looks from the first event received within this span before now, instead of from the log's head.
    pub fn lookback(mut self, span: Duration) -> Self {
        self.question.start = Start::Lookback(span);
        self
    }

    /// How long to wait: up to 24 h, unless the agent has another bound; 300 s if not given. Zero, with
    /// `after` or `lookback`, looks once.
    pub fn timeout(mut self, span: Duration) -> Self {
        self.question.timeout = span;
        self
    }

    /// What one key's failure does to the wait. Not given: it ends it.
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.question.policy = policy;
        self
    }

    /// An event that is in progress counts as failed, as in Nova.
    pub fn in_progress_fails(mut self, fails: bool) -> Self {
        self.question.in_progress_fails = fails;
        self
    }

    /// The timeout starts with [`Wait::arm`] instead of now, so that the time the work itself takes is not
    /// counted. A wait never armed times out after 1 h.
    pub fn start_on_arm(mut self, on_arm: bool) -> Self {
        self.question.start_on_arm = on_arm;
        self
    }

    /// The wait's id, instead of one chosen at random. Opening an id that is open takes it over: the older
    /// one ends with [`Error::TakenOver`].
    pub fn id(mut self, id: WaitId) -> Self {
        self.question.id = id;
        self
    }

    /// Opens the wait. Once this returns nothing can be missed: start the work.
    ///
    /// # Errors
    ///
    /// If the agent refuses, or is not reachable, or does not answer within 20 s.
    pub async fn open(self) -> Result<Wait, Error> {
        let Self { agent, question, keys } = self;
        let mut memory = Memory::new(agent.clock.now(), question, keys);
        let mut answer = first_ask(&agent, &mut memory).await;
        // The channel may have kept a connection to an agent that has since been restarted.
        if answer.as_ref().is_err_and(|status| status.code() != Code::DeadlineExceeded && is_lost(status)) {
            answer = first_ask(&agent, &mut memory).await;
        }
        let (stream, message) = answer.map_err(|status| Error::of(&agent.address, status))?;
        if memory.hear(agent.clock.now(), message) == Next::Ended
            && let Some(Err(error)) = memory.end()
        {
            return Err(error.clone());
        }
        let memory = watch::Sender::new(memory);
        let task = tokio::spawn(Driver::new(agent.clone(), memory.clone()).run(stream));
        Ok(Wait { agent, memory, task })
    }
}

async fn first_ask(
    agent: &Client,
    memory: &mut Memory,
) -> Result<(tonic::Streaming<crate::proto::WaitResponse>, crate::proto::WaitResponse), Status> {
    let request = memory.ask(agent.clock.now());
    match timeout(ANSWER_WITHIN, ask(agent.clone(), request)).await {
        Ok(answer) => answer,
        Err(_too_late) => Err(Status::deadline_exceeded(format!(
            "it did not answer within {}",
            humantime::format_duration(ANSWER_WITHIN)
        ))),
    }
}

/// An open wait. A task of its own listens to the agent and, if the connection is lost, asks again.
/// Dropping it ends the wait.
#[derive(Debug)]
#[must_use = "dropping it ends the wait"]
pub struct Wait {
    agent: Client,
    memory: watch::Sender<Memory>,
    task: JoinHandle<()>,
}

impl Wait {
    /// Its id.
    pub fn id(&self) -> WaitId {
        self.memory.borrow().id()
    }

    /// The newest place that it has looked at.
    pub fn cursor(&self) -> Option<Cursor> {
        self.memory.borrow().cursor()
    }

    /// From where, and from which moment on, events count for it. It stays the same however often it has to be asked
    /// again.
    pub fn opened(&self) -> Option<Opened> {
        self.memory.borrow().opened()
    }

    /// What is left of its time, by the client's clock. `None` before it is armed.
    pub fn time_left(&self) -> Option<Duration> {
        self.memory.borrow().time_left(self.agent.clock.now())
    }

    /// Whether every reachable gateway knows that events for the instance go to this host. `None` where the
    /// agent has no gateway.
    pub fn routable(&self) -> Option<bool> {
        self.memory.borrow().routable()
    }

    /// What has come so far.
    pub fn progress(&self) -> Progress {
        Progress::of(&self.memory.borrow())
    }

    /// Follows what comes, from now on.
    pub fn updates(&self) -> Updates {
        Updates { given: self.progress(), memory: self.memory.subscribe() }
    }

    /// Starts the timeout of a wait opened with `start_on_arm`, or starts it anew. It counts from this call,
    /// even if the agent can be told only later.
    pub fn arm(&self) {
        let now = self.agent.clock.now();
        self.memory.send_modify(|memory| memory.arm(now));
    }

    /// Takes keys out of the wait: they no longer count. A key already answered, or not of this wait, is
    /// left. The agent is told as soon as it can be.
    pub fn skip<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let keys: Vec<_> = keys.into_iter().map(|key| (key.name().into(), key.tag().into())).collect();
        self.memory.send_modify(|memory| memory.skip(keys));
    }

    /// Ends the wait, for a reason of at most 1,024 characters: unless it has ended already, its outcome
    /// will be CANCELLED.
    pub fn cancel(&self, why: impl Into<String>) {
        self.memory.send_modify(|memory| memory.cancel(why.into()));
    }

    /// Waits for the outcome. It may be called again, and be dropped: the wait goes on until the handle is
    /// dropped.
    ///
    /// # Errors
    ///
    /// If there will be none: another wait has taken this one's id over, or the agent, asked again after a
    /// lost connection, refuses.
    pub async fn outcome(&self) -> Result<Outcome, Error> {
        let mut memory = self.memory.subscribe();
        match memory.wait_for(|memory| memory.end().is_some()).await {
            Ok(memory) => memory.end().cloned().unwrap_or(Err(Error::Stopped)),
            Err(_) => Err(Error::Stopped),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What has come of a wait so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What each key has come to.
    pub keys: Vec<KeyAnswer>,
    /// The last position looked at.
    pub cursor: Option<Cursor>,
    /// The agent is away just now, and is being asked again.
    pub away: bool,
}

impl Progress {
    fn of(memory: &Memory) -> Self {
        Self { keys: outcome::answers(memory.keys()), cursor: memory.cursor(), away: memory.is_away() }
    }
}

/// The changes of an open wait. One that reads slowly gets the newest and misses what was in between.
#[derive(Debug)]
pub struct Updates {
    memory: watch::Receiver<Memory>,
    given: Progress,
}

impl Updates {
    /// The next change. `None` once the wait has ended.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            self.memory.changed().await.ok()?;
            let progress = {
                let memory = self.memory.borrow_and_update();
                if memory.end().is_some() {
                    return None;
                }
                Progress::of(&memory)
            };
            if progress != self.given {
                self.given = progress.clone();
                return Some(progress);
            }
        }
    }
}
