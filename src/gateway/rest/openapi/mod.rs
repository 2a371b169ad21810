//! The OpenAPI document: what may be sent and what is answered, from the tables by which requests are checked.
//!
//! `operations.rs` has the paths, `answers.rs` their replies, `schemas.rs` the bodies.

mod answers;
mod operations;
mod schemas;

use serde_json::{Map, Value, json};

use self::answers::{Answers, spelled};
use self::operations::Operations;
use super::auth::TOKEN;
use super::microversion::{LEGACY, LOWEST, STANDARD};
use super::versions::Root;
use super::{EVENTS, HEALTH, OPENAPI, ROOT, Settings, VERSIONS};

/// What the security scheme is called.
const SCHEME: &str = "token";

/// The document of a gateway with these settings. `needs_token`: callers are told apart by tokens. `passes_on`: events
/// may go on to another service, whose refusals come back as they are.
pub(super) fn document(settings: &Settings, needs_token: bool, passes_on: bool) -> Value {
    let operations = Operations { settings, answers: Answers { needs_token, passes_on } };
    let mut paths = Map::new();
    paths.insert(ROOT.to_owned(), json!({"get": operations.versions()}));
    for path in VERSIONS {
        paths.insert(path.to_owned(), json!({"get": operations.version(path, Root::of(path))}));
    }
    for path in EVENTS {
        paths.insert(path.to_owned(), json!({"post": operations.events(path, Root::of(path))}));
    }
    paths.insert(HEALTH.to_owned(), json!({"get": operations.health()}));
    paths.insert(OPENAPI.to_owned(), json!({"get": operations.openapi()}));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wakeful: os-server-external-events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": about(settings),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(settings),
            "headers": answers::headers(),
            "responses": answers::anywhere(),
        },
    });
    if needs_token {
        document["security"] = json!([{SCHEME: []}]);
        document["components"]["securitySchemes"] = json!({SCHEME: {
            "type": "apiKey", "in": "header", "name": spelled(&TOKEN),
            "description": "A token whose owner has one of the roles that may send.",
        }});
    }
    document
}

fn about(settings: &Settings) -> String {
    format!(
        "Takes external events of instances in, and sends each to every host that has its instance.\n\n\
         Microversions: `{standard}: compute 2.X`, or the older `{legacy}: 2.X`; the first wins if both are there. \
         X is from {LOWEST} to {max}, or the whole is `latest`; without a header the version is 2.{LOWEST}. Names of \
         events are known from a microversion on: one that is sent below it is 400. `/v2` has the rules of \
         2.{LOWEST}, lets unknown fields through, and neither reads nor sends these headers.\n\n\
         HEAD is answered wherever GET is. Any path under a root that is not listed is 300 with the versions that \
         there are, whatever the method; any other path that is not listed is 404. What is no HTTP is 400, and a \
         head of more than 32 KiB is 431, both without a body.",
        max = settings.max_microversion,
        standard = spelled(&STANDARD),
        legacy = spelled(&LEGACY),
    )
}
