//! The callers that there are, as they come from PyPI: each one's own report, the codes that it saw, and the wait
//! that its event woke.

#![cfg(test)]

#[path = "../common/mod.rs"]
mod common;

mod beside;
mod cloud;
mod guarded;
mod keystone;
mod nova;
mod scenarios;

use cloud::Cloud;

#[tokio::test]
async fn novaclient_wakes_a_wait_and_gives_back_each_events_code() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    scenarios::novaclient(&cloud).await;
}

#[tokio::test]
async fn novaclient_raises_what_a_request_that_is_refused_as_a_whole_is_answered() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    scenarios::novaclient_refused(&cloud).await;
}

#[tokio::test]
async fn neutrons_notifier_wakes_a_wait_when_a_port_goes_active_and_fails_it_when_a_port_goes_wrong() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    scenarios::neutron_statuses(&cloud).await;
}

#[tokio::test]
async fn neutrons_notifier_tells_of_ports_that_have_changed_or_are_gone_and_warns_of_what_is_refused() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    scenarios::neutron_changes(&cloud).await;
}

#[tokio::test]
async fn openstacksdk_wakes_waits_by_its_own_call_and_by_a_post() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    scenarios::sdk(&cloud).await;
}

#[tokio::test]
async fn cinder_tells_that_a_volume_is_extended_or_reimaged() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    scenarios::cinder(&cloud).await;
}

#[tokio::test]
async fn ironic_tells_a_nodes_power_state_and_reports_whether_it_was_taken() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    scenarios::ironic(&cloud).await;
}

#[tokio::test]
async fn cyborg_tells_that_accelerators_are_bound_and_raises_on_what_is_refused() {
    let Some(cloud) = Cloud::without_keystone().await else { return };
    scenarios::cyborg(&cloud).await;
}
