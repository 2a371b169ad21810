//! What is answered: each reply with its body and its headers.

use http::HeaderName;
use http::header::{ALLOW, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use serde_json::{Map, Value, json};

use super::super::envelope::{BY_VERSION, CODES, COMPUTE_REQUEST_ID, REQUEST_ID};
use super::super::microversion::{LEGACY, STANDARD};
use super::super::versions::Root;
use super::schemas;

/// How certain it is that a reply has the headers of the microversion. A malformed version is not told back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Versioned {
    Never,
    UnlessMalformed,
    Always,
}

/// The headers, by their names here.
pub(super) fn headers() -> Value {
    let text = |pattern: &str, required: bool, about: &str| {
        json!({
            "description": about, "required": required,
            "schema": {"type": "string", "pattern": pattern},
        })
    };
    let id = "The request's id; it is in the gateway's log.";
    let uuid = "^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
    let mut headers = json!({
        "RequestId": text(uuid, true, id),
        "RetryAfter": {
            "description": "After so many seconds it may be sent again.", "required": true,
            "schema": {"type": "integer", "minimum": 1},
        },
        "Challenge": text("^Keystone uri=\".*\"$", true, "Where tokens are to be had."),
        "Allow": text("^[A-Z]+(, [A-Z]+)*$", true, "The path's methods."),
    });
    for (name, required) in [("", true), ("IfAny", false)] {
        let standard =
            text("^compute [1-9][0-9]*\\.[0-9]+$", required, "The version in force, or asked for.");
        headers[format!("Version{name}")] = standard;
        headers[format!("LegacyVersion{name}")] = text("^[1-9][0-9]*\\.[0-9]+$", required, "The same.");
        headers[format!("Vary{name}")] = json!({"required": required, "schema": {"const": BY_VERSION}});
    }
    headers
}

/// Replies that are not one path's.
pub(super) fn anywhere() -> Value {
    json!({
        "Choices": Answers::of("The path is under no root that there is.", "Choices", Versioned::UnlessMalformed),
        "NotFound": Answers::fault(404, Root::V21),
        "HeadTooLarge": {"description": "The request's head is larger than 32 KiB."},
    })
}

/// What the operations' replies are made by.
pub(super) struct Answers {
    pub(super) needs_token: bool,
    pub(super) passes_on: bool,
}

impl Answers {
    /// The replies to events.
    pub(super) fn events(&self, root: Root, in_project: bool) -> Value {
        let versioned = if root == Root::V2 { Versioned::Never } else { Versioned::Always };
        let mut answers = json!({
            "200": Self::of("Every event is kept.", "Kept", versioned),
            "207": Self::of("Not every event is kept, or none; each says.", "Mixed", versioned),
        });
        let asked = CODES.iter().map(|known| known.code).filter(|code| match code {
            401 | 403 => self.needs_token || self.passes_on,
            404 => in_project,
            406 => root == Root::V21,
            _ => true,
        });
        Self::add(&mut answers, root, asked);
        if self.passes_on {
            answers["429"] = json!({"description": "The upstream has no room for those that are its own."});
        }
        answers
    }

    /// The replies to who reads a document.
    pub(super) fn document(&self, root: Root, about: &str, schema: &str) -> Value {
        let versioned = match root {
            Root::V2 => Versioned::Never,
            Root::V21 => Versioned::Always,
            Root::Other => Versioned::UnlessMalformed,
        };
        let mut answers = json!({"200": Self::of(about, schema, versioned)});
        let negotiated: &[u16] = if root == Root::V21 { &[400, 406] } else { &[] };
        Self::add(&mut answers, root, negotiated.iter().copied().chain([405, 503]));
        answers
    }

    fn add(answers: &mut Value, root: Root, codes: impl Iterator<Item = u16>) {
        for code in codes {
            answers[code.to_string()] = Self::fault(code, root);
        }
        answers["431"] = json!({"$ref": "#/components/responses/HeadTooLarge"});
    }

    /// A refusal.
    fn fault(code: u16, root: Root) -> Value {
        let meaning = CODES.iter().find(|known| known.code == code).map_or("", |known| known.meaning);
        // The version is looked at after the token, the path and the method, and a connection too many is refused
        // with 503 before anything of it is read.
        let versioned = match (root, code) {
            (Root::V2, _) => Versioned::Never,
            (Root::Other, _) | (_, 400 | 401 | 404 | 405 | 503) => Versioned::UnlessMalformed,
            _ => Versioned::Always,
        };
        let mut answer = Self::of(meaning, &schemas::fault(code), versioned);
        let more = match code {
            401 => Some((WWW_AUTHENTICATE, "Challenge")),
            405 => Some((ALLOW, "Allow")),
            503 => Some((RETRY_AFTER, "RetryAfter")),
            _ => None,
        };
        if let Some((header, name)) = more {
            answer["headers"][spelled(&header)] = header_at(name);
        }
        answer
    }

    fn of(about: &str, schema: &str, versioned: Versioned) -> Value {
        let mut headers = Map::new();
        for name in [COMPUTE_REQUEST_ID, REQUEST_ID] {
            headers.insert(spelled(&name), header_at("RequestId"));
        }
        let if_any = match versioned {
            Versioned::Never => None,
            Versioned::UnlessMalformed => Some("IfAny"),
            Versioned::Always => Some(""),
        };
        if let Some(if_any) = if_any {
            let names = [(STANDARD, "Version"), (LEGACY, "LegacyVersion"), (VARY, "Vary")];
            for (header, name) in names {
                headers.insert(spelled(&header), header_at(&format!("{name}{if_any}")));
            }
        }
        let content = json!({"application/json": {"schema": schemas::at(schema)}});
        json!({"description": about, "headers": headers, "content": content})
    }
}

fn header_at(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// A header's name as people write it.
pub(super) fn spelled(name: &HeaderName) -> String {
    let word = |word: &str| match word {
        "openstack" => "OpenStack".to_owned(),
        "api" | "www" => word.to_ascii_uppercase(),
        _ => {
            let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
            first.to_ascii_uppercase() + rest
        }
    };
    name.as_str().split('-').map(word).collect::<Vec<_>>().join("-")
}
