//! The same callers where the gateway asks Keystone who they are.

use serde_json::json;

use crate::cloud::Cloud;
use crate::common::clients::callers;
use crate::common::gateway::{post_in, sent};
use crate::common::keystone::Keystone;
use crate::common::until;
use crate::scenarios;

/// A cloud whose gateway asks this Keystone, and remembers what it said for so long; its callers come as this user, and
/// find the gateway in the catalog.
async fn guarded(keystone: &mut Keystone, user: &str, remembers: &str) -> Cloud {
    let options = keystone.gateway_options();
    let mut options: Vec<_> = options.iter().map(String::as_str).collect();
    options.extend(["--keystone-cache-time", remembers]);
    Cloud::with_catalog(keystone, user, &options).await.expect("callers")
}

#[tokio::test]
async fn each_caller_wakes_its_wait_with_a_token_of_keystone() {
    let Some(python) = callers() else { return };
    let mut keystone = Keystone::start(python).await;
    macro_rules! each {
        ($($caller:ident)+) => { $(
            let cloud = guarded(&mut keystone, "service", "1m").await;
            scenarios::$caller(&cloud).await;
        )+ };
    }
    each!(novaclient novaclient_refused neutron_statuses neutron_changes sdk cinder ironic cyborg);
}

#[tokio::test]
async fn a_token_that_is_revoked_in_mid_run_is_asked_for_anew_and_a_reader_is_refused() {
    let Some(python) = callers() else { return };
    let mut keystone = Keystone::start(python).await;
    for user in ["service", "admin"] {
        let cloud = guarded(&mut keystone, user, "1s").await;
        let instance = cloud.instance().await;
        for name in ["nova_client.py", "sdk.py"] {
            let mut caller = cloud.caller(name).await;
            let mut task = json!({ "do": "create", "events": [sent(&instance, "network-changed", "")] });
            if name == "nova_client.py" {
                task["version"] = json!("2.1");
            }
            assert_eq!(caller.tell(task.clone()).await.posted(), [(200, vec![200])]);
            let token = caller.ask(json!({ "do": "token" })).await;
            keystone.revoke(token.as_str().expect("a token")).await;
            // What was cached is good to its bound.
            let answered = until("the revocation is noticed", async || {
                let told = caller.tell(task.clone()).await;
                (told.posted() != [(200, vec![200])]).then_some(told)
            })
            .await;
            assert_eq!(answered.posted(), [(401, vec![]), (200, vec![200])], "{answered:?}");
        }
    }
    let cloud = guarded(&mut keystone, "reader", "1m").await;
    let instance = cloud.instance().await;
    let mut reader = cloud.caller("nova_client.py").await;
    let events = json!([sent(&instance, "network-changed", "")]);
    let told = reader.tell(json!({ "do": "create", "version": "2.1", "events": events })).await;
    assert_eq!(told.posted(), [(403, vec![])], "{told:?}");
    assert_eq!(told.raised.expect("raised")["type"], json!("Forbidden"));
    assert!(cloud.right.events().await.is_empty());
}

#[tokio::test]
async fn a_token_that_expires_in_mid_run_is_taken_no_longer_and_its_owner_goes_on_with_another() {
    let Some(python) = callers() else { return };
    let mut keystone = Keystone::start_with_expiration(python, 15).await;
    // It would remember the token for longer than that lives.
    let cloud = guarded(&mut keystone, "service", "1h").await;
    let instance = cloud.instance().await;
    let (rest, project) = (cloud.gateway.rest, keystone.project_id().to_owned());
    let events = json!([sent(&instance, "network-changed", "")]);
    let mut caller = cloud.caller("nova_client.py").await;
    let task = json!({ "do": "create", "version": "2.1", "events": events });
    let token = keystone.token("service").await.token;
    let status = async || post_in(rest, &project, &token, &events).await.expect("a reply").0;
    assert_eq!(status().await, 200);
    assert_eq!(caller.tell(task.clone()).await.posted(), [(200, vec![200])]);
    let first = caller.ask(json!({ "do": "token" })).await;
    until("the token expires", async || (!keystone.is_good(&token).await).then_some(())).await;
    assert_eq!(status().await, 401);
    // Who has a password asks for another in time.
    assert_eq!(caller.tell(task).await.posted(), [(200, vec![200])]);
    assert_ne!(caller.ask(json!({ "do": "token" })).await, first);
    cloud.right.until_tags(&["", "", ""]).await;
}
