//! What comes in, checked here, once. What is wrong is named by its path in the request.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use prost_types::Timestamp;

use crate::clock::Time;
use crate::config::Config;
use crate::engine::{Answer, Ask, Attempt, FailurePolicy, KeyState, Opened, Opening, Resume, Start};
use crate::event::{
    Cursor, Event, EventId, Invalid, Key, KeyRef, LogId, MAX_HELD_FOR, Position, Quoted, Status, WaitId,
    check_name,
};
use crate::net::wire;
use crate::proto;
use crate::proto::reason::Code as Reason;
use crate::readers::Filter;
use crate::status::Refusal;

/// The longest text that a canceller may give, in characters.
const MAX_WHY: usize = 1_024;
/// The most instances, and the most names, in a filter.
const MAX_FILTER: usize = 1_000;
/// The largest page of a list.
const MAX_PAGE: u32 = 1_000;
/// The page of a list that is asked for no size.
const DEFAULT_PAGE: u32 = 100;

/// The bounds of what a request may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Events in one request.
    pub events: usize,
    /// Keys of one wait.
    pub keys: usize,
    /// Characters in a tag.
    pub tag: usize,
    /// Bytes in an event's data.
    pub data: usize,
    /// How long a wait waits that does not say.
    pub default_timeout: Duration,
    /// The longest timeout.
    pub max_timeout: Duration,
}

impl From<&Config> for Bounds {
    fn from(config: &Config) -> Self {
        Self {
            events: config.max_events,
            keys: config.max_keys,
            tag: config.max_tag,
            data: usize::try_from(config.max_data.0).unwrap_or(usize::MAX),
            default_timeout: config.default_timeout.0,
            max_timeout: config.max_timeout.0,
        }
    }
}

/// What is wrong with one event: which of its fields, and how.
pub type EventFault = (&'static str, Invalid);

/// An event as a sender gave it.
///
/// # Errors
///
/// The first field that is not valid.
pub fn event<'a>(event: &wire::Event<'a>, bounds: &Bounds) -> Result<Event<'a>, EventFault> {
    let id_given = !event.event_id.is_empty();
    let id = match id_given {
        true => event.event_id.parse().map_err(|invalid| ("event_id", invalid))?,
        false => EventId::random(),
    };
    let instance = event.instance_uuid.parse().map_err(|invalid| ("instance_uuid", invalid))?;
    let key = KeyRef::new(event.name, event.tag, bounds.tag)
        .map_err(|(field, invalid)| (field.as_str(), invalid))?;
    let status = match proto::event::Status::try_from(event.status) {
        Ok(proto::event::Status::Unspecified | proto::event::Status::Completed) => Status::Completed,
        Ok(proto::event::Status::Failed) => Status::Failed,
        Ok(proto::event::Status::InProgress) => Status::InProgress,
        Err(_) => {
            return Err(("status", Invalid::Malformed(format!("is {}, which is no status", event.status))));
        }
    };
    if event.data.len() > bounds.data {
        return Err(("data", Invalid::over("max_data", event.data.len(), bounds.data, "bytes")));
    }
    let occurred_at = event.occurred_at.map(time).transpose().map_err(|invalid| ("occurred_at", invalid))?;
    let held_for = event.held_for.map(|held| {
        let span = span(held)?;
        if span > MAX_HELD_FOR {
            return Err(Invalid::Malformed(format!("is {}, it is at most 100 years", show(&held))));
        }
        Ok(span)
    });
    let held_for = held_for.transpose().map_err(|invalid| ("held_for", invalid))?;
    Ok(Event { id, id_given, instance, key, status, data: event.data, occurred_at, held_for })
}

/// A wait as a driver asks for it. A wait_id that was not given is chosen.
///
/// # Errors
///
/// The first field that is not valid, or fits no other.
pub fn ask(request: proto::WaitRequest, uid: u32, opening: Opening, bounds: &Bounds) -> Result<Ask, Refusal> {
    let id = match request.wait_id.is_empty() {
        true => WaitId::random(),
        false => wait_id(&request.wait_id)?,
    };
    let instance = parse("instance_uuid", &request.instance_uuid)?;
    let keys: Arc<[Key]> = keys("keys", request.keys, bounds)?.into();

    let after = request.after.as_ref().map(|after| cursor("after", after)).transpose()?;
    let lookback = request.lookback.map(span).transpose().map_err(|e| Refusal::invalid("lookback", &e))?;
    let start = match (after, lookback) {
        (Some(_), Some(_)) => {
            return Err(conflict("lookback", "is given together with after; a wait looks from one place"));
        }
        (Some(cursor), None) => Start::After(cursor),
        (None, Some(span)) => Start::Lookback(span),
        (None, None) => Start::Head,
    };
    let timeout = timeout(request.timeout, start, bounds)?;
    let policy = match proto::wait_request::FailurePolicy::try_from(request.failure_policy) {
        Ok(
            proto::wait_request::FailurePolicy::Unspecified | proto::wait_request::FailurePolicy::FailFast,
        ) => FailurePolicy::FailFast,
        Ok(proto::wait_request::FailurePolicy::Collect) => FailurePolicy::Collect,
        Err(_) => {
            let text = format!("is {}, which is no policy", request.failure_policy);
            return Err(Refusal::field("failure_policy", Reason::InvalidField, &text));
        }
    };
    let resume = match (request.opened, start) {
        (Some(given), Start::After(after)) => {
            let opened = opened(&given)?;
            if opened.position > after.position {
                let text = format!("is {}, past after.position, {}", opened.position, after.position);
                return Err(Refusal::field("opened.position", Reason::InvalidField, &text));
            }
            Some(Resume { opened, answers: answers(&request.key_states, &keys, bounds)? })
        }
        (Some(_), _) => {
            return Err(conflict("opened", "is given without after, the place to ask again from"));
        }
        (None, _) if !request.key_states.is_empty() => {
            return Err(conflict("key_states", "are given without opened; a new wait has no states"));
        }
        (None, _) => None,
    };
    Ok(Ask {
        id,
        opening,
        instance,
        uid,
        keys,
        start,
        timeout,
        start_on_arm: request.start_on_arm,
        policy,
        in_progress_fails: request.in_progress_fails,
        resume,
        attempt: request.attempt.map(|attempt| Attempt { client: attempt.client, number: attempt.number }),
    })
}

/// A wait's id that must be given.
///
/// # Errors
///
/// If it is absent or not a UUID.
pub fn wait_id(text: &str) -> Result<WaitId, Refusal> {
    parse("wait_id", text)
}

/// The value that a field's text stands for.
///
/// # Errors
///
/// If it stands for none.
pub fn parse<T: FromStr<Err = Invalid>>(path: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|invalid| Refusal::invalid(path, &invalid))
}

/// The keys of a wait, each once, in their order.
///
/// # Errors
///
/// If there are none or too many, or one is not valid.
pub fn keys(path: &str, keys: Vec<proto::Key>, bounds: &Bounds) -> Result<Vec<Key>, Refusal> {
    if keys.is_empty() {
        return Err(Refusal::invalid(path, &Invalid::Missing));
    }
    if keys.len() > bounds.keys {
        return Err(Refusal::invalid(path, &Invalid::over("max_keys", keys.len(), bounds.keys, "keys")));
    }
    let mut checked = Vec::with_capacity(keys.len());
    for (number, key) in keys.into_iter().enumerate() {
        let key = Key::new(key.name, key.tag, bounds.tag).map_err(|(field, invalid)| {
            Refusal::invalid(format!("{path}[{number}].{}", field.as_str()), &invalid)
        })?;
        if !checked.contains(&key) {
            checked.push(key);
        }
    }
    Ok(checked)
}

/// What a canceller gives as its reason.
///
/// # Errors
///
/// If it is too long.
pub fn why(text: String) -> Result<String, Refusal> {
    let chars = text.chars().count();
    if chars > MAX_WHY {
        let text = format!("has {chars} characters, at most {MAX_WHY} are taken");
        return Err(Refusal::field("why", Reason::InvalidField, &text));
    }
    Ok(text)
}

/// A place in a log.
///
/// # Errors
///
/// If the log's id is not one.
pub fn cursor(path: &str, cursor: &proto::Cursor) -> Result<Cursor, Refusal> {
    let log_id: LogId = parse(&format!("{path}.log_id"), &cursor.log_id)?;
    Ok(Cursor { log_id, position: Position(cursor.position) })
}

/// A filter as a reader gave it.
///
/// # Errors
///
/// If it has too many entries, or one is not valid.
pub fn filter(filter: Option<proto::EventFilter>) -> Result<Filter, Refusal> {
    let filter = filter.unwrap_or_default();
    for (path, found) in
        [("filter.instance_uuids", filter.instance_uuids.len()), ("filter.names", filter.names.len())]
    {
        if found > MAX_FILTER {
            let text = format!("has {found} entries, at most {MAX_FILTER} are taken");
            return Err(Refusal::field(path, Reason::OverLimit, &text).with("limit", path));
        }
    }
    let instances = filter.instance_uuids.iter().enumerate();
    let instances = instances.map(|(n, id)| parse(&format!("filter.instance_uuids[{n}]"), id));
    for (n, name) in filter.names.iter().enumerate() {
        check_name(name).map_err(|invalid| Refusal::invalid(format!("filter.names[{n}]"), &invalid))?;
    }
    Ok(Filter { instances: instances.collect::<Result<_, _>>()?, names: filter.names })
}

/// How many entries a page may have.
///
/// # Errors
///
/// If more are asked for than a page can have.
pub fn page_size(asked: u32) -> Result<usize, Refusal> {
    match asked {
        0 => Ok(DEFAULT_PAGE as usize),
        1..=MAX_PAGE => Ok(asked as usize),
        _ => {
            let text = format!("is {asked}, a page has at most {MAX_PAGE}");
            Err(Refusal::field("page_size", Reason::InvalidField, &text))
        }
    }
}

/// A page token that is not one of ours.
pub fn bad_page_token(token: &str) -> Refusal {
    let text = format!("is {}, which no page before has given", Quoted(token));
    Refusal::field("page_token", Reason::InvalidField, &text)
}

fn conflict(path: &str, text: &str) -> Refusal {
    Refusal::field(path, Reason::ConflictingFields, text)
}

fn timeout(given: Option<prost_types::Duration>, start: Start, bounds: &Bounds) -> Result<Duration, Refusal> {
    let Some(given) = given else { return Ok(bounds.default_timeout) };
    let timeout = span(given).map_err(|invalid| Refusal::invalid("timeout", &invalid))?;
    if timeout > bounds.max_timeout {
        let bound = humantime::format_duration(bounds.max_timeout);
        let text = format!("is {}, the limit max_timeout is {bound}", show(&given));
        return Err(Refusal::field("timeout", Reason::OverLimit, &text).with("limit", "max_timeout"));
    }
    if timeout.is_zero() && start == Start::Head {
        let text = "is 0, which looks once, and there is nothing to look at without after or lookback";
        return Err(Refusal::field("timeout", Reason::NothingToLookAt, text));
    }
    Ok(timeout)
}

fn answers(states: &[proto::KeyState], keys: &[Key], bounds: &Bounds) -> Result<Box<[Answer]>, Refusal> {
    if states.len() > bounds.keys {
        return Err(Refusal::invalid(
            "key_states",
            &Invalid::over("max_keys", states.len(), bounds.keys, "states"),
        ));
    }
    let mut answers = vec![Answer::default(); keys.len()];
    for (n, state) in states.iter().enumerate() {
        let of = |key: &&Key| key.name() == state.name && key.tag() == state.tag;
        let Some((number, _)) = keys.iter().enumerate().find(|(_, key)| of(key)) else {
            let text = "is of a key that the wait does not have";
            return Err(Refusal::field(format!("key_states[{n}]"), Reason::InvalidField, text));
        };
        let came_to = match proto::key_state::State::try_from(state.state) {
            Ok(proto::key_state::State::Open) => KeyState::Open,
            Ok(proto::key_state::State::Completed) => KeyState::Completed,
            Ok(proto::key_state::State::Failed) => KeyState::Failed,
            Ok(proto::key_state::State::Skipped) => KeyState::Skipped,
            Ok(proto::key_state::State::Unspecified) | Err(_) => {
                let text = format!("is {}, which is no state", state.state);
                return Err(Refusal::field(format!("key_states[{n}].state"), Reason::InvalidField, &text));
            }
        };
        let received_at = state
            .received_at
            .map(time)
            .transpose()
            .map_err(|invalid| Refusal::invalid(format!("key_states[{n}].received_at"), &invalid))?;
        answers[number] = Answer {
            state: came_to,
            position: Position(state.position),
            received_at: received_at.unwrap_or_default(),
        };
    }
    Ok(answers.into())
}

fn opened(opened: &proto::Opened) -> Result<Opened, Refusal> {
    let counts_from = opened.counts_from.map(time).transpose();
    Ok(Opened {
        position: Position(opened.position),
        counts_from: counts_from.map_err(|invalid| Refusal::invalid("opened.counts_from", &invalid))?,
    })
}

pub(super) fn time(timestamp: Timestamp) -> Result<Time, Invalid> {
    let shown = || format!("is {}s {}ns since 1970", timestamp.seconds, timestamp.nanos);
    let bad = || Invalid::Malformed(format!("{}; it must be from 1970 to 2554", shown()));
    let seconds = u64::try_from(timestamp.seconds).map_err(|_| bad())?;
    let nanos = u64::try_from(timestamp.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or_else(bad)?;
    let whole = seconds.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos));
    // The last moment of all stands for "none" where records are kept.
    whole.filter(|whole| *whole != u64::MAX).map(Time::from_nanos).ok_or_else(bad)
}

/// Not by prost's own conversion, which overflows where the seconds are the least that there are.
fn span(duration: prost_types::Duration) -> Result<Duration, Invalid> {
    let seconds = u64::try_from(duration.seconds).ok();
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos)).ok_or_else(|| {
        let shown = show(&duration);
        Invalid::Malformed(format!("is {shown}; it must not be negative, nor past what a Duration holds"))
    })
}

fn show(duration: &prost_types::Duration) -> String {
    format!("{}s", duration.seconds as f64 + f64::from(duration.nanos) / 1e9)
}
