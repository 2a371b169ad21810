//! A cloud of hosts of which some have an agent, and the rest are Nova's alone.

use serde_json::{Value, json};
use wakeful::proto::outcome::Kind;
use wakeful::proto::role::Code as Role;

use crate::cloud::Cloud;
use crate::common::calls::uuid;
use crate::common::clients::callers;
use crate::common::gateway::{post_in, sent};
use crate::common::keystone::Keystone;
use crate::common::nova::{Nova, Seen};

const PLUGGED: &str = "network-vif-plugged";

/// The tags that a host of Nova's alone got.
fn tags<'a>(seen: &'a Seen, host: &str) -> Vec<&'a str> {
    let to_host = seen.delivered.iter().filter(|delivered| delivered["host"] == host);
    let events = to_host.flat_map(|delivered| delivered["events"].as_array().expect("events"));
    events.map(|event| event["tag"].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn every_event_arrives_where_it_should_and_none_is_taken_while_nova_is_away() {
    let Some(python) = callers() else { return };
    let mut nova = Nova::start(python).await;
    let upstream = nova.root().to_owned();
    let cloud = Cloud::without_keystone_with(&["--upstream", &upstream]).await.expect("callers");
    let [here, there, nowhere, moving] = [cloud.instance().await, uuid(), uuid(), uuid()];
    cloud.right.bind(&moving, Role::MigrationSource).await;
    nova.instance(&here, Some("right")).await;
    nova.instance(&there, Some("nova-alone")).await;
    nova.migrating(&moving, "right", "nova-alone").await;

    let mut wait = cloud.wait(&here, &[(PLUGGED, "here")]).await;
    let mut caller = cloud.caller("nova_client.py").await;
    let events = json!([
        sent(&there, PLUGGED, "there"),
        sent(&here, PLUGGED, "here"),
        sent(&nowhere, PLUGGED, "nowhere"),
        sent(&moving, PLUGGED, "moving"),
    ]);
    let task = json!({ "do": "create", "version": "2.93", "events": events });
    let told = caller.tell(task.clone()).await;
    assert_eq!(told.posted(), [(207, vec![200, 200, 404, 200])], "{told:?}");
    let names: Vec<_> = told.report.as_array().expect("events").iter().map(|event| &event["tag"]).collect();
    assert_eq!(names, ["there", "here", "nowhere", "moving"]);
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
    cloud.right.until_tags(&["here", "moving"]).await;

    let seen = nova.seen().await;
    assert_eq!(tags(&seen, "nova-alone"), ["there", "moving"], "{seen:?}");
    let posted: Vec<&Value> = seen.requests.iter().filter(|request| request["method"] == "POST").collect();
    assert_eq!(posted.len(), 1, "{seen:?}");
    assert_eq!(posted[0]["headers"]["openstack-api-version"], json!("compute 2.93"));

    // While Nova is away what is bound here is kept, and the whole is answered so that it is known not to be taken.
    nova.kill().await;
    let told = caller.tell(task).await;
    assert_eq!(told.posted(), [(503, vec![])], "{told:?}");
    cloud.right.until_tags(&["here", "moving", "here", "moving"]).await;
    let events = json!([sent(&here, PLUGGED, "alone")]);
    let told = caller.tell(json!({ "do": "create", "version": "2.1", "events": events })).await;
    assert_eq!(told.posted(), [(200, vec![200])], "{told:?}");
}

#[tokio::test]
async fn with_keystone_the_callers_own_token_goes_on_to_nova_and_while_keystone_is_away_a_known_one_is_good()
{
    let Some(python) = callers() else { return };
    let mut keystone = Keystone::start(python).await;
    let mut nova = Nova::start_with_keystone(python, &keystone).await;
    let mut options = keystone.gateway_options();
    options.extend(["--upstream".to_owned(), nova.root().to_owned()]);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let cloud = Cloud::with_catalog(&mut keystone, "service", &options).await.expect("callers");
    let [here, there] = [cloud.instance().await, uuid()];
    nova.instance(&there, Some("nova-alone")).await;
    let mut caller = cloud.caller("nova_client.py").await;
    let mixed = json!([sent(&there, PLUGGED, "there"), sent(&here, PLUGGED, "here")]);
    let told = caller.tell(json!({ "do": "create", "version": "2.1", "events": mixed })).await;
    assert_eq!(told.posted(), [(200, vec![200, 200])], "{told:?}");
    cloud.right.until_tags(&["here"]).await;

    let seen = nova.seen().await;
    assert_eq!(tags(&seen, "nova-alone"), ["there"], "{seen:?}");
    let posted = seen.requests.iter().find(|request| request["method"] == "POST").expect("a request");
    let token = caller.ask(json!({ "do": "token" })).await;
    assert!(posted["headers"]["x-auth-token"].is_string(), "{posted}");
    let id = posted["headers"]["x-openstack-request-id"].as_str().expect("an id");
    assert!(id.starts_with("req-"), "{id}");

    let known = token.as_str().expect("a token");
    let unknown = keystone.token("service").await.token;
    let (rest, project) = (cloud.gateway.rest, keystone.project_id().to_owned());
    keystone.kill().await;
    let events = json!([sent(&here, PLUGGED, "away")]);
    let post = async |token: &str| post_in(rest, &project, token, &events).await.expect("a reply").0;
    assert_eq!((post(known).await, post(&unknown).await), (200, 503));
    cloud.right.until_tags(&["here", "away"]).await;
}
