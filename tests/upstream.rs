//! A cloud of two hosts beside a Nova that keeps the rest: one has an agent, the other is Nova's alone.

#![cfg(test)]

mod common;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use wakeful::proto::role::Code as Role;
use wakeful::proto::unbound::Why;

use common::calls::{open, uuid, wait_for};
use common::folder;
use common::gateway::{Gateway, codes, post_as, sent};
use common::service::Service;

const PLUGGED: &str = "network-vif-plugged";
const CHANGED: &str = "network-changed";

/// A Nova that has these instances on a host of its own, and takes nothing without a token.
#[derive(Clone, Default)]
struct Nova {
    instances: Arc<Mutex<Vec<String>>>,
    /// The tags of the events that its host got.
    got: Arc<Mutex<Vec<String>>>,
}

impl Nova {
    fn has(&self, instance: &str) {
        self.instances.lock().expect("no panic").push(instance.to_owned());
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().expect("no panic").clone()
    }

    fn router(&self) -> Router {
        let this = self.clone();
        let answer = async move |headers: HeaderMap, body: Bytes| this.answer(&headers, &body);
        Router::new().route("/v2.1/project/os-server-external-events", post(answer))
    }

    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> (StatusCode, String) {
        if headers.get("x-auth-token").is_none_or(|token| token != "neutron") {
            return (StatusCode::UNAUTHORIZED, json!({"error": {"code": 401}}).to_string());
        }
        let mut body: Value = serde_json::from_slice(body).expect("JSON");
        let mut whole = StatusCode::OK;
        for event in body["events"].as_array_mut().expect("events") {
            let known =
                self.instances.lock().expect("no panic").iter().any(|known| event["server_uuid"] == **known);
            match known {
                true => {
                    self.got.lock().expect("no panic").push(event["tag"].as_str().expect("a tag").to_owned())
                }
                false => whole = StatusCode::MULTI_STATUS,
            }
            event["code"] = if known { 200 } else { 404 }.into();
            event["status"] = if known { "completed" } else { "failed" }.into();
        }
        (whole, body.to_string())
    }
}

async fn send(gateway: &Gateway, events: Value) -> (u16, Value) {
    post_as(gateway.rest, "neutron", &events).await.expect("a reply")
}

#[tokio::test]
async fn every_event_of_a_cloud_that_is_half_novas_arrives_where_it_should() {
    let nova = Nova::default();
    let service = Service::start(nova.router()).await;
    let gateway = Gateway::start(&["--upstream", &service.url()]).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    let [ours, theirs, nobodys] = [(); 3].map(|()| uuid());
    agent.bind(&ours, Role::Host).await;
    nova.has(&theirs);

    let events = json!([
        sent(&theirs, PLUGGED, "1"),
        sent(&ours, PLUGGED, "2"),
        sent(&nobodys, PLUGGED, "3"),
        sent(&theirs, CHANGED, "4"),
        sent(&ours, CHANGED, "5"),
    ]);
    let (status, reply) = send(&gateway, events).await;
    assert_eq!((status, codes(&reply)), (207, vec![200, 200, 404, 200, 200]));
    agent.until_tags(&["2", "5"]).await;
    assert_eq!(nova.got(), ["1", "4"]);

    // From Nova's host to the agent's: while it is on its way, both get what comes.
    nova.has(&ours);
    agent.bind(&theirs, Role::MigrationDestination).await;
    assert_eq!(send(&gateway, json!([sent(&theirs, PLUGGED, "6")])).await.0, 200);
    agent.bind(&theirs, Role::Host).await;
    assert_eq!(send(&gateway, json!([sent(&theirs, PLUGGED, "7")])).await.0, 200);
    // And another one from the agent's host to Nova's.
    agent.bind(&ours, Role::MigrationSource).await;
    assert_eq!(send(&gateway, json!([sent(&ours, PLUGGED, "8")])).await.0, 200);
    agent.until_tags(&["2", "5", "6", "7", "8"]).await;
    agent.unbind(&ours, Why::Moved).await;
    assert_eq!(send(&gateway, json!([sent(&ours, PLUGGED, "9")])).await.0, 200);
    assert_eq!(nova.got(), ["1", "4", "6", "8", "9"]);
    assert_eq!(agent.tags().await, ["2", "5", "6", "7", "8"]);
}

#[tokio::test]
async fn an_operation_that_waits_on_an_agent_is_woken_while_the_instance_is_still_novas() {
    let nova = Nova::default();
    let service = Service::start(nova.router()).await;
    let gateway = Gateway::start(&["--upstream", &service.url()]).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    let [theirs, unknown] = [(); 2].map(|()| uuid());
    nova.has(&theirs);
    for (instance, tag) in [(&theirs, "known"), (&unknown, "unknown")] {
        let mut wait = open(&agent.unix(), wait_for(instance, &[(PLUGGED, tag)])).await;
        assert_eq!(wait.registered.routable, Some(true));
        assert_eq!(send(&gateway, json!([sent(instance, PLUGGED, tag)])).await.0, 200);
        assert_eq!(wait.outcome_at_last().await.kind(), wakeful::proto::outcome::Kind::Completed);
    }
    assert_eq!(nova.got(), ["known"]);
}

#[tokio::test]
async fn while_nova_is_down_what_is_here_arrives_and_the_rest_is_503() {
    let nova = Nova::default();
    let service = Service::start(nova.router()).await;
    let gateway = Gateway::start(&["--upstream", &service.url()]).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    let [ours, theirs] = [(); 2].map(|()| uuid());
    agent.bind(&ours, Role::Host).await;
    nova.has(&theirs);
    let both = |tag: &str| json!([sent(&theirs, PLUGGED, tag), sent(&ours, PLUGGED, tag)]);

    let address = service.stop().await;
    let (status, reply) = send(&gateway, both("1")).await;
    assert_eq!((status, &reply["serviceUnavailable"]["code"]), (503, &json!(503)));
    assert_eq!(send(&gateway, json!([sent(&ours, PLUGGED, "2")])).await.0, 200);
    agent.until_tags(&["1", "2"]).await;
    assert_eq!(gateway.outbox().await.counts.expect("counts").refused, 1);

    let _service = Service::start_at(address, nova.router()).await;
    assert_eq!(send(&gateway, both("3")).await.0, 200);
    agent.until_tags(&["1", "2", "3"]).await;
    assert_eq!(nova.got(), ["3"]);

    // Without a token that Nova takes, what it says is what the caller is told.
    let refused = post_as(gateway.rest, "reader", &both("4")).await.expect("a reply");
    assert_eq!(refused, (401, json!({"error": {"code": 401}})));
}
