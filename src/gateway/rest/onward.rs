//! What of a request goes along with those of its events that go on to another service.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::envelope::REQUEST_ID;
use super::microversion::{LEGACY, STANDARD};

/// Whoever passes a request on says so with this, and nobody passes it on once more: so it ends, whoever points at
/// whom.
pub const PASSED_ON: HeaderName = HeaderName::from_static("x-wakeful-passed-on");

/// The headers that go along, and no others: who calls, in which version, and what the request is called. The first two
/// are secrets.
const ALONG: [HeaderName; 7] = [
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-service-token"),
    STANDARD,
    LEGACY,
    REQUEST_ID,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

const SECRETS: usize = 2;

/// A request, as far as it goes on.
#[derive(Clone)]
pub struct Onward {
    /// Its path, as it was sent.
    pub path: String,
    /// Those of its headers that go along. A caller that has not given its request an id has ours.
    pub headers: HeaderMap,
    /// Its body, as it was sent and checked: an object whose `events` are the request's, in their order.
    pub body: Vec<u8>,
    /// Whether somebody has passed it on here.
    pub passed_on: bool,
}

impl Onward {
    /// What is known before the body is read.
    pub(super) fn of(request: &Parts) -> Self {
        let mut headers = HeaderMap::new();
        for (at, name) in ALONG.into_iter().enumerate() {
            for value in request.headers.get_all(&name) {
                let mut value = value.clone();
                value.set_sensitive(at < SECRETS);
                headers.append(name.clone(), value);
            }
        }
        Self {
            path: request.uri.path().to_owned(),
            headers,
            body: Vec::new(),
            passed_on: request.headers.contains_key(PASSED_ON),
        }
    }
}

/// Calls a request by this id, where it goes on.
pub(super) fn give_id(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
}
