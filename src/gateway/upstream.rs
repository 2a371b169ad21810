//! An existing Nova, which keeps what has no host here: events go on to it with their caller's token, and its answers
//! come back.
//!
//! | the whole answer | what becomes of it |
//! | --- | --- |
//! | 200 or 207 | a code for each event |
//! | 404, for it found none of the instances, as older ones say it | 404 for each event |
//! | 400, 401, 403, 406, 413, 429 | it is the caller's to know: passed on as it is |
//! | any other, none in time, or one that cannot be read | 503 |

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::rest::EVENT_CODES;
use super::rest::NotTaken;
use super::rest::onward::{Onward, PASSED_ON};
use crate::net::outbound::{BaseUrl, Bounds, Outbound, TrustError};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What an older Nova says instead of a code for each event if it takes none of them.
const NONE_FOUND: &str = "No instances found for any event";
/// Bytes that an answer has more than its request, for each of that, and at least.
const LONGER: usize = 4;
const LEAST_ANSWER: usize = 64 * 1024;

/// How the upstream is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is: what comes before `/v2.1` in its URLs.
    pub url: BaseUrl,
    /// A file with the certificates of authorities; without one, those of the system.
    pub ca_file: Option<std::path::PathBuf>,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// Requests that wait for it at once.
    pub max_requests: usize,
    /// Bytes of a request's body.
    pub max_body: usize,
}

/// Passes events on.
pub struct Upstream {
    url: BaseUrl,
    http: Outbound,
    places: Semaphore,
    max_requests: usize,
    /// Whether its last answer could be used.
    usable: AtomicBool,
}

#[derive(Deserialize)]
struct Answer {
    events: Vec<Answered>,
}

#[derive(Deserialize)]
struct Answered {
    name: String,
    server_uuid: String,
    code: u16,
}

/// An answer that is none.
struct Useless(String);

impl Upstream {
    /// Makes ready to pass events on; nothing is asked yet, so it may be away.
    ///
    /// # Errors
    ///
    /// If its certificate cannot be checked.
    pub fn new(settings: Settings) -> Result<Self, TrustError> {
        let Settings { url, ca_file, timeout, max_requests, max_body } = settings;
        let max_body = max_body.saturating_mul(LONGER).max(LEAST_ANSWER);
        let http = Outbound::new(&url, ca_file.as_deref(), Bounds { timeout, max_body, again: false })?;
        let places = Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS));
        Ok(Self { url, http, places, max_requests, usable: AtomicBool::new(true) })
    }

    /// Passes on those events of a request that have these places in it, and gives the code of each, in order.
    pub(super) async fn pass_on(&self, onward: &Onward, events: &[usize]) -> Result<Vec<u16>, NotTaken> {
        if onward.passed_on {
            error!(
                upstream = self.url.as_str(),
                "a request that was passed on here would go on in turn: refused"
            );
            return Err(unavailable(
                "another gateway has passed this on here, and no host here has the instance",
            ));
        }
        let Ok(_place) = self.places.try_acquire() else {
            let max = self.max_requests;
            warn!(max, "a request is not passed on: as many wait for the upstream");
            return Err(unavailable("as many requests wait for the upstream as may at once"));
        };
        match self.ask(onward, events).await {
            Err(Useless(why)) => {
                // Once, and not for each request.
                if self.usable.swap(false, Ordering::Relaxed) {
                    warn!(upstream = self.url.as_str(), why, "events cannot be passed on for now");
                }
                Err(unavailable("the upstream, which has to take some of the events, cannot be asked"))
            }
            Ok(answer) => {
                if !self.usable.swap(true, Ordering::Relaxed) {
                    info!(upstream = self.url.as_str(), "events are passed on again");
                }
                answer.map_err(NotTaken::Refused)
            }
        }
    }

    async fn ask(
        &self,
        onward: &Onward,
        events: &[usize],
    ) -> Result<Result<Vec<u16>, Response<Bytes>>, Useless> {
        let sent = sent(&onward.body, events)?;
        let mut request = Request::new(Bytes::from(json!({ "events": &sent }).to_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.at(&onward.path).map_err(|error| Useless(error.to_string()))?;
        let headers = request.headers_mut();
        headers.extend(onward.headers.clone());
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, JSON);
        headers.insert(PASSED_ON, HeaderValue::from_static("true"));
        let response = self.http.ask(request).await.map_err(|error| Useless(error.to_string()))?;
        match response.status() {
            StatusCode::OK | StatusCode::MULTI_STATUS => codes(response.body(), &sent).map(Ok),
            StatusCode::NOT_FOUND if found_none(response.body()) => Ok(Ok(vec![404; events.len()])),
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_ACCEPTABLE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::TOO_MANY_REQUESTS => Ok(Err(response)),
            status => Err(Useless(format!("it answers {status}"))),
        }
    }
}

fn unavailable(message: &str) -> NotTaken {
    NotTaken::Unavailable { message: message.to_owned() }
}

/// The events at these places, as they were sent.
fn sent(body: &[u8], places: &[usize]) -> Result<Vec<Value>, Useless> {
    let other = || Useless("the body is not what was checked".to_owned());
    let mut body: Value = serde_json::from_slice(body).map_err(|_| other())?;
    let events = body.get_mut("events").and_then(Value::as_array_mut).ok_or_else(other)?;
    places.iter().map(|&place| events.get_mut(place).map(Value::take).ok_or_else(other)).collect()
}

/// The code of each event, if these are the answers to those that were sent, in their order.
fn codes(body: &[u8], sent: &[Value]) -> Result<Vec<u16>, Useless> {
    // The error's own text might show what stands there.
    let Answer { events } =
        serde_json::from_slice(body).map_err(|_| Useless("its answer cannot be read".to_owned()))?;
    let in_order =
        events.len() == sent.len() && events.iter().zip(sent).all(|(answered, sent)| answered.is_of(sent));
    match in_order {
        true => Ok(events.into_iter().map(|answered| answered.code).collect()),
        false => Err(Useless("its answers are not those to the events that were sent".to_owned())),
    }
}

impl Answered {
    fn is_of(&self, sent: &Value) -> bool {
        let same_instance = |sent: &str| {
            let uuids = (Uuid::try_parse(sent), Uuid::try_parse(&self.server_uuid));
            sent == self.server_uuid || matches!(uuids, (Ok(one), Ok(other)) if one == other)
        };
        EVENT_CODES.iter().any(|(code, _)| *code == self.code)
            && sent["name"].as_str() == Some(&self.name)
            && sent["server_uuid"].as_str().is_some_and(same_instance)
    }
}

fn found_none(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["itemNotFound"]["message"].as_str().is_some_and(|message| message.contains(NONE_FOUND))
}
