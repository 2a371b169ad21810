//! A service of HTTP that a gateway asks, in the test's own process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use tokio::task::JoinHandle;
use wakeful::net::flag::Flag;
use wakeful::net::http1::Http1;
use wakeful::net::listen;
use wakeful::net::serve::serve;

/// It ends, with its connections, when this is dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start(router: Router) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), router).await
    }

    pub(crate) async fn start_at(address: SocketAddr, router: Router) -> Self {
        let listener = listen::tcp(address).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let patience = Duration::from_secs(60);
        let protocol = Http1::new(router, patience, patience, |_| Vec::new());
        let open = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn(serve(listener, protocol, 1_000, open, Flag::default(), Duration::ZERO));
        Self { address, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it, and leaves its address to the next one.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.serving.abort();
        let _ = (&mut self.serving).await;
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
