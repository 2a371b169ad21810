//! The tokens that Keystone has given out, validated there and remembered for a while.
//!
//! ```text
//!  token ─▶ remembered? ─▶ being asked about? ─▶ so many at once ─▶ GET /v3/auth/tokens, with the gateway's own token
//!              its answer      wait for that one                        200 who it is, 404 nobody's
//! ```
//!
//! Of a token only its hash is kept. What Keystone does not answer lets nobody in and is not remembered.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::given::{Given, Refusal, TOKENS};
use super::password::{self, PasswordError};
use super::remembered::{Hash, Remembered};
pub use super::session::Credentials;
use super::session::Session;
use super::{Caller, Roles, Unsure};
use crate::clock::Time;
use crate::net::outbound::{BaseUrl, Bounds, Outbound, TrustError};

/// Bytes of an answer. A user may have some hundred roles.
const MAX_ANSWER: usize = 256 * 1024;
/// How many tokens may wait to be asked about, for each that is asked about at once.
const WAIT_FOR_EACH: usize = 64;
/// How long it is remembered that a token is nobody's.
const NOBODYS: Duration = Duration::from_secs(10);

const UNREACHABLE: Unsure = Unsure("Keystone cannot be asked");
const BUSY: Unsure = Unsure("as many others are being validated as may be at once");

/// How Keystone is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is, with or without `/v3` at its end.
    pub url: BaseUrl,
    /// A file with the certificates of authorities; without one, those of the system.
    pub ca_file: Option<PathBuf>,
    /// Who the gateway is to it.
    pub credentials: Credentials,
    /// Of these a caller needs one.
    pub roles: Roles,
    /// How long a valid token is taken for valid without being asked about again.
    pub cache_time: Duration,
    /// How many tokens are remembered: so many valid ones, and so many others.
    pub max_cached: usize,
    /// How many are asked about at once.
    pub max_validations: usize,
    /// How long a token may wait to be asked about, and how long Keystone may take then.
    pub timeout: Duration,
}

/// Keystone cannot be used as it is set.
#[derive(Debug, Error)]
pub enum KeystoneError {
    /// The password is not to be had.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// TLS is not to be had.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Validates tokens. Clones share what they know.
#[derive(Clone)]
pub struct Keystone(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// Its URL, without `/v3`.
    url: BaseUrl,
    http: Outbound,
    session: Session,
    places: Semaphore,
    known: Mutex<Known>,
    /// Whether it could be used when it was last asked.
    usable: AtomicBool,
}

/// What became of a question: who the token is of, if of anybody.
type Answer = Result<Option<Caller>, Unsure>;

struct Known {
    valid: Remembered<Caller>,
    nobodys: Remembered<()>,
    asking: HashMap<Hash, watch::Receiver<Option<Answer>>>,
}

impl Keystone {
    /// Makes ready to ask; nothing is asked yet, so it may be away.
    ///
    /// # Errors
    ///
    /// If the password or the certificates cannot be used.
    pub fn open(settings: Settings, now: Time) -> Result<Self, KeystoneError> {
        drop(password::read(&settings.credentials.password_file)?);
        let bounds = Bounds { timeout: settings.timeout, max_body: MAX_ANSWER, again: true };
        let http = Outbound::new(&settings.url, settings.ca_file.as_deref(), bounds)?;
        let known = Known {
            valid: Remembered::new(settings.max_cached),
            nobodys: Remembered::new(settings.max_cached),
            asking: HashMap::new(),
        };
        Ok(Self(Arc::new(Inner {
            url: settings.url.without("/v3"),
            http,
            session: Session::new(settings.credentials.clone(), now),
            places: Semaphore::new(settings.max_validations.min(Semaphore::MAX_PERMITS)),
            known: Mutex::new(known),
            usable: AtomicBool::new(true),
            settings,
        })))
    }

    /// Where tokens are to be had.
    pub(super) fn uri(&self) -> &str {
        self.0.settings.url.as_str()
    }

    /// Whose token it is; `None` if nobody's.
    pub(super) async fn caller(&self, token: &HeaderValue, now: Time) -> Answer {
        let hash: Hash = Sha256::digest(token.as_bytes()).into();
        let mut asking = {
            let mut known = self.0.known();
            if let Some(caller) = known.valid.get(&hash, now) {
                return Ok(Some(caller.clone()));
            }
            if known.nobodys.get(&hash, now).is_some() {
                return Ok(None);
            }
            match known.asking.get(&hash) {
                Some(asking) => asking.clone(),
                None if known.asking.len() / WAIT_FOR_EACH >= self.0.settings.max_validations => {
                    return Err(BUSY);
                }
                None => {
                    let (answers, asking) = watch::channel(None);
                    known.asking.insert(hash, asking.clone());
                    // A task of its own: who asked first may go away, and others wait for the same answer.
                    tokio::spawn(Arc::clone(&self.0).answer(token.clone(), hash, now, answers));
                    asking
                }
            }
        };
        let answered = asking.wait_for(Option::is_some).await;
        answered.ok().and_then(|answer| answer.clone()).unwrap_or(Err(UNREACHABLE))
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Whatever panicked while it was held, each change to it is whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks about a token and remembers the answer, counted from before it was asked.
    async fn answer(
        self: Arc<Self>,
        mut token: HeaderValue,
        hash: Hash,
        now: Time,
        answers: watch::Sender<Option<Answer>>,
    ) {
        token.set_sensitive(true);
        let validated = self.validate_in_turn(&token, now).await;
        let Settings { cache_time, .. } = self.settings;
        let mut known = self.known();
        known.asking.remove(&hash);
        let answer = match validated {
            Err(unsure) => Err(unsure),
            Ok(None) => {
                known.valid.remove(&hash);
                known.nobodys.put(hash, (), now.plus(NOBODYS.min(cache_time)), now);
                Ok(None)
            }
            Ok(Some((caller, expires_at))) => {
                known.valid.put(hash, caller.clone(), expires_at.min(now.plus(cache_time)), now);
                Ok(Some(caller))
            }
        };
        drop(known);
        answers.send_replace(Some(answer));
    }

    /// Whose token it is and when it expires, once it is its turn.
    async fn validate_in_turn(
        &self,
        token: &HeaderValue,
        now: Time,
    ) -> Result<Option<(Caller, Time)>, Unsure> {
        let limit = self.settings.timeout;
        let Ok(Ok(_place)) = timeout(limit, self.places.acquire()).await else {
            warn!(
                max_validations = self.settings.max_validations,
                "a token was not validated in time: {BUSY}"
            );
            return Err(BUSY);
        };
        let validated = timeout(limit, self.validate(token, now)).await;
        let late = || Err(Refusal::unusable(format!("no answer within {limit:?}")));
        match validated.unwrap_or_else(|_| late()) {
            Ok(whose) => {
                if !self.usable.swap(true, Ordering::Relaxed) {
                    info!(keystone = self.uri(), "tokens are validated again");
                }
                Ok(whose)
            }
            Err(Refusal { why, is_final }) => {
                // Once, and not for each request.
                if self.usable.swap(false, Ordering::Relaxed) {
                    match is_final {
                        true => error!(keystone = self.uri(), why, "tokens cannot be validated"),
                        false => warn!(keystone = self.uri(), why, "tokens cannot be validated for now"),
                    }
                }
                Err(UNREACHABLE)
            }
        }
    }

    async fn validate(&self, token: &HeaderValue, now: Time) -> Result<Option<(Caller, Time)>, Refusal> {
        let mut own = self.session.token(&self.http, &self.url, now, None).await?;
        let mut response = self.ask(token, &own).await?;
        if response.0 == StatusCode::UNAUTHORIZED {
            // It is the gateway's token that is meant.
            own = self.session.token(&self.http, &self.url, now, Some(&own)).await?;
            response = self.ask(token, &own).await?;
        }
        match response {
            (StatusCode::OK, body) => {
                Given::read(&body).map(|given| Some(given.caller(&self.settings.roles)))
            }
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _) => {
                Err(Refusal::credentials(format!("with them Keystone answers {status} to a validation")))
            }
            (status, _) => Err(Refusal::unusable(format!("it answers {status}"))),
        }
    }

    async fn ask(&self, token: &HeaderValue, own: &HeaderValue) -> Result<(StatusCode, Bytes), Refusal> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.url.at(TOKENS).map_err(|error| Refusal::unusable(error.to_string()))?;
        request.headers_mut().insert("x-auth-token", own.clone());
        request.headers_mut().insert("x-subject-token", token.clone());
        let response = self.http.ask(request).await.map_err(|error| Refusal::unusable(error.to_string()))?;
        Ok((response.status(), response.into_body()))
    }

    fn uri(&self) -> &str {
        self.settings.url.as_str()
    }
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystone").field("url", &self.0.settings.url).finish_non_exhaustive()
    }
}
