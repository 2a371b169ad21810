//! `GET /healthz`: whether the gateway can keep events, for whoever chooses between it and another.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::envelope::{Fault, json_response};
use super::{Front, Gate, Unavailable};

/// What a healthy gateway says.
pub(super) const HEALTHY: &str = "ok";

/// 200 while events can be kept, else 503 and why. It takes no slot: also who has none may ask.
pub(super) async fn answer<F: Front>(State(gate): State<Arc<Gate<F>>>) -> Result<Response, Fault> {
    if gate.stop.is_raised() {
        return Err(Fault::unavailable("the gateway is stopping"));
    }
    gate.front.health().map_err(|Unavailable { message }| Fault::unavailable(message))?;
    Ok(json_response(StatusCode::OK, json!({"status": HEALTHY}).to_string()))
}
