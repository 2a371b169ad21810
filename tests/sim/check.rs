//! What must hold of every world, by what its log has at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use wakeful::client::{FailurePolicy, KeyState, Kind, Outcome};
use wakeful::clock::Time;
use wakeful::event::{InstanceId, Position, Status};
use wakeful::journal::disk::Disk;
use wakeful::journal::inspect;
use wakeful::journal::record::{Raw, Record};
use wakeful::proto::reason::Code as Reason;

use crate::history::{Acknowledged, Consumed, Seen, Waited, Watched};

/// A record of the log.
struct Kept {
    received_at: Time,
    instance: InstanceId,
    /// `None`: a CancelInstance.
    event: Option<KeptEvent>,
}

struct KeptEvent {
    id: String,
    name: String,
    tag: String,
    status: Status,
    held_for: Option<Duration>,
}

type Log = BTreeMap<u64, Kept>;

/// Adds what does not hold to what was seen to be wrong. `late`: how long after its deadline an outcome may be told.
pub(crate) fn check(disk: &dyn Disk, late: Duration, seen: &mut Seen) {
    let mut wrong = Vec::new();
    match read(disk, &mut wrong) {
        Ok(log) => {
            acknowledged(&log, seen, &mut wrong);
            for waited in &seen.waits {
                wait(&log, waited, &seen.acknowledged, late, &mut wrong);
            }
            for (number, watched) in seen.watches.iter().enumerate() {
                watch(&log, number, watched, &mut wrong);
            }
            for (name, consumed) in &seen.consumers {
                consumer(&log, name, consumed, &mut wrong);
            }
        }
        Err(error) => wrong.push(format!("the log cannot be read: {error}")),
    }
    seen.wrong.extend(wrong);
}

fn read(disk: &dyn Disk, wrong: &mut Vec<String>) -> Result<Log, String> {
    let mut log = Log::new();
    let mut ids = HashMap::new();
    let looked = inspect::look(disk, |batch| {
        let mut rest = batch.body;
        for position in (batch.first.0..).take(batch.count as usize) {
            let record = Raw::cut(&mut rest, batch.received_at).and_then(|raw| raw.decode());
            let kept = match record {
                Ok(Record::Event(record)) => {
                    let event = record.event;
                    let id = event.id.to_string();
                    if let Some(before) = ids.insert(id.clone(), position) {
                        wrong.push(format!("event {id} is in the log twice, at {before} and {position}"));
                    }
                    let event = KeptEvent {
                        id,
                        name: event.key.name().to_owned(),
                        tag: event.key.tag().to_owned(),
                        status: event.status,
                        held_for: event.held_for,
                    };
                    let (received_at, instance) = (record.received_at, record.event.instance);
                    Kept { received_at, instance, event: Some(event) }
                }
                Ok(Record::CancelInstance(record)) => {
                    Kept { received_at: record.received_at, instance: record.instance, event: None }
                }
                Err(damaged) => {
                    wrong.push(format!("position {position} is {damaged}"));
                    return;
                }
            };
            if log.insert(position, kept).is_some() {
                wrong.push(format!("position {position} was given out twice"));
            }
        }
    });
    looked.map_err(|error| error.to_string())?;
    let times: Vec<Time> = log.values().map(|kept| kept.received_at).collect();
    if !times.is_sorted() {
        wrong.push("the log's times go back".to_owned());
    }
    Ok(log)
}

/// Every acknowledged event is in the log, at the position that its sender was told.
fn acknowledged(log: &Log, seen: &Seen, wrong: &mut Vec<String>) {
    for Acknowledged { id, position, .. } in &seen.acknowledged {
        let kept = log.get(position).and_then(|kept| kept.event.as_ref());
        if kept.is_none_or(|event| event.id != *id) {
            wrong.push(format!("event {id} was acknowledged at {position}, and is not there"));
        }
    }
    for position in &seen.cancelled {
        if log.get(position).is_none_or(|kept| kept.event.is_some()) {
            wrong.push(format!("a CancelInstance was acknowledged at {position}, and is not there"));
        }
    }
}

/// What the log says of a wait up to a position.
#[derive(Debug, PartialEq, Eq)]
struct Implied {
    /// How it ended, and where.
    end: Option<(Kind, u64)>,
    /// What each key came to, and at which position.
    keys: Vec<(KeyState, Option<u64>)>,
}

fn implied(log: &Log, waited: &Waited, up_to: u64) -> Implied {
    let counts_from = waited.opened.counts_from.as_ref().map(|at| {
        Duration::new(
            u64::try_from(at.seconds).unwrap_or_default(),
            u32::try_from(at.nanos).unwrap_or_default(),
        )
    });
    let since_1970 = |time: Time| Duration::from_nanos(time.as_nanos());
    // Of a look back only the moment is known: from the first event received then.
    let after = waited.after.unwrap_or_else(|| {
        let first = log.iter().find(|(_, kept)| Some(since_1970(kept.received_at)) >= counts_from);
        let opened = waited.opened.position;
        first.map_or(opened, |(position, _)| opened.min(position - 1))
    });
    let mut keys = vec![(KeyState::Open, None); waited.keys.len()];
    let opened = waited.opened.position;
    for (&position, kept) in
        log.range(after.min(opened) + 1..).take_while(|(position, _)| **position <= up_to)
    {
        if kept.instance != waited.instance {
            continue;
        }
        let Some(event) = &kept.event else {
            if position > opened {
                return Implied { end: Some((Kind::Cancelled, position)), keys };
            }
            continue;
        };
        let Some(key) = waited.keys.iter().position(|(name, tag)| *name == event.name && *tag == event.tag)
        else {
            continue;
        };
        if position <= after || keys[key].0 != KeyState::Open {
            continue;
        }
        let sent = since_1970(kept.received_at).saturating_sub(event.held_for.unwrap_or_default());
        let may_be_stale = position <= opened || event.held_for.is_some();
        if may_be_stale && counts_from.is_some_and(|from| sent < from) {
            continue;
        }
        keys[key] = match event.status {
            Status::Completed => (KeyState::Completed, Some(position)),
            Status::Failed => (KeyState::Failed, Some(position)),
            Status::InProgress if waited.in_progress_fails => (KeyState::Failed, Some(position)),
            Status::InProgress => continue,
        };
        let failed = keys.iter().any(|(state, _)| *state == KeyState::Failed);
        let all = keys.iter().all(|(state, _)| *state != KeyState::Open);
        if failed && (all || waited.policy == FailurePolicy::FailFast) {
            return Implied { end: Some((Kind::Failed, position)), keys };
        }
        if all {
            return Implied { end: Some((Kind::Completed, position)), keys };
        }
    }
    Implied { end: None, keys }
}

/// The outcome is the one that the log implies up to the position that it names, and came in time.
fn wait(log: &Log, waited: &Waited, acknowledged: &[Acknowledged], late: Duration, wrong: &mut Vec<String>) {
    if waited.dropped {
        return;
    }
    let name = &waited.name;
    let Some((outcome, at)) = &waited.outcome else {
        wrong.push(format!("{name} has no outcome"));
        return;
    };
    let deadline = waited.from.plus(waited.timeout);
    if *at > deadline.plus(late) {
        wrong.push(format!("{name} ended {:?} after its deadline", at.since(deadline)));
    }
    if outcome.kind == Kind::TimedOut && *at < deadline {
        wrong.push(format!("{name} timed out {:?} early", deadline.since(*at)));
    }
    // What the client concludes by itself says what it knew; a key that was skipped counts from a moment that only
    // the agent knows.
    let by_client =
        waited.cancelled && outcome.kind == Kind::Cancelled && outcome.reason == Some(Reason::Cancelled);
    if !outcome.confirmed && outcome.kind != Kind::TimedOut && !by_client {
        wrong.push(format!("{name} ended {:?} ({:?}), and the log is there", outcome.kind, outcome.reason));
    }
    if !outcome.confirmed || waited.skipped {
        return;
    }
    if outcome.kind == Kind::TimedOut {
        let unseen = acknowledged.iter().find(|acknowledged| {
            acknowledged.position > outcome.cursor.position.0 && acknowledged.at < deadline
        });
        if let Some(unseen) = unseen {
            wrong.push(format!(
                "{name} timed out at {deadline} having looked up to {}, and {} was acknowledged at {}",
                outcome.cursor.position, unseen.position, unseen.at
            ));
        }
    }
    let implied = implied(log, waited, outcome.cursor.position.0);
    let ended = match implied.end {
        Some((kind, _)) => outcome.kind == kind,
        None => ended_by_itself(waited, outcome),
    };
    let told: Vec<_> =
        outcome.keys.iter().map(|key| (key.state, key.position.map(|Position(position)| position))).collect();
    if !ended || told != implied.keys {
        wrong.push(format!(
            "{name} ended {:?} ({:?}) up to {} with {told:?}, and the log implies {implied:?}",
            outcome.kind, outcome.reason, outcome.cursor.position
        ));
    }
}

/// Without a word of the log: its time ran out, or it was cancelled.
fn ended_by_itself(waited: &Waited, outcome: &Outcome) -> bool {
    match outcome.kind {
        Kind::TimedOut => true,
        Kind::Cancelled => waited.cancelled && outcome.reason == Some(Reason::Cancelled),
        Kind::Completed | Kind::Failed => false,
    }
}

/// The events past a place that a filter by name lets through.
fn filtered(log: &Log, names: &[String], after: u64) -> Vec<u64> {
    let past = log.range(after + 1..).filter(|(_, kept)| {
        kept.event.as_ref().is_some_and(|event| names.is_empty() || names.contains(&event.name))
    });
    past.map(|(position, _)| *position).collect()
}

/// A watch has seen all that its filter lets through, once and in order.
fn watch(log: &Log, number: usize, watched: &Watched, wrong: &mut Vec<String>) {
    let Some(after) = watched.after else {
        wrong.push(format!("watch {number} has seen nothing"));
        return;
    };
    let expected = filtered(log, &watched.names, after);
    if watched.seen != expected {
        wrong.push(format!("watch {number} from {after} has seen {:?}, not {expected:?}", watched.seen));
    }
}

/// A consumer has got all that its filter lets through, in order, and nothing once more that it had acknowledged.
fn consumer(log: &Log, name: &str, consumed: &Consumed, wrong: &mut Vec<String>) {
    let Some(after) = consumed.after else {
        wrong.push(format!("consumer {name} was never open"));
        return;
    };
    let all = filtered(log, &consumed.names, after);
    let got: BTreeSet<u64> = consumed.streams.iter().flat_map(|stream| stream.seen.iter().copied()).collect();
    let missed: Vec<_> = all.iter().filter(|position| !got.contains(position)).collect();
    if !missed.is_empty() {
        wrong.push(format!("consumer {name} from {after} has missed {missed:?}"));
    }
    for stream in &consumed.streams {
        let Some(&first) = stream.seen.first() else { continue };
        if first <= stream.acknowledged {
            wrong.push(format!("consumer {name} got {first}, and had acknowledged {}", stream.acknowledged));
        }
        let due = all.iter().copied().find(|position| *position > stream.tried).unwrap_or(u64::MAX);
        if first > due {
            wrong.push(format!("consumer {name} got {first} first, and {due} was due"));
        }
        let from = all.partition_point(|position| *position < first);
        if all.get(from..from + stream.seen.len()) != Some(&stream.seen[..]) {
            wrong.push(format!("consumer {name} got {:?}, which leaves out or repeats some", stream.seen));
        }
    }
}
