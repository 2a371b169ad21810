//! What does nothing: a route that parses the body and gives its events back, and an agent that passes on that it was
//! called.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use futures_util::{Stream, stream};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use wakeful::client::address::Address;
use wakeful::config::Options;
use wakeful::net::flag::Flag;
use wakeful::net::http1::Http1;
use wakeful::net::http2::{Bounds, Http2};
use wakeful::net::listen;
use wakeful::net::serve::{Protocol, serve};
use wakeful::proto::event_receiver_client::EventReceiverClient;
use wakeful::proto::event_receiver_server::{EventReceiver, EventReceiverServer};
use wakeful::proto::{DispatchRequest, DispatchResponse};

/// Connections at once.
const CONNECTIONS: usize = 256;
/// Calls that whoever listens has not taken in.
const UNREAD: usize = 1024;

/// The route. Where there is an agent that does nothing, each request goes on to it, and is answered meanwhile.
pub(crate) fn route(agent: Option<SocketAddr>) -> Result<()> {
    run(async move |listener| {
        let agent = agent.map(|agent| Address::Tcp(agent.to_string()).channel()).transpose()?;
        let agent = agent.map(EventReceiverClient::new);
        let answer = async move |body: Bytes| {
            let Ok(mut body) = serde_json::from_slice::<Value>(&body) else {
                return (StatusCode::BAD_REQUEST, String::new());
            };
            for event in body["events"].as_array_mut().into_iter().flatten() {
                event["status"] = "completed".into();
                event["code"] = 200.into();
            }
            if let Some(mut agent) = agent {
                tokio::spawn(async move { agent.dispatch(DispatchRequest::default()).await });
            }
            (StatusCode::OK, body.to_string())
        };
        let router = Router::new().route("/v2.1/os-server-external-events", post(answer));
        let patience = Duration::from_secs(60);
        listen(listener, Http1::new(router, patience, patience, |text| text.as_bytes().to_vec())).await;
        Ok(())
    })
}

/// The agent: whoever has a `DispatchStream` open is told of each `Dispatch`.
pub(crate) fn agent() -> Result<()> {
    run(async |listener| {
        let receiver = EventReceiverServer::new(Agent(broadcast::channel(UNREAD).0));
        let routes = Routes::new(receiver).prepare();
        listen(listener, Http2::new(routes, Bounds::from(&Options::default().resolve()?))).await;
        Ok(())
    })
}

async fn listen(listener: TcpListener, protocol: impl Protocol) {
    let open = Arc::<AtomicUsize>::default();
    serve(listener, protocol, CONNECTIONS, open, Flag::default(), Duration::ZERO).await;
}

/// Serves until standard input ends.
fn run(serving: impl AsyncFnOnce(TcpListener) -> Result<()>) -> Result<()> {
    // Without its starter it must not go on.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = listen::tcp(([127, 0, 0, 1], 0).into()).await?;
        println!("noop listens on {}", listener.local_addr()?);
        std::io::stdout().flush()?;
        serving(listener).await
    })
}

struct Agent(broadcast::Sender<()>);

#[tonic::async_trait]
impl EventReceiver for Agent {
    async fn dispatch(&self, _: Request<DispatchRequest>) -> Result<Response<DispatchResponse>, Status> {
        let _ = self.0.send(());
        Ok(Response::new(DispatchResponse::default()))
    }

    type DispatchStreamStream = Pin<Box<dyn Stream<Item = Result<DispatchResponse, Status>> + Send>>;

    async fn dispatch_stream(
        &self,
        _: Request<Streaming<DispatchRequest>>,
    ) -> Result<Response<Self::DispatchStreamStream>, Status> {
        let told = stream::unfold(self.0.subscribe(), async |mut calls| {
            calls.recv().await.ok().map(|()| (Ok(DispatchResponse::default()), calls))
        });
        Ok(Response::new(Box::pin(told)))
    }
}
