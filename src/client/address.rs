//! Where an agent is reached.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// While calls are open, how often the agent is asked for a sign of life, and how long it may take to give
/// it. A peer that is gone without a word is so noticed within 15 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// An agent's address: `HOST:PORT`, or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP. It serves `EventReceiver`, health and reflection.
    Tcp(String),
    /// The agent's Unix socket. It serves everything.
    Unix(PathBuf),
}

/// The text is not an agent's address.
#[derive(Clone, Debug, Error)]
#[error("{0:?} is not an agent's address: HOST:PORT, or unix:PATH")]
pub struct NotAnAddress(String);

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let not = || NotAnAddress(text.to_owned());
        match text.strip_prefix("unix:") {
            Some("") => Err(not()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => match text.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                    Ok(Self::Tcp(text.to_owned()))
                }
                _ => Err(not()),
            },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// A channel to the agent. It connects with the first call, and again by itself when it was cut.
    ///
    /// # Errors
    ///
    /// If the address cannot be made a URI.
    pub fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        Ok(match self {
            Self::Tcp(address) => tuned(Endpoint::from_shared(format!("http://{address}"))?).connect_lazy(),
            Self::Unix(path) => {
                let path = path.clone();
                // The URI's host is what the agent sees as authority; a path would not be a valid one.
                let endpoint = tuned(Endpoint::from_static("http://localhost"));
                endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                }))
            }
        })
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
}
