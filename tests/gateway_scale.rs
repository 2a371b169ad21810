//! 5,000 instances on one host, and 2,000 hosts at one gateway.

#![cfg(test)]

mod common;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use wakeful::proto::bindings_client::BindingsClient;
use wakeful::proto::directory_client::DirectoryClient;
use wakeful::proto::role::Code as Role;
use wakeful::proto::{AnnounceRequest, AnnounceResponse, Binding, Hello, ListRequest, ReplaceRequest};

use common::calls::uuid;
use common::gateway::{Gateway, codes, sent};
use common::{folder, soon, until};

const INSTANCES: usize = 5_000;
const HOSTS: usize = 2_000;

fn bound(instance: &str) -> Binding {
    Binding { instance_uuid: instance.to_owned(), role: Role::Host.into(), ..Binding::default() }
}

async fn count(gateway: &Gateway, host: &str) -> usize {
    let mut directory = DirectoryClient::new(gateway.channel()).max_decoding_message_size(usize::MAX);
    let mut request = ListRequest { host: host.to_owned(), page_size: 1_000, ..ListRequest::default() };
    let mut count = 0;
    loop {
        let page = soon("a page", directory.list(request.clone())).await.expect("a page").into_inner();
        count += page.bindings.len();
        if page.next_page_token.is_empty() {
            return count;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn a_host_of_5_000_instances_is_told_whole_kept_and_told_again() {
    let gateway = Gateway::start(&[]).await;
    let home = folder();
    let mut agent = gateway.agent(&home, "large").await;
    let instances: Vec<_> = (0..INSTANCES).map(|_| uuid()).collect();
    let bindings: Vec<_> = instances.iter().map(|instance| bound(instance)).collect();
    let mut driver = BindingsClient::new(agent.unix());
    let replaced = soon("the bindings", driver.replace(ReplaceRequest { bindings })).await;
    let replaced = replaced.expect("replaced").into_inner();
    assert_eq!((replaced.bound, replaced.unbound, replaced.routable), (INSTANCES as u32, 0, Some(true)));
    assert_eq!(count(&gateway, "large").await, INSTANCES);
    agent.process.signal(rustix::process::Signal::KILL);
    agent.process.ended(common::BOUND).await;
    let agent = gateway.agent(&home, "large").await;
    assert_eq!(count(&gateway, "large").await, INSTANCES);
    // 700 events, as many as Nova takes in one request.
    let events: Vec<_> =
        instances.iter().take(700).map(|instance| sent(instance, "network-changed", "")).collect();
    let (status, reply) = gateway.post(json!(events)).await;
    assert!(status == 200 && codes(&reply).len() == 700);
    until("all have come", async || (agent.events().await.len() == 700).then_some(())).await;
}

#[tokio::test]
async fn two_thousand_hosts_announce_themselves_to_one_gateway() {
    let gateway = Gateway::start(&[]).await;
    // An agent has a connection of its own; here a few share one.
    let channels: Vec<_> = (0..HOSTS / 10).map(|_| gateway.channel()).collect();
    let mut announcing = JoinSet::new();
    for host in 0..HOSTS {
        let channel = channels[host % channels.len()].clone();
        announcing.spawn(async move {
            let (requests, stream) = mpsc::channel(1);
            let bindings = (0..5).map(|_| bound(&uuid())).collect();
            let (host, address) = (format!("host-{host}"), "127.0.0.1:9".to_owned());
            let hello = Some(Hello { host, address, whole: true, bindings });
            let hello = AnnounceRequest { sequence: 1, hello, changes: vec![] };
            requests.send(hello).await.expect("a stream");
            let mut directory = DirectoryClient::new(channel);
            let answers = directory.announce(ReceiverStream::new(stream)).await.expect("a stream");
            let mut answers = answers.into_inner();
            let answer: AnnounceResponse = answers.message().await.expect("an answer").expect("an answer");
            assert_eq!((answer.sequence, answer.bindings.len()), (1, 5));
            (requests, answers)
        });
    }
    let open = soon("every host's announcement", announcing.join_all()).await;
    assert_eq!(count(&gateway, "").await, HOSTS * 5);
    assert_eq!(count(&gateway, "host-1999").await, 5);
    // Their streams are open: they count as reachable.
    let mut directory = DirectoryClient::new(gateway.channel()).max_decoding_message_size(usize::MAX);
    let page = directory.list(ListRequest { page_size: 1_000, ..ListRequest::default() }).await;
    assert!(page.expect("a page").into_inner().hosts.iter().all(|host| host.reachable));
    drop(open);
}
