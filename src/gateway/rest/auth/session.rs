//! The gateway's own token of Keystone.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::json;
use tokio::sync::Mutex;
use tracing::info;

use super::given::{Given, Refusal, TOKENS};
use super::password;
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::net::outbound::{BaseUrl, Outbound};

/// How long before its end a token is renewed; a shorter one when a tenth of its life is left.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// How long a password that was refused is not tried again: Keystone may lock an account after a few such tries.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Who the gateway is to Keystone.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Its user's name.
    pub user: String,
    /// The name of that user's domain.
    pub user_domain: String,
    /// The file of its password. It is read whenever it is needed, so it may be changed meanwhile.
    pub password_file: PathBuf,
    /// The name of the project that it acts for.
    pub project: String,
    /// The name of that project's domain.
    pub project_domain: String,
}

/// The gateway's session with Keystone.
pub(super) struct Session {
    credentials: Credentials,
    /// Held while one is asked for, so that all who need it ask once.
    own: Mutex<Own>,
}

struct Own {
    token: Option<(HeaderValue, Time)>,
    backoff: Backoff,
    /// Until when no other is asked for.
    pause: Option<Time>,
}

impl Session {
    pub(super) fn new(credentials: Credentials, now: Time) -> Self {
        let backoff = Backoff::new(now, now.as_nanos(), FIRST_PAUSE, LONGEST_PAUSE);
        Self { credentials, own: Mutex::new(Own { token: None, backoff, pause: None }) }
    }

    /// A token that is good for a while yet, and is another than `refused`.
    pub(super) async fn token(
        &self,
        keystone: &Outbound,
        url: &BaseUrl,
        now: Time,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Refusal> {
        let mut own = self.own.lock().await;
        if let Some((token, renew_at)) = &own.token
            && now < *renew_at
            && Some(token) != refused
        {
            return Ok(token.clone());
        }
        own.token = None;
        if own.pause.is_some_and(|until| now < until) {
            return Err(Refusal::credentials("they were refused a short while ago"));
        }
        let (token, life) = match self.ask(keystone, url).await {
            Err(refusal) => {
                if refusal.is_final {
                    own.pause = Some(now.plus(own.backoff.lost(now)));
                }
                return Err(refusal);
            }
            Ok(given) => given,
        };
        own.backoff.connected(now);
        own.pause = None;
        let renew_at = now.plus(life.saturating_sub(RENEW_BEFORE.min(life / 10)));
        own.token = Some((token.clone(), renew_at));
        info!(
            user = self.credentials.user,
            keystone = url.as_str(),
            ?life,
            "the gateway has a token of its own"
        );
        Ok(token)
    }

    /// Asks for a token, and how long it lives.
    async fn ask(&self, keystone: &Outbound, url: &BaseUrl) -> Result<(HeaderValue, Duration), Refusal> {
        let Credentials { user, user_domain, password_file, project, project_domain } = &self.credentials;
        let password =
            password::read(password_file).map_err(|error| Refusal::credentials(error.to_string()))?;
        let user = json!({"name": user, "domain": {"name": user_domain}, "password": password.0});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": project, "domain": {"name": project_domain}}},
        }});
        let mut request = Request::new(Bytes::from(body.to_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.at(TOKENS).map_err(|error| Refusal::unusable(error.to_string()))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = keystone.ask(request).await.map_err(|error| Refusal::unusable(error.to_string()))?;
        match response.status() {
            StatusCode::CREATED => {}
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                return Err(Refusal::credentials(format!("Keystone answers {status} to them")));
            }
            status => {
                return Err(Refusal::unusable(format!("it answers {status} to the gateway's credentials")));
            }
        }
        let given = Given::read(response.body())?;
        let token = response.headers().get("x-subject-token").cloned();
        let mut token = token.ok_or_else(|| Refusal::unusable("it gives no token".to_owned()))?;
        token.set_sensitive(true);
        Ok((token, given.life()))
    }
}
