//! A server of HTTP for tests, on a free port of loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::flag::Flag;
use super::http1::Http1;
use super::listen::{self, Listener};
use super::outbound::BaseUrl;
use super::serve::{self, Protocol};

/// A server that ends, with its connections, when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<S>(service: S) -> Self
    where
        Http1<S>: Protocol,
    {
        let (listener, address) = listener().await;
        Self::on(listener, address, service)
    }

    /// On a listener that is there already.
    pub(crate) fn on<S>(listener: impl Listener, address: SocketAddr, service: S) -> Self
    where
        Http1<S>: Protocol,
    {
        let patience = Duration::from_secs(60);
        let protocol = Http1::new(service, patience, patience, |_| Vec::new());
        let open = Arc::new(AtomicUsize::new(0));
        let serving =
            tokio::spawn(serve::serve(listener, protocol, 1_000, open, Flag::default(), Duration::ZERO));
        Self { address, serving }
    }

    pub(crate) fn url(&self) -> BaseUrl {
        format!("http://{}", self.address).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A listener on a free port, and its address.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = listen::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A URL where nobody listens.
pub(crate) async fn nowhere() -> BaseUrl {
    let (listener, address) = listener().await;
    drop(listener);
    format!("http://{address}").parse().unwrap()
}
