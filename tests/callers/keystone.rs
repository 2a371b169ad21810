//! The same callers by way of Keystone: a real password, a real token, and the gateway out of the catalog.

use crate::cloud::Cloud;
use crate::common::clients::callers;
use crate::common::keystone::Keystone;
use crate::common::until;
use crate::scenarios;

#[tokio::test]
async fn each_caller_finds_the_gateway_in_keystones_catalog() {
    let Some(python) = callers() else { return };
    let mut keystone = Keystone::start(python).await;
    // One cloud for each: what has arrived on its hosts is then that caller's alone.
    macro_rules! each {
        ($($caller:ident)+) => { $(
            let cloud = Cloud::with_catalog(&mut keystone, "service", &[]).await.expect("callers");
            scenarios::$caller(&cloud).await;
        )+ };
    }
    each!(novaclient novaclient_refused neutron_statuses neutron_changes sdk cinder ironic cyborg);
}

#[tokio::test]
async fn keystone_knows_the_tokens_of_each_user_until_they_are_revoked_or_expire_and_after_it_was_away() {
    let Some(python) = callers() else { return };
    let mut keystone = Keystone::start(python).await;
    for user in ["gateway", "service", "admin", "reader"] {
        let first = keystone.token(user).await;
        let second = keystone.token(user).await;
        assert!(keystone.is_good(&first.token).await, "{user}");
        keystone.revoke(&first.token).await;
        assert!(!keystone.is_good(&first.token).await, "{user}");
        assert!(keystone.is_good(&second.token).await, "{user}");
    }
    let kept = keystone.token("service").await;
    keystone.kill().await;
    let mut again = keystone.again().await;
    assert_eq!((again.url(), again.project_id()), (keystone.url(), keystone.project_id()));
    assert!(again.is_good(&kept.token).await);

    // One whose tokens live so briefly may be asked too late to see one live, where the machine is busy.
    let mut brief = Keystone::start_with_expiration(python, 5).await;
    let token = brief.token("service").await;
    until("the token has expired", async || (!brief.is_good(&token.token).await).then_some(())).await;
}
