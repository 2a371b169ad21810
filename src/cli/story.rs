//! An instance's time line in words, with what each event meant to the waits of its time: what it answered,
//! and what it narrowly missed.
//!
//! Entries come in the order of time, so what is known of the past is all that a line needs. The outcome of
//! a wait is in its opening entry already, so even what came before its end is told for certain: a key's
//! position says which event answered it.

use std::collections::HashMap;

use super::ages::{self, NONE, age, exact, rough};
use super::words;
use crate::clock::Time;
use crate::proto::event::Status;
use crate::proto::explain_entry::What;
use crate::proto::key_state::State;
use crate::proto::outcome::Kind;
use crate::proto::reason::Code as Reason;
use crate::proto::{Acknowledgement, Event, ExplainEntry, InstanceCancelled, KeyState, WaitInfo};

/// So many characters of a wait's id tell it from the others of one instance.
const SHORT_ID: usize = 8;

/// What has been told so far.
pub struct Story {
    now: Time,
    open: Vec<WaitInfo>,
    /// Waits that ended with keys that had not come, and when.
    missed: Vec<Missed>,
    /// The last event of each key: its position, and when it came.
    came: HashMap<(String, String), (u64, Time)>,
}

struct Missed {
    wait_id: String,
    kind: Kind,
    at: Time,
    keys: Vec<(String, String)>,
}

impl Story {
    /// A story told at `now`.
    pub fn new(now: Time) -> Self {
        Self { now, open: Vec::new(), missed: Vec::new(), came: HashMap::new() }
    }

    /// The entry's line: its moment, its age, and what happened.
    pub fn line(&mut self, entry: &ExplainEntry) -> [String; 3] {
        let at = entry.at.as_ref().and_then(ages::time);
        let text = match &entry.what {
            Some(What::Event(event)) => {
                let text = self.event(at.unwrap_or_default(), event);
                entry.acknowledged.iter().fold(text, |text, ack| format!("{text}; {}", acknowledged(ack)))
            }
            Some(What::InstanceCancelled(cancelled)) => instance_cancelled(cancelled),
            Some(What::WaitOpened(wait)) => self.opened(at.unwrap_or_default(), wait),
            Some(What::WaitEnded(wait)) => self.ended(at.unwrap_or_default(), wait),
            None => "something that this command is too old to tell".to_owned(),
        };
        [at.map_or(NONE.to_owned(), |at| at.to_string()), age(self.now, entry.at.as_ref()), text]
    }

    fn event(&mut self, at: Time, event: &Event) -> String {
        let mut facts: Vec<String> = self.open.iter().filter_map(|wait| meaning(wait, event)).collect();
        facts.extend(self.too_late(at, event));
        if facts.is_empty() {
            facts = self.open.iter().filter_map(|wait| near_miss(wait, event)).collect();
        }
        if facts.is_empty() {
            facts.push("no open wait asked for it".to_owned());
        }
        self.came.insert((event.name.clone(), event.tag.clone()), (event.position, at));
        let held = match event.held_for.as_ref().and_then(ages::span) {
            Some(span) => format!(", held for {}", rough(span)),
            None => String::new(),
        };
        let key = words::key(&event.name, &event.tag);
        let status = words::status(event);
        format!("event {}  {key} {status}{held}: {}", event.position, facts.join("; "))
    }

    /// The newest wait that ended without the event, which is not held against it a second time.
    fn too_late(&mut self, at: Time, event: &Event) -> Option<String> {
        let is_it = |(name, tag): &(String, String)| *name == event.name && *tag == event.tag;
        let missed = self.missed.iter_mut().rev().find(|missed| missed.keys.iter().any(is_it))?;
        missed.keys.retain(|key| !is_it(key));
        Some(format!(
            "{} after wait {} had ended {}",
            rough(at.since(missed.at)),
            short(&missed.wait_id),
            words::outcome(missed.kind)
        ))
    }

    fn opened(&mut self, at: Time, wait: &WaitInfo) -> String {
        let again = self.open.iter().any(|open| open.wait_id == wait.wait_id);
        self.open.retain(|open| open.wait_id != wait.wait_id);
        self.open.push(wait.clone());

        let keys: Vec<String> = wait.keys.iter().map(|key| words::key(&key.name, &key.tag)).collect();
        let timeout = wait.timeout.as_ref().and_then(ages::span).map_or(NONE.to_owned(), exact);
        let mut text = format!(
            "wait {} opened{} by uid {} for {}; timeout {timeout}",
            wait.wait_id,
            if again { " anew" } else { "" },
            wait.uid,
            keys.join(", ")
        );
        if wait.unarmed {
            text.push_str(", counted from Arm, which has not come");
        }
        for fact in wait.keys.iter().filter_map(|key| self.had_come(at, key)) {
            text.push_str("; ");
            text.push_str(&fact);
        }
        text
    }

    /// What a wait that is opened made of a key's event that had come before.
    fn had_come(&self, at: Time, key: &KeyState) -> Option<String> {
        let (position, came_at) = *self.came.get(&(key.name.clone(), key.tag.clone()))?;
        let text = words::key(&key.name, &key.tag);
        let before = rough(at.since(came_at));
        if key.position == position {
            Some(format!("{text} had come {before} before (position {position}), and counted"))
        } else if words::is_open(key) {
            Some(format!("{text} had come {before} before (position {position}), too early to count"))
        } else {
            None
        }
    }

    fn ended(&mut self, at: Time, wait: &WaitInfo) -> String {
        self.open.retain(|open| open.wait_id != wait.wait_id);
        let lasted = match wait.opened_at.as_ref().and_then(ages::time) {
            Some(opened) => format!(" after {}", rough(at.since(opened))),
            None => String::new(),
        };
        let Some(outcome) = &wait.outcome else {
            return format!("wait {} was closed by its client{lasted}", wait.wait_id);
        };
        let (open, answered): (Vec<_>, Vec<_>) = wait.keys.iter().partition(|key| words::is_open(key));
        if outcome.kind() != Kind::Completed && !open.is_empty() {
            self.missed.push(Missed {
                wait_id: wait.wait_id.clone(),
                kind: outcome.kind(),
                at,
                keys: open.iter().map(|key| (key.name.clone(), key.tag.clone())).collect(),
            });
        }
        let mut facts: Vec<String> = answered.into_iter().map(words::key_state).collect();
        facts.extend(open.iter().map(|key| format!("{} did not come", words::key(&key.name, &key.tag))));
        let mut text = format!("wait {} ended {}{lasted}", wait.wait_id, words::outcome(outcome.kind()));
        if outcome.reason() != Reason::Unspecified {
            text.push_str(&format!(" ({})", words::reason(outcome.reason())));
        }
        if !outcome.why.is_empty() {
            text.push_str(&format!(" because: {}", outcome.why));
        }
        if !facts.is_empty() {
            text.push_str(&format!("; {}", facts.join(", ")));
        }
        text
    }
}

fn acknowledged(ack: &Acknowledgement) -> String {
    match ack.failed {
        false => format!("consumer {} has acknowledged it", ack.consumer),
        true if ack.why.is_empty() => format!("consumer {} could not do it", ack.consumer),
        true => format!("consumer {} could not do it: {}", ack.consumer, ack.why),
    }
}

fn instance_cancelled(cancelled: &InstanceCancelled) -> String {
    let whose = if cancelled.operator { "everyone's waits" } else { "that user's own waits" };
    let why = if cancelled.why.is_empty() { String::new() } else { format!(", because: {}", cancelled.why) };
    format!("cancel {}  of the instance by uid {}, {whose}{why}", cancelled.position, cancelled.uid)
}

/// What the event was to a wait that had one of its keys.
fn meaning(wait: &WaitInfo, event: &Event) -> Option<String> {
    let key = wait.keys.iter().find(|key| key.name == event.name && key.tag == event.tag)?;
    let wait = short(&wait.wait_id);
    Some(if key.position != 0 && key.position == event.position {
        format!("answered wait {wait}")
    } else if event.status() == Status::InProgress {
        format!("wait {wait} goes on")
    } else if key.state() == State::Skipped {
        format!("wait {wait} skips it")
    } else if key.position != 0 && key.position < event.position {
        format!("superseded: wait {wait} already had its answer")
    } else if let Some(held) = event.held_for.as_ref().and_then(ages::span) {
        format!("stale for wait {wait}: sent {} before, when the wait was not yet open", rough(held))
    } else {
        format!("did not count for wait {wait}")
    })
}

/// How the event just missed a wait that was open.
fn near_miss(wait: &WaitInfo, event: &Event) -> Option<String> {
    let open = || wait.keys.iter().filter(|key| words::is_open(key) || key.position > event.position);
    let id = short(&wait.wait_id);
    if let Some(key) = open().find(|key| key.name == event.name) {
        let asked = words::key(&key.name, &key.tag);
        return Some(format!("another tag than wait {id} asks for, {asked}"));
    }
    let key = open().find(|key| !key.tag.is_empty() && key.tag == event.tag)?;
    Some(format!("another name than wait {id} asks for, {}", words::key(&key.name, &key.tag)))
}

fn short(id: &str) -> &str {
    id.char_indices().nth(SHORT_ID).map_or(id, |(end, _)| &id[..end])
}

#[cfg(test)]
mod tests;
