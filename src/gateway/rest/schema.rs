//! A request's body: JSON, then events, or which field is wrong and how.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::Arrived;
use super::json::{Json, Object};
use super::names;
use crate::event::{InstanceId, MAX_CHARS, Quoted, Status, check_text};

/// What an event may say of the work; the first is meant where nothing is said.
pub(super) const STATUSES: [(&str, Status); 3] =
    [("completed", Status::Completed), ("failed", Status::Failed), ("in-progress", Status::InProgress)];

/// An event as its sender spelled it, for the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) name: Arc<str>,
    pub(super) server_uuid: String,
    /// `None` if it was not given, and then the reply has none.
    pub(super) tag: Option<Arc<str>>,
}

/// What a body is measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// The microversion in force, 2.`minor`.
    pub(super) minor: u16,
    /// Names that are admitted besides the API's own.
    pub(super) extra_event_names: &'a [String],
    /// Whether fields that are not known are passed over, as under `/v2`.
    pub(super) lenient: bool,
}

/// Reads a body as JSON.
///
/// # Errors
///
/// What is wrong with it, and where: also invalid UTF-8, and lists and objects more than 127 deep.
pub(super) fn json(body: &[u8]) -> Result<Json<'_>, String> {
    if body.is_empty() {
        return Err("the body is empty; it must be a JSON object with the field events".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| format!("the body is not valid JSON: {error}"))
}

/// Checks a body against the schema: each event as it was sent, and as it goes on.
///
/// # Errors
///
/// The path of the first field that is wrong, and what is wrong with it.
pub(super) fn events(body: Json<'_>, rules: Rules<'_>) -> Result<Vec<(Sent, Arrived)>, String> {
    let Json::Object(mut body) = body else {
        return Err(format!("Invalid input: the body must be an object, and is {body}"));
    };
    let events = body.take("events");
    known_fields(&body, &Place::Body, rules)?;
    let events = match events {
        None => return Err(wrong(&Place::Events, "is required")),
        Some(Json::List(events)) if events.is_empty() => {
            return Err(wrong(&Place::Events, "must have at least one event"));
        }
        Some(Json::List(events)) => events,
        Some(other) => return Err(wrong(&Place::Events, format!("must be a list, and is {other}"))),
    };
    events.into_iter().enumerate().map(|(index, value)| event(index, value, rules)).collect()
}

fn event(index: usize, value: Json<'_>, rules: Rules<'_>) -> Result<(Sent, Arrived), String> {
    let Json::Object(mut fields) = value else {
        return Err(wrong(&Place::Event(index), format!("must be an object, and is {value}")));
    };
    let at = |field| Place::Field(index, field);
    let mut take = |field| match fields.take(field) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(&at(field), format!("must be a string, and is {other}"))),
    };
    let name = take("name")?.ok_or_else(|| wrong(&at("name"), "is required"))?;
    let server_uuid = take("server_uuid")?.ok_or_else(|| wrong(&at("server_uuid"), "is required"))?;
    let tag = take("tag")?;
    let status = take("status")?;
    known_fields(&fields, &Place::Event(index), rules)?;

    let rule = names::find(&name, rules.minor, rules.extra_event_names).ok_or_else(|| {
        let text = format!("{} is not a name of an event in microversion 2.{}", Quoted(&name), rules.minor);
        wrong(&at("name"), text)
    })?;
    let instance = uuid(&server_uuid)
        .ok_or_else(|| wrong(&at("server_uuid"), format!("{} is not a UUID", Quoted(&server_uuid))))?;
    if let Some(tag) = &tag {
        check_text(tag, "of a tag", MAX_CHARS).map_err(|invalid| wrong(&at("tag"), invalid))?;
    }
    let said = status.as_deref().unwrap_or(STATUSES[0].0);
    let Some(&(_, status)) = STATUSES.iter().find(|(name, _)| *name == said) else {
        let text = format!("{} is not one of completed, failed and in-progress", Quoted(said));
        return Err(wrong(&at("status"), text));
    };
    let (name, tag) = (Arc::<str>::from(name), tag.map(Arc::<str>::from));
    let arrived = Arrived {
        instance: InstanceId(instance),
        name: Arc::clone(&name),
        purpose: rule.purpose,
        tag: tag.clone(),
        status,
        lacks_tag: rule.needs_tag && tag.is_none(),
    };
    Ok((Sent { name, server_uuid: server_uuid.into_owned(), tag }, arrived))
}

fn known_fields(fields: &Object<'_>, place: &Place, rules: Rules<'_>) -> Result<(), String> {
    match fields.left() {
        Some(unknown) if !rules.lenient => {
            Err(wrong(place, format!("has a field {} that is not known", Quoted(unknown))))
        }
        _ => Ok(()),
    }
}

/// A UUID in any of the spellings that Python's `uuid` takes: with `urn:` and `uuid:` before it, in braces, in
/// either case, dashed anywhere or nowhere.
fn uuid(text: &str) -> Option<Uuid> {
    // As nearly all are spelled.
    if let (36, Ok(uuid)) = (text.len(), Uuid::try_parse(text)) {
        return Some(uuid);
    }
    let bare = text.replace("urn:", "").replace("uuid:", "");
    let digits = bare.trim_matches(['{', '}']).replace('-', "");
    (digits.len() == 32).then(|| Uuid::try_parse(&digits).ok()).flatten()
}

fn wrong(place: &Place, what: impl fmt::Display) -> String {
    format!("Invalid input for {place}: {what}")
}

/// Where in a body.
enum Place {
    Body,
    Events,
    Event(usize),
    Field(usize, &'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => f.write_str("the body"),
            Self::Events => f.write_str("field events"),
            Self::Event(index) => write!(f, "field events[{index}]"),
            Self::Field(index, field) => write!(f, "field events[{index}].{field}"),
        }
    }
}
