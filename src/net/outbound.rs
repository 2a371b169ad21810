//! What is asked of other services over HTTP: a client whose every request has its bounds.

mod trust;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;

pub use self::trust::TrustError;

/// How long a connection may take to come about, where the whole may take longer.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection is kept for the next request: less than servers do, which close without a word.
const IDLE: Duration = Duration::from_secs(3);
/// Connections that are kept so.
const MAX_IDLE: usize = 32;

/// Where a service is: `http://HOST:PORT` or `https://…`, with what its paths begin with, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path that every path there begins with; empty, or begins with a slash.
    pub fn path(&self) -> &str {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        rest.find('/').map_or("", |at| &rest[at..])
    }

    /// Whether it is on this machine, as far as the URL says.
    pub fn is_here(&self) -> bool {
        let uri = self.0.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Whether what is sent there can be read on the way.
    pub fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }

    /// The same service without `ending` in its path.
    #[must_use]
    pub fn without(&self, ending: &str) -> Self {
        Self(self.0.strip_suffix(ending).unwrap_or(&self.0).to_owned())
    }

    /// `path`, which begins with a slash, at this service.
    ///
    /// # Errors
    ///
    /// If it is no path.
    pub fn at(&self, path: &str) -> Result<Uri, http::uri::InvalidUri> {
        format!("{}{path}", self.0).parse()
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text is not shown: what is refused may have a password in it.
        let uri: Uri = text.parse().map_err(|_| "is not a URL".to_owned())?;
        let (Some(scheme @ ("http" | "https")), Some((_, rest))) = (uri.scheme_str(), text.split_once("://"))
        else {
            return Err("is not a URL that begins with http:// or https://".to_owned());
        };
        if uri.authority().is_none_or(|authority| authority.host().is_empty()) {
            return Err("is not a URL with a host".to_owned());
        }
        if text.contains(['@', '?', '#']) {
            return Err(
                "is a URL with more than a host, a port and a path: @, ? and # have no place in it".into()
            );
        }
        Ok(Self(format!("{scheme}://{}", rest.trim_end_matches('/'))))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bounds of a request.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long it may take, from the connection to the end of the answer.
    pub timeout: Duration,
    /// Bytes in the answer's body.
    pub max_body: usize,
    /// Whether a request may be sent once more if its connection is lost before any answer, as one that was kept may be
    /// closed by the other side just then. If not, each has a connection of its own.
    pub again: bool,
}

/// There is no answer, or none that can be used.
#[derive(Debug, Error)]
pub enum AskError {
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// There is no connection.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The connection was lost, or what came is not HTTP.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// The answer's body is too large.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// Asks other services. Connections are kept for a while, and shared by clones.
#[derive(Clone)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    bounds: Bounds,
}

impl Outbound {
    /// For the service at `url`. If it speaks TLS it has to have a certificate of an authority that is in `ca_file`, or
    /// without one, that the system trusts.
    ///
    /// # Errors
    ///
    /// If there are no authorities to be trusted.
    pub fn new(url: &BaseUrl, ca_file: Option<&Path>, bounds: Bounds) -> Result<Self, TrustError> {
        if url.is_plain() && !url.is_here() {
            warn!(
                url = url.as_str(),
                "without https, tokens and passwords that are sent there can be read on the way"
            );
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT.min(bounds.timeout)));
        let trust = match url.is_plain() {
            true => trust::nobody()?,
            false => trust::authorities(ca_file)?,
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(if bounds.again { MAX_IDLE } else { 0 })
            .build(connector);
        Ok(Self { client, bounds })
    }

    /// Sends a request and reads the whole answer, whatever its status; redirects are not followed.
    ///
    /// # Errors
    ///
    /// If there is no answer, or it is outside its bounds.
    pub async fn ask(&self, request: Request<Bytes>) -> Result<Response<Bytes>, AskError> {
        let asked = async {
            let again = request.clone();
            match self.client.request(request.map(Full::new)).await {
                Err(error) if self.bounds.again && was_lost(&error) => {
                    self.client.request(again.map(Full::new)).await
                }
                answered => answered,
            }
        };
        let whole = async {
            let response = asked.await.map_err(|error| match error.is_connect() {
                true => AskError::Unreachable(causes(&error)),
                false => AskError::Broken(causes(&error)),
            })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.bounds.max_body).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => AskError::TooLarge(self.bounds.max_body),
                false => AskError::Broken(causes(&*error)),
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let limit = self.bounds.timeout;
        timeout(limit, whole).await.map_err(|_| AskError::TimedOut(limit))?
    }
}

/// Whether a connection that stood was lost before it brought any answer.
fn was_lost(error: &ClientError) -> bool {
    if error.is_connect() {
        return false;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_closed() || error.is_canceled())
        {
            return true;
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            return kinds.contains(&error.kind());
        }
        source = cause.source();
    }
    false
}

/// What went wrong, and what that comes from. No request is shown in it.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
