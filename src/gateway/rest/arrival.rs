//! What is done for every request, before its path and method are looked at and after it is answered.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::EXPECT;
use http::{HeaderMap, Method, StatusCode, Uri};
use tower::ServiceExt;
use tracing::{Instrument, debug, info_span};

use super::auth::Caller;
use super::body::Unread;
use super::envelope::{self, Fault, Told};
use super::microversion::{self, Asked};
use super::versions::{self, Root};
use super::{Front, Gate, ROOT, VERSIONS, onward};

/// What is known of a request once it has been let in.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) root: Root,
    /// The microversion asked for. `/v2` has none.
    pub(super) asked: Option<Asked>,
    /// `None` where a version document is asked for, which needs no token.
    pub(super) caller: Option<Caller>,
}

/// Around every request: its id, its token, and the headers that its reply has.
pub(super) async fn receive<F: Front>(gate: &Gate<F>, router: Router, mut request: Request) -> Response {
    let id = envelope::request_id();
    let global = envelope::global_request_id(request.headers()).map(str::to_owned);
    let span = info_span!("request", id, global);
    async move {
        if global.is_none() && gate.front.passes_on() {
            onward::give_id(request.headers_mut(), &id);
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let root = Root::of(uri.path());
        let asked = (root != Root::V2)
            .then(|| microversion::asked(request.headers(), gate.settings.max_microversion));
        let caller = match is_document(&method, &uri) {
            true => Ok(None),
            false => known_caller(gate, &uri, request.headers()).await.map(Some),
        };
        let mut response = match caller {
            Err(fault) => refuse(gate, fault, request).await,
            // To the router a project may be nothing at all.
            Ok(_) if root != Root::Other && uri.path().contains("//") => {
                refuse(gate, nothing_there(), request).await
            }
            Ok(caller) => {
                let arrival = Arrival { root, asked: asked.clone(), caller };
                request.extensions_mut().insert(Arc::new(arrival));
                let Ok(response) = router.oneshot(request).await;
                response
            }
        };
        if method == Method::POST
            && let Some(Told(why)) = response.extensions().get()
        {
            gate.front.refused(response.status().as_u16(), why);
        }
        envelope::sign(response.headers_mut(), &id, asked.as_ref(), &gate.versions);
        debug!(%method, path = uri.path(), status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await
}

/// Who calls, if that is anybody known.
async fn known_caller<F: Front>(gate: &Gate<F>, uri: &Uri, headers: &HeaderMap) -> Result<Caller, Fault> {
    match gate.auth.caller(headers, gate.clock.now()).await {
        Ok(Some(caller)) => Ok(caller),
        Ok(None) => {
            let root = format!("{}/", versions::base_url(uri, headers));
            Err(Fault::unauthorized(gate.auth.uri().unwrap_or(&root)))
        }
        Err(unsure) => Err(Fault::unavailable(unsure.to_string())),
    }
}

/// Refuses a request whose body has not been looked at.
pub(super) async fn refuse<F: Front>(gate: &Gate<F>, fault: Fault, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    unread(gate, &parts.headers, body).pass_over().await;
    fault.into_response()
}

/// 404.
pub(super) fn nothing_there() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

/// A request's body.
pub(super) fn unread<F: Front>(gate: &Gate<F>, headers: &HeaderMap, body: Body) -> Unread {
    Unread::new(body, gate.settings.max_body, headers.contains_key(EXPECT))
}

/// Whether what is asked for needs no token.
fn is_document(method: &Method, uri: &Uri) -> bool {
    let reads = *method == Method::GET || *method == Method::HEAD;
    match uri.path() {
        path if path == ROOT || VERSIONS.contains(&path) => reads,
        // Also the OpenAPI document, and the health.
        other => Root::of(other) == Root::Other,
    }
}
