//! A Keystone on loopback that knows a few tokens.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::super::super::auth::keystone::{Credentials, Settings};
use super::super::super::auth::{Auth, Keystone, Roles};
use crate::clock::Time;
use crate::net::outbound::BaseUrl;
use crate::net::testing::Server;

const PASSWORD: &str = "s3cret-password";

#[derive(Default)]
pub(super) struct Seen {
    pub(super) validations: usize,
    pub(super) authentications: usize,
    /// How many validations there were at once, at most.
    pub(super) most: usize,
    now: usize,
}

pub(super) struct Inside {
    tokens: Mutex<HashMap<String, Value>>,
    pub(super) seen: Mutex<Seen>,
    /// What everything is answered, if anything else than it would be.
    pub(super) answers: Mutex<Option<(StatusCode, String)>>,
    /// The gateway's token that is good, and from when to when.
    own: Mutex<Option<String>>,
    pub(super) own_life: Mutex<(Time, Time)>,
    pub(super) password: Mutex<String>,
    /// A permit for each validation that may go on, and one for each that has come.
    pub(super) go_on: Semaphore,
    pub(super) come: Semaphore,
}

pub(super) struct Fake {
    pub(super) state: Arc<Inside>,
    pub(super) server: Server,
    folder: TempDir,
}

/// A token as Keystone tells of it.
pub(super) fn token(roles: &[&str], project: Option<&str>, until: Time) -> Value {
    let roles: Vec<_> = roles.iter().map(|role| json!({"id": "r", "name": role})).collect();
    let mut token = json!({
        "methods": ["password"], "roles": roles, "issued_at": until.minus(Duration::from_secs(3600)).to_string(),
        "expires_at": until.to_string(), "user": {"id": "u", "name": "neutron", "domain": {"id": "default", "name": "Default"}},
    });
    if let Some(project) = project {
        token["project"] = json!({"id": project, "name": "service"});
    }
    token
}

impl Fake {
    pub(super) async fn start(now: Time) -> Self {
        let state = Arc::new(Inside {
            tokens: Mutex::default(),
            seen: Mutex::default(),
            answers: Mutex::default(),
            own: Mutex::default(),
            own_life: Mutex::new((now, now.plus(Duration::from_secs(3600)))),
            password: Mutex::new(PASSWORD.to_owned()),
            go_on: Semaphore::new(1_000),
            come: Semaphore::new(0),
        });
        let router = Router::new()
            .route("/identity/v3/auth/tokens", get(validate).post(authenticate))
            .with_state(Arc::clone(&state));
        let fake = Self { state, server: Server::start(router).await, folder: tempfile::tempdir().unwrap() };
        fake.write_password(PASSWORD);
        fake
    }

    pub(super) fn write_password(&self, password: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.password_file(), format!("{password}\n")).unwrap();
        std::fs::set_permissions(self.password_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    pub(super) fn url(&self) -> BaseUrl {
        format!("{}/identity/v3", self.server.url()).parse().unwrap()
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            url: self.url(),
            ca_file: None,
            credentials: Credentials {
                user: "wakeful".to_owned(),
                user_domain: "Default".to_owned(),
                password_file: self.password_file(),
                project: "service".to_owned(),
                project_domain: "Others".to_owned(),
            },
            roles: Roles(vec!["service".to_owned(), "admin".to_owned()]),
            cache_time: Duration::from_secs(60),
            max_cached: 100,
            max_validations: 16,
            timeout: Duration::from_secs(20),
        }
    }

    pub(super) fn auth(&self, now: Time) -> Auth {
        open(self.settings(), now)
    }

    pub(super) fn give(&self, id: &str, token: Value) {
        self.state.tokens.lock().unwrap().insert(id.to_owned(), token);
    }

    pub(super) fn revoke(&self, id: &str) {
        self.state.tokens.lock().unwrap().remove(id);
    }

    /// The gateway's own token is good no longer.
    pub(super) fn revoke_own(&self) {
        *self.state.own.lock().unwrap() = None;
    }

    pub(super) fn answer_all(&self, status: u16, body: &str) {
        *self.state.answers.lock().unwrap() = Some((StatusCode::from_u16(status).unwrap(), body.to_owned()));
    }

    pub(super) fn answer_as_usual(&self) {
        *self.state.answers.lock().unwrap() = None;
    }

    /// Validations and authentications so far.
    pub(super) fn asked(&self) -> (usize, usize) {
        let seen = self.state.seen.lock().unwrap();
        (seen.validations, seen.authentications)
    }
}

pub(super) fn open(settings: Settings, now: Time) -> Auth {
    Auth::Keystone(Keystone::open(settings, now).unwrap())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

async fn validate(State(state): State<Arc<Inside>>, headers: HeaderMap) -> Response {
    {
        let mut seen = state.seen.lock().unwrap();
        seen.validations += 1;
        seen.now += 1;
        seen.most = seen.most.max(seen.now);
    }
    state.come.add_permits(1);
    state.go_on.acquire().await.unwrap().forget();
    state.seen.lock().unwrap().now -= 1;
    if let Some(answer) = state.answers.lock().unwrap().clone() {
        return answer.into_response();
    }
    if state.own.lock().unwrap().as_deref() != Some(header(&headers, "x-auth-token")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match state.tokens.lock().unwrap().get(header(&headers, "x-subject-token")) {
        Some(token) => json!({"token": token}).to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn authenticate(State(state): State<Arc<Inside>>, body: Bytes) -> Response {
    let number = {
        let mut seen = state.seen.lock().unwrap();
        seen.authentications += 1;
        seen.authentications
    };
    if let Some(answer) = state.answers.lock().unwrap().clone() {
        return answer.into_response();
    }
    let password = state.password.lock().unwrap().clone();
    let user = json!({"name": "wakeful", "domain": {"name": "Default"}, "password": password});
    let expected = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": "service", "domain": {"name": "Others"}}},
    }});
    if serde_json::from_slice::<Value>(&body).unwrap() != expected {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let id = format!("s3cret-own-{number}");
    *state.own.lock().unwrap() = Some(id.clone());
    let (issued, expires) = *state.own_life.lock().unwrap();
    let mut token = token(&["service"], Some("p0"), expires);
    token["issued_at"] = issued.to_string().into();
    (StatusCode::CREATED, [("x-subject-token", id)], json!({"token": token}).to_string()).into_response()
}
