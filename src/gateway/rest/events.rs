//! `POST os-server-external-events`: from a body to what became of each event.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::time::timeout;
use tracing::{error, warn};

use super::arrival::{Arrival, unread};
use super::body::Unread;
use super::envelope::{Fault, json_response, passed_back};
use super::microversion::{Asked, LOWEST, Supported};
use super::onward::Onward;
use super::schema::{self, Rules, Sent};
use super::versions::Root;
use super::{Arrived, Front, Gate, NotTaken};

/// What a body may call itself; the first is what it is. Some callers say text/plain, and some nothing.
pub(super) const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/vnd.openstack.compute+json", "text/plain"];
/// What may become of one event: its code, and when that is given, for people.
pub const EVENT_CODES: [(u16, &str); 4] = [
    (200, "kept, and on its way to every host that has the instance"),
    (400, "it needs a tag"),
    (404, "there is no such instance"),
    (422, "the instance is on no host"),
];
/// The tags that a power-update has.
const POWER_TAGS: [&str; 2] = ["POWER_ON", "POWER_OFF"];

#[derive(Serialize)]
struct Reply<'a> {
    events: Vec<Answered<'a>>,
}

/// An event as it was sent, and what became of its delivery.
#[derive(Serialize)]
struct Answered<'a> {
    name: &'a str,
    server_uuid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    status: &'static str,
    code: u16,
}

/// Takes events in.
pub(super) async fn take<F: Front>(
    State(gate): State<Arc<Gate<F>>>,
    Extension(arrival): Extension<Arc<Arrival>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let onward = gate.front.passes_on().then(|| Onward::of(&parts));
    let mut body = unread(&gate, &parts.headers, body);
    match answer(&gate, &arrival, &parts, &mut body, onward).await {
        Ok(response) => response,
        Err(fault) => {
            body.pass_over().await;
            fault.into_response()
        }
    }
}

/// The checks, in the order in which callers know them, and then the events.
async fn answer<F: Front>(
    gate: &Gate<F>,
    arrival: &Arrival,
    request: &Parts,
    body: &mut Unread,
    onward: Option<Onward>,
) -> Result<Response, Fault> {
    let minor = in_force(arrival, gate.settings.max_microversion)?;
    check_media_type(&request.headers)?;
    // The slot is taken before the body is read: so many bodies are in memory, and no more.
    let _slot = match timeout(gate.settings.slot_timeout, gate.slots.acquire()).await {
        Ok(Ok(slot)) => slot,
        _ => {
            let settings = &gate.settings;
            warn!(max_requests = settings.max_requests, "a request refused: as many are in flight");
            return Err(Fault::unavailable(format!(
                "max_requests is {}, and so many have been in flight for {:?}",
                settings.max_requests, settings.slot_timeout
            )));
        }
    };
    let bytes = body.read(gate.settings.body_timeout).await?;
    let bad_request = |message| Fault::new(StatusCode::BAD_REQUEST, message);
    let body = schema::json(&bytes).map_err(bad_request)?;
    let caller = arrival.caller.as_ref();
    if let Some(own) = caller.and_then(|caller| caller.project_id.as_deref())
        && tenant(request.uri.path()).is_some_and(|tenant| tenant != own)
    {
        return Err(bad_request("the project in the path is not the token's".to_owned()));
    }
    let rules = Rules {
        minor,
        extra_event_names: &gate.settings.extra_event_names,
        lenient: arrival.root == Root::V2,
    };
    let checked = schema::events(body, rules).map_err(bad_request)?;
    if !caller.is_some_and(|caller| caller.may_send) {
        let text = "the token has no role that may send external events";
        return Err(Fault::new(StatusCode::FORBIDDEN, text));
    }
    let (sent, arrived): (Vec<Sent>, Vec<Arrived>) = checked.into_iter().unzip();
    for event in &arrived {
        note_power_tag(event);
    }
    let taken = match onward {
        None => gate.front.take(arrived).await.map_err(NotTaken::from),
        // Apart, so that a front that passes nothing on has no room for it in its requests.
        Some(onward) => {
            let onward = Onward { body: bytes, ..onward };
            Box::pin(gate.front.take_or_pass_on(arrived, onward)).await
        }
    };
    match taken {
        Ok(codes) => reply(&sent, &codes),
        Err(NotTaken::Refused(answer)) => Ok(passed_back(answer)),
        Err(NotTaken::Unavailable { message }) => {
            warn!(message, "a request's events could not be kept");
            Err(Fault::unavailable(message))
        }
    }
}

/// The microversion in force, checked.
pub(super) fn in_force(arrival: &Arrival, max: u16) -> Result<u16, Fault> {
    match &arrival.asked {
        None => Ok(LOWEST),
        Some(Asked::InForce(minor)) => Ok(*minor),
        Some(Asked::Outside(version)) => {
            let text = format!("version {version} is not supported: {}", Supported(max));
            Err(Fault::new(StatusCode::NOT_ACCEPTABLE, text))
        }
        Some(Asked::Malformed(version)) => {
            let text = format!(
                "the version {} is malformed: it must be latest, or two numbers such as 2.{max}",
                crate::event::Quoted(version)
            );
            Err(Fault::new(StatusCode::BAD_REQUEST, text))
        }
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Fault> {
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(given.as_bytes());
    let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "" => Ok(()),
        known if MEDIA_TYPES.contains(&known) => Ok(()),
        _ => {
            let text = "the Content-Type must be application/json";
            Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
        }
    }
}

/// The project in a path, if it has one.
fn tenant(path: &str) -> Option<&str> {
    let mut parts = path.split('/').skip(2);
    let (tenant, rest) = (parts.next()?, parts.next());
    rest.map(|_| tenant)
}

fn note_power_tag(event: &Arrived) {
    let tag = event.tag.as_deref();
    if &*event.name == "power-update" && tag.is_some_and(|tag| !POWER_TAGS.contains(&tag)) {
        warn!(instance = %event.instance, tag, "a power-update with a tag that nothing will come of");
    }
}

fn reply(sent: &[Sent], codes: &[u16]) -> Result<Response, Fault> {
    let broken = || Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "the reply could not be made");
    if sent.len() != codes.len() {
        error!(events = sent.len(), codes = codes.len(), "not every event has its code");
        return Err(broken());
    }
    let whole = match codes.iter().all(|&code| code == 200) {
        true => StatusCode::OK,
        false => StatusCode::MULTI_STATUS,
    };
    let events = sent.iter().zip(codes).map(|(Sent { name, server_uuid, tag }, &code)| {
        let status = if code == 200 { "completed" } else { "failed" };
        Answered { name, server_uuid, tag: tag.as_deref(), status, code }
    });
    let body = serde_json::to_vec(&Reply { events: events.collect() }).map_err(|error| {
        error!(%error, "a reply cannot be written as JSON");
        broken()
    })?;
    Ok(json_response(whole, body))
}
