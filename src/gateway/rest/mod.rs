//! The REST front: `os-server-external-events` as its callers know it.
//!
//! A request is taken in the order in which its callers know the checks: token (`arrival.rs`, `auth.rs`), path,
//! method, version (`microversion.rs`), media type, body (`body.rs`), project, schema (`schema.rs`, `names.rs`),
//! role (`events.rs`). What it asks for then is up to what stands behind the front: a [`Front`].
//!
//! `openapi.rs` says the same to programs, from the same tables.

mod arrival;
pub mod auth;
mod body;
mod envelope;
mod events;
mod health;
mod json;
pub mod microversion;
pub mod names;
pub mod onward;
mod openapi;
mod schema;
mod versions;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;
use tokio::sync::Semaphore;
use tower::Service;

use self::arrival::{Arrival, refuse};
use self::auth::Auth;
use self::envelope::{Fault, Versions, json_response};
pub use self::events::EVENT_CODES;
pub use self::names::Purpose;
use self::onward::Onward;
use self::versions::Root;
use crate::clock::{Clock, Time};
use crate::event::{InstanceId, Status};
use crate::net::flag::Flag;
use crate::net::http1::Http1;
use crate::net::listen::Listener;
use crate::net::serve;

/// An event as it was sent, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The instance that it is about.
    pub instance: InstanceId,
    /// What happened.
    pub name: Arc<str>,
    /// What the compute side does with it.
    pub purpose: Purpose,
    /// What it happened to, if that was said.
    pub tag: Option<Arc<str>>,
    /// What became of the work.
    pub status: Status,
    /// Whether an event of this name needs a tag, and this one has none.
    pub lacks_tag: bool,
}

/// Nothing of a request was kept: 503, and it may be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Why, for the caller.
    pub message: String,
}

/// Not all of a request's events came to where they go.
#[derive(Debug)]
pub enum NotTaken {
    /// 503, and it may be tried again.
    Unavailable {
        /// Why, for the caller.
        message: String,
    },
    /// The service that some of them go on to has refused them as a whole, with this answer.
    Refused(http::Response<Bytes>),
}

impl From<Unavailable> for NotTaken {
    fn from(Unavailable { message }: Unavailable) -> Self {
        Self::Unavailable { message }
    }
}

/// What stands behind the front door.
pub trait Front: Clone + Send + Sync + 'static {
    /// Keeps the events that can be routed, and answers the code of each, in order: 404 if there is no such
    /// instance, 400 if it lacks its tag, 422 if the instance is on no host, 200 once it is on disk; the first
    /// that fits. It is dropped unfinished when the caller goes away, who then knows nothing of what was kept.
    fn take(&self, events: Vec<Arrived>) -> impl Future<Output = Result<Vec<u16>, Unavailable>> + Send;

    /// Whether events can be kept at present.
    ///
    /// # Errors
    ///
    /// If they cannot, and why.
    fn health(&self) -> Result<(), Unavailable>;

    /// Whether events may go on to another service.
    fn passes_on(&self) -> bool {
        false
    }

    /// The same as `take` where events may go on to another service. What is kept here is on disk before any goes
    /// there, and stays so whatever that service answers.
    fn take_or_pass_on(
        &self,
        events: Vec<Arrived>,
        onward: Onward,
    ) -> impl Future<Output = Result<Vec<u16>, NotTaken>> + Send {
        drop(onward);
        async { Ok(self.take(events).await?) }
    }

    /// A whole request was refused with this code, for those who look. `why` is what the caller was told.
    fn refused(&self, code: u16, why: &str);
}

/// The bounds, and what is admitted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The minor number of the highest microversion.
    pub max_microversion: u16,
    /// Names that events may have besides the API's own, at every microversion; each as
    /// [`check_name`](crate::event::check_name) has it.
    pub extra_event_names: Vec<String>,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Requests in flight at once.
    pub max_requests: usize,
    /// How long a request past those waits for a slot before it is refused.
    pub slot_timeout: Duration,
    /// How long the head of a request may take, and how long a connection may be without one.
    pub header_timeout: Duration,
    /// How long the whole body of a request may take, and how long a caller may take nothing of its reply.
    pub body_timeout: Duration,
    /// Connections open at once.
    pub max_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_microversion: 104,
            extra_event_names: Vec::new(),
            max_body: 1024 * 1024,
            max_requests: 256,
            slot_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            max_connections: 4096,
        }
    }
}

/// What every request goes through.
struct Gate<F> {
    front: F,
    auth: Auth,
    settings: Settings,
    versions: Versions,
    slots: Semaphore,
    clock: Clock,
    /// Raised once all is to stop.
    stop: Flag,
    /// What callers may send, as a document of OpenAPI.
    openapi: Bytes,
}

/// Where the version documents are, and those on the gateway itself.
const ROOT: &str = "/";
const VERSIONS: [&str; 4] = ["/v2", "/v2/", "/v2.1", "/v2.1/"];
const OPENAPI: &str = "/openapi.json";
const HEALTH: &str = "/healthz";
/// Where events are sent to.
const EVENTS: [&str; 4] = [
    "/v2/os-server-external-events",
    "/v2/{tenant}/os-server-external-events",
    "/v2.1/os-server-external-events",
    "/v2.1/{tenant}/os-server-external-events",
];
/// The methods of a document, and of where events are sent to.
const READS: &str = "GET, HEAD";
const SENDS: &str = "POST";

/// The front door: the paths and what answers at each, and what is done around every request.
pub struct Door<F> {
    gate: Arc<Gate<F>>,
    router: Router,
}

impl<F> Clone for Door<F> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), router: self.router.clone() }
    }
}

impl<F: Front, B> Service<http::Request<B>> for Door<F>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self { gate, router } = self.clone();
        Box::pin(async move { Ok(arrival::receive(&gate, router, request.map(Body::new)).await) })
    }
}

/// The door to what stands behind it. Once `stop` is raised, the gateway says that it is not healthy.
pub fn door<F: Front>(front: F, auth: Auth, settings: Settings, stop: Flag) -> Door<F> {
    let slots = Semaphore::new(settings.max_requests.min(Semaphore::MAX_PERMITS));
    let openapi = openapi::document(&settings, auth.is_needed(), front.passes_on()).to_string().into();
    let versions = Versions::up_to(settings.max_microversion);
    let clock = Clock::start(Time::default());
    let gate = Arc::new(Gate { front, auth, settings, versions, slots, clock, stop, openapi });
    let mut router = Router::new()
        .route(ROOT, documents(root::<F>))
        .route(OPENAPI, documents(openapi_document::<F>))
        .route(HEALTH, documents(health::answer::<F>));
    for path in VERSIONS {
        router = router.route(path, documents(version::<F>));
    }
    for path in EVENTS {
        router = router.route(path, post(events::take::<F>).fallback(not_post::<F>));
    }
    let router = router.fallback(elsewhere::<F>).with_state(Arc::clone(&gate));
    Door { gate, router }
}

/// Serves a listener's connections over HTTP/1 until `stop` is raised, then lets the requests on them end, for
/// `grace` at most. `open` counts the connections.
pub async fn serve<F: Front>(
    listener: impl Listener,
    front: F,
    auth: Auth,
    settings: Settings,
    open: Arc<AtomicUsize>,
    stop: Flag,
    grace: Duration,
) {
    let (header_timeout, patience) = (settings.header_timeout, settings.body_timeout);
    let max_connections = settings.max_connections;
    let door = door(front, auth, settings, stop.clone());
    let protocol = Http1::new(door, header_timeout, patience, envelope::farewell);
    serve::serve(listener, protocol, max_connections, open, stop, grace).await;
}

type Routes<F> = axum::routing::MethodRouter<Arc<Gate<F>>>;

fn documents<F: Front, T: 'static>(answer: impl Handler<T, Arc<Gate<F>>>) -> Routes<F> {
    get(answer).fallback(not_get::<F>)
}

async fn root<F: Front>(State(gate): State<Arc<Gate<F>>>, request: Request) -> Response {
    let base = versions::base_url(request.uri(), request.headers());
    let document = versions::all(&base, gate.settings.max_microversion);
    json_response(StatusCode::OK, document.to_string())
}

async fn version<F: Front>(
    State(gate): State<Arc<Gate<F>>>,
    Extension(arrival): Extension<Arc<Arrival>>,
    request: Request,
) -> Result<Response, Fault> {
    let max = gate.settings.max_microversion;
    events::in_force(&arrival, max)?;
    let base = versions::base_url(request.uri(), request.headers());
    let document = versions::one(arrival.root, &base, max);
    Ok(json_response(StatusCode::OK, document.to_string()))
}

async fn openapi_document<F: Front>(State(gate): State<Arc<Gate<F>>>) -> Response {
    json_response(StatusCode::OK, gate.openapi.clone())
}

async fn not_get<F: Front>(State(gate): State<Arc<Gate<F>>>, request: Request) -> Response {
    refuse(&gate, Fault::bad_method(READS), request).await
}

async fn not_post<F: Front>(State(gate): State<Arc<Gate<F>>>, request: Request) -> Response {
    refuse(&gate, Fault::bad_method(SENDS), request).await
}

async fn elsewhere<F: Front>(
    State(gate): State<Arc<Gate<F>>>,
    Extension(arrival): Extension<Arc<Arrival>>,
    request: Request,
) -> Response {
    if arrival.root == Root::Other {
        let base = versions::base_url(request.uri(), request.headers());
        let choices = versions::choices(&base, request.uri().path());
        return json_response(StatusCode::MULTIPLE_CHOICES, choices.to_string());
    }
    refuse(&gate, arrival::nothing_there(), request).await
}

#[cfg(test)]
mod tests;
