//! What each caller does, whoever it has to say that it is.

use serde_json::{Value, json};
use wakeful::proto::outcome::Kind;
use wakeful::proto::unbound::Why;

use crate::cloud::Cloud;
use crate::common::calls::uuid;
use crate::common::gateway::sent;
use crate::common::script::Told;

const PLUGGED: &str = "network-vif-plugged";
const UNPLUGGED: &str = "network-vif-unplugged";
const CHANGED: &str = "network-changed";
const BOUND: &str = "accelerator-request-bound";

/// The codes of events that a reply of 200 has.
fn all_taken(codes: usize) -> (u64, Vec<u64>) {
    (200, vec![200; codes])
}

pub(crate) async fn novaclient(cloud: &Cloud) {
    let instance = cloud.instance().await;
    let mut wait = cloud.wait(&instance, &[(PLUGGED, "port")]).await;
    let mut nova = cloud.caller("nova_client.py").await;

    let event = sent(&instance, PLUGGED, "port");
    let told = nova.tell(json!({ "do": "create", "version": "2.1", "events": [event] })).await;
    let mut answered = event;
    answered["code"] = json!(200);
    assert_eq!((told.report.clone(), told.posted()), (json!([answered]), vec![all_taken(1)]), "{told:?}");
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);

    // One that is refused beside one that is taken.
    let events = json!([sent(&uuid(), PLUGGED, "port"), sent(&instance, CHANGED, "")]);
    let told = nova.tell(json!({ "do": "create", "version": "2.1", "events": events })).await;
    assert_eq!((told.raised.clone(), told.posted()), (None, vec![(207, vec![404, 200])]), "{told:?}");
    cloud.right.until_tags(&["port", ""]).await;
    assert!(cloud.other.tags().await.is_empty());
}

pub(crate) async fn novaclient_refused(cloud: &Cloud) {
    let instance = cloud.instance().await;
    let mut nova = cloud.caller("nova_client.py").await;
    let events = json!([sent(&instance, "volume-extended", "volume")]);
    // Below the name's microversion; then from it on.
    let told = nova.tell(json!({ "do": "create", "version": "2.50", "events": events })).await;
    assert_eq!(told.raised.as_ref().map(|raised| &raised["type"]), Some(&json!("BadRequest")), "{told:?}");
    assert_eq!(told.posted(), [(400, vec![])]);
    let told = nova.tell(json!({ "do": "create", "version": "2.51", "events": events })).await;
    assert_eq!(told.posted(), [all_taken(1)], "{told:?}");
    cloud.right.until_tags(&["volume"]).await;
}

pub(crate) async fn neutron_statuses(cloud: &Cloud) {
    let [good, bad] = [cloud.instance().await, cloud.instance().await];
    let ports = [uuid(), uuid(), uuid()];
    let [first, second, wrong] = [&ports[0], &ports[1], &ports[2]].map(String::as_str);
    let mut plugged = cloud.wait(&good, &[(PLUGGED, first), (PLUGGED, second)]).await;
    let mut failed = cloud.wait(&bad, &[(PLUGGED, wrong)]).await;
    let mut neutron = cloud.caller("neutron_notifier.py").await;

    for (instance, ports) in [(&good, json!([first, second])), (&bad, json!([wrong]))] {
        let told = neutron.tell(json!({ "do": "create", "instance": instance, "ports": ports })).await;
        assert_eq!((told.raised.clone(), told.posted()), (None, vec![]), "{told:?}");
    }
    let told = neutron.tell(json!({ "do": "status", "ports": [first, second], "to": "ACTIVE" })).await;
    assert_content(&told, 2);
    assert_eq!(plugged.outcome_at_last().await.kind(), Kind::Completed);

    let told = neutron.tell(json!({ "do": "status", "ports": [wrong], "to": "ERROR" })).await;
    assert_content(&told, 1);
    assert_eq!(failed.outcome_at_last().await.kind(), Kind::Failed);

    let mut unplugged = cloud.wait(&good, &[(UNPLUGGED, second)]).await;
    let told = neutron.tell(json!({ "do": "status", "ports": [second], "to": "DOWN" })).await;
    assert_content(&told, 1);
    assert_eq!(unplugged.outcome_at_last().await.kind(), Kind::Completed);
    assert!(cloud.other.tags().await.is_empty());
}

pub(crate) async fn neutron_changes(cloud: &Cloud) {
    let instance = cloud.instance().await;
    let mut neutron = cloud.caller("neutron_notifier.py").await;
    for (action, name) in [("update_port", CHANGED), ("delete_port", "network-vif-deleted")] {
        let task = json!({ "do": "changed", "action": action, "instance": instance, "port": name });
        assert_content(&neutron.tell(task).await, 1);
    }
    cloud.right.until_tags(&[CHANGED, "network-vif-deleted"]).await;
    let names: Vec<_> = cloud.right.events().await.into_iter().map(|event| event.name).collect();
    assert_eq!(names, [CHANGED, "network-vif-deleted"]);

    let task = json!({ "do": "changed", "action": "update_port", "instance": uuid(), "port": "port" });
    let told = neutron.tell(task).await;
    assert_eq!(told.posted(), [(207, vec![404])], "{told:?}");
    assert_eq!(levels(&told), ["WARNING"], "{told:?}");
}

/// What Neutron's notifier says if all is well: a line for each event, and none that warns.
fn assert_content(told: &Told, events: usize) {
    assert_eq!(levels(told), vec!["INFO"; events], "{told:?}");
    let taken: usize = told.posted().iter().map(|(_, codes)| codes.len()).sum();
    assert_eq!(taken, events, "{told:?}");
    assert!(told.posted().iter().all(|reply| *reply == all_taken(reply.1.len())), "{told:?}");
}

fn levels(told: &Told) -> Vec<&str> {
    let lines = told.report.as_array().map(Vec::as_slice).unwrap_or_default();
    lines.iter().map(|line| line["level"].as_str().expect("a level")).collect()
}

pub(crate) async fn sdk(cloud: &Cloud) {
    let instance = cloud.instance().await;
    let mut wait = cloud.wait(&instance, &[(PLUGGED, "called"), (PLUGGED, "posted")]).await;
    let mut sdk = cloud.caller("sdk.py").await;
    let told = sdk.tell(json!({ "do": "create", "events": [sent(&instance, PLUGGED, "called")] })).await;
    assert_eq!((&told.report[0]["code"], told.posted()), (&json!(200), vec![all_taken(1)]), "{told:?}");
    let events = json!([sent(&instance, PLUGGED, "posted")]);
    let told = sdk.tell(json!({ "do": "post", "version": "2.93", "events": events })).await;
    assert_eq!((&told.report["status"], told.posted()), (&json!(200), vec![all_taken(1)]), "{told:?}");
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
    assert!(cloud.other.tags().await.is_empty());
}

pub(crate) async fn cinder(cloud: &Cloud) {
    let instance = cloud.instance().await;
    let mut wait = cloud.wait(&instance, &[("volume-reimaged", "volume")]).await;
    let mut cinder = cloud.caller("cinder_compute.py").await;
    for what in ["extend", "reimage"] {
        let told = cinder.tell(json!({ "do": what, "servers": [instance], "volume": "volume" })).await;
        assert_eq!((told.report.clone(), told.posted()), (json!(true), vec![all_taken(1)]), "{told:?}");
    }
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
    cloud.right.until_tags(&["volume", "volume"]).await;

    // It holds a reply for a success, whatever the codes.
    let told = cinder.tell(json!({ "do": "extend", "servers": [uuid()], "volume": "volume" })).await;
    assert_eq!((told.report.clone(), told.posted()), (json!(true), vec![(207, vec![404])]), "{told:?}");
    assert!(cloud.other.tags().await.is_empty());
}

pub(crate) async fn ironic(cloud: &Cloud) {
    let instance = cloud.instance().await;
    let mut ironic = cloud.caller("ironic_power.py").await;
    for (server, state, report, reply) in [
        (&instance, "power on", true, all_taken(1)),
        (&instance, "power off", true, all_taken(1)),
        (&uuid(), "power on", false, (207, vec![404])),
    ] {
        let told = ironic.tell(json!({ "do": "power_update", "server": server, "state": state })).await;
        assert_eq!((told.report.clone(), told.posted()), (json!(report), vec![reply]), "{told:?}");
    }
    cloud.right.until_tags(&["POWER_ON", "POWER_OFF"]).await;
    assert!(cloud.other.tags().await.is_empty());
}

pub(crate) async fn cyborg(cloud: &Cloud) {
    let [instance, moved] = [cloud.instance().await, cloud.instance().await];
    cloud.right.unbind(&moved, Why::Moved).await;
    let mut wait = cloud.wait(&instance, &[(BOUND, "first"), (BOUND, "second")]).await;
    let mut cyborg = cloud.caller("cyborg_arqs.py").await;
    let mut notify = async |instance: &str, requests: Value| {
        cyborg.tell(json!({ "do": "notify_binding", "instance": instance, "statuses": requests })).await
    };

    let both = json!([["first", "completed"], ["second", "completed"]]);
    let told = notify(&instance, both).await;
    assert_eq!((told.raised.clone(), told.posted()), (None, vec![all_taken(2)]), "{told:?}");
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);

    let one = json!([["first", "completed"]]);
    let told = notify(&moved, one.clone()).await;
    assert_eq!((told.raised.clone(), told.posted()), (None, vec![(207, vec![422])]), "{told:?}");
    let told = notify(&uuid(), one).await;
    assert_eq!(told.raised.as_ref().map(|raised| &raised["type"]), Some(&json!("InvalidAPIResponse")));
    assert_eq!(told.posted(), [(207, vec![404])], "{told:?}");
}
