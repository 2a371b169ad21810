//! The consumers: watches with a name, whose cursors the agent keeps.
//!
//! Plain state, owned by whoever appends to the log. A change that has to be durable before it is answered is
//! made at once, and taken back if it could not be written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

use super::acks::{AckView, Acks};
use super::note::{AcknowledgedNote, ConsumerNote, What};
use super::store::WriteError;
use crate::clock::Time;
use crate::event::Position;

/// What is refused to a consumer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConsumerError {
    /// There is none of this name.
    #[error("there is no consumer {0:?}")]
    Unknown(String),
    /// As many as there may be.
    #[error("max_consumers is {0}, and so many there are; remove one")]
    TooMany(usize),
    /// What is next for it is no longer in the log, or it was away for too long.
    #[error("consumer {name:?} was last at {cursor}; the log no longer goes on from there for it")]
    Expired {
        /// Its name.
        name: String,
        /// Where it was.
        cursor: Position,
    },
    /// It could not be written.
    #[error(transparent)]
    NotWritten(WriteError),
    /// The place is past the log's head.
    #[error("position {asked} is past the log's head, {head}")]
    PastHead {
        /// The place.
        asked: Position,
        /// The head.
        head: Position,
    },
}

/// How a consumer stands, for those who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerView {
    /// Its name.
    pub name: String,
    /// All up to here is acknowledged, or was looked at and not for it.
    pub cursor: Position,
    /// Whether its stream is open.
    pub attached: bool,
    /// When its stream was last opened or closed, or it last acknowledged.
    pub seen_at: Time,
    /// It cannot go on from its cursor: it has to be opened with another one.
    pub expired: bool,
    /// The log was repaired since it last acknowledged: it may have missed what was lost then.
    pub repaired: bool,
    /// The newest position that it acknowledged as failed, and why.
    pub failure: Option<(Position, String)>,
}

/// A consumer's open stream, as the one who fills it has it.
#[derive(Debug)]
pub struct Attachment {
    /// Where to go on from.
    pub from: Position,
    /// Which of the streams of this name it is.
    pub number: u64,
    /// How far it has acknowledged.
    pub acknowledged: Arc<AtomicU64>,
    /// Ready once another stream has taken the name over, or the consumer was removed.
    pub ended: oneshot::Receiver<()>,
}

/// How far the log reaches.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// The place before its oldest position.
    pub oldest: Position,
    /// Its newest position.
    pub head: Position,
}

/// What is asked of a consumer. Each has where its answer goes.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the requests'")]
pub enum Change {
    /// Opens its stream.
    Attach {
        name: String,
        after: Option<Position>,
        reply: oneshot::Sender<Result<Attachment, ConsumerError>>,
    },
    /// Acknowledges all up to a position; with a failure, that the last of it could not be done.
    Ack {
        name: String,
        position: Position,
        failure: Option<String>,
        reply: oneshot::Sender<Result<Position, ConsumerError>>,
    },
    /// Its stream has looked so far, and nothing that it sent is unacknowledged.
    Looked { name: String, number: u64, position: Position },
    /// Its stream has closed.
    Detach { name: String, number: u64 },
    /// Forgets it.
    Remove { name: String, reply: oneshot::Sender<Result<(), ConsumerError>> },
    /// Shows all.
    List(oneshot::Sender<Vec<ConsumerView>>),
    /// Shows what was said of events.
    Acked { positions: Vec<Position>, reply: oneshot::Sender<Vec<Vec<AckView>>> },
}

/// A change that was made, and is to be answered once it is durable.
#[derive(Debug)]
pub struct Deferred {
    name: String,
    before: Option<Consumer>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Attach(oneshot::Sender<Result<Attachment, ConsumerError>>, Attachment),
    Ack(oneshot::Sender<Result<Position, ConsumerError>>, Position, Option<Arc<AtomicU64>>),
    Remove(oneshot::Sender<Result<(), ConsumerError>>),
}

impl Deferred {
    /// It is durable. A caller that has gone needs no answer.
    pub fn done(self) {
        match self.answer {
            Answer::Attach(reply, attachment) => drop(reply.send(Ok(attachment))),
            Answer::Ack(reply, cursor, told) => {
                if let Some(told) = told {
                    told.fetch_max(cursor.0, Ordering::Relaxed);
                }
                let _ = reply.send(Ok(cursor));
            }
            Answer::Remove(reply) => drop(reply.send(Ok(()))),
        }
    }

    /// It could not be written: takes it back. The newest first.
    pub fn take_back(self, consumers: &mut Consumers, error: &WriteError) {
        let name = self.name;
        let cursor = self.before.as_ref().map_or(Position(0), |before| before.cursor);
        match self.before {
            Some(mut before) => {
                // Its stream can have closed since.
                before.open = before.open.filter(|open| !open.ends.is_closed());
                consumers.by_name.insert(name.clone(), before)
            }
            None => consumers.by_name.remove(&name),
        };
        let error = ConsumerError::NotWritten(error.clone());
        match self.answer {
            Answer::Attach(reply, _) => drop(reply.send(Err(error))),
            Answer::Ack(reply, ..) => {
                consumers.acks.take_back(&name, cursor);
                let _ = reply.send(Err(error));
            }
            Answer::Remove(reply) => drop(reply.send(Err(error))),
        }
    }
}

#[derive(Clone, Debug)]
struct Consumer {
    cursor: Position,
    seen_at: Time,
    /// It was away for too long.
    dropped: bool,
    repaired: bool,
    failure: Option<(Position, String)>,
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    number: u64,
    acknowledged: Arc<AtomicU64>,
    /// Dropped with the last of its clones, the stream ends.
    ends: Arc<oneshot::Sender<()>>,
}

/// All consumers of a log.
#[derive(Debug)]
pub struct Consumers {
    max: usize,
    max_away: Duration,
    by_name: BTreeMap<String, Consumer>,
    acks: Acks,
    next_number: u64,
}

impl Consumers {
    /// At most `max` of them, each dropped once it has been away for `max_away`.
    pub fn new(max: usize, max_away: Duration) -> Self {
        Self { max, max_away, by_name: BTreeMap::new(), acks: Acks::default(), next_number: 1 }
    }

    /// Does what is asked. What has to be durable first is given back, with the notes that make it so.
    pub fn apply(
        &mut self,
        now: Time,
        reach: Reach,
        change: Change,
        notes: &mut Vec<What>,
    ) -> Option<Deferred> {
        match change {
            Change::Attach { name, after, reply } => match self.attach(now, reach, &name, after) {
                Ok((before, attachment)) => {
                    notes.extend(self.note(&name));
                    Some(Deferred { name, before, answer: Answer::Attach(reply, attachment) })
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                    None
                }
            },
            Change::Ack { name, position, failure, reply } => {
                match self.acknowledge(now, reach, &name, position, failure.clone()) {
                    Ok((before, consumer)) => {
                        let told = consumer.open.as_ref().map(|open| Arc::clone(&open.acknowledged));
                        let answer = Answer::Ack(reply, consumer.cursor, told);
                        self.acks.push(&name, before.cursor, position, now, failure.clone());
                        notes.push(What::Acknowledged(AcknowledgedNote {
                            consumer: name.clone(),
                            position: position.0,
                            at: now.as_nanos(),
                            failure,
                        }));
                        notes.extend(self.note(&name));
                        Some(Deferred { name, before: Some(before), answer })
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        None
                    }
                }
            }
            Change::Looked { name, number, position } => {
                if let Some(consumer) = self.open(&name, number) {
                    consumer.cursor = consumer.cursor.max(position);
                    consumer.seen_at = now;
                    notes.extend(self.note(&name));
                }
                None
            }
            Change::Detach { name, number } => {
                if let Some(consumer) = self.open(&name, number) {
                    consumer.open = None;
                    consumer.seen_at = now;
                    notes.extend(self.note(&name));
                }
                None
            }
            Change::Remove { name, reply } => match self.by_name.remove(&name) {
                Some(before) => {
                    self.acks.remove(&name);
                    notes.push(What::ConsumerRemoved(name.clone()));
                    Some(Deferred { name, before: Some(before), answer: Answer::Remove(reply) })
                }
                None => {
                    let _ = reply.send(Err(ConsumerError::Unknown(name)));
                    None
                }
            },
            Change::Acked { positions, reply } => {
                let _ = reply.send(positions.into_iter().map(|position| self.acks.of(position)).collect());
                None
            }
            Change::List(reply) => {
                let _ = reply
                    .send(self.by_name.iter().map(|(name, consumer)| consumer.view(name, reach)).collect());
                None
            }
        }
    }

    /// Drops those that have been away for too long: their names are kept, but hold nothing of the log.
    pub fn expire(&mut self, now: Time, notes: &mut Vec<What>) {
        let horizon = now.minus(self.max_away);
        for (name, consumer) in &mut self.by_name {
            if consumer.open.is_none() && !consumer.dropped && consumer.seen_at < horizon {
                consumer.dropped = true;
                notes.push(What::Consumer(consumer.note(name)));
            }
        }
    }

    /// The oldest place from which one of them may go on.
    pub fn pinned(&self, reach: Reach) -> Option<Position> {
        let held = self.by_name.values().filter(|consumer| !consumer.is_expired(reach));
        held.map(|consumer| consumer.cursor).min()
    }

    /// How each stands, for a segment that begins.
    pub fn notes(&self) -> impl Iterator<Item = What> {
        self.by_name.iter().map(|(name, consumer)| What::Consumer(consumer.note(name)))
    }

    /// What a note of an older process tells.
    pub fn restore(&mut self, note: ConsumerNote) {
        let consumer = Consumer {
            cursor: Position(note.cursor),
            seen_at: Time::from_nanos(note.seen_at),
            dropped: note.dropped,
            repaired: note.repaired,
            failure: note.failure.map(|why| (Position(note.failed_at), why)),
            open: None,
        };
        self.by_name.insert(note.name, consumer);
    }

    /// One is no more.
    pub fn restore_removed(&mut self, name: &str) {
        self.by_name.remove(name);
        self.acks.remove(name);
    }

    /// One has acknowledged an event. Its cursor is told by a note of its own, which follows.
    pub fn restore_acknowledged(&mut self, note: AcknowledgedNote) {
        let named = Position(note.position);
        let cursor = self.by_name.get(&note.consumer).map_or(named.before(), |consumer| consumer.cursor);
        self.acks.push(&note.consumer, cursor, named, Time::from_nanos(note.at), note.failure);
    }

    /// The log is another one now: each may have missed what was lost.
    pub fn mark_repaired(&mut self) {
        self.by_name.values_mut().for_each(|consumer| consumer.repaired = true);
    }

    fn attach(
        &mut self,
        now: Time,
        reach: Reach,
        name: &str,
        after: Option<Position>,
    ) -> Result<(Option<Consumer>, Attachment), ConsumerError> {
        let before = self.by_name.get(name).cloned();
        let from = match (&before, after) {
            (_, Some(asked)) if asked > reach.head => {
                return Err(ConsumerError::PastHead { asked, head: reach.head });
            }
            (_, Some(asked)) if asked < reach.oldest => {
                return Err(ConsumerError::Expired { name: name.to_owned(), cursor: asked });
            }
            (_, Some(asked)) => asked,
            (Some(known), None) if known.is_expired(reach) => {
                return Err(ConsumerError::Expired { name: name.to_owned(), cursor: known.cursor });
            }
            (Some(known), None) => known.cursor,
            (None, None) => reach.head,
        };
        if before.is_none() && self.by_name.len() >= self.max {
            return Err(ConsumerError::TooMany(self.max));
        }
        let (ends, ended) = oneshot::channel();
        let number = self.next_number;
        self.next_number += 1;
        let acknowledged = Arc::new(AtomicU64::new(from.0));
        let open = Open { number, acknowledged: Arc::clone(&acknowledged), ends: Arc::new(ends) };
        let consumer = Consumer {
            cursor: from,
            seen_at: now,
            dropped: false,
            repaired: before.as_ref().is_some_and(|before| before.repaired),
            failure: before.as_ref().and_then(|before| before.failure.clone()),
            open: Some(open),
        };
        self.by_name.insert(name.to_owned(), consumer);
        Ok((before, Attachment { from, number, acknowledged, ended }))
    }

    fn acknowledge(
        &mut self,
        now: Time,
        reach: Reach,
        name: &str,
        position: Position,
        failure: Option<String>,
    ) -> Result<(Consumer, &Consumer), ConsumerError> {
        if position > reach.head {
            return Err(ConsumerError::PastHead { asked: position, head: reach.head });
        }
        let consumer = self.by_name.get_mut(name).ok_or_else(|| ConsumerError::Unknown(name.to_owned()))?;
        let before = consumer.clone();
        if position > consumer.cursor {
            consumer.repaired = false;
        }
        consumer.cursor = consumer.cursor.max(position);
        consumer.seen_at = now;
        if let Some(why) = failure {
            consumer.failure = Some((position, why));
        }
        Ok((before, consumer))
    }

    /// The consumer, if this is its stream.
    fn open(&mut self, name: &str, number: u64) -> Option<&mut Consumer> {
        let consumer = self.by_name.get_mut(name)?;
        consumer.open.as_ref().is_some_and(|open| open.number == number).then_some(consumer)
    }

    fn note(&self, name: &str) -> Option<What> {
        Some(What::Consumer(self.by_name.get(name)?.note(name)))
    }
}

impl Consumer {
    fn is_expired(&self, reach: Reach) -> bool {
        self.dropped || self.cursor < reach.oldest
    }

    fn note(&self, name: &str) -> ConsumerNote {
        ConsumerNote {
            name: name.to_owned(),
            cursor: self.cursor.0,
            seen_at: self.seen_at.as_nanos(),
            dropped: self.dropped,
            repaired: self.repaired,
            failed_at: self.failure.as_ref().map_or(0, |(position, _)| position.0),
            failure: self.failure.as_ref().map(|(_, why)| why.clone()),
        }
    }

    fn view(&self, name: &str, reach: Reach) -> ConsumerView {
        ConsumerView {
            name: name.to_owned(),
            cursor: self.cursor,
            attached: self.open.is_some(),
            seen_at: self.seen_at,
            expired: self.is_expired(reach),
            repaired: self.repaired,
            failure: self.failure.clone(),
        }
    }
}
