//! The journal's thread: gathers what is in flight, appends it, syncs once, and hands on what is committed.
//!
//! While it syncs, what comes next gathers. So a batch is as large as the disk is slow, and an event pays for a
//! share of one sync.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::warn;

use super::bindings::KeptBindings;
use super::consumers::{Change, Consumers, Deferred, Reach};
use super::gather::Gathered;
use super::ids::Ids;
use super::note::{Note, What};
use super::store::{Store, WriteError};
use super::turns::{self, Orders, Work};
use super::{Append, Appended};
use crate::clock::{Clock, Time};
use crate::event::Position;
use crate::plant::{self, Plant};

/// A batch is closed once its records come to so many bytes.
const ENOUGH: usize = 1024 * 1024;
/// How long notes wait for a batch to go with. Past that they make one by themselves.
const NOTES_WAIT: Duration = Duration::from_millis(100);
/// Bytes of notes that wait for a disk that is full.
const MAX_NOTES: usize = 8 * ENOUGH;
/// How often it is tried whether a full disk has room again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// It is asked to retain no more often: what is held would have it asked again at once.
const RETAIN_EVERY: Duration = Duration::from_secs(1);

/// Where what the thread has done goes. It is told in the order of positions.
pub trait Sink<E, C>: Send {
    /// This is as durable as it has to be, and the log's head is now here. Readers may see it once all who may be
    /// asked about it have it.
    fn committed(&mut self, head: Position, batch: Vec<Appended<E, C>>);
    /// This could not be written.
    fn refused(&mut self, append: Append<E, C>, error: &WriteError);
    /// The log begins here now.
    fn dropped(&mut self, oldest: Position);
    /// The log is over its size, and what is before this position is held by those that may yet ask for it.
    fn held(&mut self, oldest: Position);
}

/// What is handed to the thread.
enum Order<E, C> {
    Append(Append<E, C>),
    Consumer(Change),
    Note(What),
    /// Bring all to the disk that came before, and say so.
    Flush(oneshot::Sender<()>),
    /// The same, and end.
    Close(oneshot::Sender<()>),
}

/// How it goes, for those who look.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Bytes of the log in use.
    pub bytes: AtomicU64,
    /// Positions dropped because of the log's size, before their time.
    pub dropped_early: AtomicU64,
    /// Ids remembered.
    pub ids: AtomicU64,
    /// Ids forgotten because of their number, before their time.
    pub ids_dropped_early: AtomicU64,
    /// The place up to which the log is not needed by open waits; all ones: none is open.
    pub pinned: AtomicU64,
}

/// The thread, as those have it who hand it something.
pub struct Writer<E, C> {
    orders: Orders<Order<E, C>>,
    gauges: Arc<Gauges>,
    state: watch::Receiver<Option<WriteError>>,
}

impl<E: Send + 'static, C: Send + 'static> Writer<E, C> {
    /// Starts the thread. `before`: when the newest record that the log has dropped was received.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn start(
        store: Store,
        ids: Ids,
        clock: Clock,
        (consumers, bindings): (Consumers, KeptBindings),
        before: Option<Time>,
        sink: impl Sink<E, C> + 'static,
    ) -> io::Result<Self> {
        let (thread, gauges, state) = Thread::new(store, ids, clock, (consumers, bindings), before, sink);
        Ok(Self { orders: turns::start("journal", thread)?, gauges, state })
    }

    /// The same in a task, which ends when it is aborted. `pause`: how long each batch lies gathered before it is
    /// written.
    pub fn start_task(
        store: Store,
        ids: Ids,
        clock: Clock,
        (consumers, bindings): (Consumers, KeptBindings),
        before: Option<Time>,
        sink: impl Sink<E, C> + 'static,
        mut pause: impl FnMut() -> Duration + Send + 'static,
    ) -> (Self, JoinHandle<()>) {
        let (thread, gauges, state) = Thread::new(store, ids, clock, (consumers, bindings), before, sink);
        let (orders, task) = turns::start_task(thread, move || sleep(pause()));
        (Self { orders, gauges, state }, task)
    }

    /// Hands it something. If the thread has ended, the process does.
    pub fn append(&self, append: Append<E, C>) {
        self.orders.send(Order::Append(append));
    }

    /// Hands it what is asked of a consumer, which it answers by itself.
    pub fn consumer(&self, change: Change) {
        self.orders.send(Order::Consumer(change));
    }

    /// Has it keep a note: with the next batch, or soon. Nobody waits for it.
    pub fn note(&self, what: What) {
        self.orders.send(Order::Note(what));
    }

    /// Ready once all that was handed over before is on the disk, or was refused.
    pub async fn flush(&self) {
        let _ = self.orders.ask(Order::Flush).await;
    }

    /// Ready once the thread has brought all to the disk, and has ended.
    pub async fn close(&self) {
        let _ = self.orders.ask(Order::Close).await;
    }

    /// How it goes.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Whether it can write: if not, why.
    pub fn state(&self) -> watch::Receiver<Option<WriteError>> {
        self.state.clone()
    }
}

struct Thread<S> {
    store: Store,
    ids: Ids,
    clock: Clock,
    sink: S,
    consumers: Consumers,
    bindings: KeptBindings,
    /// Changes of consumers that go with the next batch, and their notes.
    deferred: Vec<Deferred>,
    deferred_notes: Vec<u8>,
    /// Since when the log's oldest segment counts, as the notes in it have it.
    before: Option<Time>,
    /// Encoded, for the next batch.
    notes: Vec<u8>,
    notes_due: Option<Time>,
    /// A segment was begun, and does not yet have what only notes tell. Until it has, none is dropped.
    snapshot_due: bool,
    retain_due: Time,
    gauges: Arc<Gauges>,
    state: watch::Sender<Option<WriteError>>,
}

/// What one turn has to bring to the disk.
struct Turn<E, C> {
    gathered: Gathered<E, C>,
    /// Whom to tell that it is there, and whether it was the last turn.
    last_word: Option<(oneshot::Sender<()>, bool)>,
}

impl<E: Send + 'static, C: Send + 'static, S: Sink<E, C> + 'static> Work<Order<E, C>> for Thread<S> {
    type Turn = Turn<E, C>;

    fn clock(&self) -> Clock {
        self.clock
    }

    fn next_wake(&self) -> Time {
        let tried = self.state.borrow().as_ref().map(|_| self.clock.now().plus(TRY_AGAIN));
        let drop = self.store.next_drop().map(|due| due.plus(Duration::from_nanos(1)).max(self.retain_due));
        let notes = if self.state.borrow().is_some() { None } else { self.notes_due };
        [tried, drop, notes]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.clock.now().plus(Duration::from_secs(3600)))
    }

    fn gather(&mut self, order: Option<Order<E, C>>, inbox: &Receiver<Order<E, C>>) -> Turn<E, C> {
        let mut last_word = None;
        let mut gathered = Gathered::new(self.clock.now(), self.store.next());
        let orders = order.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok()));
        for order in orders {
            match order {
                Order::Append(Append::Events(events, with)) => {
                    gathered.add_events(events, with, &mut self.ids, self.store.body());
                }
                Order::Append(Append::CancelInstance(cancel, with)) => {
                    gathered.add_cancel(cancel, with, self.store.body());
                }
                Order::Consumer(change) => self.change(gathered.received_at(), change),
                Order::Note(what) => self.note(gathered.received_at(), what),
                Order::Flush(done) => last_word = Some((done, false)),
                Order::Close(done) => last_word = Some((done, true)),
            }
            if last_word.is_some() || self.store.body_len() + self.notes.len() >= ENOUGH {
                break;
            }
        }
        if plant::is(Plant::DuplicateBeforeSync) {
            self.hand_on(gathered.take_duplicates());
        }
        Turn { gathered, last_word }
    }

    fn finish(&mut self, Turn { gathered, last_word }: Turn<E, C>) -> Option<oneshot::Sender<()>> {
        self.commit(gathered, last_word.is_some());
        self.retain::<E, C>();
        match last_word {
            Some((done, true)) => return Some(done),
            Some((done, false)) => drop(done.send(())),
            None => {}
        }
        None
    }

    fn close(self, done: oneshot::Sender<()>) {
        if let Err(error) = self.store.close() {
            warn!(%error, "the log could not be closed; the next start takes it as a crash");
        }
        let _ = done.send(());
    }
}

impl<S> Thread<S> {
    fn new(
        store: Store,
        ids: Ids,
        clock: Clock,
        (consumers, bindings): (Consumers, KeptBindings),
        before: Option<Time>,
        sink: S,
    ) -> (Self, Arc<Gauges>, watch::Receiver<Option<WriteError>>) {
        let gauges = Arc::new(Gauges { pinned: AtomicU64::new(u64::MAX), ..Gauges::default() });
        let (state_sender, state) = watch::channel(None);
        let mut thread = Self {
            store,
            ids,
            clock,
            sink,
            consumers,
            bindings,
            deferred: Vec::new(),
            deferred_notes: Vec::new(),
            before,
            notes: Vec::new(),
            notes_due: None,
            snapshot_due: false,
            retain_due: Time::default(),
            gauges: Arc::clone(&gauges),
            state: state_sender,
        };
        thread.note_begun();
        (thread, gauges, state)
    }

    fn note(&mut self, now: Time, what: What) {
        self.bindings.take(&what);
        // Where nothing can be written for long, what nobody waits for is given up.
        if self.notes.len() < MAX_NOTES {
            Note::put(what, &mut self.notes);
        }
        self.notes_due.get_or_insert(now.plus(NOTES_WAIT));
    }

    /// Makes a change of a consumer. It is answered with the next batch, if it has to be durable first.
    fn change(&mut self, now: Time, change: Change) {
        let mut notes = Vec::new();
        let deferred = self.consumers.apply(now, self.reach(), change, &mut notes);
        match deferred {
            Some(deferred) if plant::is(Plant::AckBeforeSync) => deferred.done(),
            deferred => self.deferred.extend(deferred),
        }
        match self.deferred.is_empty() {
            true => notes.into_iter().for_each(|what| self.note(now, what)),
            false => notes.into_iter().for_each(|what| Note::put(what, &mut self.deferred_notes)),
        }
    }

    fn reach(&self) -> Reach {
        Reach { oldest: self.store.segments().oldest().before(), head: self.store.next().before() }
    }

    /// Writes what was gathered, and hands it on.
    fn commit<E, C>(&mut self, gathered: Gathered<E, C>, flush: bool)
    where
        S: Sink<E, C>,
    {
        let now = gathered.received_at();
        let failing = self.state.borrow().is_some();
        let notes_due =
            flush || failing || !self.deferred.is_empty() || self.notes_due.is_some_and(|due| due <= now);
        let has_notes = !self.notes.is_empty() || !self.deferred.is_empty();
        let only_notes = gathered.count() == 0;
        if only_notes && !failing && !(notes_due && has_notes) {
            return self.hand_on(gathered.commit());
        }
        self.store.body().extend_from_slice(&self.notes);
        self.store.body().extend_from_slice(&self.deferred_notes);
        if self.store.begins_segment(now) {
            let snapshot = self.snapshot(self.store.newest());
            self.store.body().extend_from_slice(&snapshot);
        }
        match self.store.append(gathered.count(), now) {
            Ok(()) => {
                self.notes.clear();
                self.notes_due = None;
                self.snapshot_due = false;
                self.hand_on(gathered.commit());
                self.deferred_notes.clear();
                self.deferred.drain(..).for_each(Deferred::done);
                self.state.send_if_modified(|state| state.take().is_some());
            }
            Err(error) => {
                for deferred in self.deferred.drain(..).rev() {
                    deferred.take_back(&mut self.consumers, &error);
                }
                self.deferred_notes.clear();
                let sink = &mut self.sink;
                let known = gathered.take_back(&mut self.ids, |append| sink.refused(append, &error));
                self.hand_on(known);
                self.state.send_if_modified(|state| state.replace(error.clone()).as_ref() != Some(&error));
            }
        }
    }

    fn hand_on<E, C>(&mut self, batch: Vec<Appended<E, C>>)
    where
        S: Sink<E, C>,
    {
        if !batch.is_empty() {
            self.sink.committed(self.store.next().before(), batch);
        }
    }

    /// What only notes of older segments tell. Their newest record was received at `newest`.
    fn snapshot(&self, newest: Time) -> Vec<u8> {
        let mut notes = Vec::new();
        let before = if newest == Time::default() { self.before.unwrap_or_default() } else { newest };
        Note::put(What::Before(before.as_nanos()), &mut notes);
        let kept = self.consumers.notes().chain(self.bindings.notes());
        kept.for_each(|what| Note::put(what, &mut notes));
        notes
    }

    /// Sees to it that a segment that was begun without a batch gets what only notes of older ones tell.
    fn note_begun(&mut self) {
        if let Some(newest) = self.store.begun() {
            self.notes.extend_from_slice(&self.snapshot(newest));
            self.notes_due.get_or_insert(self.clock.now());
            self.snapshot_due = true;
        }
    }

    fn retain<E, C>(&mut self)
    where
        S: Sink<E, C>,
    {
        let now = self.clock.now();
        self.ids.expire(now);
        self.retain_due = now.plus(RETAIN_EVERY);
        if !self.snapshot_due {
            let mut notes = Vec::new();
            self.consumers.expire(now, &mut notes);
            notes.into_iter().for_each(|what| self.note(now, what));
            let waits = Some(self.gauges.pinned.load(Ordering::Relaxed)).filter(|pinned| *pinned < u64::MAX);
            let pinned = waits.map(Position).into_iter().chain(self.consumers.pinned(self.reach())).min();
            if let Some(oldest) = self.store.retain(now, pinned, &self.ids) {
                self.sink.dropped(oldest);
            }
            if let Some(oldest) = self.store.oldest_by_size() {
                self.sink.held(oldest);
            }
            self.note_begun();
        }
        let gauges = &self.gauges;
        gauges.bytes.store(self.store.bytes(), Ordering::Relaxed);
        gauges.dropped_early.store(self.store.dropped_early(), Ordering::Relaxed);
        gauges.ids.store(self.ids.len() as u64, Ordering::Relaxed);
        gauges.ids_dropped_early.store(self.ids.dropped_early(), Ordering::Relaxed);
    }
}
