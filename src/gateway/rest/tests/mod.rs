//! The published tables, row by row, at a door with nothing but a fake behind it; and a real socket.

mod auth;
mod bodies;
mod errors;
mod events;
mod health;
mod keystone;
mod openapi;
mod versions;
mod wire;

use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::auth::Auth;
use super::{Arrived, Door, Front, Settings, Unavailable, door};
use crate::net::flag::Flag;

/// On a host.
const BOUND: &str = "3df201cf-2451-44f2-8d25-a4ca826fc1f3";
/// On none.
const HOSTLESS: &str = "ff1df7b2-6772-45fd-9326-c0a3b05591c2";
/// There is no such instance.
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";
const PATH: &str = "/v2.1/os-server-external-events";

/// A front that knows two instances.
#[derive(Clone)]
struct Fake {
    taken: Arc<Mutex<Vec<Arrived>>>,
    unavailable: Option<Unavailable>,
    refusals: Arc<Mutex<Vec<(u16, String)>>>,
    /// A permit for each request that may go on.
    go_on: Arc<Semaphore>,
    /// A permit for each request that has come so far.
    come: Arc<Semaphore>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            taken: Arc::default(),
            unavailable: None,
            refusals: Arc::default(),
            go_on: Arc::new(Semaphore::new(1_000)),
            come: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Fake {
    fn taken(&self) -> Vec<Arrived> {
        self.taken.lock().unwrap().clone()
    }

    fn door(&self, auth: Auth, settings: Settings) -> Door<Fake> {
        door(self.clone(), auth, settings, Flag::default())
    }
}

impl Front for Fake {
    async fn take(&self, events: Vec<Arrived>) -> Result<Vec<u16>, Unavailable> {
        self.come.add_permits(1);
        self.go_on.acquire().await.unwrap().forget();
        if let Some(unavailable) = &self.unavailable {
            return Err(unavailable.clone());
        }
        let codes = events.iter().map(|event| match event.instance.to_string().as_str() {
            UNKNOWN => 404,
            _ if event.lacks_tag => 400,
            HOSTLESS => 422,
            _ => 200,
        });
        let codes = codes.collect();
        self.taken.lock().unwrap().extend(events);
        Ok(codes)
    }

    fn health(&self) -> Result<(), Unavailable> {
        self.unavailable.clone().map_or(Ok(()), Err)
    }

    fn refused(&self, code: u16, why: &str) {
        self.refusals.lock().unwrap().push((code, why.to_owned()));
    }
}

/// A reply.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks that this is an error of this code in the envelope of this name, and returns its message.
    #[track_caller]
    fn fault(&self, code: u16, name: &str) -> String {
        assert_eq!(self.status.as_u16(), code, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/json"));
        let envelope = self.body.as_object().unwrap();
        assert_eq!(envelope.keys().collect::<Vec<_>>(), [name]);
        assert_eq!(envelope[name]["code"], code);
        let message = envelope[name]["message"].as_str().unwrap();
        assert!(!message.is_empty());
        message.to_owned()
    }
}

fn settings() -> Settings {
    Settings::default()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

async fn send<F: Front>(door: &Door<F>, request: Request) -> Got {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = door.clone().oneshot(request).await.unwrap();
    openapi::check_is_documented(&method, &path, &response);
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Got { status, headers, body }
}

/// Sends a request with a token.
async fn call(door: &Door<Fake>, method: &str, path: &str, token: Option<&str>, body: &str) -> Got {
    let header = token.map(|token| ("x-auth-token", token));
    send(door, request(method, path, header.as_slice(), body.to_owned())).await
}

/// Posts a body of JSON at a microversion.
async fn post<F: Front>(door: &Door<F>, version: &str, body: &Value) -> Got {
    let headers = [("x-openstack-nova-api-version", version)];
    send(door, request("POST", PATH, &headers, body.to_string())).await
}

fn one_event(name: &str, server_uuid: &str, tag: Option<&str>) -> Value {
    let mut event = json!({"name": name, "server_uuid": server_uuid});
    if let Some(tag) = tag {
        event["tag"] = tag.into();
    }
    json!({"events": [event]})
}
