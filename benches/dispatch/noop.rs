//! The service that does nothing: it decodes every event and answers it, over the agent's own transport.

use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures_util::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use wakeful::config::Options;
use wakeful::net::flag::Flag;
use wakeful::net::http2::{Bounds, Http2};
use wakeful::net::listen;
use wakeful::net::serve::serve;
use wakeful::proto;
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::event_receiver_server::{EventReceiver, EventReceiverServer};

/// Serves until standard input ends.
pub(crate) fn run() -> Result<()> {
    // Without its starter it must not go on.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let config = Options::default().resolve()?;
        let listener = listen::tcp(([127, 0, 0, 1], 0).into()).await?;
        println!("noop listens on {}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let message = usize::try_from(config.max_message.0)?;
        let receiver = EventReceiverServer::new(Noop(Arc::new(Log::default())));
        let routes = Routes::new(receiver.max_decoding_message_size(message)).prepare();
        let stop = Flag::default();
        let open = Arc::new(AtomicUsize::new(0));
        let protocol = Http2::new(routes, Bounds::from(&config));
        serve(listener, protocol, config.max_connections, open, stop.clone(), Duration::ZERO).await;
        Ok(())
    })
}

/// What a reply says: as many bytes as the agent's.
struct Log {
    id: String,
    head: AtomicU64,
}

impl Default for Log {
    fn default() -> Self {
        Self { id: uuid::Uuid::new_v4().to_string(), head: AtomicU64::new(0) }
    }
}

impl Log {
    fn answer(&self, request: proto::DispatchRequest) -> proto::DispatchResponse {
        let results = request.events.iter().map(|_| proto::DispatchResult {
            disposition: Disposition::Retained.into(),
            position: self.head.fetch_add(1, Ordering::Relaxed) + 1,
            ..Default::default()
        });
        proto::DispatchResponse { results: results.collect(), log_id: self.id.clone() }
    }
}

struct Noop(Arc<Log>);

#[tonic::async_trait]
impl EventReceiver for Noop {
    async fn dispatch(
        &self,
        request: Request<proto::DispatchRequest>,
    ) -> Result<Response<proto::DispatchResponse>, Status> {
        Ok(Response::new(self.0.answer(request.into_inner())))
    }

    type DispatchStreamStream = Pin<Box<dyn Stream<Item = Result<proto::DispatchResponse, Status>> + Send>>;

    async fn dispatch_stream(
        &self,
        request: Request<Streaming<proto::DispatchRequest>>,
    ) -> Result<Response<Self::DispatchStreamStream>, Status> {
        let log = Arc::clone(&self.0);
        let replies = request.into_inner().map(move |request| Ok(log.answer(request?)));
        Ok(Response::new(Box::pin(replies)))
    }
}
