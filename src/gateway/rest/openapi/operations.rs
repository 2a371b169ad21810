//! What may be asked, path by path.

use serde_json::{Value, json};

use super::super::Settings;
use super::super::events::MEDIA_TYPES;
use super::super::microversion::{LOWEST, STANDARD};
use super::super::versions::Root;
use super::answers::{Answers, spelled};
use super::schemas;

/// What operations are made by.
pub(super) struct Operations<'a> {
    pub(super) settings: &'a Settings,
    pub(super) answers: Answers,
}

impl Operations<'_> {
    /// The version document of all.
    pub(super) fn versions(&self) -> Value {
        self.open("listVersions", Root::Other, "The versions of the API.", "Versions")
    }

    /// The version document at this path.
    pub(super) fn version(&self, path: &str, root: Root) -> Value {
        let id = format!("showVersion{}{}", tail(root), if path.ends_with('/') { "Slash" } else { "" });
        let mut operation = self.open(&id, root, "One version of the API.", "VersionDocument");
        if root == Root::V21 {
            operation["parameters"] = json!([self.version_header()]);
        }
        operation
    }

    /// Whether events can be kept.
    pub(super) fn health(&self) -> Value {
        self.open("showHealth", Root::Other, "The gateway can keep events; 503 says why not.", "Health")
    }

    /// The document itself.
    pub(super) fn openapi(&self) -> Value {
        self.open("showOpenapi", Root::Other, "This document.", "Openapi")
    }

    /// Sending events to this path.
    pub(super) fn events(&self, path: &str, root: Root) -> Value {
        let in_project = path.contains("{tenant}");
        let mut parameters = Vec::new();
        if in_project {
            parameters.push(json!({
                "name": "tenant", "in": "path", "required": true,
                "description": "The caller's project. If the token is for one, it has to be that.",
                "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
            }));
        }
        if root == Root::V21 {
            parameters.push(self.version_header());
        }
        let schema = json!({"schema": schemas::at(schemas::request(root))});
        let content: serde_json::Map<_, _> =
            MEDIA_TYPES[..2].iter().map(|name| ((*name).to_owned(), schema.clone())).collect();
        json!({
            "operationId": format!("sendEvents{}{}", tail(root), if in_project { "InProject" } else { "" }),
            "summary": "Takes events in.",
            "description": "200 means that every event is on disk, and is sent to its hosts until they have it.",
            "parameters": parameters,
            "requestBody": {
                "required": true, "content": content,
                "description": format!(
                    "At most {} bytes. It is read as JSON also if it has no Content-Type, or {}.",
                    self.settings.max_body, MEDIA_TYPES[2]
                ),
            },
            "responses": self.answers.events(root, in_project),
        })
    }

    /// A document that needs no token.
    fn open(&self, id: &str, root: Root, about: &str, schema: &str) -> Value {
        json!({
            "operationId": id, "summary": about, "security": [],
            "responses": self.answers.document(root, about, schema),
        })
    }

    /// The header that asks for a microversion. What is not said of the compute service is passed over.
    fn version_header(&self) -> Value {
        let max = self.settings.max_microversion;
        let known: Vec<_> = (LOWEST..=max).map(|minor| minor.to_string()).collect();
        json!({
            "name": spelled(&STANDARD), "in": "header", "required": false,
            "description": format!(
                "`compute 2.X`, X from {LOWEST} to {max}, or `compute latest`; 2.{LOWEST} if it is not there. One \
                 that is said of another service is passed over."
            ),
            "schema": {"type": "string", "anyOf": [
                {"pattern": format!("^compute (latest|2\\.({}))$", known.join("|"))},
                {"not": {"pattern": "(^|,)[ \\t]*[Cc][Oo][Mm][Pp][Uu][Tt][Ee][ \\t]+[^ \\t,]"}},
            ]},
        })
    }
}

fn tail(root: Root) -> &'static str {
    if root == Root::V2 { "V2" } else { "V21" }
}
