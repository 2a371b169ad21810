//! The bodies of requests and replies.

use serde_json::{Map, Value, json};

use crate::event::MAX_CHARS;

use super::super::Settings;
use super::super::envelope::CODES;
use super::super::events::EVENT_CODES;
use super::super::health::HEALTHY;
use super::super::microversion::LOWEST;
use super::super::names::{NAMES, find};
use super::super::schema::STATUSES;
use super::super::versions::Root;

/// A UUID in the spellings that are taken: dashed anywhere or nowhere, in either case, in braces, as a URN.
const UUID: &str = r"^(urn:)?(uuid:)?\{?(-*[0-9a-fA-F]){32}-*\}?$";
/// No control character, nor a separator of lines or paragraphs.
const TEXT: &str = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$";

/// Where a schema is found.
pub(super) fn at(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// What a request's body is called.
pub(super) fn request(root: Root) -> &'static str {
    if root == Root::V2 { "EventsV2" } else { "Events" }
}

/// What the envelope of a code is called.
pub(super) fn fault(code: u16) -> String {
    format!("Fault{code}")
}

/// Every schema, by its name.
pub(super) fn all(settings: &Settings) -> Map<String, Value> {
    let mut all = Map::new();
    let mut add = |name: &str, schema| all.insert(name.to_owned(), schema);
    add(request(Root::V21), events(settings, settings.max_microversion, false));
    add(request(Root::V2), events(settings, LOWEST, true));
    add("Kept", kept());
    add("Mixed", mixed());
    for code in CODES {
        add(&fault(code.code), envelope(code.code, code.name));
    }
    add("Health", object(json!({"status": {"const": HEALTHY}}), &["status"]));
    add("Openapi", json!({"type": "object", "required": ["openapi", "info", "paths"]}));
    add("Link", link());
    add("MediaType", object(json!({"base": string(), "type": string()}), &["base", "type"]));
    add("Version", version(&["links"]));
    add("VersionDocument", object(json!({"version": version(&["links", "media-types"])}), &["version"]));
    add("Versions", object(json!({"versions": list(&at("Version"))}), &["versions"]));
    add("Choices", object(json!({"choices": list(&choice())}), &["choices"]));
    all
}

/// A request's body at 2.`minor`.
fn events(settings: &Settings, minor: u16, lenient: bool) -> Value {
    let fields = json!({
        "name": {"oneOf": names(settings, minor)},
        "server_uuid": {"type": "string", "pattern": UUID, "description": "The instance."},
        "tag": {
            "type": "string", "maxLength": MAX_CHARS, "pattern": TEXT,
            "description": "What it happened to: a port, a volume, an accelerator request, a power state.",
        },
        "status": {
            "enum": STATUSES.map(|(name, _)| name), "default": STATUSES[0].0,
            "description": "What became of the work.",
        },
    });
    let mut event = object(fields, &["name", "server_uuid"]);
    event["additionalProperties"] = lenient.into();
    let mut body = object(json!({"events": {"type": "array", "minItems": 1, "items": event}}), &["events"]);
    body["additionalProperties"] = lenient.into();
    body
}

/// The names that there are at 2.`minor`, each with its rules.
fn names(settings: &Settings, minor: u16) -> Vec<Value> {
    let extra = &settings.extra_event_names;
    let known = NAMES.iter().map(|known| known.name);
    let added =
        extra.iter().map(String::as_str).filter(|extra| NAMES.iter().all(|known| known.name != *extra));
    let all = known.chain(added).filter_map(|name| Some((name, find(name, minor, extra)?)));
    let described = all.map(|(name, rule)| {
        let since = (LOWEST..=minor).find(|&minor| find(name, minor, extra).is_some()).unwrap_or(minor);
        let tag = if rule.needs_tag { ", with a tag" } else { "" };
        json!({"const": name, "description": format!("From microversion 2.{since}{tag}.")})
    });
    described.collect()
}

/// An event as it was sent, and what became of it: with one of these codes.
fn answered(codes: &[u16]) -> Value {
    let mut statuses: Vec<_> = codes.iter().map(|&code| status(code)).collect();
    statuses.dedup();
    let meanings = EVENT_CODES.iter().filter(|(code, _)| codes.contains(code));
    let meanings: Vec<_> = meanings.map(|(code, meaning)| format!("{code}: {meaning}")).collect();
    let fields = json!({
        "name": string(),
        "server_uuid": string(),
        "tag": {"type": "string", "description": "Only if it was sent."},
        "status": {"enum": statuses, "description": "What became of the delivery, not of the work."},
        "code": {"enum": codes, "description": meanings.join("; ")},
    });
    object(fields, &["name", "server_uuid", "status", "code"])
}

fn status(code: u16) -> &'static str {
    if code == 200 { "completed" } else { "failed" }
}

fn kept() -> Value {
    let events = json!({"type": "array", "minItems": 1, "items": answered(&[200])});
    object(json!({"events": events}), &["events"])
}

fn mixed() -> Value {
    let codes = EVENT_CODES.map(|(code, _)| code);
    let refused: Vec<_> = codes.into_iter().filter(|&code| code != 200).collect();
    let events = json!({
        "type": "array", "minItems": 1, "items": answered(&codes),
        "contains": {"properties": {"code": {"enum": refused}}},
    });
    object(json!({"events": events}), &["events"])
}

fn envelope(code: u16, name: &str) -> Value {
    let mut fields = json!({"code": {"const": code}, "message": {"type": "string", "minLength": 1}});
    let mut required = vec!["code", "message"];
    if code == 401 {
        fields["title"] = json!({"const": "Unauthorized"});
        required.push("title");
    }
    object(json!({name: object(fields, &required)}), &[name])
}

fn version(more: &[&str]) -> Value {
    let mut fields = json!({
        "id": {"enum": ["v2.0", "v2.1"]},
        "status": {"enum": ["CURRENT", "DEPRECATED"]},
        "version": {"type": "string", "description": "The highest microversion; empty if there are none."},
        "min_version": {"type": "string", "description": "The lowest."},
        "updated": {"type": "string", "format": "date-time"},
    });
    let lists = [("links", "Link"), ("media-types", "MediaType")];
    for (name, of) in lists.into_iter().filter(|(name, _)| more.contains(name)) {
        fields[name] = list(&at(of));
    }
    let required = [&["id", "status", "version", "min_version", "updated"], more].concat();
    object(fields, &required)
}

fn choice() -> Value {
    let fields = json!({
        "id": {"enum": ["v2.0", "v2.1"]},
        "status": {"enum": ["CURRENT", "DEPRECATED"]},
        "links": list(&at("Link")),
        "media-types": list(&at("MediaType")),
    });
    object(fields, &["id", "status", "links", "media-types"])
}

fn link() -> Value {
    let fields = json!({"rel": {"enum": ["self", "describedby"]}, "href": string(), "type": string()});
    object(fields, &["rel", "href"])
}

fn list(of: &Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": of})
}

fn string() -> Value {
    json!({"type": "string"})
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}
