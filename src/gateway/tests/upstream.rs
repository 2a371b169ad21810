//! What goes on to an existing Nova, what comes back, and what happens while it is away.

mod whole;

use std::collections::HashMap;
use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post as posted;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::*;
use crate::gateway::rest::auth::Auth;
use crate::gateway::rest::{Door, Settings, door};
use crate::gateway::upstream::{Settings as Asked, Upstream};
use crate::net::outbound::BaseUrl;
use crate::net::testing::Server;

const PATH: &str = "/v2.1/p1/os-server-external-events";
const PLUGGED: &str = "network-vif-plugged";
const CHANGED: &str = "network-changed";

/// A request that Nova has seen.
struct Seen {
    path: String,
    headers: HeaderMap,
    body: Value,
}

struct Inside {
    seen: Mutex<Vec<Seen>>,
    /// The code of each instance's events; 404 for others.
    codes: Mutex<HashMap<String, u16>>,
    /// What everything is answered, if anything else.
    whole: Mutex<Option<(u16, String)>>,
    /// A permit for each request that may go on.
    go_on: Semaphore,
    come: Semaphore,
}

struct Nova {
    inside: Arc<Inside>,
    server: Server,
}

impl Nova {
    async fn start() -> Self {
        let inside = Arc::new(Inside {
            seen: Mutex::default(),
            codes: Mutex::default(),
            whole: Mutex::default(),
            go_on: Semaphore::new(1_000),
            come: Semaphore::new(0),
        });
        let router = Router::new().fallback(posted(answer)).with_state(Arc::clone(&inside));
        Self { inside, server: Server::start(router).await }
    }

    fn answers(&self, instance: InstanceId, code: u16) {
        self.inside.codes.lock().unwrap().insert(instance.to_string(), code);
    }

    fn answers_all(&self, whole: Option<(u16, &str)>) {
        *self.inside.whole.lock().unwrap() = whole.map(|(status, body)| (status, body.to_owned()));
    }

    /// The events of each request that has come since this was asked.
    fn seen(&self) -> Vec<Value> {
        self.inside.seen.lock().unwrap().drain(..).map(|seen| seen.body["events"].clone()).collect()
    }

    fn asked(&self) -> Asked {
        Asked {
            url: format!("{}/compute", self.server.url()).parse().unwrap(),
            ca_file: None,
            timeout: Duration::from_secs(20),
            max_requests: 10,
            max_body: 1 << 20,
        }
    }
}

async fn answer(State(inside): State<Arc<Inside>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    inside.come.add_permits(1);
    inside.go_on.acquire().await.unwrap().forget();
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    inside.seen.lock().unwrap().push(Seen { path: uri.path().to_owned(), headers, body: body.clone() });
    if let Some((status, body)) = inside.whole.lock().unwrap().clone() {
        let told =
            [("www-authenticate", "Keystone uri=\"http://k\""), ("retry-after", "7"), ("x-secret", "no")];
        return (StatusCode::from_u16(status).unwrap(), told, body).into_response();
    }
    for event in body["events"].as_array_mut().unwrap() {
        let uuid = event["server_uuid"].as_str().unwrap().to_lowercase();
        let code = inside.codes.lock().unwrap().get(&uuid).copied().unwrap_or(404);
        event["code"] = code.into();
        event["status"] = if code == 200 { "completed" } else { "failed" }.into();
    }
    (StatusCode::MULTI_STATUS, body.to_string()).into_response()
}

/// A gateway's front with an upstream.
fn front(post: &Arc<Post>, asked: Asked) -> Door<Keeper> {
    let keeper = Keeper::new(Arc::clone(post), Unknown::NotFound, Duration::from_secs(5));
    let keeper = keeper.with_upstream(Upstream::new(asked).unwrap());
    door(keeper, Auth::None, Settings::default(), Flag::default())
}

fn event(instance: InstanceId, name: &str) -> Value {
    json!({"name": name, "server_uuid": instance.to_string(), "tag": "t"})
}

async fn send(front: &Door<Keeper>, headers: &[(&str, &str)], path: &str, events: &Value) -> Response {
    let mut request = Request::post(path).header("openstack-api-version", "compute latest");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::from(json!({ "events": events }).to_string());
    front.clone().oneshot(request.body(body).unwrap()).await.unwrap()
}

/// The whole status, and each event's code and status.
async fn ask(front: &Door<Keeper>, events: Value) -> (u16, Vec<(u64, String)>) {
    let response = send(front, &[], PATH, &events).await;
    let status = response.status().as_u16();
    let reply = body(response).await;
    let told = reply["events"].as_array().into_iter().flatten();
    let told =
        told.map(|event| (event["code"].as_u64().unwrap(), event["status"].as_str().unwrap().to_owned()));
    (status, told.collect())
}

async fn body(response: Response) -> Value {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn told(code: u64) -> (u64, String) {
    (code, if code == 200 { "completed" } else { "failed" }.to_owned())
}

/// An instance with these changes on the host `a`.
async fn instance(post: &Post, changes: &[Change]) -> InstanceId {
    let instance = InstanceId::random();
    for change in changes {
        tell(post, "a", instance, *change).await;
    }
    instance
}

/// How many deliveries wait for hosts here.
fn kept(post: &Post) -> usize {
    waiting(post).len()
}

#[tokio::test]
async fn what_has_no_host_here_is_the_upstreams_and_what_is_migrating_or_waits_is_both() {
    let unbound = |why| vec![HOST, Change::Unbind(why)];
    // What is told of an instance, the event, whether it is kept here, whether it goes on.
    let rows = [
        (vec![], PLUGGED, false, true),
        (vec![HOST], PLUGGED, true, false),
        (vec![HOST], CHANGED, true, false),
        (vec![HOST, Change::Wait], PLUGGED, true, false),
        (vec![Change::Wait], PLUGGED, true, true),
        (vec![Change::Wait], CHANGED, false, true),
        (vec![bind(Role::MigrationSource)], CHANGED, true, true),
        (vec![bind(Role::MigrationDestination)], PLUGGED, true, true),
        (unbound(Why::Moved), PLUGGED, false, true),
        (unbound(Why::Offloaded), PLUGGED, false, true),
        (unbound(Why::Deleted), PLUGGED, false, true),
    ];
    for (changes, name, here, there) in rows {
        for theirs in [200, 404, 422, 400] {
            let (post, nova) = (post(), Nova::start().await);
            let front = front(&post, nova.asked());
            let instance = instance(&post, &changes).await;
            nova.answers(instance, theirs);
            let code = if here { 200 } else { u64::from(theirs) };
            let whole = if code == 200 { 200 } else { 207 };
            let row = format!("{changes:?} {name} {theirs}");
            assert_eq!(ask(&front, json!([event(instance, name)])).await, (whole, vec![told(code)]), "{row}");
            assert_eq!((kept(&post) == 1, nova.seen().len() == 1), (here, there), "{row}");
            let refused = u64::from(code != 200);
            assert_eq!(post.ends.counts().refused, refused, "{row}");
        }
    }
}

#[tokio::test]
async fn one_request_goes_on_with_only_its_events_as_they_were_sent_and_all_are_answered_in_order() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, nova.asked());
    let here = instance(&post, &[HOST]).await;
    let both = instance(&post, &[bind(Role::MigrationSource)]).await;
    let [theirs, hostless, unknown] = [(); 3].map(|()| InstanceId::random());
    nova.answers(theirs, 200);
    nova.answers(hostless, 422);
    let odd =
        json!({"name": PLUGGED, "server_uuid": theirs.to_string().to_uppercase(), "status": "in-progress"});
    let sent = [
        event(unknown, PLUGGED),
        event(here, PLUGGED),
        odd.clone(),
        event(both, CHANGED),
        event(here, CHANGED),
        event(hostless, PLUGGED),
    ];
    let codes = [404, 200, 200, 200, 200, 422].map(told);
    assert_eq!(ask(&front, json!(sent)).await, (207, codes.to_vec()));
    let [unknown, _, _, both, _, hostless] = sent;
    assert_eq!(nova.seen(), [json!([unknown, odd, both, hostless])]);
    assert_eq!(kept(&post), 3);
}

#[tokio::test]
async fn a_missing_tag_is_the_upstreams_to_refuse_where_the_instance_is_its_own() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, nova.asked());
    let both = instance(&post, &[bind(Role::MigrationSource)]).await;
    let theirs = InstanceId::random();
    nova.answers(theirs, 400);
    let tagless =
        |instance: InstanceId| json!({"name": "volume-extended", "server_uuid": instance.to_string()});
    let sent = json!([tagless(both), tagless(theirs), tagless(InstanceId::random())]);
    assert_eq!(ask(&front, sent).await.1, [400, 400, 404].map(told));
    assert_eq!((nova.seen()[0].as_array().unwrap().len(), kept(&post)), (2, 0));
}

#[tokio::test]
async fn path_token_versions_and_request_id_go_along_and_nothing_else() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, nova.asked());
    let events = json!([event(InstanceId::random(), PLUGGED)]);
    let id = "req-3df201cf-2451-44f2-8d25-a4ca826fc1f3";
    let along = [
        ("x-auth-token", "secret"),
        ("x-service-token", "other"),
        ("x-openstack-nova-api-version", "2.90"),
        ("x-openstack-request-id", id),
        ("traceparent", "00-1-2-01"),
    ];
    let others = [("x-roles", "admin"), ("x-forwarded-for", "::1"), ("cookie", "c"), ("host", "gateway")];
    for path in [PATH, "/v2.1/os-server-external-events", "/v2/p%20q/os-server-external-events"] {
        let response = send(&front, &[&along[..], &others].concat(), path, &events).await;
        let own_id = response.headers()["x-openstack-request-id"].to_str().unwrap().to_owned();
        let Seen { path: seen, headers, .. } = nova.inside.seen.lock().unwrap().pop().unwrap();
        assert_eq!(seen, format!("/compute{path}"));
        for (name, value) in along.into_iter().chain([("openstack-api-version", "compute latest")]) {
            assert_eq!(headers[name], value);
        }
        for (name, value) in others {
            assert_ne!(headers.get(name).map(|value| value.to_str().unwrap()), Some(value));
        }
        assert_eq!((&headers["content-type"], own_id == id), (&"application/json".parse().unwrap(), false));

        // A request that has no id of its own, or none that is one, has ours.
        let response = send(&front, &[("x-openstack-request-id", "mine")], path, &events).await;
        let own_id = &response.headers()["x-openstack-request-id"];
        let Seen { headers, .. } = nova.inside.seen.lock().unwrap().pop().unwrap();
        assert_eq!(&headers["x-openstack-request-id"], own_id);
        assert!(!headers.contains_key("x-auth-token"));
    }
}

#[tokio::test]
async fn under_v2_fields_that_are_not_known_go_along() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, nova.asked());
    let mut sent = event(InstanceId::random(), PLUGGED);
    sent["more"] = json!({"x": 1.5});
    send(&front, &[], "/v2/os-server-external-events", &json!([sent])).await;
    assert_eq!(nova.seen(), [json!([sent])]);
}
