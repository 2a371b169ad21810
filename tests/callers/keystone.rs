//! Keystone as the tests have it: the real service, its users and their tokens.

use crate::common::clients::callers;
use crate::common::keystone::Keystone;

#[tokio::test]
async fn keystone_knows_the_tokens_of_each_user_until_they_are_revoked_and_after_it_was_away() {
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
}
