//! The one task that owns the engine, and with `durability = "none"` the log too.
//!
//! It takes what happens in one order: what was handed over before a moment goes before the deadlines that
//! are due at it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::debug;

use super::Shared;
use super::dispatch::Weight;
use super::unmatched::Unmatched;
use crate::clock::Time;
use crate::convert;
use crate::engine::{
    Ask, Disposition, Effect, Engine, Moment, Moments, OpenError, Opening, WaitCounts, WaitError, WaitView,
};
use crate::event::{Caller, InstanceId, Key, Position, WaitId};
use crate::journal::consumers::Change;
use crate::journal::events::Events;
use crate::journal::memory::MemoryJournal;
use crate::journal::note::What;
use crate::journal::{Append, Appended};
use crate::status::Refusal;

/// Effects that there is always room for.
const KEPT: usize = 16_384;

/// What is handed to the task. Each has where its answer goes.
pub(super) enum Command {
    /// To whoever appends to the log, if that is this task.
    Append(Append<EventsFrom, CancelFrom>),

    /// To whoever keeps the consumers, if that is this task.
    Consumer(Change),
    /// From whoever does, if that is another: in the order of positions.
    Appended {
        head: Position,
        batch: Vec<Appended<EventsFrom, CancelFrom>>,
    },

    /// The log begins here now.
    Dropped(Position),
    /// The log is over its size, and open waits hold what is before this position.
    Held(Position),
    Open {
        ask: Ask,
        reply: oneshot::Sender<Result<(), OpenError>>,
    },
    Close(Opening),
    Arm {
        id: WaitId,
        caller: Caller,
        reply: oneshot::Sender<Result<Time, WaitError>>,
    },
    Skip {
        id: WaitId,
        caller: Caller,
        keys: Vec<Key>,
        reply: oneshot::Sender<Result<u32, WaitError>>,
    },
    Cancel {
        id: WaitId,
        caller: Caller,
        why: String,
        reply: oneshot::Sender<Result<(), WaitError>>,
    },
    List {
        instance: Option<InstanceId>,
        after: Opening,
        most: usize,
        reply: oneshot::Sender<Vec<WaitView>>,
    },
    History {
        instance: InstanceId,
        after: Moment,
        most: usize,
        reply: oneshot::Sender<Moments>,
    },
    Report(oneshot::Sender<Report>),
    /// Nothing is kept any longer. Open waits are cancelled, or else told to ask again of the next process.
    Stop {
        cancel: bool,
        reply: oneshot::Sender<()>,
    },
}

/// Where events came from: their weight, and where their dispositions go.
pub(super) struct EventsFrom {
    pub(super) weight: Weight,
    pub(super) reply: oneshot::Sender<Result<Vec<Disposition>, Refusal>>,
}

/// Where the answer to a CancelInstance goes.
pub(super) type CancelFrom = oneshot::Sender<Result<InstanceCancelled, Refusal>>;

/// What a CancelInstance did.
pub(super) struct InstanceCancelled {
    pub(super) position: Position,
    pub(super) waits: Vec<(WaitId, Vec<Key>)>,
}

/// What only the task knows of the agent's state.
#[derive(Default)]
pub(super) struct Report {
    pub(super) open_waits: usize,
    pub(super) waits: WaitCounts,
    pub(super) events: EventCounts,
    pub(super) log_bytes: u64,
    pub(super) dropped_early: u64,
    pub(super) ids: u64,
    pub(super) ids_dropped_early: u64,
}

/// Events by what became of them.
#[derive(Clone, Copy, Default)]
pub(super) struct EventCounts {
    pub(super) woke: u64,
    pub(super) retained: u64,
    pub(super) duplicate: u64,
    /// Only those that the log refused; what is not valid never comes here.
    pub(super) rejected: u64,
}

pub(super) struct Core {
    shared: Arc<Shared>,
    /// The log, while it is in memory.
    memory: Option<MemoryJournal>,
    engine: Engine,
    unmatched: Unmatched,
    counts: EventCounts,
    effects: Vec<Effect>,
    /// The waits have been told that the log goes. What would still be opened or kept is not answered, which
    /// its caller is told as the agent's stop.
    stopped: bool,
}

impl Core {
    pub(super) fn new(shared: Arc<Shared>, memory: Option<MemoryJournal>, engine: Engine) -> Self {
        Self {
            shared,
            memory,
            engine,
            unmatched: Unmatched::default(),
            counts: EventCounts::default(),
            effects: Vec::new(),
            stopped: false,
        }
    }

    /// Runs until everyone who could hand it something is gone.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let clock = self.shared.clock;
        let mut commands = Vec::new();
        let mut timer = pin!(sleep_until(clock.instant(Time::default())));
        loop {
            let wake = self.next_wake();
            if let Some(wake) = wake.map(|wake| clock.instant(wake))
                && timer.deadline() != wake
            {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                biased;
                received = inbox.recv_many(&mut commands, usize::MAX) => {
                    if received == 0 {
                        return;
                    }
                }
                () = timer.as_mut(), if wake.is_some() => {}
            }
            // What was handed over before the deadlines are looked at is taken before they are; and nothing
            // is taken at a moment before it was handed over.
            let due = clock.now();
            while let Ok(command) = inbox.try_recv() {
                commands.push(command);
            }
            let now = clock.now();
            for command in commands.drain(..) {
                self.take(now, command);
            }
            self.engine.tick(due, &mut self.effects);
            self.keep_log(now);
            self.unmatched.report_if_due(now);
        }
    }

    fn next_wake(&self) -> Option<Time> {
        let retain = self.memory.as_ref().and_then(MemoryJournal::next_retain);
        let others = [retain, self.unmatched.next_report()];
        self.engine.next_wake().into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Says what of the log is needed, and what is to be known of it after a start.
    fn keep_log(&mut self, now: Time) {
        if let Some(memory) = &mut self.memory {
            if let Some(oldest) = memory.oldest_by_size() {
                self.engine.release(now, oldest, &mut self.effects);
            }
            let oldest = memory.retain(now, self.engine.pinned());
            self.engine.drop_before(oldest);
            drop(self.engine.take_ended());
        }
        if let Some(journal) = &self.shared.journal {
            let pinned = self.engine.pinned().map_or(u64::MAX, |pinned| pinned.0);
            journal.gauges().pinned.store(pinned, Ordering::Relaxed);
            for note in self.engine.take_ended().filter_map(|wait| convert::ended::to_note(&wait)) {
                journal.note(What::EndedWait(note));
            }
        }
        self.deliver();
    }

    /// Does what a command asks, tells the waits, and only then the one who sent it. An answer that nobody
    /// waits for any longer is dropped.
    fn take(&mut self, now: Time, command: Command) {
        let out = &mut self.effects;
        match command {
            Command::Append(_) | Command::Appended { .. } | Command::Open { .. } if self.stopped => {}
            Command::Append(append) => {
                let Some(memory) = &mut self.memory else { return };
                let appended = memory.append(now, append);
                self.commit(now, appended);
            }
            Command::Consumer(change) => {
                if let Some(memory) = &mut self.memory {
                    memory.change(now, change);
                }
            }
            Command::Appended { head, batch } => {
                // Whoever sees it from now on, and asks for it, is taken after it; whoever is answered can see it.
                self.shared.log.publish(head);
                for appended in batch {
                    self.commit(now, appended);
                }
            }
            Command::Dropped(oldest) => self.engine.drop_before(oldest),
            Command::Held(oldest) => self.engine.release(now, oldest, out),
            Command::Open { ask, reply } => {
                let opened = self.engine.open(now, ask, out);
                self.deliver();
                let _ = reply.send(opened);
            }
            Command::Close(opening) => self.engine.close(opening),
            Command::Arm { id, caller, reply } => {
                let _ = reply.send(self.engine.arm(now, id, caller));
            }
            Command::Skip { id, caller, keys, reply } => {
                let skipped = self.engine.skip(now, id, caller, &keys, out);
                self.deliver();
                let _ = reply.send(skipped);
            }
            Command::Cancel { id, caller, why, reply } => {
                let cancelled = self.engine.cancel(now, id, caller, why, out);
                self.deliver();
                let _ = reply.send(cancelled);
            }
            Command::List { instance, after, most, reply } => {
                let _ = reply.send(self.engine.list(instance, after, most));
            }
            Command::History { instance, after, most, reply } => {
                let _ = reply.send(self.engine.moments(instance, after, most));
            }
            Command::Report(reply) => {
                let _ = reply.send(self.report());
            }
            Command::Stop { cancel, reply } => {
                match cancel {
                    true => self.engine.stop(now, self.memory.is_some(), out),
                    false => self.engine.go_away(out),
                }
                self.stopped = true;
                self.deliver();
                let _ = reply.send(());
            }
        }
    }

    /// Takes in what is as durable as it has to be, tells the waits, and only then the one who sent it.
    fn commit(&mut self, now: Time, appended: Appended<EventsFrom, CancelFrom>) {
        match appended {
            Appended::Events(batch, EventsFrom { weight, reply }) => {
                drop(weight);
                let dispositions = self.engine.commit(&batch, &mut self.effects);
                self.count(now, batch.records(), &dispositions);
                self.deliver();
                let _ = reply.send(Ok(dispositions));
            }
            Appended::CancelInstance(record, reply) => {
                let waits = self.engine.cancel_instance(&record, &mut self.effects);
                self.deliver();
                let _ = reply.send(Ok(InstanceCancelled { position: self.engine.head(), waits }));
            }
        }
    }

    fn count(&mut self, now: Time, events: &Events, dispositions: &[Disposition]) {
        for (entry, disposition) in events.iter().zip(dispositions) {
            self.counts.count(*disposition);
            let Disposition::Retained(position) = disposition else { continue };
            let Ok(event) = events.event(entry) else { continue };
            self.unmatched.count(now, event.key.name());
            debug!(instance = %event.instance, key = %event.key, %position, "nobody waits for it");
        }
    }

    fn deliver(&mut self) {
        for effect in self.effects.drain(..) {
            self.shared.streams.deliver(effect);
        }
        // What one large batch has needed is not kept for the next.
        self.effects.shrink_to(KEPT);
    }

    fn report(&self) -> Report {
        let mut report = Report {
            open_waits: self.engine.open_waits(),
            waits: self.engine.counts(),
            events: self.counts,
            ..Report::default()
        };
        if let Some(memory) = &self.memory {
            report.log_bytes = memory.bytes();
            report.dropped_early = memory.dropped_early();
            report.ids = memory.ids().len() as u64;
            report.ids_dropped_early = memory.ids().dropped_early();
        }
        if let Some(journal) = &self.shared.journal {
            let read = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
            let gauges = journal.gauges();
            report.log_bytes = read(&gauges.bytes);
            report.dropped_early = read(&gauges.dropped_early);
            report.ids = read(&gauges.ids);
            report.ids_dropped_early = read(&gauges.ids_dropped_early);
        }
        report
    }
}

impl EventCounts {
    fn count(&mut self, disposition: Disposition) {
        let count = match disposition {
            Disposition::Woke(..) => &mut self.woke,
            Disposition::Retained(_) => &mut self.retained,
            Disposition::Duplicate(_) => &mut self.duplicate,
            Disposition::IdReused => &mut self.rejected,
        };
        *count += 1;
    }
}
