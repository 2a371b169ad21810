//! A gateway that asks Keystone who calls, on real processes; and what of it is never in a log.

#![cfg(test)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use wakeful::clock::wall;

use common::calls::uuid;
use common::gateway::{Gateway, codes, post_as, sent};
use common::service::Service;
use common::{folder, run};

const PASSWORD: &str = "s3cret-password";
const OWN: &str = "s3cret-own";

fn token(roles: &[&str]) -> String {
    let (now, roles) = (wall(), roles.iter().map(|role| json!({"id": "r", "name": role})));
    let until = now.plus(std::time::Duration::from_secs(3_600));
    let project = json!({"id": "project", "name": "service"});
    json!({"token": {
        "issued_at": now.to_string(), "expires_at": until.to_string(), "project": project,
        "roles": roles.collect::<Vec<_>>(), "user": {"id": "u", "name": "neutron"},
    }})
    .to_string()
}

/// A Keystone that knows the gateway and two callers.
fn keystone() -> Router {
    let validate = async |headers: HeaderMap| -> Response {
        let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().expect("text"));
        match (header("x-auth-token"), header("x-subject-token")) {
            (OWN, "s3cret-neutron") => token(&["service"]).into_response(),
            (OWN, "s3cret-reader") => token(&["reader"]).into_response(),
            (OWN, _) => StatusCode::NOT_FOUND.into_response(),
            _ => StatusCode::UNAUTHORIZED.into_response(),
        }
    };
    let authenticate = async |body: Bytes| -> Response {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        if body["auth"]["identity"]["password"]["user"]["password"] != PASSWORD {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        (StatusCode::CREATED, [("x-subject-token", OWN)], token(&["service"])).into_response()
    };
    Router::new().route("/v3/auth/tokens", get(validate).post(authenticate))
}

#[tokio::test]
async fn callers_are_told_apart_by_keystone_and_no_secret_is_ever_logged() {
    let service = Service::start(keystone()).await;
    let home = folder();
    let password = home.path().join("password");
    let file = password.to_str().expect("a path");
    fs::write(&password, PASSWORD).expect("written");
    let url = service.url();
    let args = ["--auth", "keystone", "--keystone-url", &url, "--keystone-password-file", file];

    // As it was written, others may read it.
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).expect("set");
    let listen =
        ["gateway", "--listen", "127.0.0.1:0", "--directory-listen", "127.0.0.1:0", "--durability", "none"];
    let refused = run(&[&listen[..], &args].concat()).await;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("0644") && !told.contains(PASSWORD), "{told}");

    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("set");
    let gateway = Gateway::start(&[&args[..], &["--log-level", "trace"]].concat()).await;
    let events = json!([sent(&uuid(), "network-changed", "")]);
    let post = async |token: &str| post_as(gateway.rest, token, &events).await.expect("a reply");
    let (status, reply) = post("s3cret-neutron").await;
    assert_eq!((status, codes(&reply)), (207, vec![404]));
    assert_eq!(post("s3cret-reader").await.0, 403);
    assert_eq!(post("s3cret-nobody").await.0, 401);
    assert_eq!(post("").await.0, 401);

    // It is away: who is known is let in, and nobody else.
    service.stop().await;
    assert_eq!(post("s3cret-neutron").await.0, 207);
    assert_eq!(post("s3cret-new").await.0, 503);

    let log = gateway.log();
    assert!(log.contains("the gateway has a token of its own") && log.contains("tokens cannot be validated"));
    assert!(!log.contains("s3cret"), "{log}");
}
