//! A real gateway in a process of its own, and callers of its REST front.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;
use wakeful::client::address::Address;
use wakeful::proto::bindings_client::BindingsClient;
use wakeful::proto::directory_client::DirectoryClient;
use wakeful::proto::event_log_client::EventLogClient;
use wakeful::proto::outbox_client::OutboxClient;
use wakeful::proto::role::Code as Role;
use wakeful::proto::unbound::Why;
use wakeful::proto::{
    BindRequest, Binding, Event, ForgetHostRequest, ListEventsRequest, ListOutboxRequest, ListOutboxResponse,
    LookupRequest, LookupResponse, ReplaceRequest, ReplaceResponse, UnbindRequest,
};

use super::process::Process;
use super::web::{call, try_call};
use super::{Agent, soon, until, wakeful};

/// A gateway, killed when this is dropped.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) rest: SocketAddr,
    pub(crate) directory: SocketAddr,
    pub(crate) folder: Arc<TempDir>,
    log: PathBuf,
}

impl Gateway {
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_at(super::folder(), "127.0.0.1:0", "127.0.0.1:0", args).await
    }

    /// Starts it once more, on the same folder and the same addresses.
    pub(crate) async fn again(&self, args: &[&str]) -> Self {
        let (rest, directory) = (self.rest.to_string(), self.directory.to_string());
        Self::start_at(Arc::clone(&self.folder), &rest, &directory, args).await
    }

    async fn start_at(folder: Arc<TempDir>, rest: &str, directory: &str, args: &[&str]) -> Self {
        let log = folder.path().join("gateway.log");
        let mut command = wakeful(&["gateway", "--listen", rest, "--directory-listen", directory]);
        command.arg("--data-dir").arg(folder.path().join("gateway")).args(args);
        command.stderr(File::options().create(true).append(true).open(&log).expect("a file for the log"));
        let mut process = Process::start(command);
        let ready = process.line().await;
        let parsed = ready.strip_prefix("wakeful gateway listens on ").and_then(|rest| {
            let (rest, directory) = rest.split_once(", for agents on ")?;
            Some((rest.parse().ok()?, directory.parse().ok()?))
        });
        let (rest, directory) = parsed.unwrap_or_else(|| {
            panic!("not a ready line: {ready:?}\n{}", fs::read_to_string(&log).unwrap_or_default())
        });
        Self { process, rest, directory, folder, log }
    }

    /// A connection to the directory and the outbox.
    pub(crate) fn channel(&self) -> Channel {
        Address::Tcp(self.directory.to_string()).channel().expect("a channel")
    }

    /// An agent that announces itself here, as this host.
    pub(crate) async fn agent(&self, folder: &Arc<TempDir>, host: &str) -> Agent {
        self.agent_with(folder, host, &[]).await
    }

    /// The same, with more options.
    pub(crate) async fn agent_with(&self, folder: &Arc<TempDir>, host: &str, more: &[&str]) -> Agent {
        let directory = self.directory.to_string();
        let args = [&["--gateway", &directory, "--host", host], more].concat();
        let agent = Agent::start_in(Arc::clone(folder), &args).await;
        let mut client = DirectoryClient::new(self.channel());
        let me = agent.address.to_string();
        until("the agent is known", async || {
            let request = wakeful::proto::ListRequest { host: host.to_owned(), ..Default::default() };
            drop(client.list(request).await.ok()?);
            let log = fs::read_to_string(&self.log).ok()?;
            log.lines().any(|line| line.contains("agent announced") && line.contains(&me)).then_some(())
        })
        .await;
        agent
    }

    /// Posts events to the usual path. Gives the reply's status and body.
    pub(crate) async fn post(&self, events: Value) -> (u16, Value) {
        self.try_post(events).await.expect("a reply")
    }

    /// The same; `None` if the connection is lost before the reply.
    pub(crate) async fn try_post(&self, events: Value) -> Option<(u16, Value)> {
        post(self.rest, &events).await
    }

    pub(crate) async fn outbox(&self) -> ListOutboxResponse {
        let mut client = OutboxClient::new(self.channel());
        let answer = soon("the outbox", client.list_outbox(ListOutboxRequest::default())).await;
        answer.expect("the outbox").into_inner()
    }

    pub(crate) async fn lookup(&self, instance: &str) -> LookupResponse {
        let mut client = DirectoryClient::new(self.channel());
        let request = LookupRequest { instance_uuid: instance.to_owned() };
        soon("the look-up", client.lookup(request)).await.expect("the look-up").into_inner()
    }

    pub(crate) async fn forget(&self, host: &str) {
        let mut client = DirectoryClient::new(self.channel());
        let request = ForgetHostRequest { host: host.to_owned() };
        soon("the host is forgotten", client.forget_host(request)).await.expect("the host is forgotten");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the gateway's log\n{}---", self.log());
        }
    }
}

/// An event in a request's body.
pub(crate) fn sent(instance: &str, name: &str, tag: &str) -> Value {
    json!({ "name": name, "tag": tag, "status": "completed", "server_uuid": instance })
}

pub(crate) async fn post(rest: SocketAddr, events: &Value) -> Option<(u16, Value)> {
    post_as(rest, "", events).await
}

/// The same by who has this token.
pub(crate) async fn post_as(rest: SocketAddr, token: &str, events: &Value) -> Option<(u16, Value)> {
    post_in(rest, "project", token, events).await
}

/// The same in this project.
pub(crate) async fn post_in(
    rest: SocketAddr,
    project: &str,
    token: &str,
    events: &Value,
) -> Option<(u16, Value)> {
    let line = format!("POST /v2.1/{project}/os-server-external-events");
    let headers = format!("OpenStack-API-Version: compute latest\r\nX-Auth-Token: {token}\r\n");
    let reply = try_call(rest, &line, &headers, &json!({ "events": events }).to_string()).await?;
    Some((reply.status, reply.try_json()?))
}

/// The status and the body of what is at a path.
pub(crate) async fn get(rest: SocketAddr, path: &str) -> (u16, Value) {
    let reply = call(rest, &format!("GET {path}"), "", "").await;
    (reply.status, reply.json())
}

/// The codes of a reply's events.
pub(crate) fn codes(reply: &Value) -> Vec<u64> {
    let events = reply["events"].as_array().expect("events in the reply");
    events.iter().map(|event| event["code"].as_u64().expect("a code")).collect()
}

impl Agent {
    pub(crate) async fn bind(&self, instance: &str, role: Role) {
        let mut client = BindingsClient::new(self.unix());
        let request = BindRequest { instance_uuid: instance.to_owned(), role: role.into() };
        let bound = soon("the binding", client.bind(request)).await.expect("the binding").into_inner();
        assert_eq!(bound.routable, Some(true));
    }

    pub(crate) async fn unbind(&self, instance: &str, why: Why) {
        let mut client = BindingsClient::new(self.unix());
        let request = UnbindRequest { instance_uuid: instance.to_owned(), why: why.into() };
        let unbound = soon("the unbinding", client.unbind(request)).await.expect("the unbinding");
        assert_eq!(unbound.into_inner().routable, Some(true));
    }

    /// Its driver tells that these, and no others, are on its host.
    pub(crate) async fn replace(&self, instances: &[&str]) -> ReplaceResponse {
        let mut client = BindingsClient::new(self.unix());
        let binding = |instance: &&str| Binding {
            instance_uuid: (*instance).to_owned(),
            role: Role::Host.into(),
            ..Binding::default()
        };
        let request = ReplaceRequest { bindings: instances.iter().map(binding).collect() };
        soon("the bindings", client.replace(request)).await.expect("the bindings").into_inner()
    }

    /// Every event of its log.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let mut client = EventLogClient::new(self.unix());
        let mut request = ListEventsRequest { page_size: 1_000, ..ListEventsRequest::default() };
        let mut events = Vec::new();
        loop {
            let page =
                soon("a page", client.list_events(request.clone())).await.expect("a page").into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return events;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The tags of its events, in order.
    pub(crate) async fn tags(&self) -> Vec<String> {
        self.events().await.into_iter().map(|event| event.tag).collect()
    }

    /// Waits until it has events with just these tags, in this order.
    pub(crate) async fn until_tags(&self, tags: &[&str]) {
        let mut last = Vec::new();
        let seen = tokio::time::timeout(super::BOUND, async {
            loop {
                last = self.tags().await;
                if last == tags {
                    return;
                }
                tokio::time::sleep(super::POLL).await;
            }
        });
        if seen.await.is_err() {
            panic!("the agent's events have the tags {last:?}, not {tags:?}");
        }
    }
}
