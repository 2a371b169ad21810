//! What a reply looks like that is no list of events: errors, each in its envelope.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::microversion::{Asked, LEGACY, LOWEST, STANDARD};

/// When who was refused for want of room may try again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

pub(super) const COMPUTE_REQUEST_ID: HeaderName = HeaderName::from_static("x-compute-request-id");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
pub(super) const BY_VERSION: &str = "OpenStack-API-Version, X-OpenStack-Nova-API-Version";
/// Headers that every reply to a request for events has: there is room for them from the start.
const HEADERS: usize = 7;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A code that a whole request may be refused with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    pub(super) code: u16,
    /// What its envelope is called.
    pub(super) name: &'static str,
    /// When it is given, for people.
    pub(super) meaning: &'static str,
}

const fn code(code: u16, name: &'static str, meaning: &'static str) -> Code {
    Code { code, name, meaning }
}

/// Every one of them.
pub(super) const CODES: [Code; 11] = [
    code(400, "badRequest", "What was asked for is malformed; `message` names the field."),
    code(401, "error", "The request has no token that is valid."),
    code(403, "forbidden", "The token's owner has no role that may send events."),
    code(404, "itemNotFound", "There is nothing at this path."),
    code(405, "badMethod", "The method is not one of this path's."),
    code(406, "computeFault", "The microversion that was asked for is not had here."),
    code(408, "computeFault", "The body did not come in time. The connection is closed."),
    code(413, "overLimit", "The body is larger than it may be."),
    code(415, "badMediaType", "The Content-Type is not JSON's."),
    code(500, "computeFault", "A fault of the gateway's own."),
    code(503, "serviceUnavailable", "The request was not taken as a whole; it may be sent again."),
];

/// What the caller of a request that was refused was told.
#[derive(Clone, Debug)]
pub(super) struct Told(pub(super) String);

/// A request that is refused as a whole.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Fault {
    /// This status, and why.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }

    /// 503: may be tried again soon.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with(RETRY_AFTER, RETRY.as_secs().into())
    }

    /// 405, with the methods that there are.
    pub(super) fn bad_method(allowed: &'static str) -> Self {
        let message = format!("the method is not one of this path's: {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message).with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// 401, and where tokens are to be had.
    pub(super) fn unauthorized(uri: &str) -> Self {
        let challenge = HeaderValue::try_from(format!("Keystone uri=\"{uri}\""))
            .unwrap_or_else(|_| HeaderValue::from_static("Keystone uri=\"\""));
        Self::new(StatusCode::UNAUTHORIZED, "the request needs a valid token in X-Auth-Token")
            .with(WWW_AUTHENTICATE, challenge)
    }

    /// The same, after which the connection is closed.
    #[must_use]
    pub(super) fn and_close(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn body(&self) -> String {
        let code = self.status.as_u16();
        let mut body = json!({"code": code, "message": self.message});
        if self.status == StatusCode::UNAUTHORIZED {
            body["title"] = "Unauthorized".into();
        }
        json!({name(code): body}).to_string()
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, self.body());
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(Told(self.message));
        response
    }
}

/// What the envelope of this code is called.
fn name(code: u16) -> &'static str {
    CODES.iter().find(|known| known.code == code).map_or("computeFault", |known| known.name)
}

/// A reply of JSON.
pub(super) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Another service's answer to the whole request, which the caller is to know as it is.
pub(super) fn passed_back(answer: Response<Bytes>) -> Response {
    let (head, body) = answer.into_parts();
    let mut response = Response::new(body.into());
    *response.status_mut() = head.status;
    for name in [CONTENT_TYPE, WWW_AUTHENTICATE, RETRY_AFTER] {
        for value in head.headers.get_all(&name) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response.extensions_mut().insert(Told(format!("the upstream answers {}", head.status)));
    response
}

/// A new request's id.
pub(super) fn request_id() -> String {
    format!("req-{}", Uuid::new_v4())
}

/// The id that the caller has given its own request, if it has one.
pub(super) fn global_request_id(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(REQUEST_ID)?.to_str().ok()?;
    Uuid::try_parse(given.strip_prefix("req-")?).ok().map(|_| given)
}

/// The headers for each version that there is, made once.
pub(super) struct Versions(Vec<(HeaderValue, HeaderValue)>);

impl Versions {
    /// Those from the lowest to 2.`max`.
    pub(super) fn up_to(max: u16) -> Self {
        let versions = (LOWEST..=max).filter_map(|minor| version_headers(Asked::InForce(minor).shown()?));
        Self(versions.collect())
    }

    fn of(&self, asked: &Asked) -> Option<(HeaderValue, HeaderValue)> {
        match asked {
            Asked::InForce(minor) => self.0.get(usize::from(minor.checked_sub(LOWEST)?)).cloned(),
            _ => version_headers(asked.shown()?),
        }
    }
}

/// The values of the standard header and of the older one.
fn version_headers(version: String) -> Option<(HeaderValue, HeaderValue)> {
    Some((format!("compute {version}").try_into().ok()?, version.try_into().ok()?))
}

/// Puts the headers on a reply that every reply has; those for the version where there is one.
pub(super) fn sign(headers: &mut HeaderMap, request_id: &str, asked: Option<&Asked>, versions: &Versions) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(COMPUTE_REQUEST_ID, id.clone());
        headers.insert(REQUEST_ID, id);
    }
    if let Some((standard, legacy)) = asked.and_then(|asked| versions.of(asked)) {
        headers.insert(STANDARD, standard);
        headers.insert(LEGACY, legacy);
        headers.insert(VARY, HeaderValue::from_static(BY_VERSION));
    }
}

/// The whole reply to a connection more than there may be, as HTTP/1 has it.
pub(super) fn farewell(text: &str) -> Vec<u8> {
    let fault = Fault::unavailable(text);
    let (id, body) = (request_id(), fault.body());
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Retry-After: {}\r\nX-Compute-Request-Id: {id}\r\nX-OpenStack-Request-Id: {id}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len(),
        RETRY.as_secs(),
    )
    .into_bytes()
}
