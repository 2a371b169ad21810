//! Nova itself, asked by the same callers: what the gateway has to be like.

use serde_json::{Value, json};
use wakeful::proto::role::Code as Role;
use wakeful::proto::unbound::Why;

use crate::cloud::Cloud;
use crate::common::calls::uuid;
use crate::common::clients::callers;
use crate::common::folder;
use crate::common::keystone::Keystone;
use crate::common::nova::Nova;
use crate::common::script::{Script, Told};

/// What a caller can tell: its own report, what it raised, and the replies but for where they came from.
#[derive(Debug, PartialEq)]
struct Heard {
    report: Value,
    raised: Option<Value>,
    posted: Vec<(u64, Vec<u64>)>,
}

impl From<Told> for Heard {
    fn from(told: Told) -> Self {
        let posted = told.posted();
        Self { report: told.report, raised: told.raised.map(|raised| raised["type"].clone()), posted }
    }
}

#[tokio::test]
async fn novaclient_cannot_tell_the_gateway_from_nova() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    let Some(python) = callers() else { return };
    let mut nova = Nova::start(python).await;
    let [bound, nowhere, unknown, moving] = [uuid(), uuid(), uuid(), uuid()];
    cloud.right.bind(&bound, Role::Host).await;
    cloud.right.bind(&nowhere, Role::Host).await;
    cloud.right.unbind(&nowhere, Why::Offloaded).await;
    cloud.right.bind(&moving, Role::MigrationSource).await;
    cloud.other.bind(&moving, Role::MigrationDestination).await;
    nova.instance(&bound, Some("right")).await;
    nova.instance(&nowhere, None).await;
    nova.migrating(&moving, "right", "other").await;

    let mut here = cloud.caller("nova_client.py").await;
    let there = json!({ "endpoint": nova.url() });
    let mut there = Script::start(python, "nova_client.py", folder(), &there).await;
    let bare = |name: &str, instance: &str| json!({ "name": name, "server_uuid": instance });
    let tagged = |name: &str, instance: &str, tag: &str| json!({ "name": name, "server_uuid": instance, "tag": tag, "status": "completed" });
    let requests = [
        ("2.1", json!([tagged("network-vif-plugged", &bound, "port")])),
        ("2.1", json!([bare("network-changed", &moving)])),
        ("2.1", json!([bare("network-changed", &bound), bare("network-changed", &nowhere)])),
        ("2.1", json!([bare("network-changed", &unknown), bare("network-changed", &nowhere)])),
        ("2.51", json!([bare("volume-extended", &bound), bare("volume-extended", &nowhere)])),
        ("2.51", json!([tagged("volume-extended", &bound, "v"), bare("volume-extended", &unknown)])),
        ("2.76", json!([tagged("power-update", &bound, "POWER_ON")])),
        ("2.82", json!([tagged("accelerator-request-bound", &moving, "arq")])),
        ("2.93", json!([tagged("volume-reimaged", &bound, "v")])),
        // Refused as a whole.
        ("2.1", json!([])),
        ("2.1", json!([tagged("test-event", &bound, "foo")])),
        ("2.50", json!([tagged("volume-extended", &bound, "v")])),
        ("2.75", json!([tagged("power-update", &bound, "POWER_ON")])),
        ("2.92", json!([tagged("volume-reimaged", &bound, "v")])),
        ("2.1", json!([bare("network-changed", "no-uuid")])),
        ("2.1", json!([{ "name": "network-changed", "server_uuid": bound, "more": 1 }])),
    ];
    for (version, events) in requests {
        let task = json!({ "do": "create", "version": version, "events": events });
        let (ours, theirs) = (here.tell(task.clone()).await, there.tell(task.clone()).await);
        assert_eq!(Heard::from(ours), Heard::from(theirs), "{task}");
    }

    // What came to a host here is what a host there would have got.
    let delivered = nova.seen().await.delivered;
    for (host, agent) in [("right", &cloud.right), ("other", &cloud.other)] {
        let theirs: Vec<_> = delivered.iter().filter(|sent| sent["host"] == host).collect();
        let theirs = theirs.iter().flat_map(|sent| sent["events"].as_array().expect("events"));
        let theirs: Vec<_> = theirs.map(|event| event["tag"].as_str().unwrap_or_default()).collect();
        agent.until_tags(&theirs).await;
    }
}

#[tokio::test]
async fn nova_asks_keystone_and_callers_ask_it_again_when_their_token_was_revoked_in_mid_run() {
    let Some(python) = callers() else { return };
    let mut keystone = Keystone::start(python).await;
    let mut nova = Nova::start_with_keystone(python, &keystone).await;
    keystone.catalog(nova.url()).await;
    let instance = uuid();
    nova.instance(&instance, Some("host")).await;
    let event = json!([{ "name": "network-changed", "server_uuid": instance }]);
    let task = json!({ "do": "create", "version": "2.1", "events": event });

    for user in ["service", "admin"] {
        let access = json!({ "keystone": keystone.access(user) });
        let mut caller = Script::start(python, "nova_client.py", folder(), &access).await;
        assert_eq!(caller.tell(task.clone()).await.posted(), [(200, vec![200])]);
        let token = caller.ask(json!({ "do": "token" })).await;
        keystone.revoke(token.as_str().expect("a token")).await;
        let told = caller.tell(task.clone()).await;
        assert_eq!(told.posted(), [(401, vec![]), (200, vec![200])], "{told:?}");
    }
    let access = json!({ "keystone": keystone.access("reader") });
    let mut reader = Script::start(python, "nova_client.py", folder(), &access).await;
    let told = reader.tell(task).await;
    assert_eq!(told.posted(), [(403, vec![])], "{told:?}");
    assert_eq!(told.raised.expect("raised")["type"], json!("Forbidden"));

    let seen = nova.seen().await;
    assert_eq!(seen.delivered.len(), 4, "{seen:?}");
    let statuses: Vec<_> = seen.requests.iter().filter(|request| request["method"] == "POST").collect();
    assert_eq!(statuses.len(), 7, "{seen:?}");
    assert!(statuses.iter().all(|request| request["headers"]["x-auth-token"].is_string()));
}
