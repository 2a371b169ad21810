//! Whoever writes the outbox: keeps deliveries, syncs once for all that are in flight, and only then says so.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use super::book::{Book, Kept, Ticket};
use super::{Delivery, KeepError, Limits, record};
use crate::clock::{Clock, Time};
use crate::event::Position;
use crate::journal::disk::Disk;
use crate::journal::ids::Ids;
use crate::journal::recovery::{Hands, Start};
use crate::journal::retention::Retention;
use crate::journal::scan::StartError;
use crate::journal::store::{Store, WriteError};
use crate::journal::turns::{self, Orders, Work};

/// A batch is closed once its records come to so many bytes.
const ENOUGH: usize = 1024 * 1024;
/// How long what has ended waits for a batch to be noted with.
const NOTES_WAIT: Duration = Duration::from_millis(100);
/// How often it is tried whether a full disk has room again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The log is so much larger than what is to be delivered before that is copied forward.
const SLACK: u64 = 4;

/// Where what is kept goes, once it is as durable as was promised. It is told in the order of tickets.
pub trait Sink: Send + 'static {
    /// This is kept, and to be delivered.
    fn kept(&mut self, kept: Vec<Kept>);
}

enum Order {
    Keep { deliveries: Vec<Delivery>, asked: Asked },
    Reroute { deliveries: Vec<Delivery>, asked: Asked },
    End(Vec<Ticket>),
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// How much there is, for those who look.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Bytes of what is to be delivered.
    pub bytes: AtomicU64,
    /// Deliveries that have not ended.
    pub deliveries: AtomicU64,
    /// Bytes of the log.
    pub log_bytes: AtomicU64,
}

/// The outbox, as those have it who hand it something.
#[derive(Clone)]
pub struct Outbox {
    orders: Orders<Order>,
    gauges: Arc<Gauges>,
    state: watch::Receiver<Option<WriteError>>,
    clock: Clock,
    max: u64,
}

/// An outbox that was read, and is not yet written.
pub struct Opened {
    store: Store,
    book: Book,
    limits: Limits,
}

impl Opened {
    /// Reads what is in a folder.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written, or is damaged.
    pub fn open(
        disk: Arc<dyn Disk>,
        sync: bool,
        repair: bool,
        boot_id: &str,
        limits: Limits,
        hands: Hands,
    ) -> Result<Self, StartError> {
        let retention = Retention {
            while_needed: true,
            age: limits.segment_span * 32,
            bytes: limits.segment_bytes * 32,
            held_bytes: u64::MAX,
            id_window: Duration::ZERO,
            max_ids: 0,
        };
        let mut book = Book::default();
        let start = Start { sync, retention, repair, boot_id, hands };
        let started = Store::start(disk, &start, &mut book)?;
        Ok(Self { store: started.store, book, limits })
    }

    /// What is to be delivered, in order.
    pub fn to_deliver(&self) -> Vec<Kept> {
        self.book.in_order()
    }

    /// When the newest was kept.
    pub fn newest(&self) -> Time {
        self.store.newest()
    }

    /// Starts to write, on a thread.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub fn start(self, clock: Clock, sink: impl Sink) -> io::Result<Outbox> {
        let max = self.limits.bytes;
        let (writer, gauges, state) = Writer::new(self, clock, sink);
        Ok(Outbox { orders: turns::start("outbox", writer)?, gauges, state, clock, max })
    }

    /// The same in a task; see [`turns::start_task`].
    pub fn start_task<P: Future<Output = ()> + Send + 'static>(
        self,
        clock: Clock,
        sink: impl Sink,
        pause: impl FnMut() -> P + Send + 'static,
    ) -> (Outbox, JoinHandle<()>) {
        let max = self.limits.bytes;
        let (writer, gauges, state) = Writer::new(self, clock, sink);
        let (orders, task) = turns::start_task(writer, pause);
        (Outbox { orders, gauges, state, clock, max }, task)
    }
}

impl Outbox {
    /// Keeps deliveries. Ready once they are as durable as was promised. `until_told` is dropped once the sink has
    /// been told of them, or nobody ever will, whether or not this is still waited for.
    ///
    /// # Errors
    ///
    /// If nothing of it was kept.
    pub async fn keep(
        &self,
        deliveries: Vec<Delivery>,
        until_told: impl Send + 'static,
    ) -> Result<(), KeepError> {
        self.ask(Vec::new(), Box::new(until_told), |asked| Order::Keep { deliveries, asked }).await
    }

    /// Keeps deliveries of events that are kept already, and with the same stroke ends others. It is not held up by
    /// the limit, for what waits elsewhere may need it to make room.
    ///
    /// # Errors
    ///
    /// If nothing of it was kept.
    pub async fn reroute(&self, deliveries: Vec<Delivery>, ended: Vec<Ticket>) -> Result<(), KeepError> {
        self.ask(ended, Box::new(()), |asked| Order::Reroute { deliveries, asked }).await
    }

    async fn ask(
        &self,
        ended: Vec<Ticket>,
        until_told: Box<dyn Send>,
        order: impl FnOnce(Asked) -> Order,
    ) -> Result<(), KeepError> {
        let kept = self.orders.ask(|reply| order(Asked { ended, until_told, reply })).await;
        kept.unwrap_or(Err(KeepError::Stopping))
    }

    /// These have ended. Nobody waits for that to be written: what is forgotten in a crash is sent again.
    pub fn end(&self, tickets: Vec<Ticket>) {
        self.orders.send(Order::End(tickets));
    }

    /// Ready once all that was handed over before is written, or was refused.
    pub async fn flush(&self) {
        let _ = self.orders.ask(Order::Flush).await;
    }

    /// Ready once all is on the disk, and nothing more is taken.
    pub async fn close(&self) {
        let _ = self.orders.ask(Order::Close).await;
    }

    /// Whether it holds as much as it may.
    pub fn is_full(&self) -> bool {
        self.gauges.bytes.load(Ordering::Relaxed) > self.max
    }

    /// Whether it would keep something now.
    ///
    /// # Errors
    ///
    /// If not, and why.
    pub fn check(&self) -> Result<(), KeepError> {
        if self.state.has_changed().is_err() {
            return Err(KeepError::Stopping);
        }
        if let Some(error) = &*self.state.borrow() {
            return Err(error.clone().into());
        }
        match self.gauges.bytes.load(Ordering::Relaxed) {
            held if held > self.max => Err(KeepError::TooMuch { held, bound: self.max }),
            _ => Ok(()),
        }
    }

    /// How much there is.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Whether it can be written: if not, why.
    pub fn state(&self) -> watch::Receiver<Option<WriteError>> {
        self.state.clone()
    }

    /// The outbox's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }
}

struct Writer<S> {
    store: Store,
    book: Book,
    limits: Limits,
    clock: Clock,
    sink: S,
    /// Ended, and not yet noted.
    ended: Vec<Ticket>,
    notes_due: Option<Time>,
    ids: Ids,
    gauges: Arc<Gauges>,
    state: watch::Sender<Option<WriteError>>,
}

/// What one turn has to bring to the disk.
struct Turn {
    /// In the order of their records, with their bytes: what is new, and what is copied forward.
    records: Vec<(Record, u64)>,
    asked: Vec<Asked>,
    last_word: Option<(oneshot::Sender<()>, bool)>,
}

enum Record {
    New(Arc<Delivery>),
    Copy(Kept),
}

struct Asked {
    ended: Vec<Ticket>,
    until_told: Box<dyn Send>,
    reply: oneshot::Sender<Result<(), KeepError>>,
}

impl<S: Sink> Work<Order> for Writer<S> {
    type Turn = Turn;

    fn clock(&self) -> Clock {
        self.clock
    }

    fn next_wake(&self) -> Time {
        let now = self.clock.now();
        match self.state.borrow().is_some() {
            true => now.plus(TRY_AGAIN),
            false => self.notes_due.unwrap_or(now.plus(Duration::from_secs(3600))),
        }
    }

    fn gather(&mut self, order: Option<Order>, inbox: &Receiver<Order>) -> Turn {
        let mut turn = Turn { records: Vec::new(), asked: Vec::new(), last_word: None };
        let orders = order.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok()));
        for order in orders {
            match order {
                Order::Keep { deliveries, asked } => match self.room() {
                    Ok(()) => self.add(&mut turn, deliveries, asked),
                    Err(error) => drop(asked.reply.send(Err(error))),
                },
                Order::Reroute { deliveries, asked } => self.add(&mut turn, deliveries, asked),
                Order::End(tickets) => self.end(&tickets),
                Order::Flush(done) => turn.last_word = Some((done, false)),
                Order::Close(done) => turn.last_word = Some((done, true)),
            }
            if turn.last_word.is_some() || self.store.body_len() >= ENOUGH {
                break;
            }
        }
        self.copy_forward(&mut turn);
        turn
    }

    fn finish(&mut self, turn: Turn) -> Option<oneshot::Sender<()>> {
        let Turn { records, asked, last_word } = turn;
        self.commit(records, asked, last_word.is_some());
        if self.store.has_older() {
            self.store.retain(self.clock.now(), self.book.pinned(), &self.ids);
        }
        self.gauges.bytes.store(self.book.bytes(), Ordering::Relaxed);
        self.gauges.deliveries.store(self.book.len() as u64, Ordering::Relaxed);
        self.gauges.log_bytes.store(self.store.bytes(), Ordering::Relaxed);
        match last_word {
            Some((done, true)) => return Some(done),
            Some((done, false)) => drop(done.send(())),
            None => {}
        }
        None
    }

    fn close(self, done: oneshot::Sender<()>) {
        if let Err(error) = self.store.close() {
            warn!(%error, "the outbox could not be closed; the next start takes it as a crash");
        }
        let _ = done.send(());
    }
}

impl<S: Sink> Writer<S> {
    fn new(
        Opened { store, book, limits }: Opened,
        clock: Clock,
        sink: S,
    ) -> (Self, Arc<Gauges>, watch::Receiver<Option<WriteError>>) {
        let gauges = Arc::new(Gauges {
            bytes: book.bytes().into(),
            deliveries: (book.len() as u64).into(),
            log_bytes: store.bytes().into(),
        });
        let (state_sender, state) = watch::channel(None);
        store.set_found(clock.now());
        let writer = Self {
            store,
            book,
            limits,
            clock,
            sink,
            ended: Vec::new(),
            notes_due: None,
            ids: Ids::new(Duration::ZERO, 0),
            gauges: Arc::clone(&gauges),
            state: state_sender,
        };
        (writer, gauges, state)
    }

    fn room(&mut self) -> Result<(), KeepError> {
        let (held, bound) = (self.book.bytes() + self.store.body_len() as u64, self.limits.bytes);
        if held > bound { Err(KeepError::TooMuch { held, bound }) } else { Ok(()) }
    }

    fn add(&mut self, turn: &mut Turn, deliveries: Vec<Delivery>, asked: Asked) {
        for delivery in deliveries {
            let before = self.store.body_len();
            record::put(&delivery, None, self.store.body());
            let bytes = (self.store.body_len() - before) as u64;
            turn.records.push((Record::New(Arc::new(delivery)), bytes));
        }
        turn.asked.push(asked);
    }

    fn end(&mut self, tickets: &[Ticket]) {
        for &ticket in tickets {
            if self.book.end(ticket) {
                self.ended.push(ticket);
            }
        }
        if !self.ended.is_empty() {
            self.notes_due.get_or_insert(self.clock.now().plus(NOTES_WAIT));
        }
    }

    /// Where the log is much larger than what is still to be delivered, that is written anew, a batch's worth of it a
    /// turn, so that the old segments can go.
    fn copy_forward(&mut self, turn: &mut Turn) {
        let enough = self.book.bytes() * SLACK + self.limits.segment_bytes * SLACK;
        if self.store.bytes() <= enough || self.state.borrow().is_some() {
            return;
        }
        let Some(end) = self.store.oldest_end() else { return };
        let behind: Vec<_> = self.book.before(end).cloned().collect();
        for kept in behind {
            if self.store.body_len() >= ENOUGH {
                return;
            }
            let before = self.store.body_len();
            record::put(&kept.delivery, Some(kept.ticket.0), self.store.body());
            let bytes = (self.store.body_len() - before) as u64;
            turn.records.push((Record::Copy(kept), bytes));
        }
    }

    fn commit(&mut self, records: Vec<(Record, u64)>, asked: Vec<Asked>, flush: bool) {
        let now = self.clock.now();
        let failing = self.state.borrow().is_some();
        let notes_due = flush || self.notes_due.is_some_and(|due| due <= now);
        let has_notes = !self.ended.is_empty() || asked.iter().any(|asked| !asked.ended.is_empty());
        if records.is_empty() && !failing && !(has_notes && (notes_due || !asked.is_empty())) {
            asked.into_iter().for_each(|asked| drop(asked.reply.send(Ok(()))));
            return;
        }
        let ended = self.ended.iter().chain(asked.iter().flat_map(|asked| &asked.ended));
        if has_notes {
            let tickets: Vec<_> = ended.map(|ticket| ticket.0).collect();
            record::put_ended(tickets.into_iter(), self.store.body());
        }
        let first = self.store.next();
        match self.store.append(records.len() as u32, now) {
            Ok(()) => {
                // A segment's beginning needs no notes here: all that is needed of older ones is pinned.
                let _ = self.store.begun();
                self.ended.clear();
                self.notes_due = None;
                let mut new = Vec::new();
                for (place, (record, bytes)) in (first.0..).map(Position).zip(records) {
                    let kept = match record {
                        Record::Copy(kept) => kept,
                        Record::New(delivery) => {
                            let kept = Kept { ticket: Ticket(place.0), delivery };
                            new.push(kept.clone());
                            kept
                        }
                    };
                    self.book.add(place, kept, bytes);
                }
                self.sink.kept(new);
                for Asked { ended, until_told, reply } in asked {
                    for ticket in ended {
                        self.book.end(ticket);
                    }
                    drop(until_told);
                    let _ = reply.send(Ok(()));
                }
                self.state.send_if_modified(|state| state.take().is_some());
            }
            Err(error) => {
                for Asked { reply, .. } in asked {
                    let _ = reply.send(Err(error.clone().into()));
                }
                self.state.send_if_modified(|state| state.replace(error.clone()).as_ref() != Some(&error));
            }
        }
    }
}

#[cfg(test)]
mod tests;
