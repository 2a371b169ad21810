//! What callers with tokens of Keystone are answered.

use serde_json::json;

use super::super::{BOUND, Fake as Front, PATH, call, one_event, settings};
use super::*;
use crate::clock::wall;

const OWN: &str = "/v2.1/p1/os-server-external-events";
const OTHERS: &str = "/v2.1/other/os-server-external-events";

fn body() -> String {
    one_event("network-changed", BOUND, None).to_string()
}

async fn start() -> Fake {
    let now = wall();
    let fake = Fake::start(now).await;
    let until = now.plus(Duration::from_secs(3_600));
    fake.give("neutron", token(&["service"], Some("p1"), until));
    fake.give("user", token(&["reader"], Some("p1"), until));
    fake.give("unscoped", token(&["admin"], None, until));
    fake
}

#[tokio::test]
async fn each_caller_is_answered_by_its_token_project_and_roles_in_that_order() {
    let fake = start().await;
    let door = Front::default().door(fake.auth(wall()), settings());
    let answers = [
        ("neutron", OWN, 200),
        ("neutron", PATH, 200),
        ("neutron", OTHERS, 400),
        ("unscoped", PATH, 200),
        ("unscoped", OWN, 400),
        ("user", OTHERS, 400),
        ("user", OWN, 403),
        ("nobody", OWN, 401),
        ("nobody", "/v2.1/servers", 401),
        ("user", "/v2.1/servers", 404),
    ];
    for (token, path, code) in answers {
        let got = call(&door, "POST", path, Some(token), &body()).await;
        assert_eq!(got.status.as_u16(), code, "{token} {path}");
    }
    let schema = call(&door, "POST", OWN, Some("user"), "{}").await;
    schema.fault(400, "badRequest");
}

#[tokio::test]
async fn who_has_no_valid_token_is_told_where_keystone_is() {
    let fake = start().await;
    let door = Front::default().door(fake.auth(wall()), settings());
    for token in [None, Some("nobody")] {
        let got = call(&door, "POST", PATH, token, &body()).await;
        assert_eq!(got.body["error"]["code"], json!(401));
        assert_eq!(got.header("www-authenticate"), Some(format!("Keystone uri=\"{}\"", fake.url()).as_str()));
    }
}

#[tokio::test]
async fn while_keystone_is_away_an_unknown_token_is_503_whatever_is_asked_for() {
    let fake = start().await;
    let front = Front::default();
    let door = front.door(fake.auth(wall()), settings());
    assert_eq!(call(&door, "POST", PATH, Some("neutron"), &body()).await.status.as_u16(), 200);
    fake.answer_all(503, "");
    for (method, path) in [("POST", PATH), ("POST", OTHERS), ("GET", PATH), ("POST", "/v2.1/servers")] {
        let got = call(&door, method, path, Some("unscoped"), &body()).await;
        let told = got.fault(503, "serviceUnavailable");
        assert!(told.contains("Keystone cannot be asked"), "{told}");
        assert_eq!(got.header("retry-after"), Some("1"));
    }
    assert_eq!(front.taken().len(), 1);
    assert_eq!(call(&door, "POST", PATH, Some("neutron"), &body()).await.status.as_u16(), 200);
    assert_eq!(call(&door, "POST", PATH, None, &body()).await.status.as_u16(), 401);
}

#[tokio::test]
async fn version_documents_ask_keystone_nothing() {
    let fake = start().await;
    let door = Front::default().door(fake.auth(wall()), settings());
    for path in ["/", "/v2.1", "/v2/", "/v9"] {
        assert!(call(&door, "GET", path, Some("nobody"), "").await.status.as_u16() <= 300);
    }
    assert_eq!(fake.asked(), (0, 0));
}
