//! `Directory`: agents announce what their hosts have, and operators look.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::leases::Leases;
use super::post::Post;
use crate::convert::{self, bindings};
use crate::directory::{Announced, Bound, DirectoryError, Host};
use crate::event::InstanceId;
use crate::net::flag::Flag;
use crate::proto::directory_server::Directory as Service;
use crate::proto::reason::Code as Reason;
use crate::proto::{self, AnnounceRequest, AnnounceResponse};
use crate::status::Refusal;

/// Answers that an agent has not read yet.
const UNREAD: usize = 16;
/// Changes in one request.
const MAX_CHANGES: usize = 1_000;

#[derive(Clone)]
pub(super) struct Announcements {
    pub(super) post: Arc<Post>,
    pub(super) leases: Leases,
    pub(super) stopping: Flag,
}

#[tonic::async_trait]
impl Service for Announcements {
    type AnnounceStream = ReceiverStream<Result<AnnounceResponse, Status>>;

    async fn announce(
        &self,
        request: Request<Streaming<AnnounceRequest>>,
    ) -> Result<Response<Self::AnnounceStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(UNREAD);
        let this = self.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                biased;
                () = this.stopping.clone().raised() => Err(stopping().into()),
                ended = this.listen(&mut requests, &answers) => ended,
            };
            if let Err(status) = ended {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lookup(
        &self,
        request: Request<proto::LookupRequest>,
    ) -> Result<Response<proto::LookupResponse>, Status> {
        let instance: InstanceId = convert::parse("instance_uuid", &request.into_inner().instance_uuid)?;
        let known = self.post.directory.look(&[instance]).await.map_err(unusable)?;
        let known = known.into_iter().next().unwrap_or_default();
        let told = bindings::to_bindings(instance, &known);
        let hosts = known.bindings.iter().map(|binding| binding.host.clone()).collect();
        Ok(Response::new(proto::LookupResponse {
            bindings: told,
            why: known.unbound.map_or(0, |(why, _)| bindings::to_why(why).into()),
            since: known.unbound.map(|(_, at)| convert::timestamp(at)),
            hosts: self.hosts(hosts).await?,
        }))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        let request = request.into_inner();
        let size = convert::page_size(request.page_size)?;
        let only: Option<Host> = match request.host.as_str() {
            "" => None,
            name => Some(bindings::host("host", name)?),
        };
        let mut after: Option<InstanceId> = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| convert::bad_page_token(token))?),
        };
        let (mut told, mut hosts, mut more) = (Vec::new(), HashSet::new(), true);
        while told.len() < size && more {
            let entries = self.post.directory.list(after, size).await.map_err(unusable)?;
            more = entries.len() == size;
            for (instance, known) in entries {
                after = Some(instance);
                let of = bindings::to_bindings(instance, &known);
                let of =
                    of.into_iter().filter(|of| only.as_ref().is_none_or(|only| only.as_str() == of.host));
                let before = told.len();
                told.extend(of);
                if told.len() > before {
                    hosts.extend(known.bindings.iter().map(|binding| binding.host.clone()));
                }
                if told.len() >= size {
                    more = true;
                    break;
                }
            }
        }
        if let Some(only) = only {
            hosts.retain(|host| *host == only);
        }
        Ok(Response::new(proto::ListResponse {
            bindings: told,
            next_page_token: after.filter(|_| more).map(|after| after.to_string()).unwrap_or_default(),
            hosts: self.hosts(hosts).await?,
        }))
    }

    async fn forget_host(
        &self,
        request: Request<proto::ForgetHostRequest>,
    ) -> Result<Response<proto::ForgetHostResponse>, Status> {
        let host = bindings::host("host", &request.into_inner().host)?;
        let had = self.instances_of(&host).await?;
        let now = self.post.clock().now();
        let unbound = self.post.directory.forget(now, host.clone()).await.map_err(unusable)?;
        self.leases.forget(&host);
        info!(%host, unbound, "host forgotten");
        self.settle(had).await;
        Ok(Response::new(proto::ForgetHostResponse { unbound: u32::try_from(unbound).unwrap_or(u32::MAX) }))
    }
}

impl Announcements {
    /// Takes in what an agent announces, until its stream ends.
    async fn listen(
        &self,
        requests: &mut Streaming<AnnounceRequest>,
        answers: &mpsc::Sender<Result<AnnounceResponse, Status>>,
    ) -> Result<(), Status> {
        // It may be more than a message may hold, or be cut off: its agent is told.
        let Some(first) = requests.message().await? else { return Ok(()) };
        let Some(hello) = &first.hello else {
            let text = "is required in the first request";
            return Err(Refusal::field("hello", Reason::MissingField, text).into());
        };
        let host = bindings::host("hello.host", &hello.host)?;
        let (number, ended) = self.leases.open(&host, self.post.clock().now());
        let served = async {
            self.take(answers, &host, first).await?;
            self.post.queues.kick(&host);
            while let Some(request) = requests.message().await? {
                self.take(answers, &host, request).await?;
            }
            Ok(())
        };
        let ended = self.until_taken_over(&host, served, ended).await;
        self.leases.close(&host, number, self.post.clock().now());
        debug!(%host, "agent's stream ended");
        ended
    }

    async fn until_taken_over(
        &self,
        host: &Host,
        served: impl Future<Output = Result<(), Status>>,
        ended: oneshot::Receiver<()>,
    ) -> Result<(), Status> {
        tokio::select! {
            biased;
            _ = ended => {
                let text = format!("{host} announces itself on a newer stream, or was forgotten");
                Err(Refusal::new(Code::Aborted, Reason::TakenOver, text).into())
            }
            ended = served => ended,
        }
    }

    /// Takes a request in, and answers it.
    async fn take(
        &self,
        answers: &mpsc::Sender<Result<AnnounceResponse, Status>>,
        host: &Host,
        request: AnnounceRequest,
    ) -> Result<(), Refusal> {
        let hello = request.hello.map(|hello| announced(hello, host)).transpose()?;
        // Why something is no longer there is told by the changes alone.
        let mut bound = self.change(host, &request.changes).await?;
        if let Some(hello) = hello {
            bound.extend(self.whole(hello).await?);
        }
        self.answer(answers, host, request.sequence, bound).await;
        Ok(())
    }

    /// An agent tells what there is.
    async fn whole(&self, announced: Announced) -> Result<Vec<Bound>, Refusal> {
        let Announced { host, whole, changes, address } = &announced;
        info!(%host, address, bindings = changes.len(), whole, "agent announced");
        let mut touched: BTreeSet<_> = changes.iter().map(|(instance, _)| *instance).collect();
        touched.extend(self.instances_of(host).await?);
        self.take_in(announced, touched).await
    }

    /// It tells what has changed.
    async fn change(&self, host: &Host, changes: &[proto::BindingChange]) -> Result<Vec<Bound>, Refusal> {
        if changes.len() > MAX_CHANGES {
            let text = format!("has {} changes, at most {MAX_CHANGES} go in one request", changes.len());
            return Err(Refusal::field("changes", Reason::OverLimit, &text));
        }
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let changes = bindings::changes("changes", changes)?;
        let touched = changes.iter().map(|(instance, _)| *instance).collect();
        self.take_in(Announced { host: host.clone(), address: None, whole: false, changes }, touched).await
    }

    async fn take_in(
        &self,
        announced: Announced,
        touched: BTreeSet<InstanceId>,
    ) -> Result<Vec<Bound>, Refusal> {
        let now = self.post.clock().now();
        let bound = self.post.directory.announce(now, announced).await.map_err(unusable)?;
        self.settle(touched).await;
        Ok(bound)
    }

    /// What no longer belongs where it waits goes on now. If it cannot, it does when its courier next comes.
    async fn settle(&self, instances: BTreeSet<InstanceId>) {
        if let Err(error) = self.post.settle(&instances).await {
            warn!(%error, "what is kept for a host that has changed stays for now");
        }
    }

    async fn answer(
        &self,
        answers: &mpsc::Sender<Result<AnnounceResponse, Status>>,
        host: &Host,
        sequence: u64,
        bound: Vec<Bound>,
    ) {
        let bindings = bound.into_iter().map(|bound| proto::Binding {
            instance_uuid: bound.instance.to_string(),
            role: bindings::to_role(bound.role).into(),
            revision: bound.revision.0,
            host: host.to_string(),
            bound_at: bound.bound_at.map(convert::timestamp),
        });
        // An agent that has gone announces itself again.
        let _ = answers.send(Ok(AnnounceResponse { sequence, bindings: bindings.collect() })).await;
    }

    async fn instances_of(&self, host: &Host) -> Result<BTreeSet<InstanceId>, Refusal> {
        self.post.directory.instances_of(host).await.map_err(unusable)
    }

    async fn hosts(&self, hosts: HashSet<Host>) -> Result<Vec<proto::Host>, Refusal> {
        let mut hosts: Vec<_> = hosts.into_iter().collect();
        hosts.sort_unstable();
        let mut told = Vec::with_capacity(hosts.len());
        for host in hosts {
            let address = self.post.directory.address(&host).await.map_err(unusable)?;
            let (reachable, seen_at) = self.leases.of(&host);
            told.push(proto::Host {
                host: host.to_string(),
                address: address.unwrap_or_default(),
                reachable,
                seen_at: seen_at.map(convert::timestamp),
            });
        }
        Ok(told)
    }
}

/// What an agent tells of its host, which has to be this one.
fn announced(hello: proto::Hello, host: &Host) -> Result<Announced, Refusal> {
    if hello.host != host.as_str() {
        let text = format!("is {}, and this stream is {host}'s", crate::event::Quoted(&hello.host));
        return Err(Refusal::field("hello.host", Reason::InvalidField, &text));
    }
    if hello.address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        let text = format!("is {}, it must be HOST:PORT", crate::event::Quoted(&hello.address));
        return Err(Refusal::field("hello.address", Reason::InvalidField, &text));
    }
    let changes = bindings::announced("hello.bindings", &hello.bindings)?;
    Ok(Announced { host: host.clone(), address: Some(hello.address), whole: hello.whole, changes })
}

fn unusable(error: DirectoryError) -> Refusal {
    Refusal::new(Code::Unavailable, Reason::LogFailed, error.to_string())
}

fn stopping() -> Refusal {
    Refusal::new(
        Code::Unavailable,
        Reason::Stopping,
        "the gateway is stopping; announce again to the next process",
    )
}
