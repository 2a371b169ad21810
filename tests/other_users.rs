//! The Unix socket tells users apart: operators, and drivers that have only what is theirs.

#![cfg(test)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use common::Agent;
use common::calls::{event, open, send, uuid, wait_for};
use common::driver::Driver;
use wakeful::proto::CancelInstanceRequest;
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::outcome::Kind;
use wakeful::proto::waits_client::WaitsClient;

/// Somebody who is neither root nor runs the agent.
const OTHER: u32 = 65_534;

#[tokio::test]
async fn a_user_who_is_no_operator_sees_nothing_and_ends_only_waits_of_its_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can call as another user");
        return;
    }
    let agent = Agent::start(&[]).await;
    fs::set_permissions(agent.folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&agent.socket, Permissions::from_mode(0o666)).unwrap();
    let mut other = Driver::start_as(&agent, OTHER);
    let unix = agent.unix();
    let instance = uuid();
    let mut ours = open(&unix, wait_for(&instance, &[("a", "")])).await;
    let theirs = [uuid(), uuid(), uuid()];
    for id in &theirs {
        assert_eq!(other.ask(&format!("wait {id} {instance}")).await, "OK");
    }
    assert_eq!(agent.status().await.open_waits, 4);

    let refused = "PermissionDenied NOT_PERMITTED";
    for what in ["status".to_owned(), "list-waits".to_owned(), format!("explain {instance}")] {
        assert_eq!(other.ask(&what).await, refused, "{what}");
    }
    assert_eq!(other.ask(&format!("cancel {}", ours.id())).await, refused);
    assert_eq!(other.ask(&format!("wait {} {instance}", ours.id())).await, "AlreadyExists WAIT_ID_TAKEN");
    assert_eq!(other.ask(&format!("cancel {}", theirs[0])).await, "OK");
    let ended = other.ask(&format!("cancel-instance {instance}")).await;
    let mut ended: Vec<_> = ended.strip_prefix("OK ").expect("what it ended").split(' ').collect();
    ended.sort_unstable();
    let mut expected = [theirs[1].as_str(), theirs[2].as_str()];
    expected.sort_unstable();
    assert_eq!(ended, expected);

    // Ours is still open, and an operator may end anyone's.
    assert_eq!(agent.status().await.open_waits, 1);
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "")).await.0, Disposition::Woke);
    assert_eq!(ours.outcome_at_last().await.kind(), Kind::Completed);
    let id = uuid();
    assert_eq!(other.ask(&format!("wait {id} {instance}")).await, "OK");
    let cancel = CancelInstanceRequest { instance_uuid: instance, why: "by the operator".into() };
    let cancelled = WaitsClient::new(unix).cancel_instance(cancel).await.unwrap().into_inner().waits;
    assert_eq!(cancelled.iter().map(|wait| &wait.wait_id).collect::<Vec<_>>(), [&id]);
}

#[tokio::test]
#[ignore = "the driver process of the other tests"]
async fn driver() {
    common::driver::serve().await;
}
