//! What happened in a world, as those in it saw it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use wakeful::client::Outcome;
use wakeful::clock::{Clock, Time};
use wakeful::engine::FailurePolicy;
use wakeful::event::{InstanceId, Position};
use wakeful::proto;

/// Shared by all. Clones are the same one.
#[derive(Clone)]
pub(crate) struct History(Arc<Mutex<Seen>>);

#[derive(Default)]
pub(crate) struct Seen {
    /// A line each time something happens, with its moment.
    pub(crate) lines: Vec<String>,
    /// What must not happen, and was seen to at once.
    pub(crate) wrong: Vec<String>,
    pub(crate) log_id: Option<String>,
    /// What was acknowledged.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// CancelInstances that were answered.
    pub(crate) cancelled: Vec<u64>,
    pub(crate) waits: Vec<Waited>,
    pub(crate) watches: Vec<Watched>,
    pub(crate) consumers: BTreeMap<String, Consumed>,
    pub(crate) crashes: u32,
}

/// An event that its sender was told to be kept.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) id: String,
    /// The position that the answer named.
    pub(crate) position: u64,
    /// When the answer came.
    pub(crate) at: Time,
}

/// A wait, from its opening to its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Waited {
    pub(crate) name: String,
    pub(crate) instance: InstanceId,
    pub(crate) keys: Vec<(String, String)>,
    pub(crate) policy: FailurePolicy,
    pub(crate) in_progress_fails: bool,
    /// The place to look from, if one was named or it was the head.
    pub(crate) after: Option<u64>,
    pub(crate) opened: proto::Opened,
    /// From when its time counts at the earliest, and how long it is.
    pub(crate) from: Time,
    pub(crate) timeout: std::time::Duration,
    pub(crate) skipped: bool,
    pub(crate) cancelled: bool,
    /// Its outcome, and when it came. `None`: it was dropped before.
    pub(crate) outcome: Option<(Outcome, Time)>,
    pub(crate) dropped: bool,
}

/// What a watch without a name has brought, over all its streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub(crate) names: Vec<String>,
    /// From where.
    pub(crate) after: Option<u64>,
    pub(crate) seen: Vec<u64>,
    pub(crate) at: u64,
}

/// What a consumer has got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consumed {
    pub(crate) names: Vec<String>,
    /// Where it was when it was new.
    pub(crate) after: Option<u64>,
    /// The events of each of its streams.
    pub(crate) streams: Vec<Stream>,
}

/// One stream of a consumer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// What had been acknowledged, and answered, when it was opened.
    pub(crate) acknowledged: u64,
    /// What had been acknowledged then, answered or not.
    pub(crate) tried: u64,
    pub(crate) seen: Vec<u64>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn see(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("no panic while it is held")
    }

    pub(crate) fn tell(&self, clock: Clock, what: std::fmt::Arguments<'_>) {
        let at = clock.now().as_nanos() / 1_000;
        let line = format!("{:>4}.{:06} {what}", at / 1_000_000, at % 1_000_000);
        self.see().lines.push(line);
    }

    /// An agent has started with this log: it is to be the same each time.
    pub(crate) fn is_of(&self, log_id: &str) {
        let known = self.see().log_id.get_or_insert_with(|| log_id.to_owned()).clone();
        if known != log_id {
            self.wrong(format!("the log has a new id, {log_id}, and was {known}"));
        }
    }

    pub(crate) fn wrong(&self, what: String) {
        self.see().wrong.push(what);
    }
}

/// A position of a cursor.
pub(crate) fn position(cursor: Option<&proto::Cursor>) -> Position {
    Position(cursor.map_or(0, |cursor| cursor.position))
}
