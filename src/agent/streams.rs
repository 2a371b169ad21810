//! The streams of open waits: what the engine has to tell each, kept until its driver reads it.
//!
//! Each stream has a place of its own, found by wait id and opening. It holds at most 64 Progress; past that
//! the oldest go, and the next says how many went. An outcome always has its place.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::Stream;
use tonic::{Code, Status};

use super::core::Command;
use super::waiting::Closed;
use super::{Shared, stopping};
use crate::clock::Time;
use crate::convert;
use crate::engine::{Answer, Effect, EventBrief, Mark, Opened, Opening, Outcome, UNREAD};
use crate::event::{Cursor, InstanceId, Key, LogId, Position, WaitId};
use crate::plant::{self, Plant};
use crate::proto;
use crate::proto::reason::Code as Reason;
use crate::proto::wait_response::Message;
use crate::status::Refusal;

/// Every stream that is open.
pub(super) struct Streams(DashMap<(WaitId, Opening), Arc<Slot>>);

impl Streams {
    pub(super) fn new() -> Self {
        Self(DashMap::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn opening_of(&self, id: WaitId) -> Option<Opening> {
        self.0.iter().map(|slot| *slot.key()).find(|(of, _)| *of == id).map(|(_, opening)| opening)
    }

    /// Puts what the engine says into its stream's place. A stream that has gone needs no telling.
    pub(super) fn deliver(&self, effect: Effect) {
        if let Some(slot) = self.0.get(&effect.stream()) {
            slot.put(effect);
        }
    }
}

/// What a stream has yet to send.
struct Slot {
    wait: Told,
    unread: Mutex<Unread>,
}

/// What every message of a stream says alike.
struct Told {
    id: WaitId,
    log_id: LogId,
    instance: InstanceId,
    keys: Arc<[Key]>,
}

#[derive(Default)]
struct Unread {
    registered: Option<Registered>,
    progress: VecDeque<Progress>,
    dropped: u32,
    /// Whether the gateways know where the instance's events are to go; `None` where there are none.
    routable: Option<bool>,
    last: Option<Last>,
    closed: Closed,
    /// What the keys had come to in the last message that was taken out.
    answers: Arc<[Answer]>,
    reader: Option<Waker>,
}

struct Registered {
    at: Position,
    deadline: Time,
    timeout: Duration,
    opened: Opened,
}

struct Progress {
    at: Position,
    event: Option<(u16, EventBrief)>,
    change: Option<(u16, Answer)>,
    mark: Mark,
}

enum Last {
    Outcome(Outcome),
    GoingAway(Position),
    Stopping,
    TakenOver,
    Sent,
}

impl Slot {
    fn put(&self, effect: Effect) {
        let mut unread = self.lock();
        match effect {
            Effect::Registered { at, deadline, timeout, opened, answers, .. } => {
                unread.registered = Some(Registered { at, deadline, timeout, opened });
                unread.answers = answers;
            }
            Effect::Progress { at, event, change, mark, dropped, .. } => {
                unread.dropped = unread.dropped.saturating_add(dropped);
                unread.push(Progress { at, event, change, mark });
            }
            Effect::Outcome { outcome, .. } => {
                unread.closed = Closed::Ended;
                unread.last = Some(Last::Outcome(outcome));
            }
            Effect::GoingAway { at, .. } => unread.last = Some(Last::GoingAway(at)),
            Effect::TakenOver { .. } => unread.last = Some(Last::TakenOver),
        }
        if let Some(reader) = unread.reader.take() {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unread> {
        // Whatever panicked while it was held, each change to it is whole.
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unread {
    fn push(&mut self, progress: Progress) {
        let only_cursor = |progress: &Progress| progress.event.is_none() && progress.change.is_none();
        // Of two cursors in a row the newer says all.
        if only_cursor(&progress)
            && let Some(newest) = self.progress.back_mut()
            && only_cursor(newest)
        {
            newest.at = progress.at;
            return;
        }
        if self.progress.len() == UNREAD
            && let Some(oldest) = self.progress.pop_front()
        {
            self.apply(oldest.change);
            self.dropped = self.dropped.saturating_add(1);
        }
        self.progress.push_back(progress);
    }

    fn apply(&mut self, change: Option<(u16, Answer)>) {
        if let Some((key, answer)) = change
            && let Some(place) = Arc::make_mut(&mut self.answers).get_mut(usize::from(key))
        {
            *place = answer;
        }
    }

    fn next(&mut self, wait: &Told) -> Option<Result<Message, Status>> {
        if let Some(Registered { at, deadline, timeout, opened }) = self.registered.take() {
            return Some(Ok(Message::Registered(proto::Registered {
                wait_id: wait.id.to_string(),
                cursor: Some(wait.cursor(at)),
                deadline: Some(convert::timestamp(deadline)),
                opened: Some(convert::to_opened(&opened)),
                keys: convert::to_key_states(&wait.keys, &self.answers),
                routable: self.routable,
                timeout: Some(convert::duration(timeout)),
            })));
        }
        if let Some(progress) = self.progress.pop_front() {
            self.apply(progress.change);
            return Some(Ok(Message::Progress(proto::Progress {
                cursor: Some(wait.cursor(progress.at)),
                event: progress.event.and_then(|(key, brief)| wait.event(key, &brief)),
                keys: convert::to_key_states(&wait.keys, &self.answers),
                superseded: progress.mark.superseded,
                stale: progress.mark.stale,
                dropped: std::mem::take(&mut self.dropped),
            })));
        }
        match self.last.replace(Last::Sent) {
            Some(Last::Outcome(outcome)) => {
                Some(Ok(Message::Outcome(convert::to_outcome(wait.log_id, &wait.keys, &outcome))))
            }
            Some(Last::GoingAway(at)) => {
                self.last = Some(Last::Stopping);
                Some(Ok(Message::GoingAway(proto::GoingAway {
                    cursor: Some(wait.cursor(at)),
                    keys: convert::to_key_states(&wait.keys, &self.answers),
                })))
            }
            Some(Last::Stopping) => Some(Err(stopping().into())),
            Some(Last::TakenOver) => {
                let message = format!("wait {} was opened again, and goes on there", wait.id);
                Some(Err(Refusal::new(Code::Aborted, Reason::TakenOver, message).into()))
            }
            Some(Last::Sent) => None,
            None => {
                self.last = None;
                None
            }
        }
    }
}

impl Told {
    fn cursor(&self, position: Position) -> proto::Cursor {
        convert::to_cursor(Cursor { log_id: self.log_id, position })
    }

    fn event(&self, key: u16, brief: &EventBrief) -> Option<proto::Event> {
        self.keys.get(usize::from(key)).map(|key| convert::to_brief(self.instance, key, brief))
    }
}

/// A wait's stream, as its driver reads it. Dropping it ends the wait.
pub(super) struct WaitStream {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    opening: Opening,
    binding: Option<Binding>,
}

/// That events for the instance come here, as the gateways have it, while the stream is open.
pub(super) struct Binding {
    /// Whether they know it, once that is known. `None`: it was told.
    pub(super) routable: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl WaitStream {
    /// Makes the place for what the engine will say. To be called before it is asked, so that nothing it
    /// says is missed.
    pub(super) fn prepare(
        shared: &Arc<Shared>,
        id: WaitId,
        opening: Opening,
        instance: InstanceId,
        keys: Arc<[Key]>,
        binding: Option<Binding>,
    ) -> Self {
        let wait = Told { id, log_id: shared.log.id(), instance, keys };
        let slot = Arc::new(Slot { wait, unread: Mutex::default() });
        shared.streams.0.insert((id, opening), Arc::clone(&slot));
        Self { shared: Arc::clone(shared), slot, opening, binding }
    }
}

impl WaitStream {
    /// The wait was not opened: nobody will ask for it again.
    pub(super) fn refused(&self) {
        self.slot.lock().closed = Closed::Refused;
    }
}

impl Stream for WaitStream {
    type Item = Result<proto::WaitResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(Binding { routable: pending @ Some(_) }) = &mut self.binding
            && let Some(known) = pending
        {
            // Until then the client must not start the work: it could be told of it where nobody listens.
            let routable = ready!(known.as_mut().poll(cx));
            *pending = None;
            self.slot.lock().routable = Some(routable);
        }
        let mut unread = self.slot.lock();
        if matches!(unread.last, Some(Last::Sent)) {
            return Poll::Ready(None);
        }
        match unread.next(&self.slot.wait) {
            Some(Ok(message)) => Poll::Ready(Some(Ok(proto::WaitResponse { message: Some(message) }))),
            Some(Err(status)) => Poll::Ready(Some(Err(status))),
            None => {
                unread.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for WaitStream {
    fn drop(&mut self) {
        self.shared.streams.0.remove(&(self.slot.wait.id, self.opening));
        let (ended, closed) = {
            let unread = self.slot.lock();
            (unread.last.is_some(), unread.closed)
        };
        if self.binding.is_some() {
            let shared = &self.shared;
            let (now, Told { id, instance, .. }) = (shared.clock.now(), &self.slot.wait);
            shared.bound.wait_closed(now, *instance, *id, closed);
        }
        if plant::is(Plant::LateClose)
            && let Some(newer) = self.shared.streams.opening_of(self.slot.wait.id)
        {
            self.shared.send(Command::Close(newer));
        }
        if !ended {
            // It carries the opening's number, so that it cannot end a newer one that comes before it.
            self.shared.send(Command::Close(self.opening));
        }
    }
}
